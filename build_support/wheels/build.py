"""Build the manylinux wheels of one interpreter, one for each processor, into dist/. `make wheels` calls this.

    python build_support/wheels/build.py build [MACHINE ...]    with the interpreter of a build environment
    python build_support/wheels/build.py list                   what dist/ has, and which versions have no wheel there

The problem. A library that is linked on a new system does not load with an older C library: it asks for the newest
version of each symbol. And a machine has the C library and the compiler of one processor.

The solution. Zig's C compiler (the package ziglang) has the headers and the symbol lists of all versions of glibc, for
all processors. setup.py builds with it as with any other compiler; no container takes part.

Its limits. There are no headers of a CPython for the other processor, so those of this one are used. On 64-bit Linux
they are the same files except pyconfig.h, which differs in NOT_ON_ARM and in nothing that an extension uses. A file is
compiled to check that all sizes in it are the target's. The foreign wheel cannot be run here.
"""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / "dist"

MACHINES = ("x86_64", "aarch64")
VERSIONS = ("310", "311", "312", "313", "314", "315")

#: The oldest glibc that the wheels load with.
GLIBC = (2, 17)

#: A wheel may have at most this many bytes.
LARGEST = 3_000_000

#: What pyconfig.h defines on x86-64, and must not define elsewhere.
NOT_ON_ARM = ("HAVE_GCC_ASM_FOR_X64", "HAVE_GCC_ASM_FOR_X87")

#: The C types whose sizes pyconfig.h states.
SIZES = {
    "DOUBLE": "double",
    "FLOAT": "float",
    "INT": "int",
    "LONG": "long",
    "LONG_LONG": "long long",
    "OFF_T": "off_t",
    "PID_T": "pid_t",
    "PTHREAD_T": "pthread_t",
    "SHORT": "short",
    "SIZE_T": "size_t",
    "TIME_T": "time_t",
    "UINTPTR_T": "uintptr_t",
    "VOID_P": "void *",
    "WCHAR_T": "wchar_t",
}


def policy(machine):
    """Return the platform tag of the wheels for a processor."""
    return f"manylinux_{GLIBC[0]}_{GLIBC[1]}_{machine}"


def zig_environment(machine):
    """Return the environment in which setup.py builds for a processor."""
    package = importlib.util.find_spec("ziglang")
    if package is None:
        sys.exit(f"wheels: no ziglang for {sys.executable}: build_support/wheels/requirements.txt; see `make wheels`")
    folder = Path(package.origin).parent
    return {
        **os.environ,
        # By name, and on PATH: a compiler's command line has no place for a space in a folder's name.
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "CC": f"zig cc -target {machine}-linux-gnu.{GLIBC[0]}.{GLIBC[1]}",
        "ZIG_GLOBAL_CACHE_DIR": os.environ.get("ZIG_GLOBAL_CACHE_DIR") or str(ROOT / "build" / "zig-cache"),
        "GOPROC_MACHINE": machine,
        "GOPROC_INCLUDE": str(ROOT / "build" / "manylinux" / sysconfig.get_config_var("SOABI") / machine / "include"),
    }


def copy_headers(target, machine):
    """Copy this interpreter's headers to the folder target, with a pyconfig.h for the processor."""
    include = Path(sysconfig.get_path("include"))
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(include, target)
    text = (include / "pyconfig.h").read_text()
    # Debian's pyconfig.h is for all processors. It includes the right one from a folder beside its own.
    multiarch = sysconfig.get_config_var("MULTIARCH")
    if elsewhere := re.search(rf"#\s*include <({multiarch}/\S+/pyconfig\.h)>", text):
        text = (include.parent / elsewhere[1]).read_text()
    if machine != "x86_64":
        text = re.sub(rf"(?m)^#define ({'|'.join(NOT_ON_ARM)}) .*$", r"/* #undef \1 */", text)
    (target / "pyconfig.h").write_text(text)


