# Functions that have no name in a module: a lambda, a function within a function, a class within a function. pickle
# cannot send them to another process. The environment variable that the runner of the examples sets has cloudpickle do
# it. The program does not know it: it uses multiprocessing as if every function could travel.
"""
a lambda: 0, 3, 6, 9
a closure: 100, 101, 102, 103
a result that is a function: 7
an object of a class within a function: Point(1, 2)
target of a process: 42
"""

import multiprocessing


def adder(step):
    return lambda number: number + step


def main():
    class Point:
        def __init__(self, x, y):
            self.x, self.y = x, y

        def __repr__(self):
            return f"Point({self.x}, {self.y})"

    factor = 3
    with multiprocessing.Pool(1) as pool:
        print("a lambda:", ", ".join(map(str, pool.map(lambda number: number * factor, range(4)))))
        print("a closure:", ", ".join(map(str, pool.map(adder(100), range(4)))))
        print("a result that is a function:", pool.apply(lambda: lambda: 7)())
        print("an object of a class within a function:", pool.apply(Point, (1, 2)))

    total = multiprocessing.Value("i", 40)

    def add():
        with total.get_lock():
            total.value += 2

    process = multiprocessing.Process(target=add)
    process.start()
    process.join()
    print("target of a process:", total.value)


if __name__ == "__main__":
    main()
