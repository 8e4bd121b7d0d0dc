"""Draws the published figures as plots: SVG files for README.md and the documentation (theme.py has their looks).

Each function draws one plot and returns its file, or returns None without figures.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib import pyplot
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, NullLocator

from . import growth
from .figures import Figures
from .peers import PEERS
from .report import BASE, byte_size, crossing, figure, pays_from, per_unit, shown, times, verdict
from .rows import GROUPS
from .theme import (
    FAINT,
    INK,
    LIGHT,
    MARKERS,
    MUTED,
    STYLE_SHEET,
    footnote,
    headline,
    label_points,
    logarithmic,
    save,
)
from .work import Row


def setting(figures: Figures) -> str:
    """Return the line under a plot that names the machine."""
    machine = figures.machine
    return f"{machine['processor']}, {machine['cores']} cores, {machine['kernel']}, {machine['Python']}"


def line(axis, library: str, xs: list[float], ys: list[float]) -> None:
    """Draw one library's curve."""
    ours = library == "goproc"
    axis.plot(
        xs,
        ys,
        marker=MARKERS[library],
        color=LIGHT[library],
        linewidth=2.6 if ours else 1.4,
        markersize=6.5 if ours else 4.5,
        zorder=5 if ours else 3,
    )


def times_as_fast(figures: Figures, row: Row, library: str) -> float | None:
    """Return how many times as fast as multiprocessing a library is at a row, by the medians that the tables show."""
    if not {library, BASE} <= set(figures.libraries(row.name)):
        return None
    base, own = (shown(per_unit(row, figures, name).median) for name in (BASE, library))
    return base / own if own else None


def speed(figures: Figures, folder: Path) -> Path | None:
    """Plot how many times as fast as multiprocessing each library is at each row."""
    groups = {
        group: [row for row in rows if BASE in figures.libraries(row.name) and row.clock == "seconds"]
        for group, rows in GROUPS.items()
    }
    groups = {group: rows for group, rows in groups.items() if rows}
    if not groups:
        return None
    sizes = [len(rows) for rows in groups.values()]
    plot, axes = pyplot.subplots(
        len(groups),
        1,
        sharex=True,
        squeeze=False,
        figsize=(8, 0.28 * sum(sizes) + 0.5 * len(sizes)),
        gridspec_kw={"height_ratios": sizes, "hspace": 0.28 * len(sizes) / sum(sizes) * 8},
    )
    for axis, (group, rows) in zip(axes[:, 0], groups.items(), strict=True):
        for place, row in enumerate(rows):
            others = [times_as_fast(figures, row, library) for library in PEERS if library not in ("goproc", BASE)]
            known = [ratio for ratio in others if ratio]
            axis.plot(known, [place] * len(known), "o", color=FAINT, markersize=5, zorder=3, linestyle="none")
            ours = times_as_fast(figures, row, "goproc")
            if ours is None:
                continue
            axis.plot([ours], [place], "o", color=LIGHT["goproc"], markersize=9, zorder=5)
            axis.annotate(
                times(ours),
                (max(ours, 1), place),
                (9, 0),
                textcoords="offset points",
                ha="left",
                va="center",
                color=LIGHT["goproc"],
                fontsize=9,
                fontweight="bold",
                zorder=6,
            )
        axis.axvline(1, color=LIGHT[BASE], linewidth=1.4, zorder=2)
        pad = 20 if axis is axes[0, 0] else 6  # the names of the dots are above the first panel
        axis.set_title(group, loc="left", fontsize=10, fontweight="bold", pad=pad)
        axis.set_yticks(range(len(rows)), [row.title.replace("`", "") for row in rows])
        axis.set_ylim(len(rows) - 0.4, -0.6)
        axis.tick_params(axis="y", length=0)
        logarithmic(axis.xaxis)
        axis.spines["left"].set_visible(False)
    above: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "bottom", "fontsize": 9}
    first = next(iter(groups.values()))[0]
    top = axes[0, 0]
    top.annotate(BASE, (1, -0.6), (0, 4), color=LIGHT[BASE], **above)
    if ratio := times_as_fast(figures, first, "goproc"):
        top.annotate("goproc", (ratio, -0.6), (0, 4), color=LIGHT["goproc"], fontweight="bold", **above)
    ratios = [times_as_fast(figures, first, library) for library in PEERS if library not in ("goproc", BASE)]
    if known := [ratio for ratio in ratios if ratio]:
        top.annotate("other libraries", (min(known), -0.6), (0, 4), color=MUTED, **above)
    axes[-1, 0].set_xlabel("times as fast as multiprocessing (logarithmic)")
    title = "How many times as fast as multiprocessing"
    headline(plot, title, "Each dot is one library. Right of the line is faster.", gap=0.58)
    footnote(plot, setting(figures))
    return save(plot, folder, "speed.svg", title)


