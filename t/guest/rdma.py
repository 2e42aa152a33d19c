"""Groups of three nodes over RDMA, and what the device says.

All nodes share one device and one address: between two devices of one machine packets would take the interface lo, where soft-RoCE
does not listen (t/guest/probe.c)."""
import os
import subprocess

from guest import PATIENT, ROOT, run  # first: it sets TMPDIR
from cluster import Cluster, check, lines_matching

DEVICE, INTERFACE, ADDRESS = "rxe0", "rdma0", "10.9.0.1"
TOOLS = os.path.join(ROOT, "build", "t", "guest")
COUNTERS = f"/sys/class/infiniband/{DEVICE}/ports/1/hw_counters"
LANES = 3  # of two shards and the control thread
SMALL = ("-m", "32", "-t", "2")


def device_counter(name):
    with open(os.path.join(COUNTERS, name), encoding="ascii") as file:
        return int(file.read())


def group(*arguments):
    return Cluster(3, arguments=(*PATIENT, *arguments), peer_host=ADDRESS)


def net_stats(node):
    with node.connect() as connection:
        return connection.stats(b"net")


def sum_of(stats, name):
    """Over the peers."""
    return sum(int(value) for key, value in stats.items() if key.startswith("peer") and key.split("_", 1)[1] == name)


def lanes(node, what="rdma"):
    """How many of the lanes to each peer are up, or are by RDMA."""
    stats = net_stats(node)
    return {int(key[4]): int(value) for key, value in stats.items() if key.startswith("peer") and key.endswith(f"_lanes_{what}")}


def check_all_by_rdma(cluster):
    """And nobody ever met a peer without a receive."""
    for node in cluster.nodes:
        stats = net_stats(node)
        check(stats["transport"].startswith(f"rdma: device {DEVICE}"), stats["transport"])
        check(set(lanes(node).values()) == {LANES}, f"{node.name}: lanes by RDMA: {lanes(node)}")
        check(sum_of(stats, "not_ready") == 0, f"{node.name}: RNR")
        check(not lines_matching(node.log_text(), "over tcp"), f"{node.name}: {lines_matching(node.log_text(), 'over tcp')}")
    for name in ("send_rnr_err", "rcvd_rnr_err", "retry_rnr_exceeded_err"):
        check(device_counter(name) == 0, f"{DEVICE}: {name} is {device_counter(name)}")


class Removal:
    """Takes the device away from under its users. The command waits until the last of them has let go of it."""

    def __enter__(self):
        self.process = subprocess.Popen(["rdma", "link", "delete", DEVICE])
        return self

    def __exit__(self, *ignored):
        self.process.wait(60)
        run("rdma", "link", "add", DEVICE, "type", "rxe", "netdev", INTERFACE)
