"""The figures as text: the table on the terminal, and the tables in the documentation.

In a Markdown file, the text between <!-- figures: NAME --> and <!-- end of figures --> is replaced by a table.
"""

import re
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

from . import growth
from .figures import Figures
from .results import Results, Spread
from .rows import GROUPS, ROWS
from .work import Row

Source = Results | Figures

BASE = "multiprocessing"
NOT_YET = "The next `make bench` makes this table."
UNITS = {"us": 1e6, "ms": 1e3}
WRITTEN = {"us": "µs", "ms": "ms"}

#: The measurements of `python -m benchmarks parts`: the module, and its function.
PARTS = {
    "round-trip": ("breakdown", "round_trip"),
    "stream": ("breakdown", "stream"),
    "channels": ("channels", "measure"),
    "start": ("starting", "starting"),
    "start-processor": ("starting", "processor"),
}

#: The rows that README.md shows: for each kind of work, the one that programs do most, even if goproc gains nothing.
SUMMARY = (
    "apply",
    "apply_async",
    "imap",
    "skew",
    "array_64MiB",
    "start_fork",
    "start_spawn",
    "program_fork",
)


def figure(value: float) -> str:
    """Show a number with three digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def shown(value: float) -> float:
    """Return the number that figure() shows for a value."""
    return float(figure(value).replace(",", ""))


def per_unit(row: Row, results: Source, library: str) -> Spread:
    """Return the time of one unit of a row's work, in the row's unit of time."""
    spread = results.spread(row.name, library, row.clock)
    factor = UNITS[row.unit] / row.count
    return Spread(spread.median * factor, spread.low * factor, spread.high * factor)


# --- The terminal


def heading(libraries: list[str]) -> str:
    """Return the heading of the terminal's table."""
    columns = "".join(f"{library[:15]:>17}" for library in libraries)
    return f"{'':<22}{columns}{'ratio':>8}{'quartiles':>14}{'floor':>7}{'aim':>6}{'cpu ratio':>11}"


def line(row: Row, results: Results, libraries: list[str]) -> str:
    """Return a row of the terminal's table: the medians, and goproc's ratio to the row's base."""
    cells = []
    for library in libraries:
        if library not in results.libraries(row.name):
            cells.append("failed" if library in results.failed(row.name) else "-")
        elif isinstance(row, growth.Memory):
            (trace,) = results.rows[row.name]["measured"][library]
            cells.append(f"{max(trace['memory']):,.0f} MiB")
        elif row is growth.SHARED:
            curves = results.rows[row.name]["measured"][library]
            cells.append(f"{max(peak for curve in curves for peak in curve['points'].values()):,.0f} MiB")
        elif row.name in growth.DRAWN:
            cells.append("measured")
        else:
            cells.append(f"{figure(per_unit(row, results, library).median)} {row.unit}")
    text = f"{row.name:<22}" + "".join(f"{cell:>17}" for cell in cells)
    if isinstance(row, growth.Memory) or row.name in growth.DRAWN:
        return text
    ratio, processor = (results.ratio(row.name, "goproc", row.base, clock) for clock in (row.clock, "processor"))
    if ratio is None:
        return text
    text += f"{ratio.median:>7.2f}x{f'{ratio.low:.2f}-{ratio.high:.2f}':>14}"
    text += f"{row.goal.floor:>7g}{row.goal.aim:>6g}" if row.goal else f"{'':>13}"
    return text + (f"{processor.median:>10.2f}x" if processor else "")


def medians_ratio(row: Row, results: Source, library: str) -> float | None:
    """Return how many times as long as goproc a library took: the ratio of the two medians that a table shows.

    None without figures of both. It is not the median of the ratios, nor the ratio of the exact medians: these can
    contradict the medians beside it.
    """
    if not {"goproc", library} <= set(results.libraries(row.name)):
        return None
    ours, theirs = (shown(per_unit(row, results, name).median) for name in ("goproc", library))
    return theirs / ours if ours > 0 else None


