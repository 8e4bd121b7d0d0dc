"""Named shared memory: it ends with those who use it, and the tracker runs only where there is any."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from helpers import THREADS_ARE_MEANT, wait_until

import goproc
import goproc.shared_memory
from goproc.shared_memory import ShareableList, SharedMemory

pytestmark = THREADS_ARE_MEANT

MAIN = "import os, signal, sys, time\nimport goproc\nfrom goproc.shared_memory import SharedMemory, ShareableList\n"


@pytest.fixture
def run_program(run_script, tmp_path):
    """Run code as a script, which spawned children can import."""

    def run(code, *arguments, **variables):
        (tmp_path / "program.py").write_text(code)
        return run_script(tmp_path / "program.py", *arguments, timeout=20, **variables)

    return run


def exists(name):
    return os.path.exists("/dev/shm/" + name)


@pytest.fixture
def memory():
    memory = SharedMemory(create=True, size=100)
    yield memory
    memory.close()
    if exists(memory.name):
        memory.unlink()


def test_the_end_of_a_program_that_has_attached_to_it_does_not_remove_it(memory, run_script):
    done = run_script("-c", MAIN + "memory = SharedMemory(sys.argv[1]); memory.buf[0] += 1", memory.name)
    assert (done.stderr, memory.buf[0]) == ("", 1)
    assert exists(memory.name)


def test_the_same_with_the_programs_own_name_of_the_module(memory, run_script, tmp_path):
    script = tmp_path / "program.py"
    script.write_text(
        "import sys\n"
        "from multiprocessing.shared_memory import SharedMemory\n"
        "memory = SharedMemory(sys.argv[1])\n"
        "memory.buf[0] += 1\n"
    )
    done = run_script("-m", "goproc", script, memory.name)
    assert (done.stderr, memory.buf[0]) == ("", 1)
    assert exists(memory.name)


def test_a_list_that_was_attached(run_script):
    shared = ShareableList([1, "two", 3.5])
    try:
        code = MAIN + "shared = ShareableList(name=sys.argv[1]); shared[0] = 7; print(list(shared))"
        done = run_script("-c", code, shared.shm.name)
        assert (done.stdout, done.stderr) == ("[7, 'two', 3.5]\n", "")
        assert shared[0] == 7
        assert exists(shared.shm.name)
    finally:
        shared.shm.close()
        shared.shm.unlink()


def test_another_program_removes_it(memory, run_script):
    done = run_script("-c", MAIN + "memory = SharedMemory(sys.argv[1]); memory.unlink()", memory.name)
    assert done.stderr == ""
    assert not exists(memory.name)
    # So that this program's tracker does not complain at its end, long after this test.
    goproc.resource_tracker.unregister("/" + memory.name, "shared_memory")


def test_another_process_of_the_program_removes_it(method, run_program):
    """Then the tracker has nothing to complain of at the end."""
    code = MAIN + (
        "def unlink(name):\n"
        "    SharedMemory(name).unlink()\n"
        "if __name__ == '__main__':\n"
        f"    context = goproc.get_context({method!r})\n"
        "    memory = SharedMemory(create=True, size=10)\n"
        "    process = context.Process(target=unlink, args=(memory.name,))\n"
        "    process.start()\n"
        "    process.join()\n"
        "    print(os.path.exists('/dev/shm/' + memory.name))\n"
    )
    done = run_program(code)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_the_well_known_way_around_the_fault_does_no_harm(memory, run_program):
    code = MAIN + (
        "from multiprocessing import resource_tracker\n"
        "memory = SharedMemory(sys.argv[1])\n"
        "resource_tracker.unregister(memory._name, 'shared_memory')\n"
        "memory.close()\n"
    )
    assert run_program(code, memory.name).stderr == ""
    assert exists(memory.name)


@pytest.mark.parametrize("track", [True, False, None])
@pytest.mark.parametrize("create", [True, False])
def test_track(memory, run_program, create, track):
    """track= works as from Python 3.13 on, except for the default for attached memory."""
    code = MAIN + (
        f"memory = SharedMemory(sys.argv[1] if {not create} else None, {create}, 10, track={track})\n"
        "print(memory.name)\n"
    )
    name = run_program(code, memory.name).stdout.strip()
    kept = track is False or (track is None and not create)
    if kept:
        time.sleep(0.1)
        assert exists(name)
    else:
        wait_until(lambda: not exists(name))
    if not create and not kept:
        goproc.resource_tracker.unregister("/" + memory.name, "shared_memory")
    if create and kept:
        os.unlink("/dev/shm/" + name)


def test_track_false_is_not_for_the_tracker_at_all(run_program):
    code = MAIN + (
        "memory = SharedMemory(create=True, size=10, track=False)\n"
        "memory.unlink()\n"
        "from multiprocessing import resource_tracker\n"
        "print(resource_tracker._resource_tracker._fd)\n"
    )
    assert run_program(code).stdout == "None\n"


def test_wrong_arguments():
    for wrong in ({"name": None}, {"create": True, "size": 0}, {"create": True, "size": -1}):
        with pytest.raises(ValueError, match="must be a positive|can only be None"):
            SharedMemory(**wrong)
    with pytest.raises(FileNotFoundError):
        SharedMemory("there-is-no-such")
    with pytest.raises(TypeError):
        SharedMemory("x", False, 0, True)


# ---- killed creators


def test_a_killed_programs_memory_is_removed(run_program):
    code = MAIN + (
        "memory = SharedMemory(create=True, size=10)\n"
        "print(memory.name, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    name = run_program(code, status=-signal.SIGKILL).stdout.strip()
    wait_until(lambda: not exists(name))


OF_A_CHILD = MAIN + (
    "def make(connection, how):\n"
    "    memory = SharedMemory(create=True, size=10)\n"
    "    memory.buf[0] = 7\n"
    "    connection.send(memory.name)\n"
    "    if how == 'killed':\n"
    "        os.kill(os.getpid(), signal.SIGKILL)\n"
    "if __name__ == '__main__':\n"
    "    context = goproc.get_context(sys.argv[1])\n"
    "    here, there = context.Pipe()\n"
    "    process = context.Process(target=make, args=(there, sys.argv[2]))\n"
    "    process.start()\n"
    "    name = here.recv()\n"
    "    process.join()\n"
    "    memory = SharedMemory(name)\n"
    "    print(name, memory.buf[0], flush=True)\n"
)


@pytest.mark.parametrize("how", ["ended", "killed"])
@pytest.mark.part("late-tracker")
def test_a_childs_memory_lives_as_long_as_the_program(method, how, run_program):
    """The other processes can use its name until the last of them has ended."""
    name, value = run_program(OF_A_CHILD, method, how).stdout.split()
    assert value == "7"
    wait_until(lambda: not exists(name))


# ---- the tracker


TRACKERS = """
import glob
def trackers():
    found = []
    for path in glob.glob("/proc/[0-9]*/environ"):
        try:
            if MARK in open(path, "rb").read() and b"resource_tracker" in open(path[:-7] + "cmdline", "rb").read():
                found.append(path)
        except OSError:
            pass
    return len(found)
