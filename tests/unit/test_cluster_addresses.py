"""The forms of a cluster's address, each with a cluster that Dask's own programs and classes have started."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cluster_targets as targets
import pytest
from cluster_targets import pids
from helpers import wait_until

pytest.importorskip("distributed", reason="goproc.cluster needs distributed")

import distributed

import goproc
from goproc import cluster

QUIET = {
    "PYTHONPATH": str(Path(__file__).parent),  # the machines import cluster_targets
    "DASK_LOGGING__DISTRIBUTED": "critical",
    "DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES": "[]",
    "DASK_DISTRIBUTED__WORKER__HTTP__ROUTES": "[]",
}


@pytest.fixture
def dask(tmp_path):
    """A function that starts `dask` with arguments, in a folder of its own, and returns the process."""
    processes = []

    def start(*arguments, **variables):
        command = [sys.executable, "-m", "dask", *map(str, arguments)]
        processes.append(subprocess.Popen(command, cwd=tmp_path, env={**os.environ, **QUIET, **variables}))
        return processes[-1]

    yield start
    for process in reversed(processes):  # the scheduler at last: a worker that loses it while it ends does not end
        process.terminate()
        process.wait()


@pytest.fixture
def scheduler_file(dask, tmp_path):
    """The scheduler file of a `dask scheduler`."""
    file = tmp_path / "scheduler.json"
    dask("scheduler", "--host", "127.0.0.1", "--port", 0, "--no-dashboard", "--scheduler-file", file)
    wait_until(lambda: file.exists() and file.read_text().endswith("}"))
    return file


def worker(dask, *arguments, **variables):
    return dask("worker", "--nworkers", 1, "--nthreads", 1, "--no-dashboard", *arguments, **variables)


def finish(results):
    """Return the numbers of the results that are lost with their machine; the others must be right."""
    lost = []
    for number, result in enumerate(results):
        try:
            assert result.get(60) == number
        except goproc.WorkerLostError as error:
            assert "is lost: its process has ended" in str(error)
            lost.append(number)
    return lost


# ---- dask scheduler, dask worker


@pytest.mark.slow
def test_scheduler_file_and_workers_of_the_command_line(dask, scheduler_file, tmp_path):
    """`dask worker --nworkers 2` is two machines, each below a nanny. A killed one is restarted, and takes part."""
    dask("worker", "--nworkers", 2, "--nthreads", 1, "--no-dashboard", "--scheduler-file", scheduler_file)
    ran = tmp_path / "ran"
    with cluster.Pool(scheduler_file) as pool:
        wait_until(lambda: len(pids(pool)) == 2)
        machine = targets.parent(pool.apply(os.getppid))  # the fork server's parent is the process of Dask's worker
        results = [pool.apply_async(targets.note, (str(ran), number, 0.02)) for number in range(100)]
        wait_until(lambda: len(targets.noted(ran)) > 10)
        os.kill(machine, signal.SIGKILL)
        lost = finish(results)
        assert 1 <= len(lost) <= 20
        wait_until(lambda: len(pids(pool)) == 2)  # the nanny has restarted it
    assert max(targets.noted(ran).values()) == 1


@pytest.mark.slow
def test_a_path_as_text_and_as_a_path(dask, scheduler_file):
    worker(dask, "--no-nanny", "--scheduler-file", scheduler_file)
    for address in scheduler_file, str(scheduler_file):
        with cluster.Pool(address) as pool:
            assert pool.map(targets.double, range(5)) == [0, 2, 4, 6, 8]


@pytest.mark.slow
def test_a_pool_before_the_first_machine(dask, scheduler_file):
    """The number of processes is that of the cores that have come since."""
    worker(dask, "--no-nanny", "--scheduler-file", scheduler_file, "--nthreads", 3)
    with cluster.Pool(scheduler_file) as pool:
        assert pool._processes == len(pool._pool) == 3


# ---- objects of Dask


@pytest.mark.slow
def test_client(dask, scheduler_file):
    worker(dask, "--no-nanny", "--scheduler-file", scheduler_file)
    with distributed.Client(scheduler_file=str(scheduler_file), asynchronous=False) as client:
        client.wait_for_workers(1)
        for _ in range(2):
            with cluster.Pool(client) as pool:
                assert pool.map(targets.double, range(5)) == [0, 2, 4, 6, 8]
        assert client.submit(targets.double, 4).result() == 8  # the pools have not closed it


def test_an_asynchronous_client():
    async def main():
        async with distributed.LocalCluster(
            n_workers=0, processes=False, dashboard_address=":0", asynchronous=True
        ) as machines:
            async with distributed.Client(machines, asynchronous=True) as client:
                with pytest.raises(TypeError, match="give goproc.cluster a plain Client"):
                    cluster.Pool(client)

    import asyncio

    asyncio.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["local", "programs"])
def test_cluster_objects(run_script, tmp_path, kind):
    """The process of a machine is killed: what it had begun is lost. Its nanny restarts it, and it takes part."""
    run_script("cluster_objects.py", kind, tmp_path / "ran", **QUIET)


@pytest.mark.slow
def test_a_cluster_object_without_processes(run_script, tmp_path):
    """The workers of Dask are threads of the program itself; those of the pool are processes."""
    code = """
