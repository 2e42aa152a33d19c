"""Reads answered by another worker than the one whose shard the key is in (doc/protocol.md, Reads by other workers): clients on all workers
see what was written, in order, while segments are used again, keys are deleted, expire and are flushed.

One client writes each key, a sequence of operations with numbers; whoever reads notes what was complete before and what had begun after, so
that only what the key may have been in between is right."""
import random
import threading
import time
import zlib

from cluster import Cluster, check

KEYS, READERS, SECONDS = 12, 5, 5
VALUE_MAX = 6000
SEED = 11


def make_value(key, number, draw):
    head = b"%d %d " % (key, number)
    body = head + bytes([65 + number % 26]) * draw.randrange(VALUE_MAX)
    return b"%08x %s" % (zlib.crc32(body), body)


def number_in(key, value):
    """The number of the operation that stored it."""
    crc, body = value.split(b" ", 1)
    check(int(crc, 16) == zlib.crc32(body), f"a value of key {key} is torn: {value[:40]!r}")
    whose, number, _ = body.split(b" ", 2)
    check(int(whose) == key, f"key {key} has a value of key {whose!r}")
    return int(number)


class History:
    """Of one key. Lists and numbers of one writer; others only look."""

    def __init__(self):
        self.may_miss = [True]  # by number of operation: the key may be absent afterwards
        self.begun = self.done = 0
        self.flush_possible = 0  # operations up to here may have been flushed...
        self.flushed = 0  # ...and up to here were, for certain


class World:
    def __init__(self, node):
        self.node = node
        self.keys = [History() for _ in range(KEYS)]
        self.over = time.monotonic() + SECONDS
        self.problem = None
        self.hits = 0

    def judge(self, key, value, low, high, flushed):
        """`value` None: a miss. low, high: numbers of operations; flushed: as it was before the question."""
        history = self.keys[key]
        if value is not None:
            number = number_in(key, value)
            check(low <= number <= high, f"key {key}: operation {number}, but {low} was complete before and {high} the newest begun")
            check(number > flushed, f"key {key}: operation {number} is back, {flushed} was flushed")
            self.hits += 1
            return
        missed = any(history.may_miss[low:high + 1]) or low <= history.flush_possible
        check(missed, f"key {key}: absent between operations {low} and {high}")

    def run(self, work, seed):
        try:
            with self.node.connect(60) as connection:
                draw = random.Random(seed)
                while time.monotonic() < self.over and self.problem is None:
                    work(self, connection, draw)
        except Exception as problem:  # pylint: disable=broad-except
            self.problem = self.problem or problem


def read_value(connection):
    """The answer to a get of one key; None: a miss."""
    line = connection.line()
    if line == b"END":
        return None
    check(line.startswith(b"VALUE "), f"a get was answered {line!r}")
    value = connection.exactly(int(line.split()[3]))
    check(connection.line() == b"" and connection.line() == b"END", "the end of a value")
    return value


def write(key):
    def work(world, connection, draw):
        history = world.keys[key]
        number = history.begun + 1
        kind = draw.choice(("set",) * 6 + ("delete", "expire"))
        value = make_value(key, number, draw)
        command = b"delete k%d\r\n" % key
        if kind != "delete":
            command = b"set k%d 0 %d %d\r\n%s\r\n" % (key, 1 if kind == "expire" else 0, len(value), value)
        history.may_miss.append(kind != "set")
        history.begun = number
        flushed = history.flushed
        # In one packet: the get is parsed while the set is on its way.
        connection.send(command + b"get k%d\r\n" % key)
        answer = connection.line()
        check(answer in (b"STORED", b"DELETED", b"NOT_FOUND"), f"{kind} was answered {answer!r}")
        got = read_value(connection)
        if kind == "delete":
            check(got is None, "a deleted key is read in the same breath")
        else:
            world.judge(key, got, number, number, flushed)
        history.done = number
    return work


def read(world, connection, draw):
    asked = [draw.randrange(KEYS) for _ in range(draw.choice((1, 1, 8)))]
    before = [(world.keys[key].done, world.keys[key].flushed) for key in asked]
    connection.send(b"".join(b"get k%d\r\n" % key for key in asked))
    for key, (low, flushed) in zip(asked, before):
        value = read_value(connection)
        world.judge(key, value, low, world.keys[key].begun, flushed)


def flush(world, connection, draw):
    time.sleep(draw.uniform(0.2, 0.5))
    before = [history.done for history in world.keys]
    for history in world.keys:
        history.flush_possible = 1 << 60
    check(connection.ask(b"flush_all") == b"OK", "flush_all")
    for history, done in zip(world.keys, before):
        history.flushed = done
        history.flush_possible = history.begun


def churn(world, connection, draw):
    """Other keys, so that segments fill up and are used again, and chains of the index grow and shrink."""
    lines = []
    for _ in range(32):
        key = draw.randrange(3000)
        size = draw.randrange(2000)
        lines.append(b"delete c%d noreply\r\n" % key if draw.randrange(4) == 0 else
                     b"set c%d 0 0 %d noreply\r\n%s\r\n" % (key, size, b"x" * size))
    connection.send(b"".join(lines))
    check(connection.ask(b"mn") == b"MN", "mn")


def check_readers(arguments, count):
    with Cluster(count, durable=False, arguments=arguments) as cluster:
        node = cluster.start().nodes[0]
        world = World(node)
        works = [write(key) for key in range(KEYS)] + [read] * READERS + [flush] + [churn] * 2
        threads = [threading.Thread(target=world.run, args=(work, SEED + i)) for i, work in enumerate(works)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if world.problem is not None:
            raise world.problem
        with node.connect() as connection:
            stats = connection.stats()
            here, cleaned = int(stats["requests_read_here"]), int(stats["log_cleaned_bytes"])
            print(f"         {world.hits} hits judged, {here} read by another worker, {cleaned} bytes cleaned")
            check(here > 100, f"only {here} reads were answered by another worker")


def case_readers_on_all_workers_see_what_was_written():
    check_readers(("-m", "16", "-t", "4"), 1)


def case_readers_on_all_workers_of_a_group_see_what_was_written():
    check_readers(("-m", "16", "-t", "3"), 3)
