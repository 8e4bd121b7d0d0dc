"""Make a release: `make release VERSION=X.Y.Z` calls this. RELEASING.md says what comes before and after it.

    python build_support/release.py X.Y.Z [--only-build | --notes]

It does all that can be done on one machine, and publishes nothing:

    1. checks that the work tree is clean, and that the version follows the last one
    2. sets __version__, dates the section of CHANGELOG.md, and commits both: "release: X.Y.Z"
    3. builds the source distribution and the wheels from a clone of that commit, into dist/
    4. builds the source distribution and one Python's wheels a second time, in another folder and without Go's build
       cache, and compares the bytes
    5. checks the files (twine), and writes a list of what is linked into the wheels (a CycloneDX SBOM)
    6. builds the documentation

With --only-build it leaves out 1 and 2, and builds what is committed. When a step fails, nothing has been published.
`git reset --hard HEAD~1` takes back the commit of step 2. With --notes it only prints the version's section of
CHANGELOG.md: the workflow `release` makes it the text of the release on GitHub.
"""

import argparse
import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSION_FILE = ROOT / "python" / "goproc" / "__init__.py"
CHANGELOG = ROOT / "CHANGELOG.md"
DIST = ROOT / "dist"
SITE = "https://github.com/goproc/goproc"


def main():
    parser = argparse.ArgumentParser(description="Make a release, without publishing it.")
    parser.add_argument("version", help="X.Y.Z")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--only-build", action="store_true", help="build what is committed; change and commit nothing")
    only.add_argument("--notes", action="store_true", help="print what CHANGELOG.md says of the version")
    options = parser.parse_args()
    if options.notes:
        print(notes(options.version))
        return
    if not options.only_build:
        check(options.version)
        write(options.version)
    elif version() != options.version:
        sys.exit(f"release: the version that is committed is {version()}, not {options.version}")
    build(options.version)
    print(f"release: goproc {options.version} is in dist/. RELEASING.md says how to go on.")


#: How `make release` hands its own arguments on to every make below it: ARGS would reach Sphinx.
OF_MAKE = ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "ARGS", "VERSION")


def run(*command, cwd=ROOT, capture=False, **variables):
    """Run a command, and end this program if it fails."""
    words = [str(word) for word in command]
    environment = {name: value for name, value in os.environ.items() if name not in OF_MAKE}
    if not capture:
        print("+", *words, flush=True)
    done = subprocess.run(words, cwd=cwd, env={**environment, **variables}, capture_output=capture, text=True)
    if done.returncode:
        sys.exit(f"release: {words[0]} ended with status {done.returncode}{': ' + done.stderr if capture else ''}")
    return done.stdout if capture else None


# ---- 1, 2: the version


def version(text=None):
    """Return the version that a text of __init__.py states; by default, of the file as it is."""
    return re.search(r'(?m)^__version__ = "(.+)"$', text or VERSION_FILE.read_text())[1]


