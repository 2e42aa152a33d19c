"""kill -9 again and again, and segments damaged at random: what was acknowledged is there, and nothing else is ever served; a node
that has nobody to heal from refuses to start where it cannot tell.

Each value is made from its key and number and compared as a whole. SEED=N repeats a case's damage; CRASH_ROUNDS=N makes N times
as many rounds."""
import contextlib
import os
import random
import re
import threading
import time

from cases_borders import segment_files
from cluster import Cluster, Failure, check, lines_matching, wait_until

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "1"))
PAGE = 4096
BATCH = 50
EXIT_MEDIUM = 74
EXIT_REFUSED = 78
STARTS_MAX = 3  # of a supervisor, after one damage
NOTHING = 0     # the number of a key that is not there
BODY = bytes(random.Random(0).randbytes(6000)).replace(b"\r", b".")
FOUND = "damaged|instead of"
REFUSED = "damaged.*missing records: at least.*not started.*--damaged=serve"


def say(text):
    print(f"         {text}", flush=True)


def make_dice():
    seed = int(os.environ.get("SEED", time.time_ns() % 1000000))
    say(f"SEED={seed}")
    return random.Random(seed)


def make_value(key, number):
    size = 100 + (number * 7919 + len(key) * 31 + key[-1]) % 5800
    return b"%b:%d:" % (key, number) + BODY[number % 97:][:size]


class Ledger:
    """What may be the value of each key: the number that was acknowledged, or one that had no answer."""

    def __init__(self, prefix=b"k", count=1200):
        self.keys = [b"%b%d" % (prefix, i) for i in range(count)]
        self.known = dict.fromkeys(self.keys, NOTHING)
        self.unknown = {key: set() for key in self.keys}
        self.older = {key: set() for key in self.keys}
        self.number = 0
        self.acknowledged = 0

    def write(self, connection, keys, dice, deletes=0.1):
        """A batch, pipelined. Each key once: commands of one connection may be answered in any order of effect."""
        sent = []
        for key in keys:
            self.number += 1
            number = NOTHING if dice.random() < deletes else self.number
            self.unknown[key].add(number)
            sent.append((key, number))
        connection.send(b"".join(b"delete %b\r\n" % key if number == NOTHING else
                                 b"set %b 0 0 %d\r\n%b\r\n" % (key, len(make_value(key, number)), make_value(key, number))
                                 for key, number in sent))
        for key, number in sent:
            line = connection.line()
            wanted = (b"DELETED", b"NOT_FOUND") if number == NOTHING else (b"STORED",)
            check(line in wanted, f"{key} {number}: {line!r}")
            self.settle(key, number)
            self.acknowledged += 1

    def settle(self, key, number):
        self.older[key].add(self.known[key])
        self.known[key] = number
        self.unknown[key] = set()

    def fill(self, node, dice, deletes=0.1):
        with node.connect() as connection:
            for at in range(0, len(self.keys), BATCH):
                self.write(connection, self.keys[at:at + BATCH], dice, deletes)

    def may_be(self, key, alone):
        allowed = {self.known[key]} | self.unknown[key]
        return allowed | self.older[key] | {NOTHING} if alone else allowed

    def read(self, node, alone=False):
        """Number of keys that are lost, and that are older than acknowledged; `alone`: after damage, with nobody to heal from."""
        lost = old = 0
        with node.connect() as connection:
            for at in range(0, len(self.keys), BATCH):
                batch = self.keys[at:at + BATCH]
                found = get_many(connection, batch)
                for key in batch:
                    number = self.number_of(node, key, found.get(key), self.may_be(key, alone))
                    right = number == self.known[key] or number in self.unknown[key]
                    lost += not right and number == NOTHING
                    old += not right and number != NOTHING
                    self.settle(key, number)
        return lost, old

    def number_of(self, node, key, value, allowed):
        if value is None:
            check(NOTHING in allowed, f"{node.name}: {key} is missing, {sorted(allowed)} may be there")
            return NOTHING
        named, number, _ = (value.split(b":", 2) + [b"", b""])[:3]
        check(named == key and number.isdigit() and value == make_value(key, int(number)),
              f"{node.name}: {key} has a value that nobody wrote: {value[:40]!r}, {len(value)} bytes")
        check(int(number) in allowed, f"{node.name}: {key} is {int(number)}, {sorted(allowed)} may be there")
        return int(number)


