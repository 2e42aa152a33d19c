"""Stores that fill up, all nodes writing at once: every command is answered, errors are clean, nothing is lost."""
import collections
import os
import random
import subprocess
import threading
import time

from cluster import ROOT, Cluster, check, wait_until
from single import same

FULL = b"SERVER_ERROR out of memory storing object"
SIZES = (100, 2_000, 20_000, 100_000, 300_000)
FULL_ENOUGH, FILL_SECONDS_MAX = 30, 60
ANSWER_SECONDS = 15  # a write that hangs would never be answered; one that finds cleaning busy comes again after a second


def say(text):
    print(f"         {text}", flush=True)


class Writer:
    """Owns its keys, so it knows what each must hold. A set that finds no room deletes what was there, as in memcached."""

    def __init__(self, node, number, keys, seed):
        self.node, self.number, self.keys = node, number, keys
        self.dice = random.Random(seed)
        self.values, self.count = {}, {"STORED": 0, "full": 0, "DELETED": 0}
        self.longest = 0.0
        self.problem = None

    def name(self, key):
        return b"w%d.%d" % (self.number, key)

    def turn(self, connection):
        key = self.dice.randrange(self.keys)
        began = time.monotonic()
        if self.dice.random() < 0.25:
            answer = connection.ask(b"delete " + self.name(key))
            check(answer == (b"DELETED" if key in self.values else b"NOT_FOUND"), f"delete: {answer!r}")
            self.values.pop(key, None)
        else:
            value = b"%08d" % self.dice.randrange(10 ** 8) + b"." * (self.dice.choice(SIZES) - 8)
            answer = connection.set(self.name(key), value)
            check(answer in (b"STORED", FULL), f"set: {answer!r}")
            self.values.pop(key, None)
            if answer == b"STORED":
                self.values[key] = value
        word = "full" if answer == FULL else answer.decode()
        self.count[word] = self.count.get(word, 0) + 1
        self.longest = max(self.longest, time.monotonic() - began)

    def run(self, goes_on):
        try:
            with self.node.connect(timeout=ANSWER_SECONDS) as connection:
                while goes_on():
                    self.turn(connection)
        except Exception as problem:  # whatever it is, the case has to know
            self.problem = f"{self.node.name}: {problem!r}"

    def verify(self, node):
        with node.connect() as connection:
            for key in range(self.keys):
                check(connection.get(self.name(key)) == self.values.get(key), f"{node.name}: {self.name(key)}")


