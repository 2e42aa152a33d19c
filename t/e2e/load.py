"""Mixed load from many threads on all nodes by pymemcache, which notes what was acknowledged and checks what it reads.

Each writer thread owns its keys and writes rising numbers, so of two values of a key the larger is the newer one. A
write without an answer is unknown: it may have happened, or happen later, or never. Rules:
 1. A read sees at least what was acknowledged before it was sent, and at least what this reader saw before.
 2. At the end each key has, on every node, the last acknowledged number or an unknown one; all nodes agree.
 3. `incr` never gives the same number twice; at the end a counter lies between acknowledged and that plus unknown."""
import contextlib
import random
import threading
import time

from pymemcache.client.base import Client
from pymemcache.exceptions import MemcacheError

from cluster import Cluster, check

KEYS_PER_WRITER = 40
COUNTERS = 4


class Record:
    """What is known of one key that one thread writes."""

    def __init__(self):
        self.sent = 0
        self.acknowledged = 0
        self.unknown = set()


class Load:
    def __init__(self, nodes, writers=6, readers=3, counters=3, value_size=100, seed=1):
        self.nodes = nodes
        self.value_size = value_size
        self.records = [{f"w{i}.{k}": Record() for k in range(KEYS_PER_WRITER)} for i in range(writers)]
        self.all_records = {key: record for records in self.records for key, record in records.items()}
        self.acknowledged_at = []  # (moment, node) of each write
        self.counter_values = [[] for _ in range(COUNTERS)]
        self.counter_unknown = [0] * COUNTERS
        self.counter_lock = threading.Lock()
        self.reads = 0
        self.problems = []
        self.stopping = False
        self.threads = [threading.Thread(target=self.guard, args=(role, i, random.Random(seed * 1000 + i * 10 + n)))
                        for n, (role, count) in enumerate(((self.write, writers), (self.read, readers),
                                                           (self.count, counters))) for i in range(count)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *ignored):
        self.stop()

    def stop(self):
        self.stopping = True
        for thread in self.threads:
            thread.join()

    def guard(self, role, number, dice):
        client = Switch(self.nodes, number)
        try:
            while not self.stopping and len(self.problems) < 10:
                role(client, number, dice)
        except Exception as problem:  # whatever it is, the case has to know
            self.problems.append(f"{role.__name__}: {problem!r}")
        finally:
            client.close()

    def make_value(self, number):
        return f"{number}:".encode().ljust(self.value_size, b"x")

    def write(self, client, number, dice):
        key = f"w{number}.{dice.randrange(KEYS_PER_WRITER)}"
        record = self.records[number][key]
        record.sent += 1
        mine = record.sent
        record.unknown.add(mine)  # until the answer is here
        if client.do(lambda c: c.set(key, self.make_value(mine), noreply=False)) is True:
            record.acknowledged = mine
            record.unknown.discard(mine)
            self.acknowledged_at.append((time.monotonic(), client.node))

    def read(self, client, number, dice):
        """Each reader reads from one node after another, so that newer and older ones are compared."""
        key = dice.choice(list(self.all_records))
        record = self.all_records[key]
        least = max(record.acknowledged, client.seen.get(key, 0))
        client.move()
        value = client.do(lambda c: c.get(key, b"0:"))
        if value is None:
            return
        found = int(value.split(b":")[0])
        self.reads += 1
        if found < least and found not in record.unknown:
            self.problems.append(f"{client.node.name} answered {found} for {key}, {least} had been seen")
        client.seen[key] = max(found, client.seen.get(key, 0)) if found not in record.unknown else found

    def count(self, client, number, dice):
        index = dice.randrange(COUNTERS)
        self.note_counter(index, 1)
        value = client.do(lambda c: c.incr(f"c{index}", 1, noreply=False))
        if value is not None:
            self.counter_values[index].append(value)
        if client.answered:
            self.note_counter(index, -1)

    def note_counter(self, index, change):
        with self.counter_lock:
            self.counter_unknown[index] += change

    def prepare(self):
        client = Switch(self.nodes, 0)
        for index in range(COUNTERS):
            check(client.do(lambda c, i=index: c.set(f"c{i}", b"0", noreply=False)), "the counters cannot be set")
        client.close()

    def longest_gap(self, since, seconds, nodes=None):
        """The longest time without an acknowledged write (on `nodes`) that begins in these seconds."""
        moments = sorted(t for t, node in self.acknowledged_at if nodes is None or node in nodes)
        moments = [since] + [t for t in moments if since <= t] + [max(time.monotonic(), since + seconds)]
        return max(after - before for before, after in zip(moments, moments[1:]) if before <= since + seconds)

    def verify(self, nodes):
        """Rules 2 and 3 on each of the nodes; the load must be over."""
        check(not self.problems, "; ".join(self.problems[:5]))
        check(self.acknowledged_at, "no write was acknowledged at all")
        seen = {}
        for node in nodes:
            self.verify_node(node, seen)

    def verify_node(self, node, seen):
        client = Client(("127.0.0.1", node.port), timeout=30, connect_timeout=30)
        try:
            for key, record in self.all_records.items():
                value = client.get(key, b"0:")
                found = int(value.split(b":")[0])
                check(found == record.acknowledged or found in record.unknown,
                      f"{node.name} has {found} for {key}, acknowledged was {record.acknowledged}")
                check(seen.setdefault(key, value) == value, f"{node.name} has another value of {key} than others")
            for index, values in enumerate(self.counter_values):
                found = int(client.get(f"c{index}"))
                check(len(values) == len(set(values)), f"incr c{index} gave a number twice")
                check(len(values) <= found <= len(values) + self.counter_unknown[index],
                      f"{node.name}: c{index} is {found}; {len(values)} acknowledged, "
                      f"{self.counter_unknown[index]} unknown")
                check(seen.setdefault(f"c{index}", found) == found, f"{node.name} has another c{index} than others")
        finally:
            client.close()

    def summary(self):
        unknown = sum(len(record.unknown) for record in self.all_records.values())
        return (f"{len(self.acknowledged_at)} writes acknowledged, {unknown} unknown, {self.reads} reads, "
                f"{sum(map(len, self.counter_values))} incr")


@contextlib.contextmanager
def cluster_for_load(seed, count=3, **more):
    """A cluster that serves, and a load that is ready for it; at the end it has to be right on all nodes."""
    with Cluster(count, **more) as cluster:
        load = Load(cluster.start().nodes, seed=seed)
        load.prepare()
        yield cluster, load
        load.verify(cluster.nodes)


class Switch:
    """A client that goes to the next node when its own does not answer."""

    def __init__(self, nodes, number):
        self.nodes = nodes
        self.at = number % len(nodes)
        self.clients = {}
        self.seen = {}
        self.answered = False

    @property
    def node(self):
        return self.nodes[self.at]

    def move(self):
        self.at = (self.at + 1) % len(self.nodes)

    def close(self):
        for client in self.clients.values():
            client.close()

    def do(self, action):
        """The answer; None: refused, or not known whether it happened."""
        self.answered = False
        try:
            if self.at not in self.clients:
                self.clients[self.at] = Client(("127.0.0.1", self.node.port), timeout=4, connect_timeout=1,
                                               no_delay=True)
            answer = action(self.clients[self.at])
            self.answered = True
            return answer
        except (OSError, MemcacheError):
            self.clients.pop(self.at).close() if self.at in self.clients else None
            self.move()
            time.sleep(0.01)
            return None
