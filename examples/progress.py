# goproc's own: a function is told how many items of a map are done. `progress=True` shows a bar of tqdm or rich.
"""
map: 100 of 100
imap: 100 of 100
328350
"""

import goproc


def square(number):
    return number * number


class Count:
    def __call__(self, done, total):
        self.text = f"{done} of {total}"


if __name__ == "__main__":
    count = Count()
    with goproc.Pool(1) as pool:
        pool.map(square, range(100), progress=count)
        print("map:", count.text)
        results = sum(pool.imap(square, range(100), progress=count))
        print("imap:", count.text)
        print(results)
