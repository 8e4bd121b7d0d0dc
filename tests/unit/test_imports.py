"""`import goproc` imports no more than `import multiprocessing` does, and fixes no start method."""

import sys

import pytest

IMPORTED = """
import sys
before = set(sys.modules)
import {library}
print(*sorted(set(sys.modules) - before))
"""


def imported_by(run_script, library):
    return set(run_script("-c", IMPORTED.format(library=library), GOPROC_DISABLE="").stdout.split())


def test_nothing_but_its_own_modules_beside_multiprocessings(run_script):
    theirs, ours = (imported_by(run_script, library) for library in ("multiprocessing", "goproc"))
    others = {name for name in ours - theirs if name.partition(".")[0] != "goproc"}
    assert others == set()
    assert not {"tempfile", "random", "shutil", "subprocess", "asyncio", "socket"} & (ours - theirs)
    assert not {"goproc.pool", "goproc._common.engine", "goproc._engine", "goproc._native"} & ours


NOTHING_SETTLED = """
import multiprocessing, sys
import goproc
installed = sys.argv[1] == "installed"
if installed:
    goproc.install()

def nothing():
    pass

if __name__ == "__main__":
    for method in ("spawn", "forkserver", "fork", "spawn"):
        process = goproc.get_context(method).Process(target=nothing)
        process.start()
        process.join()
        assert process.exitcode == 0
        assert goproc.get_start_method(allow_none=True) is None, method
        assert multiprocessing.get_start_method(allow_none=True) is None, method
    goproc.get_all_start_methods()
    goproc.set_start_method("fork")  # had it been settled, this would raise RuntimeError
    assert multiprocessing.get_start_method(allow_none=True) == ("fork" if installed else None)
"""


@pytest.mark.parametrize("how", ["installed", "imported"])
def test_starting_a_process_of_a_context_settles_no_start_method(run_script, tmp_path, how):
    (tmp_path / "program.py").write_text(NOTHING_SETTLED)
    run_script(tmp_path / "program.py", how)


SAME_DEFAULT = """
import multiprocessing, multiprocessing.util, sys
import goproc
if "no folder" in sys.argv:
    multiprocessing.util._has_writeable_tempdir = lambda: False
if "asked" in sys.argv:
    multiprocessing.get_context()
if "installed" in sys.argv:
    goproc.install()
print(goproc.get_start_method(), multiprocessing.get_start_method(), goproc.get_all_start_methods()[0])
"""


@pytest.mark.parametrize("words", ["", "installed", "asked", "asked installed"])
@pytest.mark.parametrize("folder", ["a folder", "no folder"])
def test_the_default_is_the_interpreters(run_script, words, folder):
    """From Python 3.14.10 on it depends on whether there is a folder for temporary files."""
    plain = SAME_DEFAULT.replace("import goproc", "import multiprocessing as goproc")
    theirs = run_script("-c", plain, folder, *(word for word in words.split() if word != "installed")).stdout
    assert run_script("-c", SAME_DEFAULT, folder, *words.split()).stdout == theirs
    if sys.version_info < (3, 14):
        assert theirs.split()[0] == "fork"
