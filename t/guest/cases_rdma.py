"""A group of three nodes whose messages travel by RDMA and whose logs lie on persistent memory, from its first key to damage
and 100 MB. The cases share a group as long as none fails: to start one takes the guest some ten seconds."""
import os
import random
import re
import signal
import subprocess
import tempfile
import time

from guest import ROOT, run, say  # first: it sets TMPDIR
from cluster import Failure, check, lines_matching, wait_until
from load import Load
from pymemcache.client.base import Client

from cases_basic import tool
from cases_borders import patch, segment_files
from cases_large import MEGABYTE, store
from cases_large import load as load_value
from rdma import ADDRESS, DEVICE, LANES, TOOLS, check_all_by_rdma, group, lanes, net_stats, sum_of

HEAL_SECONDS_MAX = 60
shared = None


def shared_group():
    """The group that the case before left, all of it serving, and empty again."""
    global shared  # pylint: disable=global-statement
    if shared is None:
        shared = group("-m", "240", "-I", "128m", "-t", "2", "--net=rdma")
        shared.start()
    shared.wait_serving()
    with shared.nodes[0].connect() as connection:
        check(connection.ask(b"flush_all") == b"OK", "flush_all")
    return shared


def close(failed=False):
    global shared  # pylint: disable=global-statement
    if shared is not None:
        given, shared = shared, None
        given.__exit__(Exception if failed else None, None, None)


# ---- the devices, and net itself on one ----

def case_the_guest_has_rdma_devices():
    links = run("rdma", "link")
    check(links.count("state ACTIVE") == 3 and "rxe2" in links, links)
    devices = run("ibv_devices")
    check(DEVICE in devices, devices)


def case_three_processes_connect_queue_pairs_to_each_other():
    """Without our code: one device will do for all, with frames of 4096 bytes; who is killed is known to be at once. It
    shows what the machine can, and soft-RoCE loses the news of the kill once in a while: three tries."""
    for tries_left in (2, 1, 0):
        try:
            text = run(os.path.join(TOOLS, "probe"), ADDRESS, ADDRESS, ADDRESS)
            break
        except Failure:
            if tries_left == 0:
                raise
    check(text.count(f"on {DEVICE}: mtu 4096") == 6 and text.count("DISCONNECTED") == 2, text)
    check("cannot be set" not in text, text)


def case_unit_tests_of_net_on_a_device():
    """But for those that want names and addresses of lo, and the one that wants many messages in a short time."""
    text = run(os.path.join(ROOT, "build", "t", "net_contract_test"), "--gtest_filter=device.*-*by_name:*wrong_options*:*turmoil", timeout=200,
               env={**os.environ, "RDMA_ADDRESS": ADDRESS})
    passed = re.search(r"PASSED +\] (\d+) tests?", text)
    say(f"net_contract_test: {passed.group(1)} tests")


# ---- a group ----

def case_rdma_what_clients_store_is_on_every_node():
    cluster = shared_group()
    before = {node.name: sum_of(net_stats(node), "messages_out") for node in cluster.nodes}
    clients = [Client(("127.0.0.1", node.port), timeout=60) for node in cluster.nodes]
    for i, client in enumerate(clients):
        check(client.set_many({f"m{i}.{n}": f"{n}" * 50 for n in range(40)}, noreply=False) == [], "set_many")
    for client in clients:
        for i in range(3):
            found = client.get_many([f"m{i}.{n}" for n in range(40)])
            check(found == {f"m{i}.{n}": (f"{n}" * 50).encode() for n in range(40)}, "get_many elsewhere")
        client.close()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "file")
        with open(path, "wb") as file:
            file.write(b"of libmemcached")
        tool("memccp", cluster.nodes[0], path)
        for node in cluster.nodes:
            check(tool("memccat", node, "file").strip() == b"of libmemcached", "memccat")
    for node in cluster.nodes:
        stats = net_stats(node)
        check(sum_of(stats, "messages_out") - before[node.name] >= 120, f"{node.name}: too few messages")
        check(sum_of(stats, "inlined") > 0 and 0 < int(stats["registered_bytes"]) < 1 << 28, f"{stats['registered_bytes']} bytes registered")
    check_all_by_rdma(cluster)
    say(f"{net_stats(cluster.nodes[0])['transport']}; messages per frame {net_stats(cluster.nodes[0])['peer2_messages_per_frame']}")


def case_rdma_a_node_killed_under_load_heals():
    cluster = shared_group()
    node = cluster.nodes[1]
    load = Load(cluster.nodes, writers=3, readers=2, counters=1, seed=11)
    load.prepare()
    with load:
        time.sleep(1.5)
        node.kill()
        time.sleep(1.5)
        node.start()
        node.wait_serving()
        time.sleep(0.5)
    say(load.summary())
    load.verify(cluster.nodes)
    check_all_by_rdma(cluster)


def case_rdma_queue_pairs_in_error_are_made_anew():
    """All of one node at once, under load, from outside: nothing in the node is prepared for it."""
    cluster = shared_group()
    node = cluster.nodes[2]
    load = Load(cluster.nodes, writers=3, readers=2, counters=1, seed=12)
    load.prepare()
    with load:
        for _ in range(2):
            time.sleep(1)
            before = sum_of(net_stats(node), "connections")
            broken = int(run(os.path.join(TOOLS, "break_qp"), str(node.process.pid)))
            check(broken >= 2 * LANES, f"{broken} queue pairs")
            wait_until("it has new ones", lambda: sum_of(net_stats(node), "connections") >= before + 2 * LANES, 30)
            wait_until("all are by RDMA", lambda: set(lanes(node).values()) == {LANES}, 30)
        cluster.wait_serving()
        time.sleep(0.5)
    why = {line.split(" is down: ")[1] for line in lines_matching(node.log_text(), " is down: ")}
    say(f"{broken} queue pairs broken twice: {sorted(why)}; {load.summary()}")
    load.verify(cluster.nodes)
    check_all_by_rdma(cluster)