def get_many(connection, keys):
    connection.send(b"get " + b" ".join(keys) + b"\r\n")
    found = {}
    while (line := connection.line()) != b"END":
        check(line.startswith(b"VALUE "), f"get: {line!r}")
        _, key, _, size = line.split()
        found[key] = connection.exactly(int(size) + 2)[:-2]
    return found


class Writers:
    """Threads that write on to a ledger each until their node dies."""

    def __init__(self, nodes, ledgers, dice):
        self.stopping = False
        self.problems = []
        self.threads = [threading.Thread(target=self.run, args=(nodes[i % len(nodes)], ledger, random.Random(dice.random())))
                        for i, ledger in enumerate(ledgers)]

    def run(self, node, ledger, dice):
        try:
            with node.connect() as connection:
                while not self.stopping:
                    ledger.write(connection, dice.sample(ledger.keys, dice.randrange(1, BATCH)), dice)
        except OSError:
            pass  # it was killed
        except Failure as failure:
            self.problems.append(str(failure))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, kind, *ignored):
        self.stopping = True
        for thread in self.threads:
            thread.join()
        check(kind or not self.problems, f"{self.problems[:3]}")


# ---- kill -9 ----

def kill_loop(cluster, rounds, dice, options):
    cluster.start()
    ledgers = [Ledger(b"w%d." % i, 200) for i in range(3)]
    for number in range(rounds):
        with Writers(cluster.nodes, ledgers, dice):
            time.sleep(dice.uniform(0.1, 0.8))
            for node in cluster.nodes:
                node.process.kill()
            for node in cluster.nodes:
                node.process.wait()
                node.process = None
        for node in cluster.nodes:
            node.start(*options[number % len(options)])
        cluster.wait_serving()
        for ledger in ledgers:
            for node in cluster.nodes:
                ledger.read(node)
    acknowledged = sum(ledger.acknowledged for ledger in ledgers)
    check(acknowledged > 0, "nothing was acknowledged")
    say(f"{acknowledged} writes acknowledged in {rounds} rounds")


def case_a_single_node_killed_again_and_again_keeps_what_it_acknowledged():
    with Cluster(1) as cluster:
        kill_loop(cluster, 6 * ROUNDS, make_dice(), ((), ("--rebuild-index",)))


def case_a_group_killed_again_and_again_keeps_what_it_acknowledged():
    with Cluster(3) as cluster:
        kill_loop(cluster, 3 * ROUNDS, make_dice(), ((), ("--rebuild-index",)))


# ---- damage ----

def used_end(path):
    with open(path, "rb") as file:
        return len(file.read().rstrip(b"\0"))


def used_files(node):
    return [path for path in segment_files(node) if re.search(r"segment-\d+$", path) and used_end(path) > PAGE]


def name_of(path):
    return "/".join(path.split("/")[-2:])


