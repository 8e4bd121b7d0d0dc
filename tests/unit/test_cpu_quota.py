"""usable_cpu_count(), and the workers of a pool without a number: affinity, and the CPU quotas of control groups."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import goproc
from goproc._common import cpus

ROOT_V1 = "30 20 0:25 {top} {mount} rw,nosuid shared:9 - cgroup cgroup rw,{controllers}"
ROOT_V2 = "31 20 0:26 {top} {mount} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"


@pytest.fixture
def machine(tmp_path):
    """Return a function that makes the files of a machine, and returns the quota that is found there."""

    def make(groups, mounts, files):
        for name, lines in {"cgroup": groups, "mountinfo": mounts}.items():
            path = tmp_path / "proc/self" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(line + "\n" for line in lines))
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
        return cpus.quota_of(str(tmp_path))

    return make


def v2(top="/", mount="/sys/fs/cgroup"):
    return ROOT_V2.format(top=top, mount=mount)


def v1(top="/", mount="/sys/fs/cgroup/cpu,cpuacct", controllers="cpu,cpuacct"):
    return ROOT_V1.format(top=top, mount=mount, controllers=controllers)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("max 100000", None),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("200001 100000", 3),
        ("1000 100000", 1),
        ("50000 25000", 2),
        ("6400000 100000", 64),
        ("", None),
        ("200000", None),
        ("-1 100000", None),
        ("0 100000", None),
        ("100000 0", None),
        ("many 100000", None),
    ],
)
def test_rounding(machine, text, expected):
    assert machine(["0::/a"], [v2()], {"sys/fs/cgroup/a/cpu.max": text}) == expected


@pytest.mark.parametrize(
    "quota, period, expected",
    [
        ("-1", "100000", None),
        ("200000", "100000", 2),
        ("120000", "50000", 3),
        ("5000", "100000", 1),
        ("100000", "", None),
    ],
)
@pytest.mark.parametrize("controllers", ["cpu", "cpu,cpuacct", "cpuacct,cpu"])
def test_version_1(machine, controllers, quota, period, expected):
    mount = f"/sys/fs/cgroup/{controllers}"
    files = {f"{mount[1:]}/a/cpu.cfs_quota_us": quota, f"{mount[1:]}/a/cpu.cfs_period_us": period}
    groups = ["12:cpuset:/other", f"3:{controllers}:/a", "1:name=systemd:/user.slice"]
    mounts = [v1("/", "/sys/fs/cgroup/cpuset", "cpuset"), v1("/", mount, controllers)]
    assert machine(groups, mounts, files) == expected


def test_a_parent_has_the_limit(machine):
    files = {
        "sys/fs/cgroup/a.slice/cpu.max": "300000 100000",
        "sys/fs/cgroup/a.slice/b/cpu.max": "max 100000",
        "sys/fs/cgroup/a.slice/b/c/cpu.max": "800000 100000",
        "sys/fs/cgroup/sibling/cpu.max": "100000 100000",
    }
    assert machine(["0::/a.slice/b/c"], [v2()], files) == 3


def test_both_versions(machine):
    """A hybrid system: the quotas are in the hierarchy of version 1, and that of version 2 has no cpu.max."""
    files = {
        "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us": "250000",
        "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000",
    }
    groups = ["4:cpu,cpuacct:/docker/x", "0::/system.slice/docker.service"]
    assert machine(groups, [v1(), v2("/", "/sys/fs/cgroup/unified")], files) == 3


def test_a_container_that_sees_its_own_group_as_the_root(machine):
    assert machine(["0::/"], [v2()], {"sys/fs/cgroup/cpu.max": "200000 100000"}) == 2


def test_a_container_without_a_namespace(machine):
    """The path is the host's, and the mount's root is the container's group."""
    files = {
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "200000",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
    }
    assert machine(["4:cpu,cpuacct:/kubepods/pod/x"], [v1("/kubepods/pod/x")], files) == 2
    assert machine(["4:cpu,cpuacct:/kubepods/other"], [v1("/kubepods/pod/x")], {}) is None


