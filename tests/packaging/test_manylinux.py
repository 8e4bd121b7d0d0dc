"""The wheels of `make wheels`: what they need of a machine, and that they run there.

`make test-wheels` names the folder of all wheels in GOPROC_WHEELS. Without it, the first of these tests builds one, for
this interpreter and this processor.
"""

import multiprocessing
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from goproc import __version__

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

#: The versions of glibc's symbols that the wheels ask for, all of glibc 2.17 or older.
SYMBOL_VERSIONS = {
    "x86_64": {"2.2.5", "2.3", "2.3.2", "2.3.4", "2.4", "2.6", "2.7", "2.9", "2.10", "2.14", "2.17"},
    "aarch64": {"2.17"},
}

LIBRARIES = {"libc.so.6", "libpthread.so.0", "libdl.so.2"}
LOADERS = {"x86_64": "ld-linux-x86-64.so.2", "aarch64": "ld-linux-aarch64.so.1"}

PROCESSORS = {"x86_64": "Advanced Micro Devices X86-64", "aarch64": "AArch64"}

PROGRAM = """
import goproc as multiprocessing

def double(n):
    return 2 * n

if __name__ == "__main__":
    for method in multiprocessing.get_all_start_methods():
        with multiprocessing.get_context(method).Pool(2) as pool:
            print(method, pool.map(double, range(4)))
"""


def build(sources):
    """Build the wheel for this interpreter and this processor; return its path, and what was printed."""
    command = ["make", "wheels-of-python", f"PYTHON={sys.executable}", f"MACHINES={platform.machine()}"]
    # Zig compiles parts of the C library first, and keeps them.
    environment = {
        **os.environ,
        "ZIG_GLOBAL_CACHE_DIR": str(ROOT / "build" / "zig-cache"),
        "SOURCE_DATE_EPOCH": "1700000000",
    }
    built = subprocess.run(command, cwd=sources, env=environment, capture_output=True, text=True, timeout=800)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = (sources / "dist").glob("*.whl")
    return path, built.stdout


@pytest.fixture(scope="session")
def wheels(source_copy):
    """The paths of the wheels."""
    if folder := os.environ.get("GOPROC_WHEELS"):
        return sorted(Path(folder).glob(f"goproc-{__version__}-*-manylinux_*.whl"))
    path, printed = build(source_copy)
    assert re.search(rf"{re.escape(path.name)}: 1\.\d+ MB, auditwheel: manylinux_2_17_", printed)
    return [path]


@pytest.fixture(scope="session")
def unpacked_wheels(wheels, tmp_path_factory):
    """The processor, and the paths of the two extensions, of each wheel."""
    found = []
    for wheel in wheels:
        folder = tmp_path_factory.mktemp("wheel")
        zipfile.ZipFile(wheel).extractall(folder)
        machine = re.search(r"manylinux_2_17_(\w+)\.whl$", wheel.name)[1]
        found.append((machine, sorted(folder.rglob("*.so"))))
    return found


def readelf(option, path):
    return subprocess.run(["readelf", option, "-W", path], capture_output=True, text=True, check=True).stdout


def test_names_and_sizes(wheels):
    assert wheels
    for wheel in wheels:
        assert re.fullmatch(r"goproc-.*-(cp3\d\d)-\1-manylinux_2_17_(x86_64|aarch64)\.whl", wheel.name)
        assert wheel.stat().st_size < 3_000_000, wheel.name


@pytest.mark.skipif("GOPROC_WHEELS" in os.environ, reason="make release builds and compares them")
def test_two_builds_have_the_same_bytes(wheels, source_copy, tmp_path):
    """Neither the folder's path nor a random order gets into the wheel."""
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(source_copy, elsewhere, ignore=shutil.ignore_patterns("build", "dist", "*.egg-info"))
    path, _ = build(elsewhere)
    first, second = zipfile.ZipFile(wheels[0]), zipfile.ZipFile(path)
    assert first.namelist() == second.namelist()
    assert [name for name in first.namelist() if first.read(name) != second.read(name)] == []
    assert wheels[0].read_bytes() == path.read_bytes()


def test_extensions_are_for_the_processor_of_the_name(wheels, unpacked_wheels):
    for wheel, (machine, paths) in zip(wheels, unpacked_wheels, strict=True):
        python = re.search(r"-cp(3\d+)-", wheel.name)[1]
        assert [path.name for path in paths] == [
            f"{name}.cpython-{python}-{machine}-linux-gnu.so" for name in ("_engine", "_native")
        ]
        for path in paths:
            assert re.search(r"Machine:\s+(.+)", readelf("-h", path))[1] == PROCESSORS[machine]


def test_symbol_versions(unpacked_wheels):
    for machine, paths in unpacked_wheels:
        for path in paths:
            needs = readelf("--version-info", path)
            versions = set(re.findall(r"Name: GLIBC_(\S+)", needs))
            assert versions and versions <= SYMBOL_VERSIONS[machine], path
            assert not re.findall(r"Name: (?!GLIBC_)\S+", needs), path


def test_symbols_without_a_version_are_the_interpreters(unpacked_wheels):
    """A function that the old glibc lacks would be left to be found when the library is loaded, and not be found."""
    for _, paths in unpacked_wheels:
        for path in paths:
            symbols = re.findall(r" (?:GLOBAL|WEAK) +DEFAULT +UND (\S+)", readelf("--dyn-syms", path))
            assert len(symbols) > 50
            assert [name for name in symbols if "@" not in name and not re.match("_?Py", name)] == [], path


def test_libraries(unpacked_wheels):
    for machine, paths in unpacked_wheels:
        for path in paths:
            dynamic = readelf("-d", path)
            assert set(re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic)) <= LIBRARIES | {LOADERS[machine]}, path
            assert "RPATH" not in dynamic and "RUNPATH" not in dynamic, path


def test_no_path_of_the_build_machine(unpacked_wheels):
    for _, paths in unpacked_wheels:
        for path in paths:
            content = path.read_bytes()
            assert not re.findall(rb"(?<![\w.-])/(?:tmp|home|root|work|builds?)/[\w.-]{2,}", content), path
            assert b"/ziglang/" not in content and bytes(ROOT) not in content, path


def test_runs_in_a_fresh_environment(wheels, new_environment, tmp_path):
    tag = f"-cp3{sys.version_info.minor}-manylinux_2_17_{platform.machine()}.whl"
    (wheel,) = (path for path in wheels if path.name.endswith(tag))
    python = new_environment(tmp_path / "venv")
    subprocess.run([python, "-m", "pip", "install", "--no-index", "--quiet", wheel], check=True, timeout=300)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [python, "-W", "error", program]
    environment = {"PATH": "/nonexistent"}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=120)
    assert ran.stderr == ""
    methods = multiprocessing.get_all_start_methods()
    assert ran.stdout == "".join(f"{method} [0, 2, 4, 6]\n" for method in methods)


@pytest.mark.skipif("GOPROC_WHEELS" not in os.environ, reason="there is no wheel for the other processor")
def test_runs_on_the_other_processor(wheels, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = ["bash", ROOT / "build_support" / "wheels" / "foreign.sh", wheels[0].parent, program]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if "not run, " in ran.stderr:
        pytest.skip(ran.stderr.strip())
    assert ran.returncode == 0, ran.stderr
    assert sorted(ran.stdout.splitlines()) == [f"{method} [0, 2, 4, 6]" for method in ("fork", "forkserver", "spawn")]
