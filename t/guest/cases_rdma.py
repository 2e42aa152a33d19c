"""A group of three nodes whose messages travel by RDMA and whose logs lie on persistent memory.

All three share one device and one address, rxe0 at 10.9.0.1: between two devices of one machine packets would take the interface lo,
where soft-RoCE does not listen (t/guest/probe.c shows it)."""
import os
import subprocess

from guest import ROOT, run  # first: it sets TMPDIR
from cluster import check

DEVICE, ADDRESS = "rxe0", "10.9.0.1"
COUNTERS = f"/sys/class/infiniband/{DEVICE}/ports/1/hw_counters"
PROBE = os.path.join(ROOT, "build", "t", "guest", "probe")


def device_counter(name):
    with open(os.path.join(COUNTERS, name), encoding="ascii") as file:
        return int(file.read())


def case_the_guest_has_rdma_devices():
    links = run("rdma", "link")
    check(links.count("state ACTIVE") == 3 and "rxe2" in links, links)
    devices = run("ibv_devices")
    check(DEVICE in devices, devices)


def case_three_processes_connect_queue_pairs_to_each_other():
    """Without our code: one device will do for all, with frames of 4096 bytes; who is killed is known to be at once."""
    text = run(PROBE, ADDRESS, ADDRESS, ADDRESS)
    check(text.count(f"on {DEVICE}: mtu 4096") == 6 and text.count("DISCONNECTED") == 2, text)
    check("cannot be set" not in text, text)


def case_devices_of_one_machine_do_not_reach_each_other():
    """Should this ever change, nodes could have a device each."""
    done = subprocess.run([PROBE, ADDRESS, "10.9.1.1"], check=False, text=True, stdout=subprocess.PIPE)
    check(done.returncode != 0 and "no end of: connect" in done.stdout, done.stdout)
