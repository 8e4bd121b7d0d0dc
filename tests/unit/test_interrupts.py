"""Ctrl-C in every blocking call, signal handlers that raise at any moment, programs that exit with open pools."""

import ctypes
import dis
import functools
import gc
import itertools
import os
import pty
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import pool_targets as targets
import pytest
from helpers import notes_of_main_thread

import goproc
from goproc import _native
from goproc.futures import ProcessPoolExecutor

SCRIPTS = Path(__file__).parents[1] / "scripts"
SOON = 30
LONG = 600
SA_ONSTACK = 0x08000000  # sigaction(2)
CALLS = [
    "get",
    "get with a timeout",
    "wait",
    "apply",
    "map",
    "imap",
    "imap of an iterator",
    "callback",
    "join",
]


def start(*arguments, **options):
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("GOPROC_STATS", "GOPROC_LOG", "GOPROC_START_METHOD")
    }
    command = [sys.executable, *arguments]
    return subprocess.Popen(command, env=environment, cwd=SCRIPTS, start_new_session=True, text=True, **options)


def wait_until_gone(pids):
    """Wait until none of the processes runs; one that nobody reaps here does not count."""
    deadline = time.monotonic() + SOON
    for pid in pids:
        while Path(f"/proc/{pid}/stat").exists() and time.monotonic() < deadline:
            try:
                if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                    break
            except (FileNotFoundError, ProcessLookupError):
                break
            time.sleep(0.005)
        else:
            if Path(f"/proc/{pid}").exists():
                pytest.fail(f"process {pid} is left")


def group(leader):
    """The processes of the session that the process leads."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getsid(int(entry.name)) == leader:
                    members.append(int(entry.name))
            except ProcessLookupError:
                pass
    return members


def interrupt_when_blocked(program):
    """Press Ctrl-C: the whole foreground group gets the signal."""
    assert program.stdout.readline() == "started\n"
    time.sleep(0.15)  # so that it blocks, and tasks run; sooner is no error, but another test
    members = group(program.pid)
    os.killpg(program.pid, signal.SIGINT)
    try:
        output, errors = program.communicate(timeout=SOON)
    except subprocess.TimeoutExpired:
        os.killpg(program.pid, signal.SIGKILL)
        output, errors = program.communicate()
        pytest.fail(f"the program hangs; it has printed {output!r} and {errors!r}")
    wait_until_gone(members)
    return output, errors


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("busy", ["sleeping", "computing"])
def test_ctrl_c(method, call, busy):
    program = start("blocking.py", method, call, busy, "raise", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    output, errors = interrupt_when_blocked(program)
    assert errors.count("Traceback") == 1 and errors.count("KeyboardInterrupt") == 1, errors
    assert (output, program.returncode) == ("", -signal.SIGINT)


@pytest.mark.parametrize("how", ["with", "catch"])
def test_ctrl_c_that_is_caught(method, how):
    program = start("blocking.py", method, "map", "computing", how, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert interrupt_when_blocked(program) == ("interrupts: 1\n", "")
    assert program.returncode == 0


@pytest.mark.parametrize("call", ["get", "map", "imap", "apply", "callback"])
def test_the_pool_works_after_ctrl_c(method, call):
    program = start("blocking.py", method, call, "sleeping", "go on", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert interrupt_when_blocked(program) == ("interrupts: 1\nworks: 2\n", "")
    assert program.returncode == 0


@pytest.mark.parametrize("how", ["interrupt_main", "kill", "pthread_kill"])
def test_a_task_interrupts_itself(context, how):
    with context.Pool(1) as pool:
        assert pool.apply(targets.interrupted_by_itself, (how, "")) == "interrupted"
        assert pool.apply(targets.interrupted_by_itself, (how, "handler set again")) in ("interrupted", "slept")
        assert pool.apply(targets.interrupted_by_itself, (how, "")) == "interrupted"
        with pytest.raises(KeyboardInterrupt):
            pool.apply(signal.raise_signal, (signal.SIGINT,))
        assert pool.apply(targets.double, (1,)) == 2


def test_an_interrupt_of_a_task_is_held(context):
    """No handler raises inside a step of goproc's own, such as put() of a queue."""
    with context.Pool(1) as pool:
        assert pool.apply(targets.interrupt_while_held) == ["held", "interrupted"]
        assert pool.apply(targets.interrupted_by_itself, ("kill", "")) == "interrupted"


