"""Builds the wheel: goproc's Python files and its two compiled extensions.

    pybind/*.go ──gopy gen──▶ engine.go, build.py ──pybindgen──▶ engine.c ──┐
    capi/**.go, core/**.go ────────────────────────────────────────────────┴─go build──▶ goproc/_engine.<abi>.so
    capi/native/**.c, capi/goproc.h ───────────────────────────────────────cc─────────▶ goproc/_native.<abi>.so

gopy writes the Go and C sources. The linking is done here: `gopy build` would link against libpython, and would record
the build machine's library folders. The shipped library must do neither: the interpreter that loads an extension
provides the Python symbols, and may have no libpython.

This file is run by pip (`pip install .`, in an isolated build) and by `make build` (`setup.py build_ext --inplace`, in
a build environment under build/). All generated files are in build/<abi>/, and are kept there between builds; a product
whose sources have not changed is not built again. The metadata is in pyproject.toml.
"""

import fcntl
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent

# What is built for: this interpreter. build_support/wheels/build.py sets these two variables, and CC, for wheels that
# run on other machines: the processor, and a copy of the interpreter's headers.
MACHINE = os.environ.get("GOPROC_MACHINE", "")
INCLUDE = os.environ.get("GOPROC_INCLUDE", "") or sysconfig.get_path("include")

SOABI = sysconfig.get_config_var("SOABI")
ABI = SOABI.replace(platform.machine(), MACHINE or platform.machine())
PRODUCTS = ROOT / "build" / (f"{ABI}-manylinux" if MACHINE else ABI)

