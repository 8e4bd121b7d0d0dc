# Pool.stream: the tasks are generators, and what they yield arrives as it is yielded, with the index of the item.
"""
in the order of each item: True
the words of item 1: one, two, three
an endless generator, ended after 5 values
its worker has been replaced: True
"""

import itertools

import goproc


def words(text):
    yield from text.split()


def naturals(first):
    yield from itertools.count(first)


if __name__ == "__main__":
    texts = ["a b c", "one two three"]
    with goproc.Pool(2) as pool:
        found = list(pool.stream(words, texts))
        print("in the order of each item:", all([w for i, w in found if i == at] == texts[at].split() for at in (0, 1)))
        print("the words of item 1:", ", ".join(word for index, word in found if index == 1))
    with goproc.Pool(1) as pool:
        with pool.stream(naturals, [0]) as stream:
            values = [value for _, value in itertools.islice(stream, 5)]
        print("an endless generator, ended after", len(values), "values")
        print("its worker has been replaced:", pool.apply(len, ("abc",)) == 3)
