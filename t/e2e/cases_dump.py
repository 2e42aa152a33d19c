"""Lists of keys: complete, each key once, and nobody else waits for them, whatever the reader does."""
import os
import socket
import subprocess
import threading
import time
from urllib.parse import unquote_to_bytes

from cluster import PROGRAM, Cluster, Connection, alone, check, wait_until

LINE_NAMES = ["key", "exp", "la", "cas", "fetch", "cls", "size", "flags"]


def one_node(*arguments):
    return Cluster(1, durable=False, arguments=("-m", "128", "-t", "2", *arguments))


def fill(connection, prefix, count, first=0):
    """Keys PREFIXnnn, in a few large writes; back when the last is stored."""
    for start in range(first, first + count, 5000):
        numbers = range(start, min(start + 5000, first + count))
        connection.send(b"".join(b"set %b%d 0 0 5 noreply\r\nvalue\r\n" % (prefix, i) for i in numbers))
    check(connection.set(prefix + b"last", b"x") == b"STORED", "the last key is not stored")


def read_until(connection, end):
    """All bytes up to a line that is `end`."""
    data = b""
    while not data.endswith(end):
        connection.receive()
        data += connection.pending
        connection.pending = b""
    return data


def metadump(connection, what=b"all"):
    """The fields of each line."""
    check(connection.ask(b"lru_crawler metadump " + what) == b"OK", "metadump did not begin")
    data = connection.pending
    connection.pending = b""
    data += b"" if data.endswith(b"END\r\n") else read_until(connection, b"END\r\n")
    return fields(data)


def fields(data):
    lines = data.removesuffix(b"END\r\n").split(b"\n")
    check(lines.pop() == b"", "a line without its end")
    found = []
    for line in lines:
        pairs = [word.split(b"=", 1) for word in line.split()]
        check([name.decode() for name, _ in pairs] == LINE_NAMES, f"{line!r}")
        found.append({name.decode(): value for name, value in pairs})
    return found


def case_dump_shows_what_is_there():
    with one_node() as cluster, cluster.start().nodes[0].connect() as c:
        now = int(time.time())
        check(metadump(c) == [], "keys in an empty store")
        c.ask(b"set a%b,~c 7 100 3\r\nabc")
        c.ask(b"set gone 0 0 1\r\nx")
        c.ask(b"delete gone")
        c.ask(b"set past 0 -1 1\r\nx")
        c.ask(b"set \xc3\xa4 0 0 0\r\n")
        c.get(b"\xc3\xa4")
        found = {unquote_to_bytes(line["key"].decode()): line for line in metadump(c, b"hash")}
        check(sorted(found) == [b"a%b,~c", b"\xc3\xa4"], f"{found}")
        line = found[b"a%b,~c"]
        check(line["key"] == b"a%25b%2C~c" and line["flags"] == b"7" and line["cls"] == b"1", f"{line}")
        late = int(time.time())
        check(now + 99 <= int(line["exp"]) <= late + 102 and now - 5 < int(line["la"]) < late + 5, f"{now} to {late}: {line}")
        check(found[b"\xc3\xa4"]["exp"] == b"-1", f"{found}")
        c.send(b"gets a%b,~c\r\n")
        check(c.line().split()[4] == line["cas"] and c.line() == b"abc" and c.line() == b"END", "another cas")
        check(sorted(word["key"] for word in metadump(c, b"1,5")) == [b"%C3%A4", b"a%25b%2C~c"], "by class")
        check(c.ask(b"lru_crawler metadump 2") == b"NOTSTARTED no items to crawl", "class 2")
        check(c.ask(b"lru_crawler metadump 64") == b"BADCLASS invalid class id", "class 64")
        check(c.ask(b"lru_crawler disable") == b"OK", "disable")
        check(c.ask(b"lru_crawler metadump all") == b"CLIENT_ERROR lru crawler disabled", "disabled")
        check(c.ask(b"lru_crawler enable") == b"OK", "enable")
        c.send(b"lru_crawler mgdump all\r\n")
        keys = read_until(c, b"EN\r\n").split(b"\r\n")
        check(sorted(keys[1:3]) == [b"mg a%b,~c", b"mg \xc3\xa4"] and keys[0] == b"OK", f"{keys}")
        c.ask(b"flush_all")
        check(metadump(c) == [], "flushed keys")


