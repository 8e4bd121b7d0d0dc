"""The traceback of an error in a child, when warnings are errors: it shows the error, and no warning."""

import pytest

PROGRAM = """
import multiprocessing, sys

def fail(number):
    raise KeyError("as it is meant to")

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    process = context.Process(target=fail, args=(1,))
    process.start()
    process.join()
    assert process.exitcode == 1
    with context.Pool(1) as pool:
        for call in (pool.apply, pool.map):
            try:
                call(fail, (1,))
            except KeyError as error:
                text = str(error.__cause__)
                assert 'raise KeyError("as it is meant to")' in text and "Warning" not in text, text
                print("KeyError")
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("suffix", [".py", ""])
def test_an_error_in_a_function_of_the_script(run_script, tmp_path, method, suffix):
    script = tmp_path / f"program{suffix}"
    script.write_text(PROGRAM)
    done = run_script("-m", "goproc", script, method, options=["-W", "error"])
    assert done.stdout.split() == ["KeyError", "KeyError"]
    assert done.stderr.count('raise KeyError("as it is meant to")') == 1
    assert "Warning" not in done.stderr
