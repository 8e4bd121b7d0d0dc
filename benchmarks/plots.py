"""Draws the figures as plots: SVG files for README.md and the documentation.

The colours are Okabe and Ito's, which colour-blind readers can distinguish. Each library also has its own marker.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from matplotlib import pyplot
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from . import growth
from .peers import PEERS
from .report import BASE, per_unit
from .results import Results, Spread
from .work import GROUPS, Row

COLOURS = ("#0072B2", "#000000", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
MARKERS = ("o", "|", "s", "^", "D", "v", "X")
STYLE = dict(zip(PEERS, zip(COLOURS, MARKERS, strict=True), strict=True))

STYLE_SHEET: Any = {
    "backend": "svg",
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.hashsalt": "goproc",
}


def save(figure, folder: Path, name: str) -> Path:
    path = folder / name
    figure.savefig(path, bbox_inches="tight", facecolor="white", metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    # Remove spaces at the ends of lines, because format checkers refuse them.
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")
    return path


def plain(value: float, _position=None) -> str:
    """Show a tick of a logarithmic axis as a plain number."""
    return f"{value:,.10g}"


def setting(results: Results) -> str:
    """Return the line under a plot that names the machine."""
    machine = results.machine
    return f"{machine['processor']}, {machine['cores']} cores, {machine['kernel']}, {machine['Python']}"


def label(row: Row) -> str:
    return row.title.replace("`", "")


def speed(results: Results, folder: Path) -> Path | None:
    """Plot how many times as fast as multiprocessing each library is at each row."""
    groups = {
        group: [row for row in rows if BASE in results.libraries(row.name) and row.clock == "seconds"]
        for group, rows in GROUPS.items()
    }
    groups = {group: rows for group, rows in groups.items() if rows}
    if not groups:
        return None
    sizes = [len(rows) for rows in groups.values()]
    figure, axes = pyplot.subplots(
        len(groups),
        1,
        sharex=True,
        squeeze=False,
        figsize=(9, 0.29 * sum(sizes) + 0.5 * len(sizes)),
        gridspec_kw={"height_ratios": sizes, "hspace": 0.28 * len(sizes) / sum(sizes) * 8},
    )
    for axis, (group, rows) in zip(axes[:, 0], groups.items(), strict=True):
        for library in reversed(PEERS):
            colour, marker = STYLE[library]
            places, ratios = [], []
            for place, row in enumerate(rows):
                ratio = results.ratio(row.name, library, BASE, row.clock)
                if ratio is not None and library != BASE:
                    places.append(place)
                    ratios.append(ratio)
            medians = [ratio.median for ratio in ratios]
            ours = library == "goproc"
            if ours:
                spans = [(ratio.low, ratio.high) for ratio in ratios]
                axis.hlines(places, *zip(*spans, strict=True), color=colour, linewidth=1.5, zorder=4)
                for place, ratio in zip(places, ratios, strict=True):
                    faster = ratio.median >= 1
                    axis.annotate(
                        f"{ratio.median:.3g}×",
                        (ratio.high if faster else ratio.low, place),
                        (8, 0) if faster else (-8, 0),
                        textcoords="offset points",
                        ha="left" if faster else "right",
                        va="center",
                        color=colour,
                        fontsize=9,
                        fontweight="bold",
                        zorder=6,
                    )
            axis.plot(
                medians,
                places,
                marker,
                color=colour,
                markersize=9 if ours else 5.5,
                zorder=5 if ours else 3,
                alpha=1 if ours else 0.85,
                label=library,
                linestyle="none",
            )
        axis.axvline(1, color="black", linewidth=1.2, zorder=2)
        axis.set_title(group, loc="left", fontsize=10, fontweight="bold")
        axis.set_yticks(range(len(rows)), [label(row) for row in rows])
        axis.set_ylim(len(rows) - 0.4, -0.6)
        axis.tick_params(axis="y", length=0)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(FuncFormatter(plain))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.spines["left"].set_visible(False)
    axes[-1, 0].set_xlabel("times as fast as multiprocessing (logarithmic; the line at 1 is multiprocessing)")
    handles = {handle.get_label(): handle for handle in axes[0, 0].get_lines()}
    order = [library for library in PEERS if library in handles and library != BASE]
    figure.legend(
        [handles[library] for library in order],
        order,
        loc="lower center",
        bbox_to_anchor=(0.4, 0.905),
        ncols=len(order),
        handletextpad=0.2,
        columnspacing=1.4,
    )
    figure.text(0.125, -0.005 if sum(sizes) > 12 else -0.06, setting(results), fontsize=8, color="#555555")
    return save(figure, folder, "speed.svg")


def curves(results: Results, points: Mapping[int, Row], across: str, name: str, folder: Path) -> Path | None:
    """Plot the cost of a task at the points of a curve. across: the label of the x axis."""
    figure, axis = pyplot.subplots(figsize=(7, 4))
    ends = []
    for library in PEERS:
        measured = {
            x: per_unit(row, results, library) for x, row in points.items() if library in results.libraries(row.name)
        }
        if not measured:
            continue
        colour, marker = STYLE[library]
        ours = library == "goproc"
        marker = "d" if marker == "|" else marker
        medians = [spread.median for spread in measured.values()]
        axis.plot(
            list(measured),
            medians,
            marker=marker,
            color=colour,
            linewidth=2.6 if ours else 1.4,
            markersize=7 if ours else 5,
            zorder=5 if ours else 3,
            label=library,
        )
        axis.fill_between(
            list(measured),
            [spread.low for spread in measured.values()],
            [spread.high for spread in measured.values()],
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
        ends.append(medians[-1])
    if not ends:
        pyplot.close(figure)
        return None
    axis.set(xscale="log", yscale="log", xlabel=across, ylabel="µs a task, map(chunksize=1)")
    axis.set_xticks(list(points), [f"{x:,}" for x in points])
    axis.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(FuncFormatter(plain))
    for each in (axis.xaxis, axis.yaxis):
        each.set_minor_locator(NullLocator())
        each.set_minor_formatter(NullFormatter())
    ordered_legend(axis)
    figure.text(0.02, -0.04, setting(results) + "; bands: quartiles", fontsize=8, color="#555555")
    return save(figure, folder, name)


def ordered_legend(axis) -> None:
    """Put the legend beside the plot, in the order in which the lines end."""
    lines = [line for line in axis.get_lines() if not line.get_label().startswith("_")]
    lines.sort(key=lambda line: -line.get_ydata()[-1])
    axis.legend(lines, [line.get_label() for line in lines], loc="center left", bbox_to_anchor=(1.0, 0.5))


def memory(results: Results, folder: Path) -> Path | None:
    """Plot the memory of the main program against the number of results of a long imap."""
    figure, axis = pyplot.subplots(figsize=(7, 4))
    for library, row in growth.MEMORY.items():
        for trace in results.rows.get(row.name, {"measured": {}})["measured"].get(library, []):
            colour, marker = STYLE[library]
            ours = library == "goproc"
            step = len(trace["results"]) // 150 + 1  # more than 150 points make the file large, and do not show more
            so_far = [count / 1e6 for count in trace["results"]]
            axis.plot(
                so_far[::step],
                trace["memory"][::step],
                color=colour,
                linewidth=2.6 if ours else 1.6,
                label=library,
                zorder=5 if ours else 3,
            )
            end = "d" if marker == "|" else marker
            axis.plot(so_far[-1:], trace["memory"][-1:], end, color=colour, markersize=7, zorder=6)
    if not axis.get_lines():
        pyplot.close(figure)
        return None
    axis.axhline(growth.Memory.MEMORY, color="#777777", linewidth=1, linestyle=":")
    axis.annotate(
        f"stopped here: {growth.Memory.MEMORY / 1024:g} GiB",
        (10, growth.Memory.MEMORY),
        (0, 3),
        textcoords="offset points",
        ha="right",
        color="#555555",
        fontsize=8,
    )
    axis.set(
        yscale="log",
        xlabel="results so far, millions (imap over a generator of 10 million)",
        ylabel="memory of the main program, MiB",
        xlim=(-0.2, 10.2),
    )
    axis.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(FuncFormatter(plain))
    axis.yaxis.set_minor_locator(NullLocator())
    ordered_legend(axis)
    text = f"; each until it is done, or for {growth.Memory.SECONDS} s"
    figure.text(0.02, -0.04, setting(results) + text, fontsize=8, color="#555555")
    return save(figure, folder, "memory.svg")


def breakdown(results: Results, folder: Path) -> Path | None:
    """Plot the steps of a round trip, one after the other."""
    parts = {what: 1e6 * Spread.of(values).median for what, values in results.parts.get("round-trip", {}).items()}
    if not parts:
        return None
    (_, whole), *steps = parts.items()
    figure, axis = pyplot.subplots(figsize=(7, 0.32 * len(steps) + 0.6))
    began = 0.0
    for place, (_, microseconds) in enumerate(steps):
        worker = 4 < place < 8
        axis.barh(place, microseconds, left=began, color=COLOURS[2] if worker else COLOURS[0], height=0.7)
        axis.annotate(
            f"{microseconds:.2f}",
            (began + microseconds, place),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
        began += microseconds
    axis.set_yticks(range(len(steps)), [what.replace("`", "") for what, _ in steps])
    axis.set_ylim(len(steps) - 0.4, -0.6)
    axis.set_xlim(0, began * 1.06)
    axis.tick_params(axis="y", length=0)
    axis.set_xlabel("µs since apply was called")
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=colour) for colour in (COLOURS[0], COLOURS[2])]
    axis.legend(handles, ["in the main program, or under way", "in the worker"], loc="lower left")
    figure.text(0.02, -0.1, f"{setting(results)}; medians, {whole:.1f} µs as a whole", fontsize=8, color="#555555")
    return save(figure, folder, "breakdown.svg")


def write(results: Results, folder: Path) -> Iterable[Path]:
    """Draw every plot that has figures; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    with pyplot.rc_context(STYLE_SHEET):
        drawn = [
            speed(results, folder),
            curves(results, growth.BY_TASKS, "tasks", "tasks.svg", folder),
            curves(results, growth.BY_WORKERS, "workers", "workers.svg", folder),
            memory(results, folder),
            breakdown(results, folder),
        ]
    return [path for path in drawn if path is not None]
