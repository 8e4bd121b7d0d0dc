"""What an import says when goproc cannot be used here: what is installed, what the interpreter is, what to do."""

import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import goproc

SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
PACKAGE = Path(goproc.__file__).parent
VERSION = f"3.{sys.version_info.minor}"
OTHER_VERSION = f"3{sys.version_info.minor - 1}"
SYSTEM = f"{platform.machine()}-linux-gnu"
FOREIGN, FOREIGN_NUMBER = ("x86_64", 62) if platform.machine() == "aarch64" else ("aarch64", 183)

IMPORT = "import goproc"
LOAD_NATIVE = "import goproc; from goproc import _native"
START = "import goproc; goproc.get_context('fork').Process().start()"
LOAD_ENGINE = "from goproc._common import engine; engine.load()"
POOL = "import goproc; goproc.get_context('fork').Pool(1)"


@pytest.fixture
def copy(tmp_path):
    """The folder of a copy of the installed package, that a test may damage."""
    return Path(shutil.copytree(PACKAGE, tmp_path / "site" / "goproc", ignore=shutil.ignore_patterns("__pycache__")))


def said(copy, code):
    """Run code with the copy; return the text of the ImportError that it must end with."""
    command = [sys.executable, "-B", "-c", f"import sys; sys.path.insert(0, {str(copy.parent)!r}); {code}"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1, ran
    last = ran.stderr.rstrip().rpartition("\n")[2]
    assert last.startswith("ImportError: "), ran.stderr
    return last.removeprefix("ImportError: ")


def says_all(text, copy):
    """Whether a message names the installation, the interpreter, and what to do."""
    interpreter = f"CPython {VERSION}.{sys.version_info.micro} for {SYSTEM} ({sys.executable})"
    return str(copy) in text and interpreter in text and f"{sys.executable} -m pip install" in text


def test_the_copy_runs(copy):
    code = f"import sys; sys.path.insert(0, {str(copy.parent)!r}); {LOAD_NATIVE}; print(_native.__file__)"
    ran = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, timeout=60)
    assert (ran.stdout, ran.stderr) == (f"{copy}/_native{SUFFIX}\n", "")


def test_no_extension_built(copy):
    for path in copy.glob("*.so"):
        path.unlink()
    text = said(copy, IMPORT)
    assert says_all(text, copy)
    assert "has not been built: there are only its Python files" in text and f"there is no _native{SUFFIX}" in text


@pytest.mark.parametrize(
    ("suffix", "what"),
    [
        (f".cpython-{OTHER_VERSION}-{SYSTEM}.so", f"CPython 3.{OTHER_VERSION[1:]} for {SYSTEM}"),
        (SUFFIX.replace(platform.machine(), FOREIGN), f"CPython {VERSION} for {FOREIGN}-linux-gnu"),
        (SUFFIX.replace("gnu", "musl"), f"CPython {VERSION} for {platform.machine()}-linux-musl"),
        (".cp312-win_amd64.pyd", "CPython 3.12 for win_amd64"),
        (".cpython-312-darwin.so", "CPython 3.12 for darwin"),
    ],
)
def test_built_for_another_interpreter(copy, suffix, what):
    for path in list(copy.glob("*.so")):
        path.rename(path.with_name(path.name.replace(SUFFIX, suffix)))
    text = said(copy, IMPORT)
    assert says_all(text, copy)
    assert f"is built for {what}, and this is CPython" in text


def test_engine_for_another_interpreter(copy):
    (engine,) = copy.glob("_engine*.so")
    engine.rename(engine.with_name(f"_engine.cpython-{OTHER_VERSION}-{SYSTEM}.so"))
    text = said(copy, POOL)
    assert says_all(text, copy)
    assert f"there is no _engine{SUFFIX}" in text and f"is built for CPython 3.{OTHER_VERSION[1:]}" in text


EXTENSIONS = pytest.mark.parametrize(
    ("extension", "code"),
    [("_native", LOAD_NATIVE), ("_native", START), ("_engine", LOAD_ENGINE), ("_engine", POOL)],
)


@EXTENSIONS
@pytest.mark.parametrize("part", [70, 0.5, 0.9, -1])
def test_truncated(copy, extension, code, part):
    path = copy / (extension + SUFFIX)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content)) if isinstance(part, float) else part])
    text = said(copy, code)
    assert says_all(text, copy)
    assert f"goproc's extension {path} cannot be loaded: it is truncated" in text