def losses(row: Row, results: Source) -> list[tuple[str, float]]:
    """Return the libraries that are faster than goproc at a row: (library, how many times as fast it is)."""
    found = []
    for library in results.libraries(row.name):
        if library != "goproc" and (ratio := medians_ratio(row, results, library)) and ratio < 1:
            found.append((library, 1 / ratio))
    return found


def shortfalls(rows: list[Row], results: Results) -> str:
    """Return a text that names the rows at which goproc is below a goal, or a peer is faster."""
    lines = []
    for row in rows:
        if isinstance(row, growth.Memory) or row.name in growth.DRAWN:
            continue
        if row.goal and (ratio := results.ratio(row.name, "goproc", row.base, row.clock)):
            if ratio.median < row.goal.floor:
                lines.append(f"below the floor: {row.name}, {ratio.median:.2f}x of {row.goal.floor:g}x")
        lines += [
            f"{library} is faster: {row.name}, goproc takes {factor:.2f} times as long"
            for library, factor in losses(row, results)
        ]
    return "\n".join(lines) or "no floor missed, no peer faster"


def parts_lines(name: str, results: Results) -> str:
    """Return the steps of one measurement of PARTS, one line for each: microseconds, median and quartiles."""
    spreads = {part: Spread.of([1e6 * each for each in values]) for part, values in results.parts[name].items()}
    return "\n".join(
        f"{figure(spread.median):>10} us  ({figure(spread.low)}-{figure(spread.high)})  {part}"
        for part, spread in spreads.items()
    )


# --- The documentation


def fastest(row: Row, results: Source, libraries: list[str]) -> list[str]:
    """Return the libraries with the smallest median at a row, as it is shown: several if they are equal."""
    medians = {
        library: shown(per_unit(row, results, library).median)
        for library in libraries
        if library in results.libraries(row.name)
    }
    return [library for library, median in medians.items() if median == min(medians.values())]


def cell(row: Row, results: Figures, library: str, bold: bool, quartiles: bool = True) -> str:
    """Return a library's cell of a table: the median, in bold if it is the smallest of the row, and the quartiles."""
    if library not in results.libraries(row.name):
        return "fails" if library in results.failed(row.name) else "–"
    spread = per_unit(row, results, library)
    text = f"**{figure(spread.median)}**" if bold else figure(spread.median)
    return f"{text}<br><sub>{figure(spread.low)}–{figure(spread.high)}</sub>" if quartiles else text


def times(ratio: float | None) -> str:
    """Show a ratio: how many times as fast."""
    return "–" if ratio is None else f"{figure(ratio)}×"


def table(rows: list[Row], results: Figures) -> str:
    """Return the table of some rows: the medians of all libraries with the quartiles, and goproc's ratio."""
    libraries = [name for name in results.versions if any(name in results.libraries(row.name) for row in rows)]
    if not libraries:
        return NOT_YET
    lines = [
        "| work | " + " | ".join(libraries) + f" | goproc to {rows[0].base} |",
        "|---|" + "--:|" * (len(libraries) + 1),
    ]
    for row in rows:
        if results.libraries(row.name):
            best = fastest(row, results, libraries)
            cells = [cell(row, results, library, [library] == best) for library in libraries]
            ratio = times(medians_ratio(row, results, row.base))
            lines.append(f"| {row.title}, {WRITTEN[row.unit]} | " + " | ".join(cells) + f" | {ratio} |")
    return "\n".join(lines)


def summary(results: Figures) -> str:
    """Return README.md's table: goproc, multiprocessing, and the fastest of the other libraries."""
    lines = [
        "| work | goproc | multiprocessing | times as fast | best of the others |",
        "|---|--:|--:|--:|---|",
    ]
    for row in (ROWS[name] for name in SUMMARY):
        libraries = results.libraries(row.name)
        if "goproc" not in libraries or BASE not in libraries:
            continue
        winner = fastest(row, results, libraries)
        other = next(iter(fastest(row, results, [name for name in libraries if name not in ("goproc", BASE)])), None)
        cells = {
            library: f"{cell(row, results, library, [library] == winner, False)} {WRITTEN[row.unit]}"
            for library in ("goproc", BASE, other)
            if library
        }
        best = f"{cells[other]}, {other}" if other else "–"
        ratio = times(medians_ratio(row, results, BASE))
        lines.append(f"| {row.title} | {cells['goproc']} | {cells[BASE]} | {ratio} | {best} |")
    return "\n".join(lines)


