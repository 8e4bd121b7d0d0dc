"""What progress= costs: the same maps with and without it, in turn, in one run of one program.

python -m benchmarks progress
"""

import time
from collections.abc import Callable

from . import functions

ITEMS = 20_000
STEPS = 400  # of an item: some 10 microseconds

__all__ = ["measure"]


def measure(repetitions: int) -> str:
    """Return a line for each kind of map: the least seconds without and with a function, and the difference."""
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
            least = [float("inf"), float("inf")]  # of all repetitions: other programs can only add to a time
            for _ in range(repetitions):
                for i, options in enumerate(({}, {"progress": tell})):
                    began = time.perf_counter()
                    run(**options)
                    least[i] = min(least[i], time.perf_counter() - began)
            lines.append(f"{name:<16}{least[0]:>8.3f} s{least[1]:>8.3f} s{least[1] / least[0] - 1:>+9.1%}")
    return "\n".join(lines)