@EXTENSIONS
@pytest.mark.parametrize("content", [b"", b"not a library\n" * 100])
def test_no_library(copy, extension, code, content):
    path = copy / (extension + SUFFIX)
    path.write_bytes(content)
    text = said(copy, code)
    assert says_all(text, copy)
    assert f"{path} cannot be loaded: it is no library, or a damaged one" in text


@EXTENSIONS
def test_another_processor(copy, extension, code):
    path = copy / (extension + SUFFIX)
    content = bytearray(path.read_bytes())
    content[18:20] = FOREIGN_NUMBER.to_bytes(2, "little")
    path.write_bytes(content)
    text = said(copy, code)
    assert says_all(text, copy)
    assert f"it is built for the processor {FOREIGN} (" in text


@EXTENSIONS
def test_newer_c_library(copy, extension, code):
    path = copy / (extension + SUFFIX)
    version = b"GLIBC_2.2.5\0" if platform.machine() == "x86_64" else b"GLIBC_2.17\0"
    newer = version.replace(b"2.2.5", b"9.9.9").replace(b"2.17", b"9.99")
    content = path.read_bytes().replace(version, newer)
    path.write_bytes(change_version_hashes(content, version, newer))
    text = said(copy, code)
    assert says_all(text, copy)
    assert "it needs a newer C library than this system has, glibc 2." in text


def change_version_hashes(content, version, newer):
    """Have the table of the versions that a library needs agree with a version's changed name."""
    old, new = (elf_hash(name[:-1]).to_bytes(4, "little") for name in (version, newer))
    return content.replace(old, new)


def elf_hash(name):
    value = 0
    for byte in name:
        value = (value << 4) + byte
        high = value & 0xF0000000
        value = (value ^ (high >> 24)) & ~high
    return value


MUSL = (
    "import _imp; name = _imp.extension_suffixes()[0].replace('gnu', 'musl'); _imp.extension_suffixes = lambda: [name]"
)


@pytest.mark.parametrize(
    ("fake", "what"),
    [
        ("sys.platform = 'darwin'", "for macOS ("),
        ("sys.platform = 'darwin'", "): it is made of what Linux alone has"),
        ("sys.platform = 'win32'", "for Windows ("),
        ("sys.platform = 'android'", "for android ("),
        ("sys.implementation.name = 'pypy'", "does not run on PyPy 3."),
        ("sys.implementation.name = 'pypy'", "): its extensions are for CPython. Use CPython 3.10 to 3.15 on Linux"),
        ("sys.abiflags = 't'", "): this is a free-threaded build"),
        (MUSL, f"for {platform.machine()}-linux-musl ("),
        (MUSL, "): Go's shared libraries do not load with musl. Use CPython"),
    ],
)
def test_unsupported(copy, fake, what):
    text = said(copy, f"{fake}; import goproc")
    assert text.startswith(f"goproc (in {copy}) does not run on ")
    assert f"({sys.executable})" in text and what in text


def test_an_extension_in_another_place_is_found(copy, tmp_path):
    """A program that was frozen may have the extensions elsewhere, and a finder of its own for them."""
    elsewhere = tmp_path / f"_native{SUFFIX}"
    (copy / elsewhere.name).rename(elsewhere)
    code = f"""
import importlib.machinery, importlib.util, sys
sys.path.insert(0, {str(copy.parent)!r})

class Finder:
    def find_spec(name, path=None, target=None):
        if name == "goproc._native":
            return importlib.util.spec_from_file_location(name, {str(elsewhere)!r})

sys.meta_path.append(Finder)
import goproc
assert "goproc._native" not in sys.modules
process = goproc.get_context("fork").Process(target=print, args=("runs",))
process.start()
process.join()
"""
    ran = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, timeout=60)
    assert (ran.stdout, ran.stderr) == ("runs\n", "")


SUBINTERPRETER = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

code = "import goproc\\ntry:\\n    goproc.Lock()\\nexcept ImportError as error:\\n    print(error)"
run = getattr(interpreters, "exec", None) or interpreters.run_string
run(interpreters.create(), code)
"""


def test_in_a_subinterpreter():
    """It is refused, and the process ends."""
    ran = subprocess.run([sys.executable, "-c", SUBINTERPRETER], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0 and "subinterpreter" in ran.stdout, ran
