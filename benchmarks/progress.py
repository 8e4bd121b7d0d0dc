"""What progress= costs: the same maps with and without it, in turn, in one run of one program.

python -m benchmarks progress
"""

import statistics
import time
from collections.abc import Callable

from . import functions

ITEMS = 20_000
STEPS = 400  # of an item: some 10 microseconds

__all__ = ["measure"]


def measure(repetitions: int) -> str:
    """Return a line for each kind of map: seconds without and with a function, and the difference."""
    import goproc
    import goproc.futures

    items = [STEPS] * ITEMS

    def tell(done: int, total: int | None) -> None:
        pass

    lines = [f"{'':<16}{'without':>10}{'with':>10}{'more':>9}"]
    with goproc.Pool(2) as pool, goproc.futures.ProcessPoolExecutor(2) as executor:
        kinds: dict[str, Callable[..., object]] = {
            "map": lambda **options: pool.map(functions.count, items, **options),
            "imap": lambda **options: sum(1 for _ in pool.imap(functions.count, items, **options)),
            "imap, chunks": lambda **options: sum(1 for _ in pool.imap(functions.count, items, 50, **options)),
            "executor.map": lambda **options: sum(1 for _ in executor.map(functions.count, items, **options)),
        }
        for name, run in kinds.items():
            run()
            pairs = []
            for _ in range(repetitions):
                pair = []
                for options in ({}, {"progress": tell}):
                    began = time.perf_counter()
                    run(**options)
                    pair.append(time.perf_counter() - began)
                pairs.append(pair)
            without, shown = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
            ratio = statistics.median(pair[1] / pair[0] for pair in pairs)
            lines.append(f"{name:<16}{without:>8.3f} s{shown:>8.3f} s{ratio - 1:>+9.1%}")
    return "\n".join(lines)