import distributed, os
from goproc import cluster

if __name__ == "__main__":
    options = dict(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0")
    with distributed.LocalCluster(**options) as machines, cluster.Pool(machines) as pool:
        assert os.getpid() not in pool.starmap(os.getpid, [()] * 8, chunksize=1)
        assert pool.map(abs, range(-3, 0)) == [3, 2, 1]
"""
    run_script("-c", code, **QUIET)


# ---- tls


def make_certificates(folder):
    """Make the certificate of an authority, and a certificate and key that it has signed, in a folder."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("tls is tested with certificates that the program openssl makes, which is not installed")

    def call(*arguments):
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)

    key = "-newkey", "rsa:2048", "-nodes"
    call("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=authority")
    call("req", *key, "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=machine")
    signed = "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"
    call("x509", "-req", "-in", "request.pem", *signed, "-out", "cert.pem")


@pytest.fixture
def certificates(tmp_path):
    """A folder with certificates."""
    make_certificates(tmp_path)
    return tmp_path


@pytest.fixture
def tls(dask, certificates):
    """The address of a scheduler with tls, and the arguments of a Security. It has a machine."""
    file, ca, cert, key = (str(certificates / name) for name in ("scheduler.json", "ca.pem", "cert.pem", "key.pem"))
    options = "--protocol", "tls", "--tls-ca-file", ca, "--tls-cert", cert, "--tls-key", key, "--no-dashboard"
    dask("scheduler", "--host", "127.0.0.1", "--port", 0, "--scheduler-file", file, *options)
    wait_until(lambda: os.path.exists(file) and Path(file).read_text().endswith("}"))
    address = json.loads(Path(file).read_text())["address"]
    assert address.startswith("tls://")
    dask("worker", address, "--nthreads", 2, "--no-nanny", *options)
    return address, {"tls_ca_file": ca, "tls_client_cert": cert, "tls_client_key": key, "require_encryption": True}


@pytest.mark.slow
def test_tls(tls):
    address, options = tls
    for security in options, distributed.Security(**options):
        with cluster.Pool(address, security=security) as pool:
            assert pool.map(targets.double, range(100), chunksize=1) == list(range(0, 200, 2))
            data = os.urandom(3 << 20)
            assert pool.apply(bytes, (data,)) == data
            assert all(driver._direct for driver in pool._crew.drivers.values())


@pytest.mark.slow
def test_tls_by_dasks_configuration(tls, run_script):
    address, options = tls
    names = {"tls_ca_file": "CA_FILE", "tls_client_cert": "CLIENT__CERT", "tls_client_key": "CLIENT__KEY"}
    variables = {f"DASK_DISTRIBUTED__COMM__TLS__{names[name]}": options[name] for name in names}
    code = """
import multiprocessing

if __name__ == "__main__":
    with multiprocessing.Pool() as pool:
        print(pool.map(abs, range(-3, 0)))
"""
    program = Path(options["tls_ca_file"]).with_name("program.py")
    program.write_text(code)
    assert run_script("-m", "goproc", "--cluster", address, program, **variables).stdout == "[3, 2, 1]\n"


@pytest.mark.slow
def test_tls_without_certificates(tls, certificates):
    address, _ = tls
    for given in address, certificates / "scheduler.json":
        with pytest.raises(ValueError, match="uses tls, which needs certificates: give security="):
            cluster.Pool(given)


@pytest.mark.slow
def test_tls_of_another_authority(tls, certificates, tmp_path):
    address, options = tls
    other = tmp_path / "other"
    other.mkdir()
    make_certificates(other)
    options = {**options, "tls_ca_file": str(other / "ca.pem")}
    with pytest.raises(ConnectionError, match="cannot be reached within 1 s"):
        cluster.Pool(address, security=options, reconnect_timeout=1)