def test_a_namespace_with_the_mounts_of_the_host(machine):
    """The mount's root is two levels above the namespace's: the group's names are found by its processes."""
    files = {
        "sys/fs/cgroup/cpu.max": "max 100000",
        "sys/fs/cgroup/other/x/cgroup.procs": "1\n2",
        "sys/fs/cgroup/other/x/cpu.max": "100000 100000",
        "sys/fs/cgroup/a/b/cgroup.procs": f"1\n{os.getpid()}",
        "sys/fs/cgroup/a/b/cpu.max": "max 100000",
        "sys/fs/cgroup/a/cpu.max": "300000 100000",
    }
    assert machine(["0::/"], [v2("/../..")], files) == 3


def test_a_namespace_whose_group_is_not_found(machine):
    files = {"sys/fs/cgroup/cpu.max": "500000 100000", "sys/fs/cgroup/a/b/cpu.max": "100000 100000"}
    assert machine(["0::/"], [v2("/../..")], files) == 5


def test_a_process_outside_of_its_namespace(machine):
    """The process was moved there after its namespace was made. The mount shows groups that do not limit it."""
    assert machine(["0::/../sibling"], [v2()], {"sys/fs/cgroup/cpu.max": "100000 100000"}) is None
    files = {
        "sys/fs/cgroup/cpu.max": "max 100000",
        "sys/fs/cgroup/sibling/cgroup.procs": str(os.getpid()),
        "sys/fs/cgroup/sibling/cpu.max": "200000 100000",
    }
    assert machine(["0::/../sibling"], [v2("/..")], files) == 2


def test_a_mount_point_with_a_blank(machine):
    assert machine(["0::/"], [v2("/", "/mnt/c\\040g")], {"mnt/c g/cpu.max": "200000 100000"}) == 2


def test_a_group_with_a_colon(machine):
    assert machine(["0::/a:b"], [v2()], {"sys/fs/cgroup/a:b/cpu.max": "200000 100000"}) == 2


def test_without_control_groups(machine, tmp_path):
    assert cpus.quota_of(str(tmp_path)) is None
    assert machine([], [v2()], {"sys/fs/cgroup/cpu.max": "100000 100000"}) is None
    assert machine(["0::/", "junk"], ["junk", "1 2 - cgroup2"], {}) is None


def test_what_cannot_be_read_is_ignored(machine, tmp_path):
    (tmp_path / "sys/fs/cgroup/a/cpu.max").mkdir(parents=True)
    assert machine(["0::/a"], [v2()], {"sys/fs/cgroup/cpu.max": "400000 100000"}) == 4


@pytest.mark.part("cpu-quota")
def test_the_lower_of_quota_and_affinity(monkeypatch):
    usable = len(os.sched_getaffinity(0))
    for quota, expected in [(None, usable), (usable + 5, usable), (1, 1)]:
        monkeypatch.setattr(cpus, "quota_of", lambda quota=quota: quota)
        assert goproc.usable_cpu_count() == expected
    assert goproc.cpu_count() == os.cpu_count()  # multiprocessing's


@pytest.mark.part("cpu-quota")
def test_affinity(run_script):
    cpu = min(os.sched_getaffinity(0))
    code = f"import goproc, os; os.sched_setaffinity(0, [{cpu}]); print(goproc.usable_cpu_count())"
    assert run_script("-c", code, PYTHON_CPU_COUNT="").stdout == "1\n"


@pytest.mark.part("cpu-quota")
def test_pools_and_executors(monkeypatch, method):
    monkeypatch.setattr(cpus, "quota_of", lambda: 1)
    with goproc.get_context(method).Pool() as pool:
        assert pool._processes == len(pool._pool) == 1
    with goproc.futures.ProcessPoolExecutor(mp_context=goproc.get_context(method)) as executor:
        assert executor._max_workers == 1
        assert executor.submit(abs, -1).result() == 1


