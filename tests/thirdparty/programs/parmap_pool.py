"""parmap: maps over several arguments through multiprocessing.Pool."""

import multiprocessing

import parmap


def power(base, exponent):
    return base**exponent


def main():
    print(parmap.map(power, range(10), 2, pm_processes=2))
    print(parmap.starmap(power, [(2, n) for n in range(10)], pm_processes=2))
    with multiprocessing.Pool(2) as pool:
        print(parmap.map_async(power, range(10), 3, pm_pool=pool).get())


if __name__ == "__main__":
    main()
