"""uvicorn --workers 2: its supervisor starts spawned processes with a socket, replaces one that dies, and ends all."""

import os
import signal
import socket
import threading
import time
import urllib.request

import uvicorn


def answer(address):
    try:
        with urllib.request.urlopen(address, timeout=5) as response:
            return int(response.read())
    except OSError:
        time.sleep(0.02)
        return None


def pids_that_answer(address, count, without=()):
    seen = set()
    while len(seen) < count:
        seen |= {answer(address)} - {None, *without}
    return seen


def visit(address):
    first = pids_that_answer(address, 2)
    print("workers", len(first), os.getpid() not in first, flush=True)
    killed = min(first)
    os.kill(killed, signal.SIGKILL)
    print("replaced", len(pids_that_answer(address, 2, {killed})), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)


def main():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    threading.Thread(target=visit, args=(f"http://127.0.0.1:{port}/",), daemon=True).start()
    folder = os.path.dirname(os.path.abspath(__file__))
    uvicorn.run("uvicorn_app:app", app_dir=folder, port=port, workers=2, lifespan="off", log_level="critical")
    print("ended", flush=True)


if __name__ == "__main__":
    main()