class _OwnParts(goproc.pool.Pool):
    def _help_stuff_finish(inqueue, task_handler, size):
        pass


@pytest.mark.part("cpu-quota")
def test_a_pool_driven_by_queues(monkeypatch):
    monkeypatch.setattr(cpus, "quota_of", lambda: 1)
    with _OwnParts() as pool:
        assert pool._processes == 1
    pool.join()


# os.cpu_count becomes a function in C, as it is: a function in Python would be the program's, and decide.
WITH_QUOTA = """
import io, os, sys
from goproc._common import cpus
cpus.quota_of = lambda: 1
eight = io.BytesIO()
eight.seek(8)
os.cpu_count = eight.tell
"""


@pytest.mark.part("cpu-quota")
@pytest.mark.parametrize("options", [(), ("-m", "goproc")])
def test_also_in_an_unchanged_program(run_script, options, tmp_path):
    program = tmp_path / "program.py"
    name = "multiprocessing" if options else "goproc"
    program.write_text(
        f"{WITH_QUOTA}\nimport {name}\nif __name__ == '__main__':\n    print({name}.Pool()._processes)\n"
    )
    assert run_script(*options, program, PYTHON_CPU_COUNT="").stdout == "1\n"


@pytest.mark.part("cpu-quota")
def test_the_log(run_script):
    code = WITH_QUOTA + "os.sched_getaffinity = lambda pid: range(8)\nos.process_cpu_count = os.cpu_count\n"
    code += "import goproc\nfor _ in range(2): print(goproc.usable_cpu_count())"
    done = run_script("-c", code, GOPROC_LOG="info", PYTHON_CPU_COUNT="")
    assert done.stdout == "1\n1\n"
    assert done.stderr.count("quota of this process's control group is 1 of the 8 CPUs") == 1


def test_what_python_is_told_wins(run_script):
    """-X cpu_count and PYTHON_CPU_COUNT are of Python 3.13 and newer; before, they change nothing."""
    code = WITH_QUOTA + "import goproc\nprint(goproc.usable_cpu_count())"
    expected = "6\n" if sys.version_info >= (3, 13) else "1\n"
    code = code.replace("os.cpu_count = eight.tell", "")
    assert run_script("-c", code, PYTHON_CPU_COUNT="6", GOPROC_DISABLE="").stdout == expected
    assert run_script("-c", code, options=("-X", "cpu_count=6"), GOPROC_DISABLE="").stdout == expected


# Real control groups, where this user may make them.


def _make_group(name):
    """Make a control group with a limit of half a CPU, and one in it; return the latter, None if it cannot be made."""
    for folder, limit, quota in [
        ("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "50000"),
        ("/sys/fs/cgroup/cpu,cpuacct", "cpu.cfs_quota_us", "50000"),
        ("/sys/fs/cgroup", "cpu.max", "50000 100000"),
    ]:
        group = Path(folder, name)
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if (group / limit).exists():
                (group / limit).write_text(quota)
                (group / "inner").mkdir()
                return group / "inner"
        except OSError:
            pass
        group.rmdir()
    return None


@pytest.fixture
def real_group():
    inner = _make_group(f"goproc-test-{os.getpid()}")
    yield inner
    inner.rmdir()
    inner.parent.rmdir()


_probe = _make_group(f"goproc-probe-{os.getpid()}")
if _probe is not None:
    _probe.rmdir()
    _probe.parent.rmdir()

    @pytest.mark.part("cpu-quota")
    @pytest.mark.parametrize("around", [[], ["unshare", "--cgroup"]], ids=["", "namespace"])
    def test_a_real_group(real_group, around):
        """The group's parent has the limit. In a cgroup namespace, the group's path is /; the mounts are the host's."""
        code = "import goproc; print(goproc.usable_cpu_count())"
        command = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', real_group, *around, sys.executable, "-c"]
        done = subprocess.run([*command, code], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
