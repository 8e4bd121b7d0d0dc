"""The figures of many machines as text: for the terminal, and as the tables of docs/benchmarks-cluster.md.

The text between <!-- cluster figures: NAME --> and <!-- end of figures --> is replaced by a table.
"""

import re
from functools import partial
from pathlib import Path

from ..figures import Figures
from ..report import UNITS, WRITTEN, figure, machine
from ..results import Results, Spread
from .peers import TITLES
from .rows import COMPARED, COST, MACHINES, MEMORY, TASKS, Memory, Row

Source = Results | Figures


def per_unit(row: Row, results: Source, library: str, clock: str = "seconds") -> Spread:
    """Return the time of one unit of a row's work, in the row's unit of time. clock: a field of rows.Measurement."""
    spread = results.spread(row.name, library, clock)
    factor = UNITS[row.unit] / row.count
    return Spread(spread.median * factor, spread.low * factor, spread.high * factor)


def efficiency(row: Row, results: Source, library: str) -> str:
    """Return which part of the machines' time was work, as a text; "" for a row without that."""
    return f"{row.ideal / results.spread(row.name, library).median:.0%}" if row.ideal else ""


# --- The terminal


def heading(libraries: list[str]) -> str:
    return f"{'':<18}" + "".join(f"{library:>22}" for library in libraries)


def line(row: Row, results: Results, libraries: list[str]) -> str:
    """Return a row of the terminal's table: the medians, with the efficiency or the scheduler's processor time."""
    cells = []
    for library in libraries:
        if library not in results.libraries(row.name):
            cells.append("failed" if library in results.failed(row.name) else "-")
        elif isinstance(row, Memory):
            (trace,) = results.rows[row.name]["measured"][library]
            cells.append(f"{max(trace['memory']):,.0f} + {max(trace['scheduler']):,.0f} MiB")
        else:
            more = efficiency(row, results, library)
            more = more or f"+{figure(per_unit(row, results, library, 'scheduler').median)}"
            cells.append(f"{figure(per_unit(row, results, library).median)} {row.unit} {more}")
    return f"{row.name:<18}" + "".join(f"{cell:>22}" for cell in cells)


# --- The documentation


def compared(results: Figures) -> str:
    """Return the table of all libraries."""
    libraries = [name for name in TITLES if any(name in results.libraries(row.name) for row in COMPARED)]
    others = [name for name in libraries if name != "goproc"]
    heads = ["work", *(TITLES[name] for name in libraries), *(f"goproc to {name}" for name in others)]
    lines = [f"| {' | '.join(heads)} |", "|---|" + "--:|" * (len(heads) - 1)]
    for row in COMPARED:
        present = results.libraries(row.name)
        if not present:
            continue
        best = min(results.spread(row.name, name).median for name in present)
        cells = [cell(row, results, name, best) for name in libraries]
        cells += [times(row, results, name) for name in others]
        lines.append(f"| {row.title}, {WRITTEN[row.unit]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(row: Row, results: Figures, library: str, best: float) -> str:
    if library not in results.libraries(row.name):
        return "fails" if library in results.failed(row.name) else "–"
    spread = per_unit(row, results, library)
    text = figure(spread.median)
    if results.spread(row.name, library).median == best:
        text = f"**{text}**"
    text += f"<br><sub>{figure(spread.low)}–{figure(spread.high)}"
    share = efficiency(row, results, library)
    return text + (f"; {share} of the machines</sub>" if share else "</sub>")


def times(row: Row, results: Figures, library: str) -> str:
    """Return how many times as long as goproc a library took."""
    if not {"goproc", library} <= set(results.libraries(row.name)):
        return "–"
    ratio = results.spread(row.name, library).median / results.spread(row.name, "goproc").median
    return f"{ratio:.1f}×" if ratio >= 10 else f"{ratio:.2f}×"


def cost(results: Figures, library: str) -> str:
    """Return the table of what a task costs: microseconds in all, and those of the scheduler's processor."""
    machines = [count for count in MACHINES if any(library in of(results, count, tasks) for tasks in TASKS)]
    if not machines:
        return NOT_YET
    heads = ["tasks", *(f"{count} machine{'s' if count > 1 else ''}" for count in machines)]
    lines = [f"| {' | '.join(heads)} |", "|--:|" + "--:|" * len(machines)]
    for tasks in TASKS:
        cells = []
        for count in machines:
            if library not in of(results, count, tasks):
                cells.append("–")
                continue
            row = COST[count, tasks]
            whole, scheduler = (per_unit(row, results, library, clock).median for clock in ("seconds", "scheduler"))
            cells.append(f"{figure(whole)}<br><sub>{figure(scheduler)}</sub>")
        if set(cells) != {"–"}:
            lines.append(f"| {tasks:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def of(results: Figures, machines: int, tasks: int) -> list[str]:
    """Return the libraries that have figures at a number of machines and of tasks."""
    return results.libraries(COST[machines, tasks].name)


NOT_YET = "The next `make bench-cluster` writes this table."

#: The numbers of results at which the table of the memory has a line.
MARKS = (0, 10**4, 10**5, 3 * 10**5, 10**6)


def memory(results: Figures) -> str:
    """Return the table of the memory over a long imap."""
    trace = results.trace(MEMORY.name, "goproc")
    lines = ["| results so far | main program | scheduler |", "|--:|--:|--:|"]
    if trace is None:
        return NOT_YET
    for mark in MARKS:
        place = min(range(len(trace["results"])), key=lambda i: abs(trace["results"][i] - mark))
        main, scheduler = trace["memory"][place], trace["scheduler"][place]
        lines.append(f"| {trace['results'][place]:,} | {main:,.0f} MiB | {scheduler:,.0f} MiB |")
    return "\n".join(lines)


def write(results: Figures, page: Path) -> int:
    """Write the tables into a page; return their number. Raises KeyError for an unknown name of a table."""
    texts = {
        "compared": partial(compared, results),
        "cost": partial(cost, results, "goproc"),
        "cost-dask": partial(cost, results, "dask"),
        "memory": partial(memory, results),
        "machine": partial(machine, results),
    }
    text, found = re.subn(
        r"(<!-- cluster figures: ([\w-]+) -->\n).*?(<!-- end of figures -->)",
        lambda place: f"{place[1]}\n{texts[place[2]]()}\n\n{place[3]}",
        page.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    page.write_text(text, encoding="utf-8")
    return found