@pytest.mark.parametrize("how", ["itself", "parent"])
def test_a_task_interrupts_a_process_that_it_has_forked(context, how):
    with context.Pool(1) as pool:
        assert pool.apply(targets.interrupt_a_child, (how,)) == 1


def test_the_main_program_interrupts_a_task_and_others_do_not(context):
    began = context.Event()
    with context.Pool(1, initializer=targets.set_state, initargs=(began,)) as pool:
        result = pool.apply_async(targets.wait_for_interrupt)
        assert began.wait(SOON)
        pid = pool._pool[0].pid
        subprocess.run(["kill", "-INT", str(pid)], check=True)
        time.sleep(0.1)
        assert not result.ready()
        os.kill(pid, signal.SIGINT)
        assert result.get(SOON) == "interrupted"


def test_ctrl_c_in_process_join(method):
    program = start("blocking.py", method, "Process.join", "computing", "catch", stdout=subprocess.PIPE)
    assert interrupt_when_blocked(program)[0] == "interrupts: 1\n"
    assert program.returncode == 0


@pytest.mark.slow
def test_ctrl_c_while_workers_come_up(method):
    """At any moment of it: one KeyboardInterrupt, nothing from the workers, nothing left."""
    code = (
        f"import goproc\nif __name__ == '__main__':\n    context = goproc.get_context({method!r})\n"
        "    print('started', flush=True)\n    pool = context.Pool(6)\n    pool.map(abs, range(4))\n"
        "    print('up', flush=True)\n    pool.apply(input)\n"
    )
    for delay in range(0, 120, 8):
        program = start("-c", code, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        assert program.stdout.readline() == "started\n"
        time.sleep(delay / 1000)
        members = group(program.pid)
        os.killpg(program.pid, signal.SIGINT)
        output, errors = program.communicate(timeout=SOON)
        wait_until_gone([pid for pid in members if pid != program.pid])
        assert errors.count("KeyboardInterrupt") <= 1 or "EOFError" in errors, (delay, errors)
        assert "PoolWorker" not in errors, (delay, errors)


def test_ctrl_c_at_a_terminal(method):
    leader, follower = pty.openpty()
    try:
        code = (
            "import fcntl, sys, termios, runpy; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
            f"sys.argv = ['blocking.py', {method!r}, 'map', 'sleeping', 'with'];"
            "runpy.run_path('blocking.py', run_name='__main__')"
        )
        program = start("-c", code, stdin=follower, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert program.stdout.readline() == "started\n"
        time.sleep(0.15)
        os.write(leader, b"\x03")
        assert program.communicate(timeout=SOON) == ("interrupts: 1\n", "")
    finally:
        os.close(leader)
        os.close(follower)


class Raised(Exception):
    pass


class Alarms:
    """A signal handler raises again and again, at any point of the calls that call() makes."""

    def __init__(self):
        self.raised = 0
        self._armed = False

    def __enter__(self):
        self._before = signal.signal(signal.SIGUSR1, self._handle)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        signal.signal(signal.SIGUSR1, self._before)

    def _send(self):
        while not self._stop.wait(0.0002):
            signal.raise_signal(signal.SIGUSR1)

    def _handle(self, signum, frame):
        if self._armed:
            self._armed = False
            raise Raised

    def call(self, function, *arguments):
        """Call the function until it returns."""
        while True:
            try:
                self._armed = True
                try:
                    return function(*arguments)
                finally:
                    self._armed = False
            except Raised:
                self.raised += 1


def _iterate(alarms, results):
    got = []
    while True:
        try:
            got.append(alarms.call(results.next, SOON))
        except StopIteration:
            return got


ROUNDS = {
    "apply_async": lambda alarms, pool: [
        alarms.call(result.get, SOON)
        for result in [alarms.call(pool.apply_async, targets.double, (i,)) for i in range(400)]
    ],
    "map": lambda alarms, pool: alarms.call(alarms.call(pool.map_async, targets.double, range(400), 1).get, SOON),
    "imap": lambda alarms, pool: _iterate(alarms, alarms.call(pool.imap, targets.double, range(400))),
    "imap_unordered": lambda alarms, pool: _iterate(
        alarms, alarms.call(pool.imap_unordered, targets.double, range(400))
    ),
    "imap of an iterator": lambda alarms, pool: _iterate(
        alarms, alarms.call(lambda: pool.imap(targets.double, iter(range(400))))
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ROUNDS)
def test_a_handler_that_raises_at_any_moment(kind):
    """No result is lost, doubled, or anybody else's; no other thread is left waiting; the pool goes on."""
    stop, counts, failures = threading.Event(), [0], []
    pool = goproc.Pool(2)
    # The first call imports a module. Interrupted there, the import system leaves the file open: a ResourceWarning.
    assert [*pool.imap(abs, [-1]), *pool.imap_unordered(abs, [-2]), *pool.map(abs, [-3])] == [1, 2, 3]

    def other():
        try:
            while not stop.is_set():
                assert pool.apply_async(targets.double, (counts[0],)).get(SOON) == 2 * counts[0]
                counts[0] += 1
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=other)
    thread.start()
    try:
        expected = [2 * i for i in range(400)]
        with Alarms() as alarms:
            for _ in range(40):
                before = alarms.raised
                got = ROUNDS[kind](alarms, pool)
                if "imap" in kind:
                    # next() may be interrupted after it has taken a result, as in any iterator: that result is gone.
                    assert len(got) == len(set(got)) and set(got) <= set(expected)
                    assert kind == "imap_unordered" or got == sorted(got)
                    assert len(got) >= 400 - (alarms.raised - before)
                else:
                    assert got == expected
        assert alarms.raised and counts[0]
    finally:
        stop.set()
        thread.join(SOON)
        waits = thread.is_alive()
        if failures or waits:
            pool.terminate()
    assert not waits and not failures
    assert pool.map(targets.double, range(100)) == [2 * i for i in range(100)]
    pool.close()
    pool.join()


def held(lock):
    lock.acquire()
    return lock


def filled(queue):
    queue.put(1)
    return queue


#: Calls that wait for ever.
WAITS = {
    "lock": lambda context: held(context.Lock()).acquire,
    "event": lambda context: context.Event().wait,
    "condition": lambda context: held(context.Condition()).wait,
    "get": lambda context: context.Queue().get,
    "get of a simple queue": lambda context: context.SimpleQueue().get,
    "put": lambda context: functools.partial(filled(context.Queue(1)).put, 2),
    "join of a queue": lambda context: filled(context.JoinableQueue()).join,
}


def interrupt_soon(call, delays):
    """Make the call once for each delay, in seconds, and have a signal end it: one is enough each time."""
    calls = []

    def handler(*_):
        calls.append(1)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler)
    try:
        for attempt, delay in enumerate(delays):
            with pytest.raises(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, delay, SOON)  # the second signal ends a hang
                call()
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert len(calls) == attempt + 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("wait", WAITS)
def test_a_signal_just_before_the_sleep(wait):
    """A wait begins with a spin. A signal that comes meanwhile ends no sleep: the handler runs soon nevertheless."""
    interrupt_soon(WAITS[wait](goproc.get_context("fork")), [2e-5 + attempt * 2e-6 for attempt in range(100)])


@pytest.mark.slow
@pytest.mark.parametrize("wait", ["join", "get", "next"])
def test_a_signal_just_before_a_wait_for_a_process(wait, context):
    process = context.Process(target=time.sleep, args=(LONG,))
    process.start()
    with context.Pool(1) as pool:
        result, results = pool.apply_async(time.sleep, (LONG,)), pool.imap(time.sleep, [LONG])
        call = {"join": process.join, "get": result.get, "next": results.next}[wait]
        interrupt_soon(call, [2e-5 + attempt * 1e-5 for attempt in range(20)])
    process.kill()
    process.join()
    pool.join()


class Signalling:
    """An object whose pickling sends a signal, also as a part of another object."""

    def __reduce__(self):
        signal.raise_signal(signal.SIGUSR1)
        return int, (5,)


def signalling_items():
    yield 1
    signal.raise_signal(signal.SIGUSR1)
    yield 2


class SignallingItems(list):
    def __iter__(self):
        return signalling_items()


class Handler:
    """A signal handler that raises, once."""

    armed = True

    def __call__(self, signum, frame):
        if self.armed:
            self.armed = False
            raise Raised


@pytest.mark.parametrize("handler", [Handler().__call__, Handler(), functools.partial(Handler())], ids=type)
@pytest.mark.parametrize(
    "submit",
    {
        "apply_async": lambda pool: pool.apply_async(abs, (Signalling(),)),
        "map_async": lambda pool: pool.map_async(abs, [1, Signalling()], 1),
        "map_async of a generator": lambda pool: pool.map_async(abs, signalling_items()),
        "map of a sequence": lambda pool: pool.map(abs, SignallingItems([1, 2]), 1),
        "imap": lambda pool: pool.imap(abs, [1, Signalling()]),
    }.items(),
    ids=lambda item: item[0],
)
def test_a_handler_that_raises_while_a_call_is_made(submit, handler):
    """The exception is raised in the caller, and is not that of the task."""
    before = signal.signal(signal.SIGUSR1, handler)
    getattr(handler, "__self__", getattr(handler, "func", handler)).armed = True
    try:
        with goproc.Pool(1) as pool:
            with pytest.raises(Raised):
                submit[1](pool)
            assert pool.apply(abs, (-3,)) == 3 and not pool._cache
    finally:
        signal.signal(signal.SIGUSR1, before)


class Unpickled:
    def __reduce__(self):
        return signal.raise_signal, (signal.SIGUSR1,)


def make_unpickled():
    return Unpickled()


def test_a_handler_that_raises_again_and_again_while_a_result_is_unpickled():
    raised = []

    def handle(signum, frame):
        if len(raised) < 4:
            raised.append(signum)
            raise Raised

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        with goproc.Pool(1) as pool:
            result = pool.apply_async(make_unpickled)
            for _ in range(4):
                with pytest.raises(Raised):
                    result.get(SOON)
            assert result.get(SOON) is None
    finally:
        signal.signal(signal.SIGUSR1, before)


LEAVINGS = {
    "idle": 0,
    "busy": 0,
    "sys.exit": 3,
    "sys.exit in with": 3,
    "sys.exit in a thread": 0,
    "exception": 4,
    "dropped": 0,
    "dropped while busy": 0,
    "closed": 0,
    "imap": 0,
    "endless imap": 0,
    "imap of a blocked iterator": 0,
    "imap in a thread": 0,
    "get in a thread": 0,
    "maxtasksperchild": 0,
    "SIGTERM": -signal.SIGTERM,
    "SIGTERM with a handler": 5,
}


@pytest.mark.parametrize("how", LEAVINGS)
def test_leaving(method, how):
    """No hang, nothing on stderr, and no process is left."""
    program = start("leaving.py", method, how, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    output, errors = program.communicate(timeout=SOON)
    assert (errors, program.returncode) == ("", LEAVINGS[how])
    wait_until_gone([*map(int, output.split()), *group(program.pid)])


def test_exit_functions(method, run_script):
    """A function registered after the pool was made can use it. For others, multiprocessing's exit has ended it."""
    done = run_script("leaving.py", method, "atexit after the pool")
    assert done.stdout.splitlines()[1:] == ["at exit: [0, 2, 4]"] and done.stderr == ""
    done = run_script("leaving.py", method, "atexit before the pool", status=None)
    assert "Traceback" not in done.stderr or "ValueError: Pool not running" in done.stderr


#: After these instructions, in one version of Python or another, the interpreter calls signal handlers.
INSTRUCTIONS = {"CALL", "CALL_FUNCTION", "CALL_FUNCTION_EX", "CALL_FUNCTION_KW", "CALL_KW", "CALL_METHOD"}
INSTRUCTIONS |= {"RESUME", "JUMP_BACKWARD", "JUMP_ABSOLUTE"}

#: The calls: each returns its result, and the expected one.
STEPS = {
    "apply": lambda pool, n: (pool.apply(targets.double, (n,)), 2 * n),
    "get": lambda pool, n: (pool.apply_async(targets.double, (n,)).get(SOON), 2 * n),
    "map": lambda pool, n: (pool.map(targets.double, range(n, n + 40)), doubled(n, 40)),
    "map one by one": lambda pool, n: (pool.map(targets.double, range(n, n + 10), 1), doubled(n, 10)),
    "map of nothing": lambda pool, n: (pool.map(targets.double, []), []),
    "imap": lambda pool, n: (list(pool.imap(targets.double, range(n, n + 10))), doubled(n, 10)),
    "imap of an iterator": lambda pool, n: (list(pool.imap(targets.double, iter(range(n, n + 10)))), doubled(n, 10)),
}


def doubled(first, count):
    return [2 * number for number in range(first, first + count)]


class Interrupt:
    """Sends this process SIGINT at one of the points at which a signal handler may be called in goproc's code."""

    def __init__(self, step, *files):
        """files: further files, of goproc's and of multiprocessing's, besides those of the packages below."""
        self._step, self._steps, self._frames, self._pid = step, itertools.count(), {}, os.getpid()
        self._files = {"synchronize.py", *files}

    def __enter__(self):
        sys._getframe().f_trace_opcodes = True  # Python 3.12 looks at it when tracing begins
        sys.settrace(self._trace)

    def __exit__(self, *_):
        sys.settrace(None)
        for frame in self._frames:
            frame.f_trace = None  # Python 3.11 keeps a generator's frame that is being traced
        self._frames.clear()

    def _trace(self, frame, event, argument):
        path = Path(frame.f_code.co_filename)
        is_named = path.parent.name in ("goproc", "multiprocessing") and path.name in self._files
        if not is_named and path.parent.name not in ("_pool", "_common", "_futures"):
            return None
        if path.name in ("iteration.py", "inputs.py", "stdlib.py"):
            return None
        if frame.f_back.f_code.co_name == "_forget":
            return None  # by __del__, out of which nothing is raised
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "exception":
            self._frames[frame] = ""
        elif event == "opcode":
            before = self._frames.get(frame, "")
            self._frames[frame] = instructions(frame.f_code)[frame.f_lasti]
            if before in INSTRUCTIONS and os.getpid() == self._pid and next(self._steps) == self._step:
                signal.raise_signal(signal.SIGINT)
        return self._trace


@functools.cache
def instructions(code):
    return {instruction.offset: instruction.opname for instruction in dis.get_instructions(code)}


def interrupted_steps(interrupted, stride=1):
    """Interrupt at one step after the other, or at every stride-th; return how many there are."""
    for step in itertools.count(0, stride):
        assert not interrupted(-1)  # Python 3.13 traces the instructions of what has been traced before
        if not interrupted(step):
            return step


@pytest.mark.parametrize(
    "call",
    [call if call in ("apply", "map of nothing") else pytest.param(call, marks=pytest.mark.slow) for call in STEPS],
)
def test_an_interrupt_at_every_step(call):
    """The next call gets its own result, and nothing is left of the interrupted call."""
    with goproc.get_context("fork").Pool(1) as pool:

        def interrupted(step):
            try:
                with Interrupt(step):
                    STEPS[call](pool, -1000)
                return False
            except KeyboardInterrupt:
                seen, expected = STEPS[call](pool, step)
                assert seen == expected
                deadline = time.monotonic() + SOON
                while pool._cache and time.monotonic() < deadline:
                    time.sleep(0.001)
                assert not pool._cache
                return True

        assert interrupted_steps(interrupted) > 10
        pool.close()
        pool.join()


def test_an_interrupt_at_every_step_of_following():
    """The pool's own thread collects, and the main thread waits for it: no note for dump is left."""
    with goproc.get_context("fork").Pool(2) as pool:
        pool.apply_async(time.sleep, (LONG,), callback=print)  # the pool's own thread serves callbacks

        def interrupted(step):
            try:
                with Interrupt(step):
                    assert pool.apply(targets.double, (2,)) == 4
                return False
            except KeyboardInterrupt:
                assert notes_of_main_thread() == []
                return True

        assert interrupted_steps(interrupted) > 10
        pool.terminate()
    pool.join()


@pytest.mark.slow
@pytest.mark.parametrize("call", STEPS)
def test_a_handler_that_terminates_the_pool_at_every_step(call):
    """What the call waits for is cancelled; a call that had submitted nothing yet says that the pool does not run."""
    pool = None
    before = signal.signal(signal.SIGINT, lambda *_: sys.settrace(None) or pool.terminate())

    def interrupted(step):
        nonlocal pool
        pool = goproc.get_context("fork").Pool(1)
        try:
            with Interrupt(step):
                seen, expected = STEPS[call](pool, step)
            assert seen == expected
        except goproc.CancelledError:
            pass
        except ValueError as error:
            frames = traceback.extract_tb(error.__traceback__)
            assert frames[-1].name in ("_check_running", "submit", "submit_batch"), "".join(frames.format())
            assert str(error) == "Pool not running"
        ended = pool._state == "TERMINATE"
        pool.terminate()
        pool.join()
        assert not pool._cache
        return ended

    try:
        assert not interrupted(-1)  # Python 3.13 traces the instructions of what has been traced before
        for step in itertools.count(0, 3):
            if not interrupted(step):
                break
        assert step > 10
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("call", CALLS)
def test_a_handler_that_terminates_the_pool(call, method, run_script):
    """A call that waits for a result raises CancelledError; join() and wait() return."""
    done = run_script("handler_terminates.py", method, call)
    assert done.stdout == ("None\n" if call in ("join", "wait") else "CancelledError\n") and done.stderr == ""


@pytest.mark.slow
@pytest.mark.timeout(600)  # it makes a thousand pools
@pytest.mark.parametrize(("workers", "stride"), [(2, 1), (5, 3)])
def test_an_interrupt_at_every_step_of_making_a_pool(workers, stride):
    """Nothing is left of the pool, whether it was made or not."""

    def interrupted(step):
        try:
            with Interrupt(step):
                pool = goproc.get_context("fork").Pool(workers)
        except KeyboardInterrupt:
            return True
        pool.terminate()
        pool.join()
        return False

    assert interrupted_steps(interrupted, stride) > 10


@pytest.mark.slow
@pytest.mark.parametrize("how", ["terminate", "join"])
def test_an_interrupt_at_every_step_of_ending_a_pool(how):
    """The pool has ended then, or can still be ended, and nobody waits for its results in vain."""

    def interrupted(step):
        pool = goproc.get_context("fork").Pool(2)
        pool.apply(targets.double, (1,))
        results = []
        if how == "terminate":
            results = [pool.map_async(time.sleep, [LONG]), pool.imap(time.sleep, iter([LONG] * 9), prefetch=2)]
        pool.close()
        try:
            with Interrupt(step):
                getattr(pool, how)()
            return False
        except KeyboardInterrupt:
            return True
        finally:
            pool.terminate()
            pool.join()
            assert all(not pool._cache and result.done for result in results)

    assert interrupted_steps(interrupted) > 10


#: The files in which a process is started.
STARTING = ["process.py", "popen_fork.py", "popen_spawn_posix.py", "popen_forkserver.py", "forkserver.py", "spawn.py"]


@pytest.mark.slow
def test_an_interrupt_at_every_step_of_starting_a_process(context):
    """There is no child then, or the Process object knows it. Also where os.fork() calls functions of goproc's."""
    from goproc._relay import reader  # noqa: F401

    unknown = []

    def interrupted(step):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=targets.hold, args=(sender,))
        try:
            with Interrupt(step, *STARTING):
                process.start()
            return False
        except KeyboardInterrupt:
            return True
        finally:
            sender.close()
            if process.pid is not None:
                process.kill()
                process.join()
                assert process.exitcode == -signal.SIGKILL
            with receiver:
                if not receiver.poll(2):
                    unknown.append(step)

    assert interrupted_steps(interrupted) > 10
    assert unknown == []


@pytest.mark.slow
def test_an_interrupt_at_every_step_of_an_executors_first_call():
    """The executor goes on, and its end ends all workers."""

    def interrupted(step):
        executor = ProcessPoolExecutor(1, goproc.get_context("fork"))
        try:
            with Interrupt(step):
                executor.submit(targets.double, 1)
            return False
        except KeyboardInterrupt:
            return True
        finally:
            assert executor.submit(targets.double, 2).result(SOON) == 4
            executor.shutdown()
            assert not goproc.active_children()

    assert interrupted_steps(interrupted, 3) > 10


@pytest.mark.parametrize("cancel", [False, True])
def test_an_interrupt_at_every_step_of_shutting_an_executor_down(cancel):
    """The next shutdown() ends it."""

    def interrupted(step):
        executor = ProcessPoolExecutor(1, goproc.get_context("fork"))
        futures = [executor.submit(targets.double, number) for number in range(3)]
        thread = executor._executor_manager_thread
        try:
            with Interrupt(step):
                executor.shutdown(cancel_futures=cancel)
            return False
        except KeyboardInterrupt:
            return True
        finally:
            executor.shutdown(wait=False)
            thread.join(SOON)
            assert not thread.is_alive()
            assert all(future.cancelled() or future.result() == 2 * number for number, future in enumerate(futures))

    assert interrupted_steps(interrupted) > 3


def shared_memory():
    """How many descriptors of shared objects this process has."""
    gc.collect()
    links = [os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    return sum("goproc-share" in link for link in links)


@pytest.mark.part("shares")
def test_an_interrupt_while_a_shared_object_is_copied():
    """The memory is freed."""
    data = bytes(1 << 26)

    def share():
        goproc.share(data)
        time.sleep(LONG)

    interrupt_soon(share, [2e-3 * attempt for attempt in range(1, 9)])
    assert shared_memory() == 0


@pytest.mark.part("shares")
def test_an_interrupt_at_every_step_of_closing_a_shared_object():
    """The handle is closed then, or can still be closed; its descriptor is not lost."""

    def interrupted(step):
        handle = goproc.share([step])
        try:
            with Interrupt(step):
                handle.close()
            return False
        except KeyboardInterrupt:
            return True
        finally:
            handle.close()
            assert handle.closed and shared_memory() == 0

    assert interrupted_steps(interrupted) > 2


def test_an_interrupt_at_every_step_of_waiting_at_a_condition():
    """The lock is held as often as before, and the list of those who wait is empty."""
    condition = goproc.get_context("fork").Condition()

    def interrupted(step):
        condition.acquire()
        condition.acquire()
        try:
            with Interrupt(step):
                assert not condition.wait(0.001)
            return False
        except KeyboardInterrupt:
            return True
        finally:
            condition.release()
            condition.release()
            assert repr(condition) == "<Condition(<RLock(None, 0)>, 0)>"

    assert interrupted_steps(interrupted) > 1


@pytest.mark.parametrize("parties", [1, 2])
def test_an_interrupt_at_every_step_of_waiting_at_a_barrier(parties):
    """The barrier can be reset then, and all parties pass. A party that was interrupted is not one of them."""
    barrier = goproc.get_context("fork").Barrier(parties)
    passed = []

    def interrupted(step):
        try:
            with Interrupt(step):
                barrier.wait(0.001)
        except KeyboardInterrupt:
            return True
        except threading.BrokenBarrierError:
            assert parties == 2
        else:
            assert parties == 1
        finally:
            barrier.reset()
            threads = [threading.Thread(target=lambda: passed.append(barrier.wait(SOON))) for _ in range(parties)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sorted(passed) == list(range(parties))
            passed.clear()
        return False

    assert interrupted_steps(interrupted) > 3


def test_the_handler_of_held_signals_keeps_to_the_stack_for_handlers():
    """The handler may be called on a thread that runs Go, on Go's own stack, which is small."""

    class Action(ctypes.Structure):  # of sigaction(2), in glibc
        _fields_ = [
            ("handler", ctypes.c_void_p),
            ("mask", ctypes.c_byte * 128),
            ("flags", ctypes.c_int),
            ("restorer", ctypes.c_void_p),
        ]

    def action():
        action = Action()
        assert ctypes.CDLL(None).sigaction(signal.SIGINT, None, ctypes.byref(action)) == 0
        return action

    usual = action()
    with _native.held_signals:
        held = action()
    assert held.handler != usual.handler
    assert held.flags & SA_ONSTACK