def case_dump_is_refused_where_memcached_refuses_it():
    with one_node("-X") as cluster, cluster.start().nodes[0].connect() as c:
        check(c.ask(b"lru_crawler metadump all") == b"ERROR metadump not allowed", "metadump")
        check(c.ask(b"lru_crawler mgdump all") == b"ERROR key dump not allowed", "mgdump")
        check(c.ask(b"stats cachedump 1 0") == b"CLIENT_ERROR stats cachedump not allowed", "cachedump")
        check(c.ask(b"stats detail on") == b"CLIENT_ERROR stats detail not allowed", "detail")
    with one_node() as cluster, cluster.start().nodes[0].connect() as c:
        c.send(b"get a\r\nlru_crawler metadump all\r\n")
        check(c.line() == b"END", "get")
        check(c.line() == b"ERROR cannot pipeline other commands before metadump", "in a pipeline")


def case_dump_lists_each_key_once_while_the_index_grows():
    kept, added = 60000, 240000
    with one_node() as cluster:
        node = cluster.start().nodes[0]
        with slow_connection(node.port, 32768) as c, node.connect() as writer:
            fill(writer, b"kept", kept - 1)
            c.send(b"lru_crawler metadump all\r\n")
            # The reader is slow while the index grows to a multiple.
            for part in range(8):
                c.receive()
                fill(writer, b"added", added // 8, part * added // 8)
                fill(writer, b"kept", kept // 10)  # set again: its record lies elsewhere now
            check(not c.pending.endswith(b"END\r\n"), "it ended too soon to show anything")
            data = c.pending.removeprefix(b"OK\r\n")
            c.pending = b""
            data += read_until(c, b"END\r\n")
        keys = [line["key"] for line in fields(data)]
        check(len(keys) == len(set(keys)), f"{len(keys) - len(set(keys))} keys twice")
        check(len([key for key in keys if key.startswith(b"kept")]) == kept, "a key is missing")


def slow_connection(port, size=65536):
    """Its kernel takes no more than about `size` bytes that nobody reads."""
    connection = Connection.__new__(Connection)
    connection.socket = socket.socket()
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    connection.socket.settimeout(30)
    connection.socket.connect(("127.0.0.1", port))
    connection.pending = b""
    return connection


def resident(pid):
    """Bytes of memory; 0 under a sanitizer, whose memory is not the server's."""
    if "san/" in PROGRAM:
        return 0
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def time_gets(connection, count):
    """Seconds that each of `count` gets takes."""
    took = []
    for i in range(count):
        began = time.monotonic()
        connection.get(b"key%d" % (i * 97))
        took.append(time.monotonic() - began)
    return took


def ninety_nine(took):
    return sorted(took)[len(took) * 99 // 100]


@alone
def case_dump_of_200000_keys_to_a_slow_reader_delays_nobody():
    count = 200000
    with one_node() as cluster:
        node = cluster.start().nodes[0]
        with node.connect() as c, slow_connection(node.port) as slow:
            fill(c, b"key", count - 1)
            usual = ninety_nine(time_gets(c, 2000))
            before = resident(node.process.pid)
            slow.send(b"lru_crawler metadump all\r\n")
            check(slow.line() == b"OK", "metadump did not begin")
            time.sleep(0.5)  # it fills what it may
            check(c.ask(b"lru_crawler mgdump all") == b"BUSY currently processing crawler request", "not busy")
            took = time_gets(c, 2000)
            grown = resident(node.process.pid) - before
            check(grown < 24 << 20, f"{grown >> 20} MB more for a client that does not read")
            reader = threading.Thread(target=lambda: setattr(slow, "all", read_until(slow, b"END\r\n")))
            reader.start()
            while reader.is_alive():
                took += time_gets(c, 10)
            reader.join()
        keys = [line["key"] for line in fields(slow.all)]
        check(len(keys) == count and len(set(keys)) == count, f"{len(keys)} lines, {len(set(keys))} keys")
        p99 = ninety_nine(took)
        print(f"  {len(took)} gets beside the dump: p99 {p99 * 1000:.2f} ms ({usual * 1000:.2f} ms before it), longest {max(took) * 1000:.1f} ms")
        bound = 1 if "san/" in PROGRAM else 0.1  # a get that waits for the dump takes for ever: nobody reads
        check(p99 < bound + 3 * usual, f"p99 {p99 * 1000:.0f} ms")


def case_dump_ends_with_its_client():
    with one_node() as cluster:
        node = cluster.start().nodes[0]
        with node.connect() as c:
            fill(c, b"key", 50000)
            for _ in range(5):
                slow = slow_connection(node.port)
                slow.send(b"lru_crawler metadump all\r\n")
                slow.receive()
                slow.socket.close()
                wait_until("another dump may begin", lambda: dump_begins(node), 30)
            check(len(metadump(c)) == 50001, "not all keys")


def case_dump_is_the_same_on_every_node():
    with Cluster(3, arguments=("-m", "64", "-t", "2")) as cluster:
        first, second, third = cluster.start().nodes
        with first.connect() as a, second.connect() as b, third.connect() as c:
            for i in range(300):
                (a, b, c)[i % 3].set(b"key%d" % i, b"x" * i)
            for i in range(0, 300, 7):
                (a, b, c)[i % 3].ask(b"delete key%d" % i)
            a.ask(b"touch key1 1000")
            a.send(b"set last 7 0 1 noreply\r\nx\r\n")  # waits for the others; the list waits for it
            lists = []
            for connection in (a, b, c):
                lines = metadump(connection)
                for line in lines:
                    del line["la"], line["fetch"]  # of the node alone
                lists.append(sorted(tuple(line.items()) for line in lines))
            check(len(lists[0]) == 300 - 43 + 1, f"{len(lists[0])} keys")
            check(lists[0] == lists[1] == lists[2], "the nodes' lists differ")


def case_dump_that_nobody_takes_is_ended():
    with one_node("-o", "idle_timeout=2") as cluster:
        node = cluster.start().nodes[0]
        with node.connect() as c:
            fill(c, b"key", 100000)
        with slow_connection(node.port, 4096) as slow:
            slow.send(b"lru_crawler metadump all\r\n")
            check(slow.line() == b"OK", "metadump did not begin")
            wait_until("another dump may begin", lambda: dump_begins(node), 30)


def dump_begins(node):
    with node.connect() as c:
        if c.ask(b"lru_crawler metadump all") != b"OK":
            return False
        read_until(c, b"END\r\n")
        return True


def case_dump_by_memcdump_and_sizes():
    with one_node("-o", "track_sizes") as cluster:
        node = cluster.start().nodes[0]
        with node.connect() as c:
            fill(c, b"key", 3000)
            c.set(b"large", b"x" * 100000)
            done = subprocess.run(["memcdump", f"--servers=127.0.0.1:{node.port}"], stdout=subprocess.PIPE, timeout=60, check=True)
            keys = done.stdout.split()
            check(len(keys) == 3002 and len(set(keys)) == 3002 and b"key77" in keys, f"{len(keys)} keys by memcdump")
            c.send(b"stats cachedump 1 7\r\n")
            check(len(read_until(c, b"END\r\n").split(b"\r\n")) == 7 + 2, "not 7 items")
            sizes = {int(size): int(number) for size, number in c.stats(b"sizes").items()}
            check(sum(sizes.values()) == 3002 and sizes[100064] == 1, f"{sizes}")