def slower(results: Figures) -> str:
    """Return the list of the rows at which another library is faster: the medians of goproc and of the faster ones."""
    lines = []
    for row in ROWS.values():
        if found := losses(row, results):
            medians = {
                library: f"{figure(per_unit(row, results, library).median)} {WRITTEN[row.unit]}"
                for library in ("goproc", *(name for name, _ in sorted(found, key=lambda pair: -pair[1])))
            }
            names = ", ".join(f"{library} {median}" for library, median in medians.items() if library != "goproc")
            lines.append(f"- {row.title}: goproc {medians['goproc']}; {names}")
    return "\n".join(lines) or "At no row."


def machine(results: Figures) -> str:
    """Return the description of the machine, and the versions of the libraries."""
    lines = [f"- {name}: {value}" for name, value in results.machine.items()]
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items() if name != "goproc")
    return "\n".join([*lines, f"- libraries: {versions}"])


def memory(results: Figures) -> str:
    """Return the table of the memory that the long imap took."""
    lines = ["| library | results | after | memory of the main program |", "|---|--:|--:|--:|"]
    for library, row in growth.MEMORY.items():
        if trace := results.trace(row.name, library):
            stopped = "" if trace["finished"] else ", stopped"
            lines.append(
                f"| {library} | {trace['results'][-1]:,} | {trace['seconds'][-1]:.0f} s{stopped} | "
                f"{trace['peak']:,.0f} MiB |"
            )
    return "\n".join(lines)


def efficiency(results: Figures) -> str:
    """Return the picture of the efficiency, as write() finds it in the folder plots."""
    if not any(results.libraries(row.name) for row in growth.EFFICIENCY.values()):
        return "The next `make bench` draws this picture."
    words = "Efficiency of apply_async, map(chunksize=1) and map, against the length of a task, by library"
    return f"![{words}](plots/efficiency.svg)"