def write_all(writers, seconds, until_full=False):
    """`until_full`: a slow machine takes longer to fill the stores."""
    until = time.monotonic() + seconds

    def goes_on():
        late = time.monotonic() - until
        return late < 0 or (until_full and late < FILL_SECONDS_MAX and sum(writer.count["full"] for writer in writers) < FULL_ENOUGH)
    threads = [threading.Thread(target=writer.run, args=(goes_on,)) for writer in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    problems = [writer.problem for writer in writers if writer.problem]
    check(not problems, "; ".join(problems[:3]))


def make_writers(cluster, keys):
    return [Writer(cluster.nodes[i % 3], i, keys, 100 + i) for i in range(6)]


def told(writers):
    total = {word: sum(writer.count.get(word, 0) for writer in writers) for word in ("STORED", "DELETED", "full")}
    return f"{total}, longest answer {max(writer.longest for writer in writers) * 1000:.0f} ms"


def check_full(writers, cluster):
    check(sum(writer.count["full"] for writer in writers) > 0, f"it was never full: {told(writers)}")
    for writer in writers:
        for node in cluster.nodes:
            writer.verify(node)
    say(told(writers))


def case_all_nodes_write_into_full_stores_and_every_command_is_answered():
    with Cluster(3, arguments=("-m", "64", "-t", "2", "-M")) as cluster:
        cluster.start()
        writers = make_writers(cluster, 200)
        write_all(writers, 8, until_full=True)
        check_full(writers, cluster)


def case_a_node_heals_into_a_full_group():
    with Cluster(3, arguments=("-m", "64", "-t", "2", "-M")) as cluster:
        cluster.start()
        writers = make_writers(cluster, 200)
        write_all(writers, 4)
        away = cluster.nodes[2]
        away.kill()
        write_all([writer for writer in writers if writer.node is not away], 4)
        away.start()
        away.wait_serving()
        write_all(writers, 2, until_full=True)
        check_full(writers, cluster)


def answers(connection, commands):
    """Sends them all, and counts the answers."""
    connection.send(b"".join(commands))
    return collections.Counter(connection.line() for _ in commands)


def case_a_full_node_comes_back_to_a_group_full_of_tombstones():
    with Cluster(3, arguments=("-m", "16", "-t", "2")) as cluster:
        cluster.start()
        away, count, other = cluster.nodes[2], 200_000, 0
        with cluster.nodes[0].connect(timeout=60) as c:
            for i in range(0, count, 500):
                found = answers(c, [b"set key%d 0 0 100\r\n%s\r\n" % (j, b"x" * 100) for j in range(i, i + 500)])
                same("sets", found[b"STORED"], 500)
            check(int(c.stats()["evictions"]) > 0, "the store is not full")
            away.kill()
            for i in range(0, count, 500):
                answers(c, [b"delete key%d\r\n" % j for j in range(i, i + 500)])
            refused = 0
            while refused < 400:  # tombstones of keys that the node that is away has never heard of
                commands = [b"set other%d 0 0 4\r\nabcd\r\ndelete other%d\r\n" % (j, j) for j in range(other, other + 500)]
                c.send(b"".join(commands))
                refused = collections.Counter(c.line() for _ in range(1000))[FULL]
                other += 500
                check(other < 5_000_000, "the store does not become full of tombstones")
            print(f"         {other} keys were set and deleted until there was no more room")
            away.start()
            away.wait_serving()
            wait_until("tombstones have gone", lambda: c.set(b"key", b"value") == b"STORED", 30)
            with away.connect() as other:
                same("get", other.get(b"key"), b"value")


def case_the_smallest_memory_limit_decides_and_is_named():
    with Cluster(3, arguments=("-t", "2", "-M")) as cluster:
        for node, size in zip(cluster.nodes, ("128", "64", "96")):
            node.arguments += ["-m", size]
        cluster.start()
        writers = make_writers(cluster, 200)
        write_all(writers, 6, until_full=True)
        check_full(writers, cluster)
        wait_until("the larger ones say whose store it is",
                   lambda: "the store of another node is full" in cluster.nodes[0].log_text(), 30)


def case_a_full_store_evicts_what_nobody_reads_and_says_so():
    with Cluster(1, durable=False, arguments=("-m", "16", "-t", "1")).start() as cluster:
        node = cluster.nodes[0]
        value = b"x" * 1000
        with node.connect(timeout=30) as connection, node.connect(timeout=30) as watcher:
            check(watcher.ask(b"watch evictions") == b"OK", "watch")
            check(connection.set(b"hot", value) == b"STORED", "set")
            for i in range(60_000):
                check(connection.set(b"k%d" % i, value) == b"STORED", f"set {i}")
                if i % 100 == 0:
                    check(connection.get(b"hot") == value, f"what is read is there after {i} sets")
            stats = connection.stats()
            check(int(stats["evictions"]) > 20_000, str(stats))
            check(stats["evictions"] == stats["evicted_unfetched"], str(stats))
            while b"\n" not in watcher.pending:
                watcher.receive()
            line = watcher.pending.split(b"\n")[0]
            check(b"type=eviction key=k" in line and b"fetch=no ttl=-1" in line, str(line))


def case_what_has_expired_gives_its_space_back_unasked():
    with Cluster(1, durable=False, arguments=("-m", "16", "-t", "1")).start() as cluster:
        with cluster.nodes[0].connect(timeout=30) as connection:
            for i in range(2000):
                check(connection.ask(b"set k%d 0 2 5\r\nvalue" % i) == b"STORED", f"set {i}")
            wait_until("all have gone", lambda: connection.stats()["curr_items"] == "0", 30)
            wait_until("counted", lambda: connection.stats()["crawler_reclaimed"] == "2000", 30)


def case_space_is_bounded_while_keys_are_overwritten_deleted_and_expire():
    """Some seconds of what bench/space does for an hour."""
    done = subprocess.run([os.path.join(ROOT, "bench", "space"), "--seconds=8", "--megabytes=32"], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=300, check=False)
    check(done.returncode == 0, done.stdout)
    words = [line.split() for line in done.stdout.splitlines() if line.startswith("figure ")]
    figures = {name: float(value) for _, name, value, _ in words}
    for end in ("first", "last"):
        check(figures[f"space.{end}.refused"] == 0, done.stdout)
        check(figures[f"space.{end}.free"] > 2, done.stdout)
    check(figures["space.last.copied"] < 60, done.stdout)
    say(f"copied for each byte put: {figures['space.first.copied']:.2f} at first, {figures['space.last.copied']:.2f} at last")
