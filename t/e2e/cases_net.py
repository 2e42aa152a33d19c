"""How messages travel between nodes (--net), and what `stats net` says of it. Where RDMA is needed there is t/guest/check;
here: TCP, and what a machine without a device does."""
import glob
import os
import resource

from binary import STAT, Binary
from cluster import Cluster, check, lines_matching, wait_until

COUNT = 200  # writes
PLACES = [f"{lane}_peer{peer}_" for lane in ("shard0", "shard1", "control") for peer in (2, 3)]


def has_device():
    return bool(glob.glob("/sys/class/infiniband/*"))


def group(*arguments):
    return Cluster(3, durable=False, arguments=("-m", "64", "-t", "2", *arguments))


def numbers(stats, prefix):
    return {name.removeprefix(prefix): int(value) for name, value in stats.items() if name.startswith(prefix) and value.isdigit()}


def net_stats(node):
    with node.connect() as c:
        return c.stats(b"net")


def rounds_of(stats, place):
    found = {name: int(value) for name, value in stats.items() if name.startswith(place + "rounds")}
    check(sum(found.values()) == 2 * found[place + "rounds"], f"{place}: buckets and sum: {found}")
    return found[place + "rounds"]


def sums_hold(stats):
    """Not always: what is counted may change between a sum and its parts."""
    parts = [numbers(stats, place) for place in PLACES if place.endswith("peer3_")]
    return all(sum(part[name] for part in parts) == int(stats["peer3_" + name])
               for name in ("frames_in", "frames_out", "messages_in", "messages_out", "bytes_in", "bytes_out", "rounds"))


def case_stats_net_shows_each_connection_by_shard_and_peer():
    with group("--net=tcp") as cluster:
        node = cluster.start().nodes[0]
        wait_until("each connection has measured", lambda: all(rounds_of(net_stats(node), place) >= 2 for place in PLACES), 20)
        before = net_stats(node)
        with node.connect() as c:
            for i in range(COUNT):
                check(c.set(b"k%d" % i, b"x" * 100) == b"STORED", "set")
        grown = lambda peer: numbers(net_stats(node), peer)["messages_out"] - numbers(before, peer)["messages_out"]  # noqa: E731
        wait_until("the writes are counted", lambda: min(grown("peer2_"), grown("peer3_")) >= COUNT, 10)
        stats = net_stats(node)
        check(stats["transport"].startswith("tcp: ") and stats["registered_bytes"] == "0", f"{stats['transport']}")
        for place in PLACES:
            check(stats[place + "state"] == "up" and stats[place + "transport"] == "tcp", place)
            found = numbers(stats, place)
            check(found["connections"] == 1 and found["refusals"] == 0 and found["bytes_out"] >= 32 * found["frames_out"], f"{found}")
            ratio = found["messages_out"] / found["frames_out"]
            check(abs(float(stats[place + "messages_per_frame"]) - ratio) < 0.01, f"{place}: {ratio}")
        check(stats["peer2_lanes"] == "3" and stats["peer2_lanes_up"] == "3" and stats["peer2_lanes_rdma"] == "0", "lanes")
        wait_until("the sums are those of the parts", lambda: sums_hold(net_stats(node)), 5)
        # Nothing of RDMA where there is none.
        check(not any(name.endswith(("_credits", "_not_ready", "_polls")) for name in stats), f"{list(stats)}")


def case_stats_net_shows_who_is_away():
    with group("--net=tcp") as cluster:
        node = cluster.start().nodes[0]
        cluster.nodes[2].kill()
        wait_until("node 3 is shown as down", lambda: net_stats(node)["peer3_lanes_up"] == "0", 10)
        stats = net_stats(node)
        check(stats["shard0_peer3_state"] == "down" and stats["shard0_peer3_transport"] == "none", "node 3")
        check(stats["shard0_peer2_state"] == "up" and stats["peer2_lanes_up"] == "3", "node 2")
        cluster.nodes[2].start().wait_serving()
        wait_until("it is up again", lambda: net_stats(node)["peer3_lanes_up"] == "3", 10)
        check(net_stats(node)["shard0_peer3_connections"] == "2", "connections")


def case_stats_net_is_the_same_in_the_binary_protocol():
    with group() as cluster, Binary(cluster.start().nodes[0].port) as c:
        names = set()
        answer = c.ask(STAT, b"net")
        while answer.key:
            names.add(answer.key.decode())
            answer = c.receive()
        # Which of the buckets are shown changes all the time.
        steady = lambda given: {name for name in given if "_us_" not in name}  # noqa: E731
        check(steady(names) == steady(net_stats(cluster.nodes[0])), "names")


def case_stats_net_of_a_single_node_says_that_there_is_none():
    with Cluster(1, durable=False) as cluster:
        check(net_stats(cluster.start().nodes[0]) == {"transport": "none", "registered_bytes": "0"}, "lines")


def maps(node):
    with open(f"/proc/{node.process.pid}/maps") as file:
        return file.read()


def case_net_tcp_loads_nothing_of_rdma():
    with group("--net=tcp") as cluster:
        for node in cluster.start().nodes:
            found = [line for line in maps(node).splitlines() if "librdmacm" in line or "libibverbs" in line]
            check(not found, f"{found[:2]}")
            check(len(lines_matching(node.log_text(), r" net: tcp: by --net=tcp$")) == 1, "the line about it")
            check(len(lines_matching(node.log_text(), r"connected to node \d \(incarnation \d+\) over tcp$")) >= 2, "peers")
        with cluster.nodes[0].connect() as c:
            settings = c.stats(b"settings")
            check(settings["net"] == "tcp" and settings["poll_us"] == "0", "settings")


def case_a_node_of_root_may_lock_what_rdma_needs():
    """Also as the user that it becomes, who may not raise the limit."""
    if os.geteuid() != 0:
        return
    with group("-u", "nobody") as cluster:
        with cluster.start().nodes[0].connect(), open(f"/proc/{cluster.nodes[0].process.pid}/limits") as file:
            line = next(line for line in file if line.startswith("Max locked memory"))
        # In a container, root may not be allowed to.
        check("unlimited" in line or not may_raise_locked(), line)


def may_raise_locked():
    try:
        resource.prlimit(0, resource.RLIMIT_MEMLOCK, (-1, -1))
        return True
    except (ValueError, PermissionError):
        return False


def case_net_rdma_without_a_device_is_refused():
    if has_device():
        return
    with group("--net=rdma") as cluster:
        node = cluster.nodes[0].start()
        check(node.wait_exit(20) == 78, "exit code")
        check(len(lines_matching(node.log_text(), r"note net: .*RDMA device|note net: .*lib(rdmacm|ibverbs)")) == 1, node.log_text())
        check(len(lines_matching(node.log_text(), r"error --net=rdma: .*--net=auto")) == 1, node.log_text())


def case_net_auto_without_a_device_is_tcp_and_says_why():
    if has_device():
        return
    with group("--net=auto", "--poll-us=50") as cluster:
        for node in cluster.start().nodes:
            lines = lines_matching(node.log_text(), r" net: ")
            check(len(lines) == 1 and len(lines[0].split(" net: tcp: ")[1]) > 10, f"{lines}")
            check(net_stats(node)["transport"] in lines[0], "stats and the line")
        with cluster.nodes[0].connect() as c:
            check(c.set(b"a", b"x") == b"STORED" and c.get(b"a") == b"x", "set")