def tasks(figures: Figures, folder: Path) -> Path | None:
    """Plot the time of a task against the number of tasks."""
    points = growth.BY_TASKS
    plot, axis = pyplot.subplots(figsize=(7, 4))
    axis.set(xlim=(min(points) / 1.25, max(points) * 1.25), xlabel="tasks", ylabel="µs a task")
    logarithmic(axis.yaxis)
    ends = []
    for library in PEERS:
        known = {
            x: per_unit(row, figures, library) for x, row in points.items() if library in figures.libraries(row.name)
        }
        if known:
            line(axis, library, list(known), [spread.median for spread in known.values()])
            ends.append((list(known)[-1], list(known.values())[-1].median, library, LIGHT[library]))
    if not ends:
        pyplot.close(plot)
        return None
    axis.set_xscale("log")
    axis.set_xticks(list(points), [f"{x:,}" for x in points])
    axis.xaxis.set_minor_locator(NullLocator())
    label_points(axis, ends)
    title = "The time of a task, against the number of tasks"
    headline(plot, title, "map(chunksize=1) of a function that does nothing; medians, less is better")
    footnote(plot, setting(figures))
    return save(plot, folder, "tasks.svg", title)


def workers(figures: Figures, folder: Path) -> Path | None:
    """Plot the tasks a second against the number of workers: a panel for each library, with the others behind it."""
    curves = {
        library: {
            x: 1e6 / per_unit(row, figures, library).median
            for x, row in growth.BY_WORKERS.items()
            if library in figures.libraries(row.name)
        }
        for library in PEERS
    }
    curves = {library: curve for library, curve in curves.items() if curve}
    if not curves:
        return None
    columns = 4
    plot, grid = pyplot.subplots(
        -(-len(curves) // columns),
        columns,
        sharex=True,
        sharey=True,
        squeeze=False,
        figsize=(9, 4.4),
        gridspec_kw={"hspace": 0.32, "wspace": 0.1},
    )
    panels = list(grid.flat)
    for axis, (library, curve) in zip(panels, curves.items(), strict=False):
        for other in curves.values():
            axis.plot(list(other), list(other.values()), color=FAINT, linewidth=1, zorder=2)
        line(axis, library, list(curve), list(curve.values()))
        axis.set_xscale("log", base=2)
        axis.set_xticks([1, 4, 16, 64], ["1", "4", "16", "64"])
        axis.xaxis.set_minor_locator(NullLocator())
        logarithmic(axis.yaxis, subs=(1,))
        axis.set_title(library, loc="left", color=LIGHT[library], fontsize=10, fontweight="bold")
        axis.tick_params(labelbottom=True)
        for x in (min(curve), max(curve)):
            axis.annotate(
                f"{float(f'{curve[x]:.2g}'):,.0f}",
                (x, curve[x]),
                (0, -7 if library == "goproc" else 7),
                textcoords="offset points",
                ha="left" if x == min(curve) else "right",
                va="top" if library == "goproc" else "bottom",
                color=LIGHT[library],
                fontsize=8.5,
                bbox={"facecolor": LIGHT["ground"], "edgecolor": "none", "pad": 0.8, "alpha": 0.8},
                zorder=4,
            )
    for axis in panels[len(curves) :]:
        axis.set_visible(False)
    plot.supylabel("tasks a second", fontsize=10, x=0.02)
    plot.supxlabel("workers", fontsize=10, y=0.0)
    title = "Tasks a second, against the number of workers"
    headline(plot, title, "map(chunksize=1) of 10,000 calls that do nothing; grey: the other libraries", gap=0.3)
    footnote(plot, setting(figures))
    return save(plot, folder, "workers.svg", title)


def efficiency(figures: Figures, folder: Path) -> Path | None:
    """Plot the efficiency against the length of a task: a panel for each call."""
    if not any(figures.libraries(row.name) for row in growth.EFFICIENCY.values()):
        return None
    plot, panels = pyplot.subplots(
        1, len(growth.EFFICIENCY), sharey=True, figsize=(11, 4), gridspec_kw={"wspace": 0.06}
    )
    for axis, (call, row) in zip(panels, growth.EFFICIENCY.items(), strict=True):
        alone = 1 / row.workers
        axis.axhline(alone, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), zorder=2)
        lengths = []
        for library in PEERS:
            if library in figures.libraries(row.name):
                points = figures.points(row.name, library)
                line(axis, library, list(points), [spread.median for spread in points.values()])
                lengths.append((crossing(points, alone) or float("inf"), library, pays_from(points, alone)))
        axis.set(xscale="log", xlim=(7e-7, 1.5), ylim=(0, 1.08))
        axis.set_xticks([1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1], ["1 µs", "", "100 µs", "", "10 ms", "", "1 s"])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
        axis.set_title(call, loc="left", fontsize=10, fontweight="bold")
        # The room at the right, below the dashed line, is free: a long task pays with every library.
        top = alone - 0.05
        axis.text(1.3, top, "pays from", ha="right", va="center", fontsize=8.5, color=MUTED)
        for place, (_, library, length) in enumerate(sorted(lengths), 1):
            y = top - 0.055 * place
            axis.text(
                0.5,
                y,
                f"{library}  {length}",
                ha="right",
                va="center",
                fontsize=8.5,
                color=LIGHT[library],
                fontweight="bold" if library == "goproc" else "normal",
                bbox={"facecolor": LIGHT["ground"], "edgecolor": "none", "pad": 0.6},
                zorder=4,
            )
            axis.plot([0.9], [y], MARKERS[library], color=LIGHT[library], markersize=5, zorder=5)
    panels[0].set_ylabel("efficiency")
    panels[len(panels) // 2].set_xlabel("length of a task")
    title = "How long must a task be to pay?"
    below = (
        "Efficiency: the part of the time of two workers that goes into the tasks. "
        "Dashed: as fast as a loop in one process."
    )
    headline(plot, title, below, gap=0.32)
    footnote(plot, setting(figures) + "; medians")
    return save(plot, folder, "efficiency.svg", title)


def sizes(figures: Figures, folder: Path) -> Path | None:
    """Plot the peak memory of all processes against the size of the items."""
    row, sizes = growth.SIZES, growth.Sizes.SIZES
    curves = {library: figures.points(row.name, library) for library in PEERS if library in figures.libraries(row.name)}
    if not curves:
        return None
    plot, axis = pyplot.subplots(figsize=(7, 4))
    axis.set(xlim=(min(sizes) / 1.5, max(sizes) * 1.5), xlabel="size of an item", ylabel="peak memory, MiB")
    logarithmic(axis.yaxis)
    ends = []
    for library, points in curves.items():
        line(axis, library, list(points), [spread.median for spread in points.values()])
        ends.append((max(points), points[max(points)].median, library, LIGHT[library]))
    axis.set_xscale("log", base=2)
    axis.set_xticks(sizes, [byte_size(size) for size in sizes])
    axis.xaxis.set_minor_locator(NullLocator())
    low, high = axis.get_ylim()
    axis.set_ylim(low, high * 1.5)  # room for the names
    whole = [size * row.count / 2**20 for size in sizes]
    axis.plot(sizes, whole, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), zorder=2)
    ends.append((max(sizes), whole[-1], f"{row.count} items", MUTED))
    label_points(axis, ends)
    title = "The peak memory, against the size of the items"
    below = f"imap over a generator of {row.count} items, there and back; all processes together; less is better"
    headline(plot, title, below)
    footnote(plot, setting(figures))
    return save(plot, folder, "sizes.svg", title)


