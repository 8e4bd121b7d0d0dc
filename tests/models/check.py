"""Check the models of the shared memory's protocols; `make check-models` calls this.

    python tests/models/check.py

The models:

    *.pml       Promela, for Spin: the steps of a protocol, in each order that is possible
    *.litmus    for herd7: a few instructions of arm64, in each order that the architecture allows

Each model has faults that the tool must find, or the model shows nothing: the names -DFAULT_... in the head of a *.pml,
and the files *-fault.litmus. The head of a *.pml may also name the sizes with which it is searched; other -D options on
the line of a fault are the sizes for that fault. docs/design/memory-order.md says which code a model is about.

Spin is a package of Debian. herd7 is in none; `opam install herdtools7` has it. HERD7 is the command for it, by default
"herd7". If a tool is missing, its models are not checked, and a line says so.

The exit status is 0 if all was as it must be, and 1 if not, or if both tools are missing.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent

#: The compiler's flags for Spin's program. COLLAPSE: less memory for each state.
FLAGS = ("-O2", "-DSAFETY", "-DCOLLAPSE")


def main():
    """Check all models; return the exit status."""
    bad, checked = [], 0
    for tool, look in (("spin", look_at_promela), (herd()[0], look_at_litmus)):
        if not shutil.which(tool):
            print(f"models: {tool} is missing, so its models are not checked (see tests/models/check.py)")
            continue
        for name, expected, found in look():
            checked += 1
            right = expected == found
            print(f"{'ok   ' if right else 'WRONG'} {name}: {found}" + ("" if right else f", must be {expected}"))
            if not right:
                bad.append(name)
    print(f"{checked} checked, {len(bad)} wrong")
    return int(bool(bad) or not checked)


def herd():
    """Return the command for herd7, as a list."""
    return shlex.split(os.environ.get("HERD7", "herd7"))


def look_at_promela():
    """Yield the name, what must be found, and what was found, of each model and each of its faults."""
    for model in sorted(FOLDER.glob("*.pml")):
        lines = [line.split() for line in re.findall(r"(?m)^ \*   (-D\w\S*(?: -D\w\S*)*)", model.read_text())]
        sizes = [options for options in lines if not options[0].startswith("-DFAULT_")]
        for options in sizes or [[]]:
            yield " ".join([model.name, *options]), "no error", search(model, options)
        for options in lines:
            if options not in sizes:
                yield f"{model.name} with {options[0][2:]}", "an error", search(model, options)


def search(model, options):
    """Search all states of a model; return "no error", "an error", or what went wrong."""
    # A model that asserts in its init process what holds at the end allows its processes to stop anywhere.
    ends_anywhere = ["-E"] if re.search(r"(?m)^ {4}timeout ->", model.read_text()) else []
    with tempfile.TemporaryDirectory(prefix="goproc-models-") as folder:
        run(["spin", *options, "-a", str(model)], folder)
        run([os.environ.get("CC", "cc"), *FLAGS, "-o", "pan", "pan.c"], folder)
        said = run(["./pan", *ends_anywhere, "-m1000000"], folder)
    count = re.search(r"errors: (\d+)", said)
    if count and int(count[1]):
        return "an error"
    if not count or "Search not completed" in said or "max search depth too small" in said:
        return "no complete search: " + said.strip()
    return "no error"


def look_at_litmus():
    """Yield the name, what must be found, and what was found, of each litmus test."""
    for test in sorted(FOLDER.glob("*.litmus")):
        said = run([*herd(), str(test)], FOLDER)
        observed = re.search(r"(?m)^Observation \S+ (\w+)", said)
        yield test.name, "Sometimes" if test.stem.endswith("-fault") else "Never", observed[1] if observed else said


def run(command, folder):
    """Run a command in a folder; return what it printed. End the program if it fails."""
    ran = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if ran.returncode:
        sys.exit(f"models: {shlex.join(command)} ended with status {ran.returncode}:\n{ran.stdout}")
    return ran.stdout


if __name__ == "__main__":
    sys.exit(main())
