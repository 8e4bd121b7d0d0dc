"""progress=: what is counted, when, and where it is shown."""

import asyncio
import fcntl
import gc
import io
import os
import pty
import struct
import subprocess
import sys
import termios
import time

import async_targets as targets
import pytest

import goproc
import goproc.futures


class Calls(list):
    def __call__(self, done, total):
        self.append((done, total))


@pytest.fixture
def calls():
    return Calls()


def check(calls, total, said=True):
    """Check that the counts grow, up to the total."""
    assert calls == sorted(set(calls))
    assert calls[-1] == (total, total if said else None)
    assert {said_total for _, said_total in calls} == {total if said else None}


@pytest.mark.parametrize("chunksize", [None, 1, 7, 1000])
def test_map(context, chunksize, calls):
    with context.Pool(2) as pool:
        assert pool.map(targets.square, range(500), chunksize, progress=calls) == [n * n for n in range(500)]
        check(calls, 500)
        calls.clear()
        pairs = [(n, 1) for n in range(501)]
        assert pool.starmap(targets.add, pairs, chunksize, progress=calls) == list(range(1, 502))
        check(calls, 501)
        calls.clear()
        assert pool.map(targets.square, [], chunksize, progress=calls) == []
        assert calls == [(0, 0)]


@pytest.mark.parametrize("method_name", ["imap", "imap_unordered"])
@pytest.mark.parametrize("chunksize", [1, 7])
def test_imap(method_name, chunksize, calls):
    with goproc.Pool(2) as pool:
        imap = getattr(pool, method_name)
        assert sorted(imap(targets.square, range(300), chunksize, progress=calls)) == [n * n for n in range(300)]
        check(calls, 300)
        calls.clear()
        assert len(list(imap(targets.square, iter(range(300)), chunksize, progress=calls))) == 300
        check(calls, 300, said=False)


@pytest.mark.parametrize("chunksize", [1, 7])
@pytest.mark.parametrize("options", [{}, {"buffersize": 3}])
def test_map_of_an_executor(executor, chunksize, options, calls):
    results = executor.map(targets.add, range(100), range(200), chunksize=chunksize, progress=calls, **options)
    assert list(results) == [2 * n for n in range(100)]
    check(calls, 100)
    calls.clear()
    limited = executor.with_options(retries=1)
    assert list(limited.map(targets.square, iter(range(5)), progress=calls)) == [0, 1, 4, 9, 16]
    check(calls, 5, said=False)


def test_each_slow_item_is_told(tmp_path, calls):
    """The function opens the gate of the next item, so it is called for each."""

    def tell(done, total):
        calls(done, total)
        (tmp_path / str(done)).touch()

    (tmp_path / "0").touch()
    arguments = [(tmp_path / str(n), n) for n in range(5)]
    with goproc.Pool(2) as pool:
        pool.starmap(targets.return_when, arguments, progress=tell)
        assert calls == [(n, 5) for n in range(1, 6)]
        calls.clear()
        for path in tmp_path.iterdir():
            path.unlink()
        (tmp_path / "0").touch()
        assert list(pool.imap(_return_when, arguments, progress=tell)) == list(range(5))
        assert calls == [(n, 5) for n in range(1, 6)]


def _return_when(pair):
    return targets.return_when(*pair)


def test_async_for(calls):
    async def main():
        async with goproc.Pool(2) as pool:
            for chunksize in 1, 7:
                calls.clear()
                items = [item async for item in pool.imap(targets.square, range(100), chunksize, progress=calls)]
                assert items == [n * n for n in range(100)]
                check(calls, 100)

    asyncio.run(main())


@pytest.mark.parametrize("chunksize", [None, 1, 2])
def test_failed_items(chunksize, capsys):
    with goproc.Pool(1) as pool:
        results = pool.map(int, ["1", "x", "3", "y"], chunksize, return_exceptions=True, progress="reading")
        assert [type(result) for result in results] == [int, ValueError, int, ValueError]
        shown = capsys.readouterr().err
        assert "reading" in shown and "4/4" in shown and "failed=2" in shown
        with pytest.raises(ValueError):
            pool.map(int, ["1", "x"], 1, progress="reading")
        assert "failed=1" in capsys.readouterr().err
        items = pool.imap(int, ["1", "x", "3"], progress="reading")
        taken = []
        while True:
            try:
                taken.append(next(items))
            except ValueError:
                taken.append(None)
            except StopIteration:
                break
        assert taken == [1, None, 3]
        shown = capsys.readouterr().err
        assert "3/3" in shown and "failed=1" in shown


