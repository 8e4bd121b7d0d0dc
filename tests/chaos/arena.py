"""One round: a program with a pool of each start method, whose workers are killed, stopped and let go at random.

    arena.py SEED SECONDS FOLDER [METHOD ...]

Each method has a thread that makes one pool after another. Each pool has threads that submit tasks and take their
results. Prints a line of JSON with counts and with all errors. The exit status is 1 if there is any error.
"""

import faulthandler
import gc
import json
import random
import resource
import subprocess
import sys
import threading
import time
import traceback
from multiprocessing.pool import MaybeEncodingError
from pathlib import Path

import tasks
from ledger import Ledger

import goproc
from goproc import forkserver, popen_spawn_posix

#: Seconds after which a missing result is a hang: the watchdog of run.py then prints where everything stands.
PATIENCE = 40

_own = (tasks.OwnError, tasks.OwnBaseError, SystemExit, KeyboardInterrupt)
#: What a task may do, how often, and how it may end if nobody interferes.
ACTIONS = {
    "value": (50, "result"),
    "sleep": (15, "result"),
    "loop": (5, "result"),
    "own error": (6, "own"),
    "own base error": (2, "own"),
    "exit": (2, "own"),
    "interrupt": (1, "own"),
    "no pickle": (2, "own"),
    "bomb": (2, "own"),
    "leave": (1, "lost"),
    "kill": (1, "lost"),
    "crash": (1, "lost"),
    "terminate": (1, "lost"),
}
DEADLY = {name for name, (_, end) in ACTIONS.items() if end == "lost"}

#: Errors that do not say which task they belong to, and the actions whose tasks have them; the surest first.
_BY_BREADTH: list = [
    (MaybeEncodingError, {"no pickle", "bomb"}),
    (goproc.TaskTimeoutError, {"sleep", "loop"}),
    (goproc.WorkerLostError, DEADLY),
    (BaseException, set()),
]


def _breadth(error):
    return next(i for i, (kind, _) in enumerate(_BY_BREADTH) if isinstance(error, kind))


