"""The command watch: what others do, in memcached's words; a slow watcher loses lines and nobody waits for it."""
import re
import socket
import threading
import time

from cases_dump import resident, slow_connection
from cluster import Cluster, check, wait_until


def one_node(*arguments):
    return Cluster(1, durable=False, arguments=("-m", "64", "-t", "2", *arguments))


def watch(node, what):
    connection = node.connect()
    check(connection.ask(b"watch " + what) == b"OK", f"watch {what}")
    return connection


def lines_until(connection, pattern):
    """All lines up to one that matches, without ts and gid."""
    while not re.search(pattern, connection.pending):
        connection.receive()
    lines = connection.pending.split(b"\n")
    connection.pending = lines.pop()
    found = []
    for line in lines:
        match = re.match(rb"ts=\d+\.\d{6} gid=\d+ (.*)", line)
        check(match, f"{line!r}")
        found.append(match.group(1))
    return found


def case_watch_shows_what_others_do():
    with one_node() as cluster:
        node = cluster.start().nodes[0]
        with watch(node, b"fetchers mutations deletions") as watcher, node.connect() as c:
            c.ask(b"set a%b 0 100 3\r\nabc")
            c.get(b"a%b")
            c.get(b"none")
            c.ask(b"add a%b 0 0 1\r\nx")
            c.ask(b"cas a%b 0 0 1 1\r\nx")
            c.ask(b"cas none 0 0 1 1\r\nx")
            c.ask(b"delete a%b")
            c.ask(b"delete none")
            c.ask(b"set e 0 -1 1\r\nx")
            c.get(b"e")
            c.get(b"last")
            lines = lines_until(watcher, rb"key=last .*\n")
            cfd = re.search(rb"cfd=(\d+)", lines[0]).group(1)
            wanted = [b"type=item_store key=a%25b status=stored cmd=set ttl=100 clsid=1 cfd=N size=3",
                      b"type=item_get key=a%25b status=found clsid=1 cfd=N size=3",
                      b"type=item_get key=none status=not_found clsid=0 cfd=N size=0",
                      b"type=item_store key=a%25b status=not_stored cmd=add ttl=0 clsid=1 cfd=N size=1",
                      b"type=item_store key=a%25b status=exists cmd=cas", b"type=item_store key=none status=not_found cmd=cas",
                      b"type=deleted key=a%25b cmd=delete clsid=1 size=3", b"type=item_store key=e status=stored cmd=set ttl=0",
                      b"type=item_get key=e status=expired", b"type=item_get key=last status=not_found"]
            check(len(lines) == len(wanted), f"{lines}")
            for line, start in zip(lines, wanted):
                check(line.startswith(start.replace(b"=N", b"=" + cfd)), f"{line} is not {start}")
        with watch(node, b"fetchers") as watcher, watch(node, b"deletions") as other, node.connect() as c:
            c.ask(b"set b 0 0 1\r\nx")
            c.ask(b"delete b")
            c.get(b"last")
            check(len(lines_until(watcher, rb"key=last .*\n")) == 1, "more than fetches")
            check(lines_until(other, rb"key=b .*\n")[0].startswith(b"type=deleted key=b"), "deletions")
            wait_until("both are counted", lambda: c.stats()["log_watchers"] == "2", 30)
        with node.connect() as c:
            wait_until("none is left", lambda: c.stats()["log_watchers"] == "0", 30)


def case_watch_shows_connections():
    with one_node("-o", "idle_timeout=1") as cluster:
        node = cluster.start().nodes[0]
        with watch(node, b"connevents") as watcher:
            with node.connect() as c:
                c.get(b"a")
                port = c.socket.getsockname()[1]
            line = rb"type=conn_%b rip=127.0.0.1 rport=" + str(port).encode() + rb" transport=tcp%b cfd=\d+"
            lines = lines_until(watcher, line % (b"close", b" reason=normal") + rb"\n")
            check(any(re.fullmatch(line % (b"new", b""), text) for text in lines), f"{lines}")
            with node.connect() as c:
                c.get(b"a")
                port = str(c.socket.getsockname()[1]).encode()
                lines_until(watcher, rb"conn_close rip=127.0.0.1 rport=" + port + rb" transport=tcp reason=idle_timeout cfd=\d+\n")