def test_failed_items_of_an_executor(capsys):
    with goproc.futures.ProcessPoolExecutor(1, goproc.get_context("fork")) as executor:
        with pytest.raises(ValueError):
            list(executor.map(int, ["1", "x"], progress="reading"))
    assert "failed=1" in capsys.readouterr().err


class Refused(Exception):
    pass


def refuse(done, total):
    raise Refused


def test_function_that_raises(executor):
    with goproc.Pool(1) as pool:
        with pytest.raises(Refused):
            pool.map(targets.square, range(100), 1, progress=refuse)
        for chunksize in 1, 3:
            with pytest.raises(Refused):
                list(pool.imap(targets.square, range(100), chunksize, progress=refuse))
        assert pool.apply(targets.square, (3,)) == 9
    with pytest.raises(Refused):
        list(executor.map(targets.square, range(100), progress=refuse))


def test_bar_of_an_abandoned_iterator_is_closed(monkeypatch):
    import tqdm.std

    closed = []
    monkeypatch.setattr(tqdm.std.tqdm, "close", lambda self: closed.append(self.n))

    with goproc.Pool(1) as pool:
        items = pool.imap(targets.square, range(10), progress="a")
        next(items)
        del items
        gc.collect()
        assert len(closed) >= 1
        items = pool.imap(time.sleep, [0, 600], progress="a")
        next(items)
        closed.clear()
        pool.terminate()
        with pytest.raises(goproc.CancelledError):
            for _ in items:
                pass
        assert closed


def test_bad_arguments(executor):
    with goproc.Pool(1) as pool:
        for method in pool.map, pool.starmap, pool.imap, pool.imap_unordered, executor.map:
            with pytest.raises(TypeError, match="progress must be True, a description"):
                method(targets.square, [(1,)], progress=5)
        assert pool.map(targets.square, [3], progress=None) == [9]
        assert pool.map(targets.square, [3], progress=False) == [9]


def test_true_is_silent_where_nobody_looks(capfd):
    with goproc.Pool(1) as pool:
        assert pool.map(targets.square, [3], progress=True) == [9]
        assert list(pool.imap(targets.square, [3], progress=True)) == [9]
    assert capfd.readouterr().err == ""


PROGRAM = """
import sys
for name in sys.argv[1:]:
    sys.modules[name] = None
import goproc
if __name__ == "__main__":
    with goproc.Pool(1) as pool:
        print(pool.map(abs, [-1, -2], progress=True), list(pool.imap(abs, [-1, -2], progress=True)))
"""


@pytest.mark.parametrize("missing", [(), ("tqdm",)], ids=["tqdm", "rich"])
def test_bar_on_a_terminal(missing):
    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, *missing], stderr=inner, stdout=subprocess.PIPE)
    os.close(inner)
    shown = b""
    try:
        while read := os.read(outer, 65536):
            shown += read
    except OSError:
        pass  # the program has closed the terminal
    os.close(outer)
    out = process.communicate()[0]
    assert process.returncode == 0, shown
    assert out == b"[1, 2] [1, 2]\n"
    assert shown.count(b"2/2") >= 2


def test_no_library(run_script):
    done = run_script("-c", PROGRAM, "tqdm", "rich", status=1)
    assert "ImportError: progress=True and a description need tqdm or rich" in done.stderr
    assert "goproc[progress]" in done.stderr


def test_rich(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with goproc.Pool(1) as pool:
        pool.map(int, ["1", "x"], 1, return_exceptions=True, progress="reading")
    shown = capsys.readouterr().err
    assert "reading" in shown and "2/2" in shown and "1 failed" in shown


def test_closed_stderr(monkeypatch):
    closed = io.StringIO()
    closed.close()
    for stream in None, closed:
        monkeypatch.setattr(sys, "stderr", stream)
        with goproc.Pool(1) as pool:
            assert pool.map(targets.square, [3], progress=True) == [9]
