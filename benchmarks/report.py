"""The figures as text: for the terminal, and as the documentation's tables."""

from .results import Results, Spread
from .work import Row

BASE = "multiprocessing"
UNITS = {"us": 1e6, "ms": 1e3, "s": 1.0}


def figure(value: float) -> str:
    """Show a number with three digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def heading(libraries: list[str]) -> str:
    """Return the heading of the terminal's table."""
    columns = "".join(f"{library[:15]:>17}" for library in libraries)
    return f"{'':<22}{columns}{'ratio':>8}{'quartiles':>14}{'floor':>7}{'aim':>6}{'cpu ratio':>11}"


def line(row: Row, results: Results, libraries: list[str]) -> str:
    """Return a row of the terminal's table: medians, and what goproc's ratio to multiprocessing is."""
    cells = []
    for library in libraries:
        if library in results.libraries(row.name):
            cells.append(f"{figure(per_unit(row, results, library).median)} {row.unit}")
        else:
            cells.append("failed" if library in results.failed(row.name) else "-")
    text = f"{row.name:<22}" + "".join(f"{cell:>17}" for cell in cells)
    ratio, processor = (results.ratio(row.name, "goproc", BASE, clock) for clock in (row.clock, "processor"))
    if ratio is None:
        return text
    text += f"{ratio.median:>7.2f}x{f'{ratio.low:.2f}-{ratio.high:.2f}':>14}"
    text += f"{row.goal.floor:>7g}{row.goal.aim:>6g}" if row.goal else f"{'':>13}"
    return text + (f"{processor.median:>10.2f}x" if processor else "")


def per_unit(row: Row, results: Results, library: str) -> Spread:
    """Return what one unit of a row's work took, in the row's unit."""
    spread = results.spread(row.name, library, row.clock)
    factor = UNITS[row.unit] / row.count
    return Spread(spread.median * factor, spread.low * factor, spread.high * factor)


def shortfalls(rows: list[Row], results: Results) -> str:
    """Say where goproc is below a goal, and where a peer is faster."""
    lines = []
    for row in rows:
        if row.goal and (ratio := results.ratio(row.name, "goproc", BASE, row.clock)):
            if ratio.median < row.goal.floor:
                lines.append(f"below the floor: {row.name}, {ratio.median:.2f}x of {row.goal.floor:g}x")
        for library in results.libraries(row.name):
            ratio = results.ratio(row.name, "goproc", library, row.clock)
            if library != "goproc" and ratio and ratio.median < 1:
                lines.append(f"{library} is faster: {row.name}, goproc takes {1 / ratio.median:.2f} times as long")
    return "\n".join(lines) or "no floor missed, no peer faster"
