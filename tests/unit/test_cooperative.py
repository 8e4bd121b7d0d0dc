"""Waiting in programs whose blocking functions have been replaced, as by gevent and eventlet."""

import threading

from goproc import _native


def test_what_waits_lets_others_run(method, run_script):
    """The replaced functions are called; the fork server serves, although a program that it imports replaces some."""
    done = run_script("patched.py", method)
    assert (done.stdout, done.stderr) == ("end\n", "")


def test_a_turn_belongs_to_a_greenlet():
    """Several greenlets share a thread. The turn calls the function that tells them apart."""
    current = 1
    _native.tell_threads_apart_by(lambda: current)
    try:
        turn = _native.Turn()
        with turn as depth:
            assert depth == 1
            current = 2
            with turn as depth:
                assert depth == 0
            current = 1
            with turn as depth:
                assert depth == 2
        current = 2
        with turn as depth:
            assert depth == 1
    finally:
        _native.tell_threads_apart_by(threading.get_ident)
