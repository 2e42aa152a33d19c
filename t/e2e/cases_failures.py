"""Nodes die, stop and come back under load; nothing acknowledged is lost, nobody reads the past."""
import os
import random
import shutil
import signal
import threading
import time

from cluster import Cluster, Failure, alone, check, wait_until
from load import Load, cluster_for_load

GAP_SECONDS_MAX = 10  # 1 s is the aim, printed here and measured by bench/quick; this machine may be very busy


def say(text):
    print(f"         {text}", flush=True)


def kill_and_heal(cluster, node, load, wipe=False):
    before = time.monotonic()
    time.sleep(1)
    idle_gap = load.longest_gap(before, 1)
    killed = node.kill()
    time.sleep(2.5)
    gap = load.longest_gap(killed, 2)
    if wipe:
        shutil.rmtree(node.data)
    node.start()
    healed = node.wait_serving()
    time.sleep(0.5)
    say(f"{node.name}: longest time without a write {gap * 1000:.0f} ms after kill -9 "
        f"({idle_gap * 1000:.0f} ms before), serves {healed:.2f} s after its start")
    return gap


@alone
def case_each_node_in_turn_is_killed_under_load_and_heals():
    """Each of the three, so the leader of the membership is among them."""
    with cluster_for_load(seed=1) as (cluster, load):
        with load:
            gaps = [kill_and_heal(cluster, node, load) for node in cluster.nodes]
        say(load.summary())
        check(max(gaps) < GAP_SECONDS_MAX, f"no write for {max(gaps):.2f} s after a kill")


def case_a_group_in_memory_heals_as_well():
    with cluster_for_load(seed=2, durable=False) as (cluster, load):
        with load:
            kill_and_heal(cluster, cluster.nodes[1], load)
        say(load.summary())


def case_the_same_node_dies_again_while_it_heals():
    with cluster_for_load(seed=3) as (cluster, load):
        node = cluster.nodes[2]
        with load:
            for pause in (0.05, 0.3, 0.6, 0.1):
                node.kill()
                time.sleep(0.4)
                node.start()
                time.sleep(pause)
            node.wait_serving()
        say(load.summary())


def case_a_wiped_disk_heals():
    with cluster_for_load(seed=4) as (cluster, load):
        with load:
            kill_and_heal(cluster, cluster.nodes[0], load, wipe=True)
        say(load.summary())


def kill_at_once(nodes):
    for node in nodes:
        node.signal(signal.SIGKILL)
    for node in nodes:
        node.process.wait()
        node.process = None


def case_all_nodes_are_killed_at_once_and_nothing_is_lost():
    with cluster_for_load(seed=5) as (cluster, load):
        with load:
            time.sleep(2)
            kill_at_once(cluster.nodes)
        began = time.monotonic()
        for node in cluster.nodes:
            node.start()
        cluster.wait_serving()
        say(f"{load.summary()}; all serve {time.monotonic() - began:.2f} s after their start")


def case_a_cold_start_in_any_order_waits_for_all_of_the_last_view():
    """Two of three could hold less than the third: they wait for it. It comes late; nothing is lost."""
    with Cluster(3) as cluster:
        cluster.start()
        with cluster.nodes[0].connect() as connection:
            for i in range(200):
                check(connection.set(b"k%d" % i, b"v%d" % i) == b"STORED", "set")
        for node in cluster.nodes:
            node.kill()
        for node in (cluster.nodes[2], cluster.nodes[0], cluster.nodes[1]):
            node.start()
            time.sleep(1)
        cluster.wait_serving()
        for node in cluster.nodes:
            with node.connect() as connection:
                for i in range(200):
                    check(connection.get(b"k%d" % i) == b"v%d" % i, f"{node.name} has lost k{i}")


def case_a_single_node_keeps_its_log():
    with Cluster(1) as cluster:
        node = cluster.start().nodes[0]
        for seed in (6, 7):
            with node.connect() as connection:
                check(connection.ask(b"flush_all") == b"OK", "flush_all")
            with Load(cluster.nodes, seed=seed, counters=0) as load:
                time.sleep(1)
                node.kill()
            node.start()
            node.wait_serving()
            verify_writes(load, node)