def check_sizes(include, environment):
    """End the program unless the sizes in pyconfig.h are the target's."""
    stated = dict(re.findall(r"(?m)^#define SIZEOF_(\w+) (\d+)$", (include / "pyconfig.h").read_text()))
    lines = ["#include <pthread.h>", "#include <stddef.h>", "#include <stdint.h>", "#include <sys/types.h>"]
    lines += [f'_Static_assert(sizeof({type}) == {stated[name]}, "{name}");' for name, type in SIZES.items()]
    source = include.with_name("sizes.c")
    source.write_text("\n".join([*lines, ""]))
    command = [*environment["CC"].split(), "-std=gnu11", "-c", str(source), "-o", str(source.with_suffix(".o"))]
    if subprocess.run(command, env=environment).returncode:
        sys.exit(f"wheels: {include / 'pyconfig.h'} is not right for {environment['GOPROC_MACHINE']}; see above")


def judge(wheel, machine):
    """End the program unless auditwheel agrees with the wheel's tag, and it is small."""
    command = [sys.executable, "-m", "auditwheel", "show", str(wheel)]
    shown = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if shown.returncode:
        sys.exit(f"wheels: auditwheel ended with status {shown.returncode} for {wheel.name}; see above")
    said = " ".join(shown.stdout.split())
    tag = re.search(r'is consistent with the following platform tag: "(\w+)"', said)
    if not tag or not fits(tag[1], machine):
        sys.exit(f"wheels: {wheel.name} is not {policy(machine)}, auditwheel says: {said}")
    if wheel.stat().st_size > LARGEST:
        sys.exit(f"wheels: {wheel.name} has {wheel.stat().st_size} bytes, the most is {LARGEST}")
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.2f} MB, auditwheel: {tag[1]}")


def fits(tag, machine):
    """Return whether a wheel may have our tag. tag: by auditwheel; it may be of an older glibc."""
    found = re.fullmatch(rf"manylinux_(\d+)_(\d+)_{machine}", tag)
    return found is not None and (int(found[1]), int(found[2])) <= GLIBC


def build(machine):
    """Build the wheel for a processor, and put it into dist/."""
    environment = zig_environment(machine)
    include = Path(environment["GOPROC_INCLUDE"])
    copy_headers(include, machine)
    check_sizes(include, environment)
    folder = include.parent / "wheel"
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "setup.py", "--quiet", "build", f"--build-base={include.parent / 'build'}"]
    command += ["bdist_wheel", f"--plat-name={policy(machine)}", f"--dist-dir={folder}"]
    if subprocess.run(command, cwd=ROOT, env=environment).returncode:
        sys.exit(f"wheels: no wheel for {machine}; see above")
    (wheel,) = folder.glob("goproc-*.whl")
    judge(wheel, machine)
    DIST.mkdir(exist_ok=True)
    shutil.copy(wheel, DIST)


def list_wheels():
    """Print what dist/ has of the wheels of this version of goproc. Return 1 if there are some missing, else 0."""
    text = (ROOT / "python" / "goproc" / "__init__.py").read_text()
    version = re.search(r'(?m)^__version__ = "(.+)"$', text)[1]
    missing = 0
    for python in VERSIONS:
        for machine in MACHINES:
            wheel = DIST / f"goproc-{version}-cp{python}-cp{python}-{policy(machine)}.whl"
            if wheel.exists():
                print(f"{wheel.name}  {wheel.stat().st_size / 1e6:.2f} MB")
            else:
                print(f"missing: {wheel.name}")
                missing = 1
    return missing


def main(arguments):
    if arguments == ["list"]:
        return list_wheels()
    if arguments[:1] != ["build"] or not set(arguments[1:]) <= set(MACHINES) or platform.system() != "Linux":
        print(__doc__.split("\n\n")[1], file=sys.stderr)
        return 2
    for machine in arguments[1:] or MACHINES:
        build(machine)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
