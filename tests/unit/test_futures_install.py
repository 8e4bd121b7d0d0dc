"""install(futures=True) and --futures: concurrent.futures.ProcessPoolExecutor is goproc's, here and in all children."""

import pytest

#: What a program has imported before it calls install().
BEFORE = [
    "",
    "import concurrent.futures",
    "import concurrent.futures.process",
    "from concurrent.futures import ProcessPoolExecutor as Early",
    "import goproc.futures",
    "goproc.install()",
]

CHECKS = """
import concurrent.futures, concurrent.futures.process, goproc.futures
from concurrent.futures import ProcessPoolExecutor
assert ProcessPoolExecutor is goproc.futures.ProcessPoolExecutor is concurrent.futures.ProcessPoolExecutor
assert concurrent.futures.process.ProcessPoolExecutor is ProcessPoolExecutor
assert concurrent.futures.process.__spec__.name == "concurrent.futures.process"
standard = ProcessPoolExecutor.__mro__[1]
for kind in ProcessPoolExecutor, standard, globals().get("Early", ProcessPoolExecutor):
    with kind(1, initializer=str) as executor:
        assert type(executor) is ProcessPoolExecutor and isinstance(executor, standard)
        assert executor.submit(abs, -1).result() == 1 and executor._works is not None
"""


@pytest.mark.parametrize("before", BEFORE)
def test_whatever_the_order(run_script, before):
    code = f"import goproc\n{before}\ngoproc.install(futures=True); goproc.install(futures=True)\n{CHECKS}"
    assert run_script("-c", code).stderr == ""


def test_wrong_argument(run_script):
    code = (
        "import goproc, multiprocessing\n"
        "try: goproc.install(futures='no')\n"
        "except TypeError as error: assert str(error) == \"futures must be True or False, not 'no'\"\n"
        "assert multiprocessing.Process is not goproc.Process\n"
    )
    run_script("-c", code)


def test_only_when_asked_for(run_script):
    code = (
        "import goproc; goproc.install(); import sys; assert 'concurrent' not in sys.modules\n"
        "import concurrent.futures, goproc.futures\n"
        "assert concurrent.futures.ProcessPoolExecutor is not goproc.futures.ProcessPoolExecutor\n"
        "with concurrent.futures.ProcessPoolExecutor(1) as executor:\n"
        "    assert executor.submit(abs, -1).result() == 1 and not hasattr(executor, '_works')\n"
    )
    run_script("-W", "ignore", "-c", code)


def test_nothing_more_is_imported(run_script):
    code = "import goproc, sys; goproc.install(futures=True); assert 'concurrent' not in sys.modules"
    run_script("-c", code)


def test_classes_derived_before_are_not_changed(run_script):
    code = (
        "import concurrent.futures, goproc\n"
        "class Early(concurrent.futures.ProcessPoolExecutor): pass\n"
        "goproc.install(futures=True)\n"
        "class Late(concurrent.futures.ProcessPoolExecutor): pass\n"
        "for kind in Early, Late:\n"
        "    with kind(1) as executor:\n"
        "        print(executor.submit(abs, -1).result(), hasattr(executor, '_works'))\n"
    )
    assert run_script("-W", "ignore", "-c", code).stdout == "1 False\n1 True\n"


CHILD = """
import concurrent.futures, multiprocessing, os

def inner():
    with concurrent.futures.ProcessPoolExecutor(1) as executor:
        return type(executor).__module__, executor.submit(abs, -3).result()

if __name__ == "__main__":
    print(type(concurrent.futures.ProcessPoolExecutor(1)).__module__)
    with concurrent.futures.ProcessPoolExecutor(1) as executor:
        print(executor.submit(inner).result())
"""


def test_the_command(run_script, tmp_path, method):
    script = tmp_path / "program.py"
    script.write_text(CHILD)
    done = run_script("-m", "goproc", "--futures", "--stats", "--start-method", method, script)
    assert done.stdout == "goproc.futures\n('goproc.futures', 3)\n"
    assert "tasks done: 1;" in done.stderr


def test_the_command_without_the_option(run_script):
    code = "from concurrent.futures import ProcessPoolExecutor as E; print(E.__module__)"
    assert run_script("-m", "goproc", "-c", code).stdout == "concurrent.futures.process\n"
    assert run_script("-m", "goproc", "--futures", "-c", code).stdout == "goproc.futures\n"
