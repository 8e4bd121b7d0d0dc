"""The contents of the wheel, and that it does not depend on the machine that built it."""

import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

from goproc import __version__

ROOT = Path(__file__).resolve().parents[2]

# The first of these tests builds the wheel.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def go_variable(name):
    return subprocess.run(["go", "env", name], capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()


def extensions(unpacked):
    return sorted(unpacked.rglob("*.so"))


def test_holds_the_package_and_nothing_else(unpacked):
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    source = ROOT / "python"
    package = {str(path.relative_to(source)) for path in source.joinpath("goproc").rglob("*.py*") if path.is_file()}
    package = {name for name in package if name.endswith((".py", ".pyi"))}
    wanted = package | {"goproc/py.typed", f"goproc/_engine{suffix}", f"goproc/_native{suffix}"}
    found = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    metadata = {name for name in found if name.startswith(f"goproc-{__version__}.dist-info/")}
    assert found - metadata == wanted
    names = {name.removeprefix(f"goproc-{__version__}.dist-info/") for name in metadata}
    licences = {"LICENSE", *(f"licenses/{path.name}" for path in ROOT.joinpath("licenses").iterdir())}
    metadata = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt"}
    assert names == metadata | {f"licenses/{name}" for name in licences}


def test_is_for_this_interpreter_and_platform_only(wheel):
    python = f"cp3{sys.version_info.minor}"
    assert re.fullmatch(rf"goproc-{re.escape(__version__)}-{python}-{python}-linux_\w+\.whl", wheel.name)


def test_has_no_path_of_the_build_machine(unpacked, source_copy):
    folders = {ROOT, source_copy, Path.home(), Path(sys.prefix), Path(sys.base_prefix), Path(tempfile.gettempdir())}
    folders |= {Path(go_variable(name)) for name in ("GOROOT", "GOMODCACHE", "GOCACHE")}
    for path in extensions(unpacked):
        content = path.read_bytes()
        for folder in folders - {Path("/"), Path("/usr"), Path("/tmp")}:
            assert bytes(folder) + b"/" not in content, f"{path.name} names {folder}"
        # Whatever the folders' names are: no absolute path that looks like a place where things are built.
        assert not re.findall(rb"(?<![\w.-])/(?:tmp|home|root|work|builds?)/[\w.-]{2,}", content)
    for path in unpacked.rglob("*"):
        if path.is_file():
            assert bytes(ROOT) not in path.read_bytes(), f"{path.name} names {ROOT}"
            assert bytes(source_copy) not in path.read_bytes(), f"{path.name} names {source_copy}"


def test_extensions_need_only_the_c_library(unpacked):
    assert len(extensions(unpacked)) == 2
    for path in extensions(unpacked):
        dynamic = subprocess.run(["readelf", "-dW", path], capture_output=True, text=True, check=True).stdout
        needed = re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic)
        assert needed, path.name
        # glibc 2.34 has the other two in libc.so; an older one lists them.
        assert set(needed) <= {"libc.so.6", "libpthread.so.0", "libdl.so.2", "ld-linux-x86-64.so.2"}, path.name
        assert "RPATH" not in dynamic and "RUNPATH" not in dynamic, path.name


def test_exports_the_c_abi_beside_the_module(unpacked):
    (engine,) = unpacked.rglob("_engine*.so")
    symbols = subprocess.run(["readelf", "-W", "--dyn-syms", engine], capture_output=True, text=True, check=True).stdout
    defined = set(re.findall(r"FUNC\s+GLOBAL\s+DEFAULT\s+\d+\s+(\w+)", symbols))
    assert {"PyInit__engine", "goproc_abi_version", "goproc_fd_register"} <= defined


def test_native_exports_its_module_only(unpacked):
    (native,) = unpacked.rglob("_native*.so")
    command = ["readelf", "-W", "--dyn-syms", native]
    symbols = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"FUNC\s+GLOBAL\s+DEFAULT\s+\d+\s+(\w+)", symbols) == ["PyInit__native"]


def test_runs_where_there_is_no_go_and_no_compiler(fresh_python, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import goproc as multiprocessing\n"
        "def double(n):\n"
        "    return 2 * n\n"
        "if __name__ == '__main__':\n"
        "    for method in multiprocessing.get_all_start_methods():\n"
        "        with multiprocessing.get_context(method).Pool(2) as pool:\n"
        "            print(method, pool.map(double, range(4)))\n"
    )
    environment = {"PATH": "/nonexistent"}
    command = [fresh_python, "-W", "error", program]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=120)
    assert ran.stderr == ""
    assert ran.stdout == "".join(f"{method} [0, 2, 4, 6]\n" for method in ("fork", "spawn", "forkserver"))


def test_installs_the_console_command(fresh_python, tmp_path):
    command = [fresh_python.with_name("goproc"), "-c", "import multiprocessing; print(multiprocessing.Pool)"]
    ran = subprocess.run(command, capture_output=True, text=True, env={"PATH": "/nonexistent"}, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "goproc" in ran.stdout


def test_metadata(unpacked):
    metadata = (unpacked / f"goproc-{__version__}.dist-info" / "METADATA").read_text()
    version = f"Version: {__version__}"
    for line in ("Name: goproc", version, "License-Expression: BSD-3-Clause AND MIT", "Requires-Python: >=3.10"):
        assert f"\n{line}\n" in metadata
    assert not re.findall(r"(?m)^Requires-Dist: (?!.*; *extra ==|.*and extra ==)", metadata), "a runtime dependency"
    # A package index shows README.md, and has no files beside it.
    links = re.findall(r"\]\(([^)]*)\)", metadata)
    assert len(links) > 10 and all(link.startswith("https://") for link in links)
    assert "\nDescription-Content-Type: text/markdown\n" in metadata


def test_metadata_package_and_engine_have_one_version(fresh_python):
    code = (
        "import goproc, goproc._common.engine as engine, importlib.metadata as metadata\n"
        "print(metadata.version('goproc'), goproc.__version__, engine.call('Version'))"
    )
    ran = subprocess.run([fresh_python, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ran.stdout, ran.stderr) == (f"{__version__} {__version__} {__version__}\n", "")