class Stage:
    """One pool, its tasks, and the threads that use it."""

    def __init__(self, arena, method, rng):
        self.arena, self.ledger, self.rng = arena, arena.ledger, rng
        options = {
            "maxtasksperchild": rng.choice([None, None, None, 1, 5, 20]),
            "max_memory_per_child": rng.choice([None, None, 64 << 20]),
            "max_memory_per_task": rng.choice([None, None, 1 << 40]),
            "retries": rng.choice([0, 0, 2]),
        }
        if rng.random() < 0.2:
            options.update(initializer=time.sleep, initargs=(0.05,))
        self.tries = 1 + options["retries"]
        self.pool = goproc.get_context(method).Pool(rng.randint(1, 3), **options)
        self.unfinished = {}  # number: (result, whether its callbacks have been called)
        self.all_numbers = set()
        self.ending = None
        self.broken = False

    def play(self, seconds):
        """Use the pool from one or more threads, then end it."""
        end = time.monotonic() + seconds
        threads = [
            threading.Thread(target=self._guarded, args=(self._use, random.Random(self.rng.random()), end))
            for _ in range(self.rng.randint(1, 2))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._finish()

    def _guarded(self, function, *args):
        try:
            function(*args)
        except BaseException:
            self.ledger.fault("the driver failed: " + traceback.format_exc())

    def _use(self, rng, end):
        uses = [
            *(self._apply_async, self._many, self._apply, self._map),
            *(self._imap, self._take, self._huge, self._cancel),
        ]
        weights = [30, 5, 10, 15, 15, 20, 3, 10]
        while time.monotonic() < end and not self.broken:
            rng.choices(uses, weights)[0](rng)
            if rng.random() < 0.1:
                time.sleep(rng.uniform(0, 0.02))
        while self.unfinished and not self.broken:
            self._take(rng)

    # ---- what a thread does ----------------------------------------------------------------------------------------

    def _new(self, rng, actions=None):
        """Return a new task: its number, and the arguments of tasks.run."""
        actions = actions or list(ACTIONS)
        (action,) = rng.choices(actions, [ACTIONS[name][0] for name in actions])
        end = ACTIONS[action][1]
        number = self.ledger.add(end, "lost", "given up", tries=self.tries)
        self.all_numbers.add(number)
        if action in DEADLY:
            self.arena.deadly.add(number)
        amount = rng.choice([0, 0.001, 0.01, 0.1]) if action in ("sleep", "loop") else 0
        data = rng.randbytes(rng.choice([100, 5000, 40_000])) if rng.random() < 0.1 else None
        return number, (self.arena.records, number, action, amount, data)

    def _limit(self, rng, numbers):
        """Return a limit of time for the tasks, in seconds."""
        self.ledger.allow(numbers, "overdue")
        return rng.choice([0.005, 0.05, PATIENCE])

    def _apply_async(self, rng):
        if len(self.unfinished) > 300:
            return self._take(rng)
        number, args = self._new(rng)
        options, called = {}, []
        if rng.random() < 0.2:
            options.update(callback=lambda _: called.append("result"), error_callback=lambda _: called.append("error"))
        if rng.random() < 0.25:
            options["timeout"] = self._limit(rng, [number])
        result = self.pool.apply_async(tasks.run, args, **options)
        self.unfinished[number] = result, called if "callback" in options else None, args

    def _many(self, rng):
        for _ in range(30):
            self._apply_async(rng)

    def _take(self, rng):
        """Wait for some of what has been submitted."""
        for _ in range(rng.randint(1, 20)):
            try:
                number = rng.choice(list(self.unfinished))
                result, called, args = self.unfinished.pop(number)
            except (IndexError, KeyError):
                return  # none is left, or another thread has taken it
            self._outcome(number, args, lambda result=result: result.get(PATIENCE))
            if called is not None:
                self.arena.wait_for(lambda called=called: called, f"the callback of task {number}")
                if len(called) != 1 or (called[0] == "result") != result.successful():
                    self.ledger.fault(f"task {number}: callbacks {called}, successful: {result.successful()}")

    def _cancel(self, rng):
        number = next(iter(self.unfinished), None)
        if number is not None and (entry := self.unfinished.get(number)):
            self.ledger.allow([number], "cancelled")
            entry[0].cancel()

    def _apply(self, rng):
        number, args = self._new(rng)
        self._outcome(number, args, lambda: self.pool.apply(tasks.run, args))

    def _huge(self, rng):
        number, (*args, _) = self._new(rng, ["value", "sleep", "kill"])
        args = (*args, rng.randbytes(1 << 10) * rng.choice([64, 1024, 8192]))
        self._outcome(number, args, lambda: self.pool.apply(tasks.run, args))

    def _outcome(self, number, args, get):
        """Note how the task has ended."""
        try:
            value = get()
        except BaseException as error:
            self._failed([number], error)
        else:
            if value != tasks.answer(number, args[-1]):
                self.ledger.fault(f"task {number} has another result than it should have")
            self.ledger.end(number, "result")

    def _failed(self, numbers, error):
        """Note how the task, or the map of tasks, has failed."""
        if isinstance(error, goproc.WorkerLostError) and error.args[3]:
            self.broken = True
            end = "given up"
        elif isinstance(error, goproc.WorkerLostError):
            end = "lost"
            self.arena.losses.append((error.pid, numbers[0]))
        elif isinstance(error, goproc.CancelledError):
            end = "cancelled"
        elif isinstance(error, goproc.TaskTimeoutError):
            end = "overdue"
        elif isinstance(error, goproc.TimeoutError):
            self.ledger.fault(f"task {numbers[0]} has not ended within {PATIENCE} s")
            self.arena.hung()
            return
        elif isinstance(error, MaybeEncodingError):
            end = "own"
        elif isinstance(error, _own):
            end = "own"
            if error.args[0] not in numbers:
                self.ledger.fault(f"{numbers} ended with the exception of another task, {error!r}")
        else:
            self.ledger.fault(f"{numbers} ended with {error!r}: " + "".join(traceback.format_exception(error)))
            return
        if len(numbers) == 1:
            self.ledger.end(numbers[0], end)
        else:  # a map: some or all tasks have ended so; the others may have been done or not
            for number in numbers:
                self.ledger.allow([number], "void")
                self.ledger.end(number, "void")
            self.arena.failed_maps[end] = self.arena.failed_maps.get(end, 0) + 1

    def _map(self, rng):
        harmless = ["value", "sleep"] if rng.random() < 0.7 else None
        new = [self._new(rng, harmless) for _ in range(rng.choice([1, 3, 20, 100]))]
        numbers, calls = [number for number, _ in new], [args for _, args in new]
        options = {"chunksize": rng.choice([None, 1, 4])}
        if rng.random() < 0.1:
            options["task_timeout"] = self._limit(rng, numbers)
        kind = rng.choice(["map_async", "starmap_async"])
        try:
            if kind == "map_async":
                values = self.pool.map_async(tasks.run_one, calls, **options).get(PATIENCE)
            else:
                values = self.pool.starmap_async(tasks.run, calls, **options).get(PATIENCE)
        except BaseException as error:
            self._failed(numbers, error)
        else:
            if values != [tasks.answer(number, args[-1]) for number, args in new]:
                self.ledger.fault(f"{kind} of {numbers} has other results than it should have")
            for number in numbers:
                self.ledger.end(number, "result")

    def _imap(self, rng):
        new = [self._new(rng) for _ in range(rng.choice([1, 5, 50]))]
        numbers, calls = [number for number, _ in new], [args for _, args in new]
        ordered = rng.random() < 0.5
        imap = self.pool.imap if ordered else self.pool.imap_unordered
        options = {"task_timeout": self._limit(rng, numbers)} if rng.random() < 0.1 else {}
        results = imap(tasks.run_one, calls if rng.random() < 0.5 else iter(calls), **options)
        left = dict(zip(numbers, calls, strict=True))
        unknown = []  # errors of an unordered iterator that do not say which task they belong to
        for turn in range(len(numbers)):
            try:
                number, value = results.next(PATIENCE)
            except StopIteration:
                self.ledger.fault(f"an iterator over {len(numbers)} tasks ended after {turn}")
                break
            except BaseException as error:
                if ordered:
                    left.pop(numbers[turn], None)
                    self._failed([numbers[turn]], error)
                elif isinstance(error, _own):
                    left.pop(error.args[0], None)
                    self._failed([error.args[0]], error)
                else:
                    unknown.append(error)
                if isinstance(error, goproc.TimeoutError) and not isinstance(error, goproc.TaskTimeoutError):
                    return  # it hangs
            else:
                if ordered and number != numbers[turn]:
                    self.ledger.fault(f"the result of task {number} came in the place of {numbers[turn]}")
                args = left.pop(number, None)
                if args is None:
                    self.ledger.fault(f"task {number} came twice, or was another iterator's")
                else:
                    if (number, value) != tasks.answer(number, args[-1]):
                        self.ledger.fault(f"task {number} has another result than it should have")
                    self.ledger.end(number, "result")
        else:
            try:
                results.next(PATIENCE)
            except StopIteration:
                pass
            else:
                self.ledger.fault("an iterator goes on after its last task")
        self._attribute(left, unknown)

    def _attribute(self, left, errors):
        """Note the ends of tasks whose errors came without their numbers.

        It is not known which error belongs to which task. So the errors that few tasks can have come first, each for a
        task that can have it. A lost worker may have run any task. But if its error were noted for the task that cannot
        be pickled, no task would be left for the pickling error. In the same way, a task that has begun is preferred:
        one that was lost before it began has no error of its own.
        """
        begun = {number for number, _ in tasks.records(self.arena.records)} if errors else ()
        for error in sorted(errors, key=_breadth):
            wanted = _BY_BREADTH[_breadth(error)][1]
            number = min(left, key=lambda n: (left[n][2] not in wanted, n not in begun), default=None)
            if number is None:
                self.ledger.fault(f"an iterator raised {error!r} once too often")
                continue
            del left[number]
            self._failed([number], error)

    # ---- the end ---------------------------------------------------------------------------------------------------

    def _finish(self):
        how = self.rng.choice(["close", "close", "terminate", "with"])
        left = []
        if not self.broken:
            rng = random.Random(self.rng.random())
            for _ in range(self.rng.choice([0, 10, 100])):
                self._apply_async(rng)
        left = dict(self.unfinished)
        self.unfinished.clear()
        if how != "close":
            self.ledger.allow(left, "cancelled")
        if how == "close":
            self.pool.close()
        elif how == "terminate":
            self.pool.terminate()
        else:
            with self.pool:
                pass
        self.pool.join()
        for number, (result, _, args) in left.items():
            if not result.ready():
                self.ledger.fault(f"task {number} has no result after {how} and join")
            self._outcome(number, args, lambda result=result: result.get(0))
        self.pool = None


class Arena:
    """A round."""

    def __init__(self, seed, seconds, folder, methods):
        self.seed, self.seconds, self.methods = seed, seconds, methods
        self.records = str(folder / "records")
        self.killed = folder / "killed"
        for file in (self.records, self.killed):
            Path(file).touch()
        self.ledger = Ledger()
        self.deadly = set()  # numbers of tasks that end their workers
        self.losses = []  # (pid, number)
        self.failed_maps = {}
        self.stages = 0

    def run(self):
        """Play the round; return what there is to report."""
        before, begin = self._present(), time.monotonic()
        killer = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("killer.py"), str(self.seed), self.killed],
            stdin=subprocess.PIPE,
        )
        end = time.monotonic() + self.seconds
        threads = [threading.Thread(target=self._play, args=(method, end)) for method in self.methods]
        for thread in threads:
            thread.start()
        time.sleep(max(end - time.monotonic(), 0))
        # The killer continues the processes that it has stopped, and ends. The other tasks must end without a further
        # kill.
        killer.communicate()
        for thread in threads:
            thread.join()
        if killer.returncode:
            self.ledger.fault(f"the killer ended with {killer.returncode}")
        forkserver._forkserver._stop()
        popen_spawn_posix.stop_server()
        self.wait_for(lambda: not goproc.active_children(), "the end of all workers")
        self.wait_for(lambda: self._present() == before, lambda: f"{self._present()} instead of {before}")
        records = tasks.records(self.records)
        wrong = self.ledger.check(records) + self._check_losses(records)
        return {
            "seed": self.seed,
            "seconds": round(time.monotonic() - begin),
            "pools": self.stages,
            "tasks": len(self.ledger),
            "ends": dict(sorted(self.ledger.counts().items())),
            "failed maps": dict(sorted(self.failed_maps.items())),
            "killed": self.killed.read_text().count(" kill "),
            "stopped": self.killed.read_text().count(" stop "),
            "wrong": wrong,
        }

    def _play(self, method, end):
        rng = random.Random(f"{self.seed}:{method}")
        try:
            while time.monotonic() < end:
                stage = Stage(self, method, rng)
                self.stages += 1
                stage.play(min(rng.uniform(0.1, 4), max(end - time.monotonic(), 0)))
                del stage
        except BaseException:
            self.ledger.fault(f"the pools by {method} ended: " + traceback.format_exc())

    def _check_losses(self, records):
        """Each worker lost one task at most, and somebody had ended that worker."""
        wrong, lost = [], {}
        culprits = {int(line.split()[2]) for line in self.killed.read_text().splitlines() if " kill " in line}
        culprits.update(pid for number, pid in records if number in self.deadly)
        for pid, number in self.losses:
            if lost.setdefault(pid, number) != number:
                wrong.append(f"worker {pid} lost both task {lost[pid]} and {number}")
            if pid not in culprits:
                wrong.append(f"task {number} was lost with worker {pid}, which nobody had ended")
        return wrong

    def wait_for(self, condition, what):
        """Wait until the condition holds; note a fault if it does not hold in time."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                self.ledger.fault(f"still missing after {PATIENCE} s: {what() if callable(what) else what}")
                self.hung()
                return
            time.sleep(0.001)

    def hung(self):
        """Print where every thread stands."""
        faulthandler.dump_traceback(all_threads=True)

    @staticmethod
    def _present():
        gc.collect()
        return sorted(thread.name for thread in threading.enumerate())


def main():
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    seed, seconds, folder, *methods = sys.argv[1:]
    report = Arena(seed, float(seconds), Path(folder), methods or ["fork", "spawn", "forkserver"]).run()
    print(json.dumps(report), flush=True)
    sys.exit(bool(report["wrong"]))


if __name__ == "__main__":
    main()
