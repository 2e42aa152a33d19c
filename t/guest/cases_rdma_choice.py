"""What travels by RDMA and what by TCP, and what a node says of it: devices that go, limits too small, groups that differ."""
import subprocess
import time

from guest import ROOT, say  # first: it sets TMPDIR
from cluster import check, lines_matching, wait_until
from load import Load
from rdma import DEVICE, LANES, SMALL, Removal, group, lanes, net_stats, sum_of

NOT_USABLE = 78
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all")
AT_LIMIT = ("sh", "-c", 'ulimit -l "$0" && exec "$@"')


def start_limited(cluster, kilobytes, *arguments):
    """Node 1 as a user without CAP_IPC_LOCK."""
    node = cluster.nodes[0]
    command = [part for part in node.command(arguments) if not part.startswith("--data=")]
    at = command.index("-u")
    del command[at:at + 2]
    with open(node.log_path, "ab") as log:
        node.process = subprocess.Popen([*NOBODY, *AT_LIMIT, str(kilobytes), *command], stdout=log, stderr=log, cwd=ROOT)
    return node


def case_locked_memory_too_small_is_said_with_what_to_set():
    with group(*SMALL) as cluster:
        node = start_limited(cluster, 64, "--net=rdma")
        check(node.wait_exit(30) == NOT_USABLE, node.log_text())
        lines = lines_matching(node.log_text(), "ulimit -l")
        check(lines and "64 KB" in lines[0] and "LimitMEMLOCK" in lines[0], node.log_text())
        say(lines[0].split(" net: ")[1])
        size = len(node.log_text())
        node = start_limited(cluster, 64, "--net=auto")
        wait_until("it has chosen", lambda: lines_matching(node.log_since(size), " net: "), 30)
        check(lines_matching(node.log_since(size), " net: tcp: .*ulimit -l"), node.log_since(size))
        node.kill()
        size = len(node.log_text())
        node = start_limited(cluster, "unlimited", "--net=rdma")
        wait_until("it has chosen", lambda: lines_matching(node.log_since(size), " net: "), 30)
        check(lines_matching(node.log_since(size), f" net: rdma: device {DEVICE}"), node.log_since(size))


def case_a_group_in_which_one_has_tcp_only_goes_on_without_the_device():
    """Nodes 1 and 2 talk by RDMA, node 3 by TCP with both. Then the device is taken away under load, and given back."""
    with group(*SMALL, "--net=auto") as cluster:
        first, second, third = cluster.nodes
        third.arguments.append("--net=tcp")
        cluster.start()
        check(lanes(first) == {2: LANES, 3: 0} and lanes(second) == {1: LANES, 3: 0}, f"{lanes(first)}, {lanes(second)}")
        load = Load(cluster.nodes, writers=3, readers=2, counters=1, seed=21)
        load.prepare()
        with Removal():
            with load:
                go_on_over_tcp(cluster, load, cluster.nodes[:2])
            say(load.summary())
            load.verify(cluster.nodes)
            first.kill()
            second.kill()
        first.start()
        second.start()
        cluster.wait_serving()
        wait_until("by RDMA again", lambda: lanes(first) == {2: LANES, 3: 0}, 30)
        check(net_stats(third)["transport"].startswith("tcp"), "node 3")
        load.verify(cluster.nodes)


def case_a_device_taken_away_and_given_back_under_load_is_used_again():
    """By the same processes: the command that takes it away ends only when all three have let go of it."""
    with group(*SMALL, "--net=auto") as cluster:
        cluster.start()
        wait_until("all are by RDMA", lambda: all_lanes_by_rdma(cluster), 30)
        load = Load(cluster.nodes, writers=3, readers=2, counters=1, seed=22)
        load.prepare()
        with load:
            time.sleep(1)
            with Removal():
                go_on_over_tcp(cluster, load, cluster.nodes)
            for node in cluster.nodes:
                wait_until("it says so", lambda n=node: lines_matching(n.log_text(), "device is back"), 60)
            wait_until("all are by RDMA again", lambda: all_lanes_by_rdma(cluster), 150)
            back = time.monotonic()
            wait_until("a write is acknowledged", lambda: load.acknowledged_at[-1][0] > back + 1, 60)
        say(lines_matching(cluster.nodes[2].log_text(), "device is back")[0].split(" note ")[-1])
        say(load.summary())
        load.verify(cluster.nodes)
        for node in cluster.nodes:
            check(len(lines_matching(node.log_text(), "net: the RDMA device is (gone|back)")) == 2, node.log_text())
            stats = net_stats(node)
            check(stats["transport"].startswith(f"rdma: device {DEVICE}"), stats["transport"])
            check(sum_of(stats, "not_ready") == 0, f"{node.name}: RNR")


def all_lanes_by_rdma(cluster):
    return all(set(lanes(node).values()) == {LANES} for node in cluster.nodes)


def go_on_over_tcp(cluster, load, losers):
    gone = time.monotonic()
    for node in losers:
        wait_until("it says so", lambda n=node: lines_matching(n.log_text(), "device is gone: on over TCP"), 30)
    say(lines_matching(cluster.nodes[0].log_text(), "device is gone")[0].split(" note ")[-1])
    wait_until("all go on over TCP", lambda: lanes(cluster.nodes[0], "up") == {2: LANES, 3: LANES}, 60)
    # As of each lane's last heartbeat.
    wait_until("all lanes go over TCP", lambda: set(lanes(cluster.nodes[0]).values()) == {0}, 30)
    wait_until("a write is acknowledged", lambda: load.acknowledged_at and load.acknowledged_at[-1][0] > gone + 1, 60)
