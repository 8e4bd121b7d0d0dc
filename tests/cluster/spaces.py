"""Network namespaces for the tests of many machines: a hub, and hosts that are joined to it by veth.

    enter(command)      run a command in namespaces of its own: network, processes, mounts
    Host                made there: a network namespace with an address, and a link that can be cut and healed

All namespaces are without a name. The kernel removes them with their last process, and it kills all processes of
enter() when the caller dies. So nothing is left, however a test ends. Inside, the network outside cannot be reached.
"""

import os
import shutil
import signal
import subprocess

__all__ = ["FOLDER", "HUB", "Host", "enter", "make_hub", "why_not"]

#: The address of the hub; host number N has HOST % N.
HUB = "10.77.0.1"
HOST = "10.77.0.%d"

#: Inside, an empty tmpfs is mounted there: it is gone with the namespaces.
FOLDER = "/srv"

_UNSHARE = ["unshare", "--net", "--pid", "--mount", "--mount-proc", "--fork", "--kill-child=SIGKILL"]


def why_not():
    """Return why there can be no namespaces here; "" if there can be."""
    for program, package in (("unshare", "util-linux"), ("nsenter", "util-linux"), ("ip", "iproute2")):
        if shutil.which(program) is None:
            return f"the program {program} is not installed (package {package})"
    script = (
        f"mount -t tmpfs none {FOLDER} && ip link add hub0 type bridge && ip link add one0 type veth peer name two0"
    )
    done = subprocess.run([*_UNSHARE, "sh", "-ec", script], capture_output=True, text=True)
    return (
        f"no network namespaces: {done.stderr.strip() or done.returncode} (root is needed)" if done.returncode else ""
    )


def enter(command, **options):
    """Return a Popen of a command in namespaces of its own. options: of Popen.

    All its processes are killed when it ends, and when the thread that calls this ends. The first process is a shell,
    because the first process inherits the orphans, and must reap them.
    """
    script = f'mount -t tmpfs none {FOLDER} && ip link set lo up && "$@"; exit $?'
    words = ["setpriv", "--pdeathsig", "KILL", "--", *_UNSHARE, "sh", "-c", script, "sh", *map(str, command)]
    return subprocess.Popen(words, **options)


def _run(*words):
    subprocess.run(words, check=True, capture_output=True, text=True)


def make_hub():
    """Make the bridge that joins the hosts. This namespace has the address HUB."""
    _run("ip", "link", "add", "hub0", "type", "bridge")
    _run("ip", "addr", "add", f"{HUB}/24", "dev", "hub0")
    _run("ip", "link", "set", "hub0", "up")


class Host:
    """A network namespace that is joined to the hub. number: from 2 on. address: its IP address."""

    def __init__(self, number):
        self.number = number
        self.address = HOST % number
        self._link = f"host{number}"
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo ready; exec sleep infinity"], stdout=subprocess.PIPE
        )
        self._holder.stdout.readline()
        pid = str(self._holder.pid)
        _run("ip", "link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", pid)
        _run("ip", "link", "set", self._link, "master", "hub0", "up")
        for words in (
            ["ip", "addr", "add", f"{self.address}/24", "dev", "eth0"],
            ["ip", "link", "set", "eth0", "up"],
            ["ip", "link", "set", "lo", "up"],
        ):
            _run(*self._inside(words))
        self._space = os.readlink(f"/proc/{pid}/ns/net")

    def _inside(self, words):
        return ["nsenter", "--target", str(self._holder.pid), "--net", "--", *map(str, words)]

    def start(self, words, **options):
        """Return a Popen of a command on this host."""
        return subprocess.Popen(self._inside(words), **options)

    def cut(self):
        """Cut the link: packets are lost, and nobody is told."""
        _run("ip", "link", "set", self._link, "down")

    def heal(self):
        _run("ip", "link", "set", self._link, "up")

    def processes(self):
        """Return {pid: command line} of the processes of this host. Those that have ended are left out."""
        found = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit() and int(entry) != self._holder.pid:
                try:
                    if os.readlink(f"/proc/{entry}/ns/net") != self._space:
                        continue
                    with open(f"/proc/{entry}/cmdline", "rb") as file:
                        command = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
                    with open(f"/proc/{entry}/stat", "rb") as file:
                        ended = file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
                except OSError:
                    continue  # it has ended meanwhile
                if not ended:
                    found[int(entry)] = command
        return found

    def power_off(self):
        """Kill all processes of this host at once, as far as that goes: until there is none."""
        while pids := self.processes():
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
