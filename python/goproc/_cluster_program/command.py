"""The command `python -m goproc cluster [ADDRESS]`: a table of the machines of a cluster, and its exit status.

Dask's scheduler tells which machines there are, and which have left. Each machine tells what its pools do: client.run()
calls reports_of_machine() there, in the process of the Dask worker.
"""

import os
import sys
import threading
import time

from .._common import clusters

__all__ = ["main", "reports_of_machine"]

#: Seconds to wait for the scheduler, and for the machines.
PATIENCE = 10

_USAGE = "usage: {name} cluster [ADDRESS]"

_HELP = """{usage}

Print the machines of a cluster: cores, tasks running, handed over and not begun, done, and lost with their worker
process; and the memory of the Dask worker with its worker processes. A machine that does not answer has dashes.

  ADDRESS        tcp://HOST:PORT or tls://HOST:PORT of a scheduler of Dask, or the path of its scheduler file; without
                 it, that of GOPROC_CLUSTER

Exit status: 0, printed; 1, no connection; 2, wrong usage."""

_COLUMNS = ("cores", "running", "waiting", "done", "lost")


def main(arguments: "list[str]", name: str) -> int:
    """Run the command. arguments: those behind `cluster`. name: what the command is called. Returns the exit status."""
    usage = _USAGE.format(name=name)
    if arguments and arguments[0] in ("-h", "--help"):
        print(_HELP.format(usage=usage), flush=True)
        return 0
    address = arguments[0] if arguments else clusters.address()
    if len(arguments) > 1 or not address or address.startswith("-"):
        return _refuse(2, f"{usage}\ngoproc: error: cluster needs the address of one scheduler")
    if address == "local" or address.startswith("local:"):
        return _refuse(2, f"{usage}\ngoproc: error: {address} is made anew by each program: it has no other address")
    try:
        from distributed import Client
    except ImportError:
        return _refuse(1, "goproc: error: clusters need the package distributed: pip install 'goproc[cluster]'")
    where = {"scheduler_file": address} if os.path.exists(address) else {"address": address}
    try:
        client = Client(**where, timeout=PATIENCE, set_as_default=False, name="goproc-cluster")
    except (OSError, ValueError) as error:
        return _refuse(1, f"goproc: error: no scheduler at {address}: {error}")
    with client:
        try:
            print("\n".join(_lines(address, *_asked(client))), flush=True)
        except BrokenPipeError:
            pass  # the reader has seen enough
    return 0


def _asked(client):
    """Return (the scheduler's description of its workers, the machines' reports, the events of workers that left)."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    reports: dict = {}

    def ask():
        reports.update(client.run(reports_of_machine, on_error="return"))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    left = [event for _, event in client.get_events("all") if event.get("action") == "remove-worker"]
    return workers, dict(reports), left


def reports_of_machine(dask_worker) -> "list[dict]":
    """Return what the pools on this machine do. Called in the process of a Dask worker, which Dask passes.

    Each dict is from Relay.report() in _cluster/relay.py, with "memory" added: the bytes that the pool's workers have.
    """
    actors = list(dask_worker.state.actors.values())
    reports = [actor._relay.report() for actor in actors if type(actor).__module__ == "goproc._cluster.machine"]
    for report in reports:
        report["memory"] = sum(map(_resident, report["pids"]))
    return reports


def _resident(pid):
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0  # it has ended


def _lines(address, workers, reports, left):
    cores = sum(worker["nthreads"] for worker in workers.values())
    when = time.strftime("%Y-%m-%d %H:%M:%S")
    yield f"goproc cluster {address}, {when}: {_count(len(workers), 'machine')}, {_count(cores, 'core')}"
    yield ""
    rows = [("machine", *_COLUMNS, "memory")]
    programs: dict = {}
    for url, worker in sorted(workers.items()):
        of_machine = reports.get(url)
        own = worker.get("metrics", {}).get("memory", 0)
        if not isinstance(of_machine, list):  # it has not answered, or has no goproc, or another version
            rows.append((url, str(worker["nthreads"]), "–", "–", "–", "–", f"{_size(own)} of {_limit(worker)}"))
            continue
        sums = [sum(report[name] for report in of_machine) for name in _COLUMNS[1:]]
        memory = own + sum(report["memory"] for report in of_machine)
        texts = (str(number) for number in (worker["nthreads"], *sums))
        rows.append((url, *texts, f"{_size(memory)} of {_limit(worker)}"))
        for report in of_machine:
            programs.setdefault(report["program"], []).append(report["running"])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        first, *others = (
            text.ljust(width) if i == 0 else text.rjust(width) for i, (text, width) in _paired(row, widths)
        )
        yield "  ".join([first, *others])
    yield ""
    for program, running in sorted(programs.items()):
        yield f"program {program}: on {_count(len(running), 'machine')}, {_count(sum(running), 'task')} running"
    if not programs:
        yield "no program of goproc"
    for event in left:
        yield f"left: {event.get('worker', '?')}"


def _paired(row, widths):
    return enumerate(zip(row, widths, strict=True))


def _count(number, noun):
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _limit(worker):
    limit = worker.get("memory_limit")
    return _size(limit) if limit else "no limit"


def _size(count):
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.0f} MiB"


def _refuse(status, text):
    print(text, file=sys.stderr)
    return status
