"""What progress= costs: the same maps with and without it, in pairs, in one run of one program.

python -m benchmarks progress

Each pair gives a ratio of its two times; the pairs begin with each of the two in turn. The median of the ratios is
shown with the quartiles. So another program that runs for a while changes only a few ratios, and neither side is
preferred.
"""

import statistics
import time
from collections.abc import Callable

from . import functions

ITEMS = 5_000
STEPS = 400  # of an item: some 10 microseconds

__all__ = ["measure"]


def measure(repetitions: int) -> str:
    """Return a line for each kind of map: how much longer it takes with a function. repetitions: how many pairs."""
    import goproc
    import goproc.futures

    items = [STEPS] * ITEMS

    def tell(done: int, total: int | None) -> None:
        pass

    lines = [f"{'':<16}{'without':>12}{'more with progress=':>22}{'quartiles':>20}"]
    with goproc.Pool(2) as pool, goproc.futures.ProcessPoolExecutor(2) as executor:
        kinds: dict[str, Callable[..., object]] = {
            "map": lambda **options: pool.map(functions.count, items, **options),
            "imap": lambda **options: sum(1 for _ in pool.imap(functions.count, items, **options)),
            "imap, chunks": lambda **options: sum(1 for _ in pool.imap(functions.count, items, 50, **options)),
            "executor.map": lambda **options: sum(1 for _ in executor.map(functions.count, items, **options)),
        }
        for name, run in kinds.items():
            run()
            ratios, without = [], []
            for number in range(repetitions):
                pair = [0.0, 0.0]  # seconds without it, and with it
                for which in (0, 1) if number % 2 else (1, 0):
                    began = time.perf_counter()
                    run(**({"progress": tell} if which else {}))
                    pair[which] = time.perf_counter() - began
                ratios.append(pair[1] / pair[0] - 1)
                without.append(pair[0])
            low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
            quartiles = f"{low:+.1%} to {high:+.1%}"
            lines.append(f"{name:<16}{1e3 * statistics.median(without):>9.1f} ms{median:>+22.1%}{quartiles:>20}")
    return "\n".join(lines)