def check(wanted):
    """End this program unless the wanted version can be released from this work tree."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", wanted):
        sys.exit(f"release: {wanted!r} is no version: it must be three numbers, as in 0.1.0")
    if run("git", "status", "--porcelain", capture=True):
        sys.exit("release: there are changes that are not committed: commit them, or put them aside with `git stash`")
    if wanted in released():
        sys.exit(f"release: {wanted} is in CHANGELOG.md already")
    if released() and numbers(wanted) <= max(map(numbers, released())):
        sys.exit(f"release: {wanted} does not follow {max(released(), key=numbers)}, the last version in CHANGELOG.md")
    if not re.search(r"(?ms)^## \[Unreleased\]\n.*?^- ", CHANGELOG.read_text()):
        sys.exit("release: the section Unreleased of CHANGELOG.md has no entry: say what is new")


def released():
    """Return the versions that CHANGELOG.md has sections of."""
    return re.findall(r"(?m)^## \[(\d+\.\d+\.\d+)\]", CHANGELOG.read_text())


def notes(wanted):
    """Return what CHANGELOG.md says of a version."""
    found = re.search(rf"(?ms)^## \[{re.escape(wanted)}\].*?\n(.*?)(?=^## \[|^\[[^]]+\]: |\Z)", CHANGELOG.read_text())
    if found is None:
        sys.exit(f"release: CHANGELOG.md has no section of {wanted}")
    return found[1].strip()


def numbers(text):
    return tuple(map(int, text.split(".")))


def write(wanted):
    """Set the version, date the section of the changelog, and commit both."""
    VERSION_FILE.write_text(VERSION_FILE.read_text().replace(f'"{version()}"', f'"{wanted}"', 1))
    text = CHANGELOG.read_text()
    text = text.replace("## [Unreleased]\n", f"## [Unreleased]\n\n## [{wanted}] - {time.strftime('%Y-%m-%d')}\n", 1)
    text = re.sub(r"(?m)^\[Unreleased\]: .*\n", f"[Unreleased]: {SITE}/compare/v{wanted}...main\n", text)
    CHANGELOG.write_text(text.rstrip("\n") + f"\n[{wanted}]: {SITE}/releases/tag/v{wanted}\n")
    run("git", "commit", "--quiet", "--message", f"release: {wanted}", VERSION_FILE, CHANGELOG)


# ---- 3 to 6: the files


def build(wanted):
    """Build everything from a clone of the last commit, twice where that is cheap, and check it."""
    epoch = run("git", "log", "-1", "--format=%ct", capture=True).strip()
    shutil.rmtree(DIST, ignore_errors=True)
    os.umask(0o022)  # wheels contain the permissions of their files
    with tempfile.TemporaryDirectory(prefix="goproc-release-") as folder:
        first, second = Path(folder, "first"), Path(folder, "second, elsewhere")
        own_cache = {"GOCACHE": str(Path(folder, "go-build"))}
        for clone, target, variables in (first, "wheels", {}), (second, "wheels-of-python", own_cache):
            run("git", "clone", "--quiet", "--no-hardlinks", ROOT, clone)
            run("make", "sdist", target, cwd=clone, SOURCE_DATE_EPOCH=epoch, **variables)
            for sdist in clone.joinpath("dist").glob("*.tar.gz"):
                normalize(sdist, int(epoch))
        compare(first / "dist", second / "dist")
        shutil.copytree(first / "dist", DIST)
        run("make", "docs", cwd=first)
        bill(wanted, DIST / f"goproc-{wanted}.cdx.json")
    run("make", "check-dist")
    with open(DIST / "SHA256SUMS", "w") as sums:
        for path in sorted(DIST.iterdir()):
            if path.name != "SHA256SUMS":
                print(f"{digest(path)}  {path.name}", file=sums)


def normalize(path, epoch):
    """Pack a source distribution anew, in such a way that its bytes depend on its files only."""
    with tarfile.open(path) as archive:
        members = sorted(archive.getmembers(), key=lambda member: member.name)
        contents = {member.name: archive.extractfile(member).read() for member in members if member.isfile()}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            clean = tarfile.TarInfo(member.name)
            clean.type, clean.size, clean.mtime = member.type, member.size, epoch
            clean.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            archive.addfile(clean, io.BytesIO(contents[member.name]) if member.isfile() else None)
    path.write_bytes(gzip.compress(buffer.getvalue(), mtime=epoch))


def compare(first, second):
    """End this program unless each file of the second folder has the same bytes in the first."""
    for path in sorted(second.iterdir()):
        same = first / path.name
        if not same.exists():
            sys.exit(f"release: the second build has made {path.name}, the first has not")
        if digest(path) != digest(same):
            sys.exit(f"release: two builds of one commit give different files: {path.name}")
        print(f"release: {path.name} is the same in two builds")


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def bill(wanted, target):
    """Write the list of the Go modules that are linked into the engine of a wheel, with their versions and licences."""
    wheel = min(DIST.glob("*.whl"))
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
        (engine,) = (name for name in archive.namelist() if name.startswith("goproc/_engine"))
        path = archive.extract(engine, folder)
        tool = ["go", "tool", f"-modfile={ROOT / 'build_support' / 'release' / 'go.mod'}", "cyclonedx-gomod", "bin"]
        run(*tool, "-json", "-licenses", "-std", "-noserial", "-version", wanted, "-output", target, path)


if __name__ == "__main__":
    main()