def pays(results: Figures) -> str:
    """Return the table of the lengths at which a task pays: the workers are as fast as a loop in one process."""
    lines = ["| library | " + " | ".join(f"`{call}`" for call in growth.EFFICIENCY) + " |"]
    lines.append("|---|" + "--:|" * len(growth.EFFICIENCY))
    for library in results.versions:
        cells = []
        for row in growth.EFFICIENCY.values():
            if library not in results.libraries(row.name):
                cells.append("–")
                continue
            cells.append(pays_from(results.points(row.name, library), 1 / row.workers))
        if set(cells) != {"–"}:
            lines.append(f"| {library} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def pays_from(points: dict[float, Spread], level: float) -> str:
    """Return the length of the shortest task that pays, in words. level: the efficiency of a loop in one process."""
    length = crossing(points, level)
    if length is None:
        return "never"
    return f"≤ {duration(length)}" if length == min(points) else duration(length)


def crossing(points: dict[float, Spread], level: float) -> float | None:
    """Return the x at which a curve stays above a level, interpolated; its first x if it is never below."""
    found = None
    for (x, before), (next_x, after) in reversed(list(pairwise(sorted(points.items())))):
        if after.median < level:
            return found
        if before.median < level:
            share = (level - before.median) / (after.median - before.median)
            return x * (next_x / x) ** share
        found = x
    return found


def duration(seconds: float) -> str:
    """Show a length of time with two digits."""
    unit, factor = ("µs", 1e6) if seconds < 1e-3 else ("ms", 1e3) if seconds < 1 else ("s", 1)
    return f"{float(f'{seconds * factor:.2g}'):g} {unit}"


def sizes(results: Figures) -> str:
    """Return the table of the peak memory against the size of the items, in MiB."""
    libraries = [library for library in results.versions if library in results.libraries(growth.SIZES.name)]
    lines = ["| an item | " + " | ".join(libraries) + " |", "|---|" + "--:|" * len(libraries)]
    curves = {library: results.points(growth.SIZES.name, library) for library in libraries}
    for size in growth.Sizes.SIZES:
        cells = [f"{curve[size].median:,.0f}" if size in curve else "–" for curve in curves.values()]
        lines.append(f"| {byte_size(size)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def shared(results: Figures) -> str:
    """Return the table of the peak memory of workers that read the same array, in MiB."""
    if not (libraries := results.libraries(growth.SHARED.name)):
        return NOT_YET
    lines = ["| library | memory of the workers |", "|---|--:|"]
    for library in libraries:
        (peak,) = results.points(growth.SHARED.name, library).values()
        lines.append(f"| {library} | {peak.median:,.0f} MiB |")
    return "\n".join(lines)


def byte_size(size: float) -> str:
    """Show a number of bytes that is a power of two."""
    return f"{size / 2**20:g} MiB" if size >= 2**20 else f"{size / 2**10:g} KiB"


def parts(name: str, results: Figures) -> str:
    """Return the table of the steps of one measurement of PARTS."""
    lines = ["| what | µs | quartiles |", "|---|--:|--:|"]
    for part, spread in results.part(name).items():
        median, low, high = (figure(1e6 * value) for value in (spread.median, spread.low, spread.high))
        lines.append(f"| {part} | {median} | {low}–{high} |")
    return "\n".join(lines)


#: How a cell of the table of faults is drawn, by what its text contains; the first that it contains counts.
VERDICTS = {
    "**hangs**": ("lost", "✗"),
    "left behind": ("lost", "✗"),
    "did not start": ("lost", "✗"),
    "pool broken": ("broken", "!"),
    "other tasks lost": ("broken", "!"),
    "": ("well", "✓"),
}


def verdict(cell: str) -> tuple[str, str, str]:
    """Return how a cell of the table of faults is drawn: the name of its colour in theme.py, its sign, some words."""
    colour, sign = next(drawn for text, drawn in VERDICTS.items() if text in cell)
    how, _, rest = cell.replace("*", "").partition("; ")
    when = next((how[how.index(word) :] for word in (" in ", " after ") if word in how), "")
    if colour == "lost":
        words = f"error{when},\nthen hangs" if rest else how.replace(" processes", "")
    elif colour == "broken":
        words = f"error{when},\n{'pool broken' if 'pool broken' in rest else 'tasks lost'}"
    else:
        words = how if "`" not in how else f"error{when}"
    return colour, sign, words


def slug(title: str) -> str:
    return title.lower().replace(" ", "-")


def write(results: Figures, files: list[Path]) -> int:
    """Write the tables into Markdown files; return their number. Raises KeyError for an unknown name of a table."""
    texts: dict[str, Callable[[], str]] = {
        "summary": partial(summary, results),
        "slower": partial(slower, results),
        "machine": partial(machine, results),
        "tasks": partial(table, list(growth.BY_TASKS.values()), results),
        "workers": partial(table, list(growth.BY_WORKERS.values()), results),
        "memory": partial(memory, results),
        "efficiency": partial(efficiency, results),
        "pays": partial(pays, results),
        "sizes": partial(sizes, results),
        "shared": partial(shared, results),
    }
    for name in PARTS:
        texts[name] = partial(parts, name, results)
    for group, rows in GROUPS.items():
        texts[slug(group)] = partial(table, rows, results)
    count = 0
    for file in files:
        plots = "../plots" if file.parent.name == "guide" else "plots"
        text, found = re.subn(
            r"(<!-- figures: ([\w-]+) -->\n).*?(<!-- end of figures -->)",
            lambda place: f"{place[1]}\n{texts[place[2]]()}\n\n{place[3]}",
            file.read_text(encoding="utf-8"),
            flags=re.DOTALL,
        )
        file.write_text(text.replace("](plots/", f"]({plots}/"), encoding="utf-8")
        count += found
    return count