def verify_writes(load, node):
    with node.connect() as connection:
        for key, record in load.all_records.items():
            value = connection.get(key.encode())
            found = int((value or b"0:").split(b":")[0])
            check(found == record.acknowledged or found in record.unknown,
                  f"{found} for {key}, acknowledged was {record.acknowledged}")


def case_a_minority_refuses_and_never_lies():
    with Cluster(3) as cluster:
        cluster.start()
        alone = cluster.nodes[1]
        with alone.connect(timeout=30) as connection:
            check(connection.set(b"a", b"1") == b"STORED", "set")
            for node in cluster.others(alone):
                node.kill()
            time.sleep(1.5)  # leases of 300 ms are over
            answer = connection.set(b"a", b"2")
            check(answer.startswith(b"SERVER_ERROR"), f"set in a minority: {answer!r}")
            answer = connection.ask(b"get a")
            check(answer.startswith(b"SERVER_ERROR"), f"get in a minority: {answer!r}")
            say(f"it says {answer.decode()!r}")
        for node in cluster.others(alone):
            node.start()
        cluster.wait_serving()
        found = set()
        for node in cluster.nodes:
            with node.connect() as connection:
                found.add(connection.get(b"a"))
        check(len(found) == 1 and found <= {b"1", b"2"}, f"after it: {found}")


def case_commands_under_way_when_the_majority_is_lost_are_answered():
    """The others stop; this one still has its lease. What it begins is answered after --stall-ms: a write may have happened. The lease is
    long, so that all are sent before its end."""
    with Cluster(3, arguments=("-m", "128", "-t", "2", "--stall-ms=700", "--lease-ms=2000", "--suspect-ms=3000")) as cluster:
        cluster.start()
        alone, seen = cluster.nodes[0], set()
        with alone.connect() as connection:
            check(all(connection.set(b"k%d" % i, b"old") == b"STORED" for i in range(20)), "set")
        connections = [alone.connect() for _ in range(20)]
        for node in cluster.others(alone):
            node.signal(signal.SIGSTOP)
        for i, connection in enumerate(connections):
            connection.send(b"set k%d 0 0 3\r\nnew\r\nget k%d\r\n" % (i, i))
        began = time.monotonic()
        for connection in connections:
            seen.add(connection.line())
            line = connection.line()
            check(line.startswith(b"SERVER_ERROR not applied"), f"a read behind it: {line!r}")
        say(f"all answered {time.monotonic() - began:.2f} s after the others stopped: {sorted(seen)}")
        check(all(line.startswith(b"SERVER_ERROR") for line in seen), f"{seen}")
        check(any(line.startswith(b"SERVER_ERROR outcome unknown") for line in seen), f"{seen}")
        for node in cluster.others(alone):
            node.signal(signal.SIGCONT)
        cluster.wait_serving()
        values = []
        for node in cluster.nodes:
            with node.connect() as connection:
                values.append([connection.get(b"k%d" % i) for i in range(20)])
        check(values[0] == values[1] == values[2] and set(values[0]) <= {b"old", b"new"}, f"{values}")


def case_a_stopped_node_never_shows_the_past():
    """SIGSTOP: it does not know that time goes on. Reads that lie in its sockets are answered after SIGCONT."""
    with Cluster(3) as cluster:
        cluster.start()
        for node in cluster.nodes:
            stop_and_go_on(cluster, node)


def stop_and_go_on(cluster, node):
    other = cluster.others(node)[0]
    readers = [node.connect(timeout=30) for _ in range(4)]
    with other.connect(timeout=30) as writer:
        check(writer.set(b"v", b"0") == b"STORED", "set")
        node.signal(signal.SIGSTOP)
        stopped = time.monotonic()
        wait_until("writes go on", lambda: writer.set(b"v", b"1") == b"STORED", 40)
        gap = time.monotonic() - stopped
        check(writer.set(b"v", b"2") == b"STORED", "set after the view change")
        for reader in readers:
            reader.send(b"get v\r\n")
        time.sleep(max(0.0, 5 - (time.monotonic() - stopped)))
        check(writer.set(b"w", b"3") == b"STORED", "set")
        node.signal(signal.SIGCONT)
    for reader in readers:
        check_fresh(reader, node)
    seconds = node.wait_serving()
    with node.connect() as reader:
        check(reader.get(b"v") == b"2" and reader.get(b"w") == b"3", "it heals")
    say(f"{node.name}: writes went on {gap * 1000:.0f} ms after SIGSTOP, it serves {seconds:.2f} s after SIGCONT")