import os
MARK = b"GOPROC_TEST_OF_TRACKERS=%d" % os.getppid()
"""


@pytest.mark.part("late-tracker", "locks")
def test_no_tracker_runs_where_no_memory_has_a_name(method, run_program):
    code = (
        "import goproc\n"
        + TRACKERS
        + f"""
def use(lock, queue, value, shared):
    with lock:
        value.value += 1
        shared["a"] = 1
    queue.put(trackers())

if __name__ == "__main__":
    context = goproc.get_context({method!r})
    with context.Manager() as manager, context.Pool(2) as pool:
        shared, queue = manager.dict(), context.Queue()
        args = context.Lock(), queue, context.Value("i"), shared
        processes = [context.Process(target=use, args=args) for _ in range(2)]
        for process in processes:
            process.start()
        pool.map(abs, range(5))
        print(queue.get(), queue.get(), trackers())
        for process in processes:
            process.join()
"""
    )
    done = run_program(code, GOPROC_TEST_OF_TRACKERS=str(os.getpid()))
    assert (done.stdout, done.stderr) == ("0 0 0\n", "")


@pytest.mark.part("late-tracker")
@pytest.mark.parametrize("first", ["children", "program"])
def test_one_tracker_is_started_for_all(method, first, run_program):
    code = (
        MAIN
        + TRACKERS
        + f"""
