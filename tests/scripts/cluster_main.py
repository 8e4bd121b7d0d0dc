"""What is defined in `__main__` travels to the machines of a cluster by value, as often as a task needs it."""

from goproc.cluster import Pool

state = None
factor = 2


class Point:
    def __init__(self, x):
        self.x = x


class OwnError(Exception):
    pass


def begin(value):
    global state
    state = value


def read(_):
    return state


def scaled(x):
    return factor * x


def moved(point):
    return Point(point.x + 1)


def fail(x):
    raise OwnError(x)


def count(_):
    global state
    state = (state or 0) + 1
    return state


if __name__ == "__main__":
    with Pool("local:1x1", initializer=begin, initargs=(5,)) as pool:
        assert pool.map(read, range(3)) == [5, 5, 5]
        assert pool.map(scaled, range(3), chunksize=1) == [0, 2, 4]
        factor = 3
        assert pool.map(scaled, range(3)) == [0, 3, 6]
        point = pool.apply(moved, (Point(1),))
        assert type(point) is Point and point.x == 2
        try:
            pool.apply(fail, (1,))
        except OwnError as error:
            assert error.args == (1,)
        assert pool.map(count, range(3), chunksize=1) == [6, 7, 8]
    pool.join()