def check_fresh(reader, node):
    try:
        line = reader.line()
        if line.startswith(b"VALUE"):
            value = reader.line()
            check(value == b"2", f"{node.name} answered {value!r}, which had been overwritten")
        else:
            check(line.startswith(b"SERVER_ERROR"), f"{node.name} answered {line!r}")
    except OSError:
        pass  # closed without an answer: nothing was claimed
    finally:
        reader.socket.close()


def case_load_goes_on_while_a_node_is_stopped():
    with cluster_for_load(seed=8) as (cluster, load):
        node = cluster.nodes[0]
        with load:
            time.sleep(0.5)
            node.signal(signal.SIGSTOP)
            stopped = time.monotonic()
            time.sleep(5)
            gap = load.longest_gap(stopped, 4, cluster.others(node))
            node.signal(signal.SIGCONT)
            time.sleep(1)
            node.wait_serving()
        say(f"longest time without a write {gap * 1000:.0f} ms; {load.summary()}")


def case_five_nodes_go_on_without_two():
    with cluster_for_load(seed=9, count=5) as (cluster, load):
        with load:
            time.sleep(0.5)
            first, second = cluster.nodes[0], cluster.nodes[3]
            first.kill()
            killed = second.kill()
            time.sleep(3)
            gap = load.longest_gap(killed, 2.5)
            first.start()
            second.start()
            cluster.wait_serving()
            time.sleep(0.5)
        say(f"longest time without a write {gap * 1000:.0f} ms; {load.summary()}")