def case_watch_is_refused_where_memcached_refuses_it():
    with one_node("-W") as cluster, cluster.start().nodes[0].connect() as c:
        check(c.ask(b"watch") == b"CLIENT_ERROR watch commands not allowed", "-W")
    with one_node() as cluster:
        node = cluster.start().nodes[0]
        with node.connect() as c:
            check(c.ask(b"watch nonsense") == b"ERROR", "an unknown stream")
            c.send(b"get a\r\nwatch\r\n")
            check(c.line() == b"END" and c.line() == b"ERROR cannot pipeline other commands before watch", "in a pipeline")
            check(c.get(b"a") is None, "usable afterwards")
            watchers = [watch(node, b"sysevents") for _ in range(20)]
            check(c.ask(b"watch") == b"WATCHER_TOO_MANY log watcher limit reached", "the 21st")
            for watcher in watchers:
                watcher.send(b"get a\r\nflush_all\r\n")  # no commands any more
                watcher.socket.close()
            wait_until("all are gone", lambda: c.stats()["log_watchers"] == "0", 30)
            check(c.stats()["cmd_flush"] == "0", "a watcher's command was run")
        with node.connect() as half:
            half.send(b"watch fetchers\r\n")
            check(half.line() == b"OK", "watch")
            half.socket.shutdown(socket.SHUT_WR)
            check(half.socket.recv(10) == b"", "a watcher that has ended")


def case_watch_skips_for_a_slow_watcher_and_delays_nobody():
    with one_node("-o", "watcher_logbuf_size=64") as cluster:
        node = cluster.start().nodes[0]
        with slow_connection(node.port, 4096) as slow, node.connect() as c:
            slow.send(b"watch fetchers\r\n")
            check(slow.line() == b"OK", "watch")
            c.get(b"a")
            before = resident(node.process.pid)
            keys = b" ".join(b"k" * 200 + b"%d" % i for i in range(1000))
            began = time.monotonic()
            for _ in range(60):
                check(c.ask(b"get " + keys) == b"END", "get")
            took = time.monotonic() - began
            stats = c.stats()
            skipped, sent = int(stats["log_watcher_skipped"]), int(stats["log_watcher_sent"])
            check(skipped > 0 and skipped + sent == int(stats["log_worker_written"]) == 60001, f"{skipped} and {sent}")
            check(resident(node.process.pid) - before < 16 << 20, "memory grows with what is not read")
            slow.socket.settimeout(2)
            counted = told = 0
            # What waits, then a line that finds room again and says how many did not.
            while told + counted < 60001:
                c.get(b"more")
                counted -= 1
                try:
                    slow.receive()
                except TimeoutError:
                    continue
                *lines, slow.pending = slow.pending.split(b"\n")
                told += sum(int(line[8:]) for line in lines if line.startswith(b"skipped="))
                counted += sum(1 for line in lines if line.startswith(b"ts="))
            print(f"  60,000 gets in {took:.2f} s beside a watcher that does not read; {told} lines skipped, and it was told so")


def case_watch_may_end_while_lines_are_written():
    with one_node() as cluster:
        node = cluster.start().nodes[0]
        stop = threading.Event()

        def work():
            with node.connect() as c:
                while not stop.is_set():
                    c.ask(b"get " + b" ".join(b"key%d" % i for i in range(100)))

        workers = [threading.Thread(target=work) for _ in range(3)]
        for worker in workers:
            worker.start()
        until = time.monotonic() + 3
        rounds = 0
        while time.monotonic() < until or rounds <= 3:
            watchers = [watch(node, b"fetchers connevents") for _ in range(5)]
            for i, watcher in enumerate(watchers):
                if i % 2 == 0:
                    watcher.receive()
                watcher.socket.close()
            rounds += 1
        stop.set()
        for worker in workers:
            worker.join()
        with node.connect() as c:
            wait_until("none is left", lambda: c.stats()["log_watchers"] == "0", 30)