def flip_bits(dice, files):
    places = []
    for _ in range(dice.randrange(1, 21)):
        path = dice.choice(files)
        at, bit = dice.randrange(used_end(path)), 1 << dice.randrange(8)
        with open(path, "r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ bit]))
        places.append(f"{name_of(path)}@{at}")
    return "bits " + " ".join(places)


def truncate(dice, files):
    path = dice.choice(files)
    size = dice.randrange(used_end(path))
    os.truncate(path, size)
    return f"cut {name_of(path)} to {size}"


def zero_pages(dice, files):
    path = dice.choice(files)
    pages = (used_end(path) + PAGE - 1) // PAGE
    count = dice.choice((1, dice.randrange(1, pages + 1)))
    at = dice.randrange(pages - count + 1) * PAGE
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(bytes(count * PAGE))
    return f"zeros {name_of(path)}@{at}, {count} pages"


def remove(dice, files):
    path = dice.choice(files)
    os.unlink(path)
    return f"removed {name_of(path)}"


def swap(dice, files):
    """Of one shard; a file of another one is refused as foreign (cases_borders.py)."""
    path = dice.choice(files)
    other = dice.choice([file for file in files if file != path and os.path.dirname(file) == os.path.dirname(path)])
    aside = path + ".aside"
    os.rename(path, aside)
    os.rename(other, path)
    os.rename(aside, other)
    return f"swapped {name_of(path)} and {name_of(other)}"


DAMAGES = (flip_bits, zero_pages, truncate, flip_bits, remove, swap)


def ended(node, text, starts):
    """It said why, was not ended by a signal, and may be started again."""
    code = node.wait_exit(30)
    check(code == EXIT_MEDIUM, f"{node.name} ended with {code}: {text()[-1500:]}")
    check(lines_matching(text(), FOUND), f"{node.name} ended with {code} and does not say why: {text()[-1500:]}")
    check(starts < STARTS_MAX, f"{node.name} ended {starts} times: {text()[-3000:]}")


def start_until_it_serves(node, options, read):
    """As a supervisor does. Returns what `read` does, and the log's lines."""
    size = len(node.log_text())

    def text():
        return node.log_since(size)
    for starts in range(1, STARTS_MAX + 1):
        began = len(node.log_text())
        node.start(*options)
        try:
            wait_until("it serves, or ends", lambda: node.process.poll() is not None or node.serves(), 60)
            if node.process.poll() is None:
                found = read()
                wait_until("all was checked, or it ended", lambda: node.process.poll() is not None or all_checked(node.log_since(began)), 30)
            if node.process.poll() is None:
                return settle_damage(node, text, read, found), text()
        except OSError:
            pass  # it has ended meanwhile
        except Failure:
            if node.process is None or node.process.poll() is None:
                raise
        ended(node, text, starts)
    raise Failure("not reached")


def start_alone(node, options, ledger):
    """A single node: it serves all that was acknowledged and nothing older, or refuses. True: it serves."""
    options = list(options)
    for starts in range(1, STARTS_MAX + 2):
        began = len(node.log_text())
        node.start(*options)
        wait_until("it serves, or ends", lambda: node.process.poll() is not None or serves_or_ended(node), 60)
        with contextlib.suppress(OSError):  # it may end at a read
            ledger.read(node)
            wait_until("all was checked, or it ended", lambda: node.process.poll() is not None or all_checked(node.log_since(began)), 20)
        if node.process.poll() is None and "--rebuild-index" in options:
            return True
        if node.process.poll() is None:  # records that nobody needs are looked at by a scan only
            node.kill()
            options.append("--rebuild-index")
        elif node.process.poll() == EXIT_REFUSED:
            check(lines_matching(node.log_since(began), REFUSED), f"refused without the line: {node.log_since(began)[-1500:]}")
            node.process = None
            return False
        else:
            ended(node, lambda: node.log_since(began), starts)  # pylint: disable=cell-var-from-loop
    raise Failure(f"neither serves nor refuses: {node.log_text()[-3000:]}")


def serves_or_ended(node):
    try:
        return node.serves()
    except Failure:
        return node.process.poll() is not None


def serve_what_is_left(node, ledger):
    """--damaged=serve: once. Returns how many keys are lost and how many older, which the ledger knows from then on."""
    size = len(node.log_text())
    node.start("--damaged=serve")
    node.wait_serving()
    lost, old = ledger.read(node, alone=True)
    check(lines_matching(node.log_since(size), "--damaged=serve: what is left is served"), node.log_since(size))

    def damaged():
        with node.connect() as connection:
            return int(connection.stats()["log_damaged_segments"])
    wait_until("what can be read has moved", lambda: damaged() == 0, 30)
    node.kill()
    check(start_alone(node, ("--rebuild-index",), ledger), f"still refused: {node.log_since(size)}")
    return lost, old


def settle_damage(node, text, read, found):
    """What hit only records that nobody needs any more may be found much later, by cleaning: a scan finds it now."""
    if not lines_matching(text(), FOUND):
        node.kill()
        node.start("--rebuild-index")
        node.wait_serving()
        found = tuple(map(sum, zip(found, read())))
    return found


def all_checked(text):
    """Of what the last start took over."""
    return text.count("index taken over") == text.count("index checked")


def end_and_hurt(node, dice, number):
    """Ends it in one of two ways. Damage that comes at once is like that of a medium: no time of change gives it away, and the index
    is taken over."""
    time.sleep(0.3)  # what is proved durable (doc/verification.md) is no torn tail
    files = used_files(node)
    if dice.random() < 0.5:
        node.kill()
    else:
        check(node.stop()[0] == 0, "it does not stop")
    if dice.random() < 0.5:
        time.sleep(1.2)
    return DAMAGES[number % len(DAMAGES)](dice, [path for path in files if os.path.exists(path)])


def options_of(dice):
    return ("--rebuild-index",) if dice.random() < 0.5 else ()


def tell(node, options, damage, text, rest=""):
    say(f"{node.name} {' '.join(options)} {damage[:90]}: {text.count('index taken over')} taken over, "
        f"{text.count('rebuilt by scan')} scanned, {len(lines_matching(text, FOUND))} lines of damage{rest}")


def case_random_damage_in_one_of_three_nodes_is_found_and_healed():
    """The same node each time: nothing is left of the round before, so that what is found is this round's."""
    dice = make_dice()
    with Cluster(3) as cluster:
        cluster.start()
        node, ledger = dice.choice(cluster.nodes), Ledger()
        for number in dice.sample(range(len(DAMAGES)), 4) if ROUNDS == 1 else range(len(DAMAGES) * ROUNDS):
            ledger.fill(dice.choice(cluster.nodes), dice)
            damage = end_and_hurt(node, dice, number)
            ledger.fill(dice.choice(cluster.others(node)), dice, 0.5)
            options = options_of(dice)
            _, text = start_until_it_serves(node, options, lambda: ledger.read(node))
            for other in cluster.others(node):
                ledger.read(other)
            tell(node, options, damage, text)


def case_random_damage_of_a_single_node_is_refused_or_has_cost_nothing():
    """It has nobody to heal from. If it serves, each key has the value that was acknowledged last; if it refuses, the line names a
    segment that was hurt, and --damaged=serve serves what is left: values that were acknowledged once, and nothing else."""
    dice = make_dice()
    for number in range(len(DAMAGES) * ROUNDS):
        with Cluster(1) as cluster:
            node, ledger = cluster.start().nodes[0], Ledger()
            ledger.fill(node, dice)
            ledger.fill(node, dice)
            damage = end_and_hurt(node, dice, number)
            options, size = options_of(dice), len(node.log_text())
            lost = old = 0
            serves = start_alone(node, options, ledger)
            text = node.log_since(size)
            if not serves:
                named = set(re.findall(r"shard-\d+/segment-\d+", "\n".join(lines_matching(text, REFUSED))))
                check(named & set(re.findall(r"shard-\d+/segment-\d+", damage)), f"not named: {damage}: {text}")
                lost, old = serve_what_is_left(node, ledger)
            tell(node, options, damage, text, "; nothing was lost" if serves else f"; refused; {lost} keys lost, {old} older")
            if DAMAGES[number % len(DAMAGES)] is flip_bits:
                check(lost + old <= 2 * damage.count("@"), f"{lost + old} keys for {damage}")
            ledger.fill(node, dice)
            ledger.read(node)