class Chaos:
    """Kills, stops and restarts at random. A wiped disk counts as one failure: the others must hold everything."""

    def __init__(self, cluster, seed):
        self.cluster, self.dice = cluster, random.Random(seed)
        self.story = []

    def note(self, text):
        self.story.append(text)

    def kill(self):
        node = self.dice.choice(self.cluster.nodes)
        wipe = self.dice.random() < 0.25
        if wipe:
            self.cluster.wait_serving()  # else it could be the only one that knows
        node.kill()
        time.sleep(self.dice.uniform(0, 1.5))
        if wipe:
            shutil.rmtree(node.data)
            self.note(f"wipe {node.name}")
        node.start()
        self.note(f"kill {node.name}")
        time.sleep(self.dice.uniform(0, 1.5))

    def pause(self):
        node = self.dice.choice(self.cluster.nodes)
        node.signal(signal.SIGSTOP)
        time.sleep(self.dice.choice((0.05, 0.2, 0.5, 1.5)))
        node.signal(signal.SIGCONT)
        self.note(f"pause {node.name}")

    def kill_all(self):
        self.cluster.wait_serving()
        for node in self.cluster.nodes:
            node.kill()
        for node in self.dice.sample(self.cluster.nodes, len(self.cluster.nodes)):
            node.start()
            time.sleep(self.dice.uniform(0, 0.5))
        self.note("kill all")
        self.cluster.wait_serving()

    def run(self, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.dice.choice((self.kill, self.kill, self.pause, self.pause, self.kill_all))()
            if self.dice.random() < 0.5:
                self.cluster.wait_serving()


def case_random_deaths_and_pauses_lose_nothing():
    seed = int(os.environ.get("SEED", time.time_ns() % 100000))
    seconds = float(os.environ.get("SECONDS", 15))
    with Cluster(3) as cluster:
        cluster.start()
        load = Load(cluster.nodes, seed=seed)
        load.prepare()
        chaos = Chaos(cluster, seed)
        try:
            with load:
                chaos.run(seconds)
            cluster.wait_serving()
            load.verify(cluster.nodes)
        except Failure:
            say(f"SEED={seed}: {', '.join(chaos.story)}")
            raise
        say(f"SEED={seed}: {len(chaos.story)} faults; {load.summary()}")


def case_exactly_one_of_many_adds_wins():
    with Cluster(3) as cluster:
        cluster.start()
        winners = [[] for _ in range(60)]

        def contend(index):
            with cluster.nodes[index % 3].connect(timeout=30) as connection:
                for number, won in enumerate(winners):
                    if connection.ask(b"add lock%d 0 0 2\r\n%02d" % (number, index)) == b"STORED":
                        won.append(index)

        run_threads(contend, 9)
        check(all(len(won) == 1 for won in winners), f"winners: {winners}")
        for node in cluster.nodes:
            with node.connect() as connection:
                for number, won in enumerate(winners):
                    check(connection.get(b"lock%d" % number) == b"%02d" % won[0], f"{node.name}: lock{number}")


def case_cas_from_all_nodes_loses_no_update():
    with Cluster(3) as cluster:
        cluster.start()
        rounds, threads = 40, 6
        with cluster.nodes[0].connect() as connection:
            connection.set(b"n", b"0")

        def contend(index):
            with cluster.nodes[index % 3].connect(timeout=30) as connection:
                for _ in range(rounds):
                    while not cas_plus_one(connection):
                        pass

        run_threads(contend, threads)
        for node in cluster.nodes:
            with node.connect() as connection:
                found = connection.get(b"n")
                check(found == b"%d" % (rounds * threads), f"{node.name}: {found!r} of {rounds * threads}")


def cas_plus_one(connection):
    head = connection.ask(b"gets n").split()
    value = connection.exactly(int(head[3]) + 2)[:-2]
    check(connection.line() == b"END", "gets")
    new = b"%d" % (int(value) + 1)
    answer = connection.ask(b"cas n 0 0 %d %b\r\n%b" % (len(new), head[4], new))
    if answer not in (b"STORED", b"EXISTS"):
        raise Failure(f"cas: {answer!r}")
    return answer == b"STORED"


def run_threads(function, count):
    problems = []

    def guard(index):
        try:
            function(index)
        except Exception as problem:  # the case has to know, whatever it is
            problems.append(repr(problem))

    threads = [threading.Thread(target=guard, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(not problems, "; ".join(problems[:3]))


def case_overwriting_for_ever_works_in_bounded_space():
    """Four times the store's memory is written to a few keys; the directory does not grow with it."""
    with Cluster(3, arguments=("-m", "64", "-t", "2")) as cluster:
        cluster.start()
        value = os.urandom(50_000).hex().encode()[:100_000]
        with cluster.nodes[0].connect(timeout=30) as connection:
            for i in range(2600):
                answer = connection.set(b"k%d" % (i % 50), value)
                check(answer == b"STORED", f"after {i} writes: {answer!r}")
        for node in cluster.nodes:
            size = sum(os.stat(os.path.join(folder, name)).st_blocks * 512
                       for folder, _, names in os.walk(node.data) for name in names)
            check(size < 160 << 20, f"{node.name} takes {size >> 20} MB with -m 64")


def case_a_full_store_says_so_and_goes_on():
    with Cluster(3, arguments=("-m", "64", "-t", "2", "-M")) as cluster:
        cluster.start()
        value = b"x" * 100_000
        with cluster.nodes[1].connect(timeout=30) as connection:
            for i in range(2000):
                answer = connection.set(b"k%d" % i, value)
                if answer != b"STORED":
                    break
            check(answer == b"SERVER_ERROR out of memory storing object", f"after {i} values: {answer!r}")
            check(connection.get(b"k0") == value, "what was stored is there")
            for n in range(i):
                check(connection.ask(b"delete k%d" % n) == b"DELETED", f"delete of k{n}")
            wait_until("there is room again", lambda: connection.set(b"k0", value) == b"STORED", 40)
        say(f"{i} values of 100,000 bytes with -m 64")
