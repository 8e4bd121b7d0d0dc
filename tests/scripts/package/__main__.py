"""A program that is run as a package. It prints the same as show_main.py."""

import sys

names = {name: value for name, value in globals().items() if name not in ("__builtins__", "__loader__", "names")}
print(sys.argv, sys.path[0], sys.modules["__main__"].__dict__ is globals(), type(__builtins__), type(__loader__))
print({name: getattr(value, "name", value) for name, value in names.items() if name != "sys"})


def fail():
    raise ValueError("the text")


if "raise" in sys.argv:
    fail()
if "interrupt" in sys.argv:
    raise KeyboardInterrupt
if "exit" in sys.argv:
    sys.exit("a text")