def memory(figures: Figures, folder: Path) -> Path | None:
    """Plot the memory of the main program against the number of results of a long imap."""
    traces = {library: figures.trace(row.name, library) for library, row in growth.MEMORY.items()}
    known = {library: trace for library, trace in traces.items() if trace}
    if not known:
        return None
    plot, axis = pyplot.subplots(figsize=(8, 4))
    ends = []
    for library, trace in known.items():
        so_far = [count / 1e6 for count in trace["results"]]
        ours = library == "goproc"
        axis.plot(
            so_far, trace["memory"], color=LIGHT[library], linewidth=2.6 if ours else 1.6, zorder=5 if ours else 3
        )
        axis.plot(so_far[-1:], trace["memory"][-1:], MARKERS[library], color=LIGHT[library], markersize=7, zorder=6)
        ends.append((so_far[-1], trace["memory"][-1], library, LIGHT[library]))
    limit = growth.Memory.MEMORY
    axis.axhline(limit, color=MUTED, linewidth=1, linestyle=":")
    axis.annotate(
        f"stopped here: {limit / 1024:g} GiB",
        (10, limit),
        (0, 3),
        textcoords="offset points",
        ha="right",
        color=MUTED,
        fontsize=8.5,
    )
    axis.set(xlabel="millions of results so far", ylabel="memory of the main program, MiB", xlim=(-0.2, 10.2))
    logarithmic(axis.yaxis)
    axis.set_ylim(*axis.get_ylim())
    label_points(axis, ends)
    title = "The memory of a long imap"
    below = (
        f"imap over a generator of 10 million items, each library until it is done, or for {growth.Memory.SECONDS} s.\n"
        "Further right is faster, lower is less memory."
    )
    headline(plot, title, below)
    footnote(plot, setting(figures))
    return save(plot, folder, "memory.svg", title)