def make(barrier, connection):
    barrier.wait()
    memory = SharedMemory(create=True, size=10)
    connection.send(memory.name)

if __name__ == "__main__":
    context = goproc.get_context({method!r})
    barrier, (here, there) = context.Barrier(5), context.Pipe()
    processes = [context.Process(target=make, args=(barrier, there)) for _ in range(4)]
    for process in processes:
        process.start()
    if {first!r} == "program":
        SharedMemory(create=True, size=10).unlink()
    barrier.wait()
    names = [here.recv() for _ in range(4)]
    for process in processes:
        process.join()
    print(trackers(), [os.path.exists("/dev/shm/" + name) for name in names].count(True))
    for name in names:
        SharedMemory(name).unlink()
"""
    )
    done = run_program(code, GOPROC_TEST_OF_TRACKERS=str(os.getpid()))
    assert (done.stdout, done.stderr) == ("1 4\n", "")


def test_a_tracker_that_was_killed_is_started_again(method, run_program):
    code = MAIN + (
        "from multiprocessing import resource_tracker\n"
        "if __name__ == '__main__':\n"
        f"    process = goproc.get_context({method!r}).Process(target=abs, args=(1,))\n"
        "    process.start()\n"
        "    process.join()\n"
        "    SharedMemory(create=True, size=10).unlink()\n"
        "    os.kill(resource_tracker._resource_tracker._pid, signal.SIGKILL)\n"
        "    os.waitpid(resource_tracker._resource_tracker._pid, 0)\n"
        "    SharedMemory(create=True, size=10).unlink()  # new versions of Python lose the message that finds it out\n"
        "    memory = SharedMemory(create=True, size=10)\n"
        "    print(memory.name)\n"
    )
    done = run_program(code)
    assert "relaunching" in done.stderr
    wait_until(lambda: not exists(done.stdout.strip()))


def test_a_manager_of_memory(context):
    from multiprocessing.managers import SharedMemoryManager

    with SharedMemoryManager(ctx=context) as manager:
        memory, shared = manager.SharedMemory(100), manager.ShareableList([1, 2])
        memory.buf[0] = 1
        assert list(shared) == [1, 2]
        names = memory.name, shared.shm.name
        assert all(map(exists, names))
        memory.close()
        shared.shm.close()
    assert not any(map(exists, names))


def test_pickled(context):
    memory = SharedMemory(create=True, size=10)
    try:
        with context.Pool(1) as pool:
            pool.apply(write, (memory,))
        assert memory.buf[0] == 5
    finally:
        memory.close()
        memory.unlink()


def write(memory):
    memory.buf[0] = 5
    memory.close()


if sys.version_info >= (3, 13):

    def test_the_attribute_of_the_standard_library(memory):
        assert memory._track
        assert not SharedMemory(memory.name)._track


def test_the_modules_are_multiprocessings():
    import multiprocessing.shared_memory

    assert goproc.shared_memory is multiprocessing.shared_memory
    assert SharedMemory is multiprocessing.shared_memory.SharedMemory
    assert Path(multiprocessing.shared_memory.__file__).parent.name == "multiprocessing"
