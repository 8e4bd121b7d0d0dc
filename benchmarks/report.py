"""The figures as text: the table on the terminal, and the tables in the documentation.

In a Markdown file, the text between <!-- figures: NAME --> and <!-- end of figures --> is replaced by a table.
"""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from . import growth
from .results import Results, Spread
from .work import GROUPS, ROWS, Row

BASE = "multiprocessing"
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

#: The rows that README.md shows.
SUMMARY = (
    "apply",
    "apply_async",
    "map_one_by_one",
    "imap",
    "map_strings",
    "skew",
    "bytes_64MiB",
    "array_64MiB",
    "start_fork",
    "start_spawn",
    "start_forkserver",
    "program_fork",
)


def figure(value: float) -> str:
    """Show a number with three digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def per_unit(row: Row, results: Results, library: str) -> Spread:
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
    """Return a row of the terminal's table: the medians, and goproc's ratio to multiprocessing."""
    cells = []
    for library in libraries:
        if library not in results.libraries(row.name):
            cells.append("failed" if library in results.failed(row.name) else "-")
        elif isinstance(row, growth.Memory):
            (trace,) = results.rows[row.name]["measured"][library]
            cells.append(f"{max(trace['memory']):,.0f} MiB")
        else:
            cells.append(f"{figure(per_unit(row, results, library).median)} {row.unit}")
    text = f"{row.name:<22}" + "".join(f"{cell:>17}" for cell in cells)
    if isinstance(row, growth.Memory):
        return text
    ratio, processor = (results.ratio(row.name, "goproc", BASE, clock) for clock in (row.clock, "processor"))
    if ratio is None:
        return text
    text += f"{ratio.median:>7.2f}x{f'{ratio.low:.2f}-{ratio.high:.2f}':>14}"
    text += f"{row.goal.floor:>7g}{row.goal.aim:>6g}" if row.goal else f"{'':>13}"
    return text + (f"{processor.median:>10.2f}x" if processor else "")


def medians_ratio(row: Row, results: Results, library: str) -> float | None:
    """Return how many times as long as goproc a library took: the ratio of the medians that a table shows.

    None without figures of both. It is not the median of the ratios, which can contradict the medians beside it.
    """
    if not {"goproc", library} <= set(results.libraries(row.name)):
        return None
    ours, theirs = (results.spread(row.name, name, row.clock).median for name in ("goproc", library))
    return theirs / ours if ours > 0 else None


def losses(row: Row, results: Results) -> list[tuple[str, float]]:
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
        if isinstance(row, growth.Memory):
            continue
        if row.goal and (ratio := results.ratio(row.name, "goproc", BASE, row.clock)):
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


def fastest(row: Row, results: Results, libraries: list[str]) -> str | None:
    """Return the library with the smallest median at a row."""
    measured = [library for library in libraries if library in results.libraries(row.name)]
    return min(measured, key=lambda library: per_unit(row, results, library).median, default=None)


def cell(row: Row, results: Results, library: str, bold: bool, quartiles: bool = True) -> str:
    """Return a library's cell of a table: the median, in bold if it is the smallest of the row, and the quartiles."""
    if library not in results.libraries(row.name):
        return "fails" if library in results.failed(row.name) else "–"
    spread = per_unit(row, results, library)
    text = f"**{figure(spread.median)}**" if bold else figure(spread.median)
    return f"{text}<br><sub>{figure(spread.low)}–{figure(spread.high)}</sub>" if quartiles else text


def times(ratio: float | None) -> str:
    """Show a ratio: how many times as fast."""
    return "–" if ratio is None else f"{figure(ratio)}×"


def table(rows: list[Row], results: Results) -> str:
    """Return the table of some rows: the medians of all libraries with the quartiles, and goproc's ratio."""
    libraries = [name for name in results.versions if any(name in results.libraries(row.name) for row in rows)]
    lines = [
        "| work | " + " | ".join(libraries) + f" | goproc to {BASE} |",
        "|---|" + "--:|" * (len(libraries) + 1),
    ]
    for row in rows:
        if results.libraries(row.name):
            best = fastest(row, results, libraries)
            cells = [cell(row, results, library, library == best) for library in libraries]
            ratio = times(medians_ratio(row, results, BASE))
            lines.append(f"| {row.title}, {WRITTEN[row.unit]} | " + " | ".join(cells) + f" | {ratio} |")
    return "\n".join(lines)


