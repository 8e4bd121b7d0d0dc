"""A program that PyInstaller freezes finds its engine, and starts processes in each way."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
import goproc as multiprocessing


def square(number):
    return number * number


def put(queue, value):
    queue.put(value)


if __name__ == "__main__":
    multiprocessing.freeze_support()
    assert sys.frozen
    for method in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context(method)
        with context.Pool(2) as pool:
            print(method, pool.map(square, range(5)))
        queue = context.Queue()
        processes = [context.Process(target=put, args=(queue, method)) for _ in range(2)]
        for process in processes:
            process.start()
        print([queue.get(timeout=60) for _ in processes])
        for process in processes:
            process.join()
            print(process.exitcode)
"""

EXPECTED = "".join(
    f"{method} [0, 1, 4, 9, 16]\n{[method, method]}\n0\n0\n" for method in ("fork", "spawn", "forkserver")
)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("form", ["onedir", "onefile"])
def test_frozen_program(form, tmp_path):
    folder = tmp_path / "a folder"
    folder.mkdir()
    (folder / "program.py").write_text(PROGRAM, encoding="utf-8")
    freeze = [sys.executable, "-m", "PyInstaller", "--log-level=WARN", f"--{form}", "program.py"]
    done = subprocess.run(freeze, cwd=folder, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    program = folder / "dist" / "program" / "program" if form == "onedir" else folder / "dist" / "program"
    (tmp_path / "elsewhere").mkdir()
    ran = subprocess.run([program], cwd=tmp_path / "elsewhere", capture_output=True, text=True, timeout=120)
    assert (ran.stdout, ran.stderr, ran.returncode) == (EXPECTED, "", 0)