def case_rdma_a_stopped_peer_uses_up_its_credits_and_comes_back():
    """While it is stopped and still a member, writers fill all its receives and wait; not one frame more is sent."""
    cluster = shared_group()
    writer, stopped = cluster.nodes[0], cluster.nodes[2]
    before = sum_of(net_stats(writer), "stalls")
    count, value = 150, b"v" * 5000  # of which a frame holds one
    with writer.connect(timeout=60) as connection, writer.connect(timeout=60) as other:
        stopped.signal(signal.SIGSTOP)
        for i in range(count):
            connection.send(b"set s%d 0 0 %d\r\n%b\r\n" % (i, len(value), value))
        wait_until("frames wait for credits", lambda: int(other.stats(b"net")["peer3_stalls"]) > 0, 20)
        stats = other.stats(b"net")
        check(min(int(stats[f"shard{i}_peer3_credits"]) for i in range(2)) <= 2, f"credits: {stats['shard0_peer3_credits']}")
        check(all(connection.line() == b"STORED" for _ in range(count)), "writes go on without it")
        check(other.set(b"after", b"it") == b"STORED", "set")
    stopped.signal(signal.SIGCONT)
    wait_until("it is let in again", lambda: lines_matching(stopped.log_text(), "role: (absent|healing)"), HEAL_SECONDS_MAX)
    cluster.wait_serving()
    for node in cluster.nodes:
        with node.connect() as connection:
            check(connection.get(b"after") == b"it", f"{node.name}: after")
            check(all(connection.get(b"s%d" % i) == value for i in range(count)), f"{node.name}: values")
    wait_until("all are by RDMA", lambda: set(lanes(stopped).values()) == {LANES}, 30)
    say(f"{sum_of(net_stats(writer), 'stalls') - before} stalls, no RNR")
    check_all_by_rdma(cluster)


def case_rdma_all_nodes_killed_at_once_lose_nothing():
    cluster = shared_group()
    load = Load(cluster.nodes, writers=3, readers=1, counters=0, seed=13)
    load.prepare()
    with load:
        time.sleep(2)
        for node in cluster.nodes:
            node.signal(signal.SIGKILL)
        for node in cluster.nodes:
            node.process.wait()
            node.process = None
    for node in cluster.nodes:
        node.start()
    cluster.wait_serving()
    say(load.summary())
    load.verify(cluster.nodes)
    check_all_by_rdma(cluster)


def case_rdma_damaged_segments_heal():
    cluster = shared_group()
    node = cluster.nodes[1]
    with cluster.nodes[0].connect() as connection:
        for i in range(100):
            check(connection.set(b"d%d" % i, b"%d:" % i + b"x" * 1000) == b"STORED", "set")
    time.sleep(1)
    node.kill()
    dice = random.Random(14)
    damaged = sum(damage(path, dice) for path in segment_files(node))
    size = len(node.log_text())
    node.start("--rebuild-index")
    node.wait_serving()
    check(damaged and lines_matching(node.log_since(size), "damaged"), node.log_since(size))
    wait_until("it says that it healed in full", lambda: lines_matching(node.log_since(size), r"healed \(full\)"), HEAL_SECONDS_MAX)
    line = lines_matching(node.log_since(size), r"healed \(full\)")[0]
    say(f"{damaged} segments damaged; {line.split(' note ')[1]}")
    for other in cluster.nodes:
        with other.connect() as connection:
            for i in range(100):
                check(connection.get(b"d%d" % i) == b"%d:" % i + b"x" * 1000, f"{other.name}: d{i}")
    check_all_by_rdma(cluster)


def damage(path, dice):
    """Flips some bits of what is used; False: nothing of it is."""
    with open(path, "rb") as file:
        content = file.read().rstrip(b"\0")
    if len(content) < 1000:
        return False
    for at in dice.sample(range(200, len(content)), 3):
        patch(path, at, bytes([content[at] ^ 1 << dice.randrange(8)]))
    return True


def case_rdma_values_of_1_and_100_mb_are_whole_on_every_node():
    """Values above a slot of 8 KB are pulled by RDMA READ."""
    cluster = shared_group()
    for megabytes, key in ((1, b"one"), (100, b"hundred")):
        value = os.urandom(MEGABYTE) * megabytes
        before = [sum_of(net_stats(node), "pulled_bytes") for node in cluster.nodes]
        with cluster.nodes[0].connect(timeout=200) as connection:
            answer = store(connection, key, value)
            check(answer == b"STORED", f"set of {megabytes} MB: {answer!r}")
        for node in cluster.nodes:
            with node.connect(timeout=200) as connection:
                check(load_value(connection, key) == value, f"{node.name}: another value of {megabytes} MB")

        def pulled(size=len(value), was=tuple(before)):
            """As of each lane's last heartbeat."""
            now = [sum_of(net_stats(node), "pulled_bytes") for node in cluster.nodes]
            return min(now[1] - was[1], now[2] - was[2]) >= size

        wait_until("both followers have pulled it", pulled, 30)
        say(f"{megabytes} MB were pulled")
    check_all_by_rdma(cluster)
