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
