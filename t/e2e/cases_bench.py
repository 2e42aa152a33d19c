"""bench/load is a checker as well: it must find nothing in a group, and must be able to find something."""
import os
import subprocess

from cases_basic import Memcached
from cluster import ROOT, Cluster, Failure, check, wait_until
from load import Load

LOAD = os.path.join(ROOT, "build", "bench", "load")


def load(ports, *arguments):
    servers = ",".join(f"127.0.0.1:{port}" for port in ports)
    check(os.access(LOAD, os.X_OK), f"{LOAD} is not there: make load")
    done = subprocess.run([LOAD, f"--servers={servers}", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=120, check=False)
    return done.returncode, done.stdout


def case_the_load_generator_finds_fault_with_two_caches_that_do_not_know_each_other():
    with Memcached() as first, Memcached() as second:
        code, text = load((first.port, second.port), "--fill", "--keys=1000", "--seconds=0.5", "--durable")
        check(code == 1 and "stale" in text and "lost" in text, text)


def case_the_mixed_load_finds_fault_with_caches_that_do_not_know_each_other():
    with Memcached() as first, Memcached() as second:
        load = Load([first, second])
        load.prepare()
        with load:
            wait_until("it finds one", lambda: load.problems, 30)
        try:
            load.verify([first, second])
        except Failure as failure:
            check("had been seen" in str(failure), str(failure))
        else:
            raise Failure("it found no fault")


def case_the_load_generator_finds_no_fault_with_memcached():
    with Memcached() as memcached:
        code, text = load((memcached.port,), "--fill", "--keys=1000", "--seconds=0.5", "--durable", "--verify",
                          "--value-size=1-2000", "--depth=8", "--zipf=0.99")
        check(code == 0, text)


def case_many_pipelined_requests_on_all_nodes_are_right():
    """Nobody dies; under this load and a sanitizer a node may be silent for a second."""
    with Cluster(3, arguments=("-m", "128", "-t", "2", "--suspect-ms=6000", "--lease-ms=4000")) as cluster:
        cluster.start()
        code, text = load([node.port for node in cluster.nodes], "--fill", "--keys=5000", "--seconds=3", "--durable",
                          "--verify", "--value-size=1-4000", "--depth=16", "--connections=24", "--zipf=0.99",
                          "--get-ratio=0.5")
        check(code == 0, text[-3000:])
        print("         " + next(line for line in text.splitlines() if line.startswith("mixed")))