def breakdown(figures: Figures, folder: Path) -> Path | None:
    """Plot the steps of a round trip, one after the other."""
    parts = {what: 1e6 * spread.median for what, spread in figures.part("round-trip").items()}
    if not parts:
        return None
    (_, whole), *steps = parts.items()
    plot, axis = pyplot.subplots(figsize=(7, 0.32 * len(steps) + 0.6))
    began = 0.0
    in_worker = range(5, 8)
    said = {0: "in the main program, or under way", in_worker[0]: "in the worker"}
    for place, (_, microseconds) in enumerate(steps):
        colour = LIGHT["concurrent.futures"] if place in in_worker else LIGHT["goproc"]
        axis.barh(place, microseconds, left=began, color=colour, height=0.7)
        axis.annotate(
            "   ".join(filter(None, [f"{microseconds:.2f}", said.get(place)])),
            (began + microseconds, place),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=colour,
        )
        began += microseconds
    axis.set_yticks(range(len(steps)), [what.replace("`", "") for what, _ in steps])
    axis.set_ylim(len(steps) - 0.4, -0.6)
    axis.set_xlim(0, began * 1.06)
    axis.tick_params(axis="y", length=0)
    axis.set_xlabel("µs since apply was called")
    title = "Where the time of a task goes"
    headline(plot, title, f"apply of a function that does nothing; medians, {figure(whole)} µs as a whole")
    footnote(plot, setting(figures))
    return save(plot, folder, "breakdown.svg", title)


def faults(data: Path, folder: Path) -> Path | None:
    """Plot the table of faults: a coloured cell with a sign for each fault in each library."""
    if not data.exists():
        return None
    content = json.loads(data.read_text(encoding="utf-8"))
    titles, cells = content["faults"], content["cells"]
    libraries = list(dict.fromkeys(library for row in cells.values() for library in row))
    plot, axis = pyplot.subplots(figsize=(1.66 * len(libraries), 0.46 * len(cells)))
    for down, row in enumerate(cells.values()):
        for across, library in enumerate(libraries):
            if library not in row:
                continue
            colour, sign, words = verdict(row[library])
            axis.add_patch(Rectangle((across + 0.03, down + 0.05), 0.94, 0.9, color=LIGHT[colour], linewidth=0))
            axis.text(across + 0.12, down + 0.5, sign, ha="center", va="center", fontsize=12, fontweight="bold")
            axis.text(across + 0.21, down + 0.5, words, ha="left", va="center", fontsize=8, linespacing=1.1)
    axis.set(xlim=(0, len(libraries)), ylim=(len(cells), 0))
    axis.set_xticks([place + 0.5 for place in range(len(libraries))], libraries, fontsize=9.5)
    axis.set_yticks([place + 0.5 for place in range(len(cells))], [titles[fault].replace("`", "") for fault in cells])
    axis.xaxis.tick_top()
    for label in axis.get_xticklabels():
        label.set_color(LIGHT.get(label.get_text(), INK))
        label.set_fontweight("bold" if label.get_text() == "goproc" else "normal")
    axis.tick_params(length=0)
    axis.grid(False)
    for spine in axis.spines.values():
        spine.set_visible(False)
    title = "What becomes of a faulty task, and of its pool"
    below = (
        "✓ the task ends, the pool goes on     ! the pool is broken, or other tasks are lost     "
        "✗ waits for ever, or leaves processes behind"
    )
    headline(plot, title, below, gap=0.34)
    return save(plot, folder, "faults.svg", title)


def write(figures: Figures, faults_data: Path, folder: Path) -> Iterable[Path]:
    """Draw every plot that has figures; return the files. faults_data: what `make faults` has written."""
    folder.mkdir(parents=True, exist_ok=True)
    with pyplot.rc_context(STYLE_SHEET):
        drawn = [
            speed(figures, folder),
            tasks(figures, folder),
            workers(figures, folder),
            efficiency(figures, folder),
            sizes(figures, folder),
            memory(figures, folder),
            breakdown(figures, folder),
            faults(faults_data, folder),
        ]
    return [path for path in drawn if path is not None]
