"""The curves: what a task costs with more and more tasks and workers, and what memory a long imap takes.

Their points are rows like any other.
"""

from itertools import pairwise

from .results import Results
from .work import ONE_BY_ONE, Row, integers

TASKS = [10**3, 10**4, 10**5, 10**6]
WORKERS = [1, 2, 4, 8, 16, 32, 64]

#: A library that would take longer than this for one repetition of a point, judged by the point before, stops there.
AFFORDABLE = 20.0

BY_TASKS = {
    count: Row(
        f"tasks_{count}", f"`map(chunksize=1)` of {count:,}", "map", integers(count), options=ONE_BY_ONE, count=count
    )
    for count in TASKS
}
BY_WORKERS = {
    workers: Row(
        f"workers_{workers}",
        f"`map(chunksize=1)` of 10,000, {workers} workers",
        "map",
        integers(10_000),
        options=ONE_BY_ONE,
        count=10_000,
        workers=workers,
    )
    for workers in WORKERS
}
ROWS = {row.name: row for row in [*BY_TASKS.values(), *BY_WORKERS.values()]}


def affordable(row: Row, library: str, results: Results) -> bool:
    """Whether a library is fast enough for a point of a curve, judged by what the point before took."""
    for previous, count in pairwise(TASKS):
        if row is BY_TASKS[count]:
            before = BY_TASKS[previous].name
            if library not in results.libraries(before):
                return False
            return results.spread(before, library).median * (count / previous) < AFFORDABLE
    return True
