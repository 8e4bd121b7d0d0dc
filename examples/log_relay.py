# goproc.logging: the log records of children reach the main program's handler, with the name of the child's function.
# multiprocessing has no such thing, so this script imports goproc.
"""
INFO square: squaring 3
WARNING check: 7 is odd
ERROR fail: Process failing: ValueError
INFO : 3 records came from children
"""

import logging
import sys

import goproc
import goproc.logging


class Counter(logging.Filter):
    count = 0

    def filter(self, record):
        self.count += record.processName != "MainProcess"
        return True


class OneLine(logging.Formatter):
    def formatException(self, exc_info):
        return ""

    def format(self, record):
        if record.exc_text:  # the traceback, as text
            record.msg, record.exc_text = f"{record.msg} {record.exc_text.splitlines()[-1].partition(':')[0]}", None
        return super().format(record)


def square(number):
    logging.info("squaring %d", number)
    return number * number


def check(number):
    if number % 2:
        logging.warning("%d is odd", number)


def fail():
    raise ValueError("no such thing")


if __name__ == "__main__":
    handler, counter = logging.StreamHandler(sys.stdout), Counter()
    handler.addFilter(counter)
    handler.setFormatter(OneLine("%(levelname)s %(taskFunction)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    with goproc.logging.relay() as relay:
        with goproc.Pool(1) as pool:
            pool.apply(square, (3,))
            pool.apply(check, (7,))
        process = goproc.Process(target=fail, name="failing")
        process.start()
        process.join()
        relay.flush()
        logging.info("%d records came from children", counter.count)
