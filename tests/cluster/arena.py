"""A round of chaos on many machines, inside the namespaces of spaces.enter(): arena.py TASKS SEED LIMIT [KIND ...]

A scheduler of Dask runs on the hub, a worker of Dask on each machine, and the main program (program.py) on a host of
its own. Meanwhile worker processes are killed, machines lose all their processes and come back, links are cut and
healed. It prints a line for each misfortune on stderr, and at last the report as JSON. KIND: only these misfortunes.
"""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import spaces

HERE = Path(__file__).resolve().parent
PORT = 8786
ADDRESS = f"tcp://{spaces.HUB}:{PORT}"
RECORDS = f"{spaces.FOLDER}/records"

#: Seconds within which nothing of the main program may be left on a machine.
FORGOTTEN = 15

#: The misfortunes, with their relative frequencies.
MISFORTUNES = {"worker": 8, "relay": 1, "machine": 1, "glitch": 3, "cut": 1, "program cut": 1}


class Machine:
    """A host with a worker of Dask, which is started again when it has ended."""

    def __init__(self, number, cores):
        self.host = spaces.Host(number)
        self.cores = cores
        self.relay = None
        self.absent_until = 0.0
        self.healed_at = None  # when the link that is cut now is healed

    def start(self):
        words = [sys.executable, "-m", "distributed.cli.dask_worker", ADDRESS, "--host", self.host.address]
        words += ["--nthreads", str(self.cores), "--no-nanny", "--no-dashboard"]
        log = open(f"{spaces.FOLDER}/machine{self.host.number}.log", "ab")
        self.relay = self.host.start(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        log.close()

    def workers(self):
        """Return the pids of the processes on this host that the worker of Dask has started."""
        return [pid for pid in self.host.processes() if self.relay is None or pid != self.relay.pid]


class Arena:
    def __init__(self, seed, misfortunes):
        self.rng = random.Random(f"{seed}:arena")
        self.misfortunes = {name: MISFORTUNES[name] for name in misfortunes or MISFORTUNES}
        self.counts = {}
        self.began = time.monotonic()
        spaces.make_hub()
        self.scheduler = self.start_scheduler()
        self.machines = [Machine(number, 2) for number in (2, 3)]
        self.program_host = spaces.Host(4)
        self.program_healed_at = None
        for machine in self.machines:
            machine.start()

    def start_scheduler(self):
        words = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", spaces.HUB, "--port", str(PORT)]
        words += ["--no-dashboard"]
        with open(f"{spaces.FOLDER}/scheduler.log", "ab") as log:
            scheduler = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection((spaces.HUB, PORT), 1).close()
                return scheduler
            except OSError:
                if time.monotonic() > deadline or scheduler.poll() is not None:
                    raise
                time.sleep(0.05)

    def tell(self, text):
        print(f"{time.monotonic() - self.began:8.3f} {text}", file=sys.stderr, flush=True)

    def run(self, tasks, seed, limit):
        """Run the main program under chaos. Return the report."""
        words = [sys.executable, "-W", "ignore", HERE / "program.py", ADDRESS, RECORDS, tasks, seed]
        with open(f"{spaces.FOLDER}/program.log", "wb") as log:
            program = self.program_host.start(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        deadline, wrong = time.monotonic() + limit, []
        while not os.path.exists(RECORDS) or not os.path.getsize(RECORDS):  # no misfortune before the first task
            if program.poll() is not None or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        following = time.monotonic()
        while program.poll() is None:
            now = time.monotonic()
            if now > deadline:
                wrong.append(f"it hangs: no end after {limit} s")
                program.send_signal(signal.SIGABRT)  # its threads' stacks are in the log
                time.sleep(1)
                program.kill()
                break
            self.repair(now)
            if now > following:
                self.misfortune(self.rng.choices(list(self.misfortunes), list(self.misfortunes.values()))[0], now)
                following = now + self.rng.uniform(0.1, 1.2)
            time.sleep(0.02)
        output = program.stdout.read()
        program.wait()
        try:
            report = json.loads(output)
        except ValueError:
            report = {"tasks": 0, "ends": {}, "wrong": [], "seconds": time.monotonic() - self.began}
            if not wrong:
                wrong.append(f"the program ended with status {program.returncode}")
        for machine in self.machines:
            machine.host.heal()
        self.program_host.heal()
        wrong += self.left_behind()
        report["wrong"] += wrong
        report["misfortunes"] = self.counts
        return report

    def left_behind(self):
        """Return what is left of the program on the machines, after the time in which they must have forgotten it."""
        deadline = time.monotonic() + FORGOTTEN
        while True:
            left = [f"{pid} ({command})" for host in self.hosts() for pid, command in host.items()]
            if not left or time.monotonic() > deadline:
                return [f"left behind: {what}" for what in left]
            time.sleep(0.05)

    def hosts(self):
        yield self.program_host.processes()
        for machine in self.machines:
            processes = machine.host.processes()
            if machine.relay is not None:
                processes.pop(machine.relay.pid, None)
                # The fork server of the Dask worker, and what stands by in it, belong to no program.
                own = re.compile(rf"goproc: (fork server|standby) of {machine.relay.pid}\b")
                processes = {pid: command for pid, command in processes.items() if not own.match(command)}
            yield processes

    # ---- misfortunes

    def misfortune(self, kind, now):
        machine = self.rng.choice(self.machines)
        name = f"machine {machine.host.number}"
        if kind == "worker":
            if not (pids := machine.workers()):
                return
            pid = self.rng.choice(pids)
            self.tell(f"kill process {pid} of {name}")
            kill(pid)
        elif kind == "relay":
            if machine.relay is None or now < machine.absent_until:
                return
            self.tell(f"kill the worker of Dask of {name}")
            machine.absent_until = now + self.rng.choice([0.1, 1, 5])
            kill(machine.relay.pid)
        elif kind == "machine":
            self.tell(f"power off {name}")
            machine.absent_until = now + self.rng.choice([0.1, 3, 10])
            machine.host.power_off()
        elif kind in ("glitch", "cut"):
            if machine.healed_at is not None:
                return
            seconds = self.rng.uniform(0.1, 2) if kind == "glitch" else self.rng.uniform(10, 18)
            self.tell(f"cut the link of {name} for {seconds:.1f} s")
            machine.healed_at = now + seconds
            machine.host.cut()
        else:
            if self.program_healed_at is not None:
                return
            seconds = self.rng.choice([0.3, 2, 12])
            self.tell(f"cut the link of the main program for {seconds:.1f} s")
            self.program_healed_at = now + seconds
            self.program_host.cut()
        self.counts[kind] = self.counts.get(kind, 0) + 1

    def repair(self, now):
        """Heal links, and start workers of Dask again, when it is time."""
        for machine in self.machines:
            if machine.healed_at is not None and now > machine.healed_at:
                self.tell(f"heal the link of machine {machine.host.number}")
                machine.healed_at = None
                machine.host.heal()
            if machine.relay is not None and machine.relay.poll() is not None:
                machine.relay = None
            if machine.relay is None and now > machine.absent_until:
                self.tell(f"start the worker of Dask of machine {machine.host.number}")
                machine.start()
        if self.program_healed_at is not None and now > self.program_healed_at:
            self.tell("heal the link of the main program")
            self.program_healed_at = None
            self.program_host.heal()


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def main():
    tasks, seed, limit, *misfortunes = sys.argv[1:]
    arena = Arena(seed, misfortunes)
    report = arena.run(tasks, seed, float(limit))
    if report["wrong"]:
        for log in sorted(Path(spaces.FOLDER).glob("*.log")):
            text = log.read_text(errors="replace").splitlines()
            print(f"\n=== {log.name}, the last lines", *text[-40:], sep="\n", file=sys.stderr)
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