NATIVE_SOURCES = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("capi/native/**/*.c"))
# No -g, and NDEBUG: debug information and the headers' assertions would contain this machine's paths.
NATIVE_CFLAGS = ["-std=c11", "-O2", "-DNDEBUG", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"]
# libpthread and libdl are empty in glibc 2.34 and later; --as-needed then leaves them out.
NATIVE_LDFLAGS = ["-shared", "-Wl,--as-needed", "-Wl,-z,now", "-pthread", "-ldl", "-s"]

# The settings of the Go runtime. This variable replaces go.mod's settings, so it repeats them. It adds asyncpreemptoff,
# which go.mod does not allow: without it the runtime sends SIGURG to its threads, and the program's handler for SIGURG
# is called (capi/native/faults.c).
GODEBUG = "-X=runtime.godebugDefault=containermaxprocs=0,asyncpreemptoff=1"

# The Go package whose variable `version` holds the engine's version.
PYBIND = "github.com/goproc/goproc/pybind"


def run(*command, cwd=ROOT, env=None):
    """Print and run one build step. If it fails, exit; its output is above the message."""
    print("+", shlex.join(str(word) for word in command), flush=True)
    status = subprocess.run([str(word) for word in command], cwd=cwd, env={**os.environ, **(env or {})}).returncode
    if status:
        sys.exit(f"setup.py: {command[0]} exited with status {status}; its output is above")


def digest(*parts):
    """Return a digest of files (Path) and values. A later build with the same digest has nothing to do."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part.read_bytes() if isinstance(part, Path) else repr(part).encode())
        sha.update(b"\0")
    return sha.hexdigest()


def up_to_date(stamp, wanted):
    return stamp.exists() and stamp.read_text() == wanted


def replace_file(source, target):
    """Replace target by a copy of source, atomically: a process that has mapped the old target keeps the old file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and target.read_bytes() == source.read_bytes():
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copy(source, temporary)
    os.replace(temporary, target)


def compiler():
    """Return the C compiler's command line: the variable CC, or the first of the usual names that this machine has."""
    return os.environ.get("CC") or next(filter(shutil.which, ["gcc", "cc", "clang"]), "cc")


def go_environment():
    """Return the environment variables for the go command: cgo, the compiler that builds _native, and no go.work."""
    target = {"GOARCH": {"x86_64": "amd64", "aarch64": "arm64"}[MACHINE]} if MACHINE else {}
    return {"CGO_ENABLED": "1", "GOWORK": "off", "CC": compiler(), **target}


def generate_bindings(package):
    """Write the Go package (with its C file) that becomes _engine into the folder package."""
    tools = ROOT / "build" / "bin"
    modules = ["github.com/go-python/gopy", "golang.org/x/tools/cmd/goimports"]
    # They run here, whatever is built for, and have no C in them.
    here = {"CGO_ENABLED": "0", "GOWORK": "off", "GOARCH": ""}
    run("go", "build", "-mod=readonly", "-buildvcs=false", "-o", f"{tools}{os.sep}", *modules, env=here)

    # gopy's output depends on these only: it reads the exported functions of pybind, and not the packages behind them.
    stamp = package / "stamp"
    sources = sorted(path for path in ROOT.glob("pybind/*.go") if not path.name.endswith("_test.go"))
    wanted = digest(Path(__file__), ROOT / "go.mod", INCLUDE, *sources)
    if up_to_date(stamp, wanted):
        return

    # gopy goes on after compile errors, and exits with status 0. So compile first.
    run("go", "build", "-mod=readonly", "-buildvcs=false", "./pybind", env=go_environment())
    shutil.rmtree(package, ignore_errors=True)
    package.mkdir(parents=True)
    output = package.relative_to(ROOT)
    gopy = ["gen", "-no-make", "-name=engine", f"-vm={sys.executable}", f"-output={output}", "./pybind"]
    run(tools / "gopy", *gopy, env=go_environment())
    generated = package / "engine.go"
    sort_bindings(generated, package / "build.py")
    run(tools / "goimports", "-w", generated.name, cwd=package, env=go_environment())

    # gopy's #cgo lines name libpython and this machine's library folders. Replace them by the headers, and -std=gnu17:
    # the generated C declares a type named bool, which is a keyword from C23 on.
    text, count = re.subn(r"(?m)^#cgo .*\n", "", generated.read_text())
    if count == 0:
        sys.exit("setup.py: gopy's output has no #cgo lines where they are expected; is go.mod's gopy another version?")
    generated.write_text(text)
    # cgo names functions by a hash of the Go files. So flags.go contains no path: the headers are reached by a link.
    (package / "include").symlink_to(INCLUDE)
    (package / "flags.go").write_text(
        'package main\n\n// #cgo CFLAGS: -Iinclude -std=gnu17 -w\nimport "C"\n\n'
        'import _ "github.com/goproc/goproc/capi/host"\n'
    )

    # The C file includes a header that gopy gets by building the library twice. cgo writes the same declarations to
    # _cgo_export.h in every build, so one build is enough.
    (package / "engine_go.h").write_text('#include "_cgo_export.h"\n')
    # pybindgen writes the flags of a function in the order of a set, which depends on the seed of Python's hashes.
    run(sys.executable, "build.py", cwd=package, env={"PYTHONHASHSEED": "0"})
    for unused in package.glob("*.py"):  # gopy's Python modules are not shipped: goproc/_common/calls.py replaces them
        unused.unlink()
    stamp.write_text(wanted)


def sort_bindings(go, python):
    """Sort the functions in gopy's two files by name, and leave out its command line: each build then writes the same.

    gopy writes the functions in the order of a Go map, which is random. Its command line contains this folder's path.
    """
    start, heading, functions = go.read_text().partition("// ---- Functions ---\n")
    exports = re.findall(r"(?ms)^//export pybind_.*?^}\n", functions)
    before, *calls, after = re.split(r"(?m)^(?=add_checked_.*'pybind_|\nmod\.generate)", python.read_text())
    if not exports or len(exports) != len(calls) or "".join(exports).split() != functions.split():
        sys.exit("setup.py: gopy's output has no functions where they are expected; is go.mod's gopy another version?")
    calls.sort(key=lambda call: call.partition("'")[2])
    go.write_text(re.sub(r"(?m)^gopy gen .*\n", "", start) + heading + "\n" + "\n".join(sorted(exports)))
    python.write_text(before + "".join(calls) + after)


def build_engine(target, version):
    """Build _engine, which contains this version. Go's build cache decides what must be built."""
    package = PRODUCTS / "gopy"
    generate_bindings(package)
    ldflags = f"-s -w {GODEBUG} -X={PYBIND}.version={version}"
    if MACHINE:
        # Zig does not understand the option by which Go has a linker leave out symbols and debug information. Go's
        # build ID depends on this folder's path, so it is left out: two builds of one commit have the same bytes.
        ldflags += " -extldflags=-s -buildid="
    flags = ["-mod=readonly", "-buildvcs=false", "-trimpath", f"-ldflags={ldflags}", "-buildmode=c-shared"]
    run("go", "build", *flags, "-o", target, ".", cwd=package, env=go_environment())


def build_native(target, _version):
    """Build _native, if a source, a header or a flag has changed. It does not contain the version."""
    path_maps = [f"-ffile-prefix-map={ROOT}=.", f"-ffile-prefix-map={INCLUDE}=python"]
    command = [*shlex.split(compiler()), *NATIVE_CFLAGS, *path_maps, "-isystem", INCLUDE, "-Icapi"]
    command += [*NATIVE_SOURCES, "-o", str(target), *NATIVE_LDFLAGS]
    stamp = target.with_name("native-stamp")
    files = [*ROOT.glob("capi/*.h"), *ROOT.glob("capi/host/*.h"), *ROOT.glob("capi/native/**/*.[ch]")]
    wanted = digest(command, *sorted(files))
    if target.exists() and up_to_date(stamp, wanted):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    run(*command)
    stamp.write_text(wanted)


BUILDERS = {"goproc._engine": build_engine, "goproc._native": build_native}


class Build(build):
    """Starts from an empty folder: a wheel must not contain a module that has been removed from the sources."""

    def run(self):
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


class BuildExtensions(build_ext):
    """Builds the two extensions into build/<abi>/, and copies them to where setuptools or `make build` want them."""

    def run(self):
        check = ROOT / "build_support" / "check_prerequisites.sh"
        if subprocess.run(["sh", str(check), "build", sys.executable]).returncode:
            sys.exit(1)
        PRODUCTS.mkdir(parents=True, exist_ok=True)
        with open(PRODUCTS / "lock", "w") as lock:  # two builds in one tree take turns
            fcntl.flock(lock, fcntl.LOCK_EX)
            super().run()

    def get_ext_filename(self, fullname):
        return super().get_ext_filename(fullname).replace(SOABI, ABI)

    def build_extension(self, ext):
        target = PRODUCTS / Path(self.get_ext_filename(ext.name)).name
        BUILDERS[ext.name](target, self.distribution.get_version())
        replace_file(target, Path(self.get_ext_fullpath(ext.name)))

    def copy_extensions_to_source(self):
        for ext in self.extensions:
            filename = self.get_ext_filename(ext.name)
            replace_file(PRODUCTS / Path(filename).name, ROOT / "python" / filename)


def description():
    """Return README.md for a package index, which has no files beside it: with links to the repository."""
    version = re.search(r'(?m)^__version__ = "(.+)"$', (ROOT / "python" / "goproc" / "__init__.py").read_text())[1]
    reference = "main" if "dev" in version else f"v{version}"
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = re.sub(
        r"(!\[[^]]*\]\()(?![a-z]+:)", rf"\1https://raw.githubusercontent.com/goproc/goproc/{reference}/", text
    )
    return re.sub(r"(?<!!)(\[[^]]*\]\()(?![a-z]+:|#)", rf"\1https://github.com/goproc/goproc/blob/{reference}/", text)


setup(
    long_description=description(),
    long_description_content_type="text/markdown",
    ext_modules=[Extension(name, sources=[]) for name in BUILDERS],
    cmdclass={"build": Build, "build_ext": BuildExtensions},
)