def summary(results: Results) -> str:
    """Return README.md's table: goproc, multiprocessing, and the fastest of the other libraries."""
    lines = [
        "| work | goproc | multiprocessing | times as fast | best of the others |",
        "|---|--:|--:|--:|---|",
    ]
    for row in (ROWS[name] for name in SUMMARY):
        libraries = results.libraries(row.name)
        if "goproc" not in libraries or BASE not in libraries:
            continue
        first = fastest(row, results, libraries)
        best = fastest(row, results, [library for library in libraries if library not in ("goproc", BASE)])
        ours, theirs, other = (
            f"{cell(row, results, library, library == first, False)} {WRITTEN[row.unit]}" if library else "–"
            for library in ("goproc", BASE, best)
        )
        other += f", {best}" if best else ""
        ratio = times(medians_ratio(row, results, BASE))
        lines.append(f"| {row.title} | {ours} | {theirs} | {ratio} | {other} |")
    return "\n".join(lines)


def slower(results: Results) -> str:
    """Return the list of the rows at which another library is faster."""
    lines = []
    for row in ROWS.values():
        if found := losses(row, results):
            named = sorted(found, key=lambda pair: -pair[1])
            names = ", ".join(f"{library} ({figure(factor)} times as fast)" for library, factor in named)
            lines.append(f"- {row.title}: {names}")
    return "\n".join(lines) or "At no row."


def machine(results: Results) -> str:
    """Return the description of the machine, and the versions of the libraries."""
    lines = [f"- {name}: {value}" for name, value in results.machine.items()]
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items() if name != "goproc")
    return "\n".join([*lines, f"- libraries: {versions}"])


def memory(results: Results) -> str:
    """Return the table of the memory that the long imap took."""
    lines = ["| library | results | after | memory of the main program |", "|---|--:|--:|--:|"]
    for library, row in growth.MEMORY.items():
        for trace in results.rows.get(row.name, {"measured": {}})["measured"].get(library, []):
            stopped = "" if trace["finished"] else ", stopped"
            lines.append(
                f"| {library} | {trace['results'][-1]:,} | {trace['seconds'][-1]:.0f} s{stopped} | "
                f"{max(trace['memory']):,.0f} MiB |"
            )
    return "\n".join(lines)


def parts(name: str, results: Results) -> str:
    """Return the table of the steps of one measurement of PARTS."""
    lines = ["| what | µs | quartiles |", "|---|--:|--:|"]
    for part, values in results.parts.get(name, {}).items():
        spread = Spread.of([1e6 * each for each in values])
        lines.append(f"| {part} | {figure(spread.median)} | {figure(spread.low)}–{figure(spread.high)} |")
    return "\n".join(lines)


def slug(title: str) -> str:
    return title.lower().replace(" ", "-")


def write(results: Results, files: list[Path]) -> int:
    """Write the tables into Markdown files; return their number. Raises KeyError for an unknown name of a table."""
    texts: dict[str, Callable[[], str]] = {
        "summary": partial(summary, results),
        "slower": partial(slower, results),
        "machine": partial(machine, results),
        "tasks": partial(table, list(growth.BY_TASKS.values()), results),
        "workers": partial(table, list(growth.BY_WORKERS.values()), results),
        "memory": partial(memory, results),
    }
    for name in PARTS:
        texts[name] = partial(parts, name, results)
    for group, rows in GROUPS.items():
        texts[slug(group)] = partial(table, rows, results)
    count = 0
    for file in files:
        text, found = re.subn(
            r"(<!-- figures: ([\w-]+) -->\n).*?(<!-- end of figures -->)",
            lambda place: f"{place[1]}\n{texts[place[2]]()}\n\n{place[3]}",
            file.read_text(encoding="utf-8"),
            flags=re.DOTALL,
        )
        file.write_text(text, encoding="utf-8")
        count += found
    return count
