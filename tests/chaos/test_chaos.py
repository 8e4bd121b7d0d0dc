"""The account of the tasks finds errors that a test makes, and finds none in a short round of chaos."""

import itertools
import subprocess
import sys
from multiprocessing.pool import MaybeEncodingError
from pathlib import Path
from types import SimpleNamespace

import pytest
import tasks
from arena import Stage
from ledger import Ledger

import goproc


def ledger_with(*ends, allowed=("result", "lost"), tries=1):
    ledger = Ledger()
    number = ledger.add(*allowed, tries=tries)
    for end in ends:
        ledger.end(number, end)
    return ledger


@pytest.mark.parametrize(
    "ledger, begun",
    [
        (ledger_with("result"), 1),
        (ledger_with("lost"), 1),
        (ledger_with("lost"), 0),
        (ledger_with("result", tries=3), 3),
    ],
)
def test_what_is_right(ledger, begun):
    assert ledger.check([(0, 1)] * begun) == []


@pytest.mark.parametrize(
    "ledger, begun, wrong",
    [
        (ledger_with(), 1, "task 0 has not ended; it was begun 1 times"),
        (ledger_with("result", "result"), 1, "task 0 has ended more than once: ['result', 'result']"),
        (ledger_with("cancelled"), 0, "task 0 may end as ['lost', 'result'], not as ['cancelled']"),
        (ledger_with("result"), 2, "task 0 was begun 2 times"),
        (ledger_with("lost", tries=2), 3, "task 0 was begun 3 times"),
        (ledger_with("result"), 0, "task 0 has ended as ['result'] but was never begun"),
    ],
)
def test_what_is_wrong(ledger, begun, wrong):
    assert ledger.check([(0, 1)] * begun) == [wrong]


def test_a_task_of_nobodys():
    assert ledger_with("result").check([(0, 1), (7, 1)]) == ["task 7 was run, but never submitted"]


def stage_of(folder, begun):
    """A stage without a pool, and the record of the tasks that have been begun there."""
    (folder / "records").write_bytes(b"".join(tasks.RECORD.pack(number, 1) for number in begun))
    stage = Stage.__new__(Stage)
    stage.ledger, stage.arena = Ledger(), SimpleNamespace(losses=[], records=folder / "records")
    return stage


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_errors_that_do_not_tell_of_which_task_they_are(order, tmp_path):
    """A killed worker may have run any task. Its loss must not be noted for the task that cannot be pickled."""
    stage = stage_of(tmp_path, [])
    numbers = [stage.ledger.add("own", "lost"), stage.ledger.add("result", "lost"), stage.ledger.add("overdue", "lost")]
    actions = ["no pickle", "value", "loop"]
    left = {number: (number, None, action) for number, action in zip(numbers, actions, strict=True)}
    errors = [MaybeEncodingError("why", "what"), goproc.WorkerLostError(1, -9), goproc.TaskTimeoutError(1, 2)]
    stage._attribute(left, [errors[i] for i in order])
    assert not left
    assert stage.ledger.check([(number, 1) for number in numbers]) == []


@pytest.mark.parametrize("begun", range(2))
def test_an_error_of_a_tasks_own_is_not_that_of_one_that_was_lost_before_it_began(begun, tmp_path):
    stage = stage_of(tmp_path, [begun])
    left = {stage.ledger.add("own", "lost"): (number, None, "no pickle") for number in range(2)}
    stage._attribute(left, [MaybeEncodingError("why", "what"), goproc.WorkerLostError(1, -9)])
    assert stage.ledger.check([(begun, 1)]) == []


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_short_round(method):
    command = [sys.executable, Path(__file__).with_name("run.py"), "--minutes", "0.03", "--methods", method]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=110)
    assert done.returncode == 0, done.stdout
    assert "chaos: in all pools" in done.stdout
