"""A program's tests replace functions of os, builtins and others while the program starts processes and makes pools."""

import pytest

MOCKED = """
import io, multiprocessing, os, sys
from concurrent.futures import ProcessPoolExecutor
from unittest import mock
import goproc.popen_forkserver, goproc.popen_spawn_posix  # as importing is what some of the mocks prevent

def double(number):
    return 2 * number

def add(lock, value):
    with lock:
        value.value += 1

def main():
    context = multiprocessing.get_context(sys.argv[1])
    with context.Pool(2) as pool:
        said = [pool.map(double, range(3)), len(pool.apply(bytes, (100_000,)))]
    process = context.Process(target=double, args=(1,))
    process.start()
    process.join()
    said.append(process.exitcode)
    lock, value, queue = context.Lock(), context.Value("i", 1, lock=False), context.Queue()
    processes = context.Process(target=add, args=(lock, value)), context.Process(target=queue.put, args=("done",))
    for process in processes:
        process.start()
    said.append(queue.get(timeout=60))
    for process in processes:
        process.join()
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        said.append(executor.submit(double, 3).result(60))
    return [*said, value.value]

if __name__ == "__main__":
    import multiprocessing.heap, multiprocessing.pool, multiprocessing.queues, multiprocessing.synchronize
    with mock.patch(sys.argv[2], **eval(sys.argv[3])):
        said = main()
    print(said)
"""

MOCKS = {
    "os.path.exists": "{'return_value': False}",
    "os.path.isfile": "{'return_value': False}",
    "os.path.isdir": "{'return_value': False}",
    "os.path.join": "{'return_value': '/nowhere'}",
    "os.path.dirname": "{'return_value': '/nowhere'}",
    "os.path.abspath": "{'return_value': '/nowhere'}",
    "os.stat": "{'side_effect': FileNotFoundError}",
    "os.fstat": "{'side_effect': FileNotFoundError}",
    "os.open": "{'side_effect': PermissionError}",
    "os.dup": "{'side_effect': OSError}",
    "os.listdir": "{'return_value': ['name']}",
    "os.readlink": "{'side_effect': FileNotFoundError}",
    "os.geteuid": "{'return_value': 4242}",
    "os.register_at_fork": "{}",
    "os.kill": "{}",
    "time.sleep": "{}",
    "builtins.open": "{'new': mock.mock_open(read_data='text')}",
    "io.open": "{'side_effect': FileNotFoundError}",
}


@pytest.mark.parametrize("mocked", MOCKS)
def test_a_first_pool_while_a_function_is_a_mock(run_script, tmp_path, method, mocked):
    (tmp_path / "program.py").write_text(MOCKED)
    done = run_script("-m", "goproc", "program.py", method, mocked, MOCKS[mocked], cwd=tmp_path)
    assert done.stdout == "[[0, 2, 4], 100000, 0, 'done', 6, 2]\n"
    assert done.stderr == ""


REPLACED = """
import multiprocessing, os
import multiprocessing.pool
import multiprocessing.queues
from unittest import mock

def count(*names):
    return len(names)

def put_twice(queue, item):
    put(queue, item)
    put(queue, item)

class Own(multiprocessing.queues.Queue):
    pass

if __name__ == "__main__":
    with mock.patch("multiprocessing.queues.Queue.put") as put:
        multiprocessing.Queue().put(1)
        multiprocessing.JoinableQueue().put(2)
    print(put.mock_calls)
    with mock.patch("multiprocessing.queues.SimpleQueue.get", return_value="mocked"):
        print(multiprocessing.SimpleQueue().get())
    put, multiprocessing.queues.Queue.put = multiprocessing.queues.Queue.put, put_twice
    queue = multiprocessing.Queue()
    queue.put("twice")
    print(queue.get(timeout=60), queue.get(timeout=60))
    multiprocessing.queues.Queue.put = put
    with mock.patch("multiprocessing.queues.Queue", Own):
        print(type(multiprocessing.Queue()).__name__)
    name = "process_cpu_count" if hasattr(os, "process_cpu_count") else "cpu_count"
    for cpus in 1, 7:
        with mock.patch(f"os.{name}", return_value=cpus), multiprocessing.Pool() as pool:
            print(pool._processes)
        with mock.patch.object(os, name, lambda: cpus), multiprocessing.Pool() as pool:
            print(pool._processes)
"""


def test_classes_and_functions_of_multiprocessing_that_a_program_replaces(run_script, tmp_path):
    (tmp_path / "program.py").write_text(REPLACED)
    plain, own = (run_script(*options, "program.py", cwd=tmp_path) for options in [(), ("-m", "goproc")])
    assert own.stdout == plain.stdout and plain.stdout.endswith("Own\n1\n1\n7\n7\n")
    assert own.stderr == ""


REMOVED = """
import sys
from concurrent.futures import process as process_module  # imported anew, pickle would not find its functions
from unittest import mock

def double(number):
    return 2 * number

def add(lock, value):
    with lock:
        value[0] += 1

def use(method):
    import multiprocessing

    context = multiprocessing.get_context(method)
    process = context.Process(target=double, args=(1,))
    process.start()
    process.join()
    said = [process.exitcode]
    pool = context.Pool(2)
    said += pool.map(double, [1, 2]), list(pool.imap(double, [3]))
    queue, lock, value = context.Queue(), context.Lock(), context.Array("i", 1, lock=False)
    process = context.Process(target=queue.put, args=("put",))
    process.start()
    said.append(queue.get(timeout=60))
    process.join()
    event = context.Event()
    event.set()
    with context.Manager() as manager:
        said.append(list(manager.list([event.is_set()])))
    with process_module.ProcessPoolExecutor(1, mp_context=context) as executor:
        said.append(executor.submit(double, 4).result(60))
    return said, process.exitcode, pool, queue, lock, value, event, context

if __name__ == "__main__":
    for _ in range(2):
        before = set(sys.modules)
        with mock.patch.dict(sys.modules, {"absent": mock.Mock()}):
            *said, pool, queue, lock, value, event, context = use(sys.argv[1])
            assert "goproc.pool" in sys.modules
            managers = sys.modules["multiprocessing.managers"]
        assert not {"goproc.pool", "goproc._common.engine"} & (set(sys.modules) - before)
        __import__("multiprocessing.managers")
        assert sys.modules["multiprocessing.managers"] is managers
        queue.put(pool.apply(double, (5,)))
        pool.terminate()
        print(*said, queue.get(timeout=60), event.is_set())
        if context.get_start_method() == "fork":  # ctypes' classes cannot be pickled after they have been imported anew
            process = context.Process(target=add, args=(lock, value))
            process.start()
            process.join()
            assert (process.exitcode, value[0]) == (0, 1)
    print(*use(sys.argv[1])[:2])
"""


@pytest.mark.parametrize("library", ["goproc", "multiprocessing"])
def test_modules_that_a_test_removes_when_they_have_been_used(run_script, tmp_path, method, library):
    """They are imported for the first time while mock.patch.dict(sys.modules) is in force."""
    (tmp_path / "program.py").write_text(
        REMOVED.replace("import multiprocessing", f"import {library} as multiprocessing")
    )
    options = ("-m", "goproc") if library == "multiprocessing" else ()
    done = run_script(*options, "program.py", method, cwd=tmp_path)
    said = "[0, [2, 4], [6], 'put', [True], 8] 0"
    assert done.stdout == f"{said} 10 True\n" * 2 + f"{said}\n"
    assert done.stderr == ""
