"""What any client may expect of one node and of each of three: memcached's answers, byte for byte."""
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading

from pymemcache.client.base import Client

from cluster import Cluster, Connection, Failure, check, free_ports, is_free, wait_until

LONG_KEY = b"k" * 251
SCRIPTS = {
    "storage": b"set a 5 0 3\r\nabc\r\nget a\r\nadd a 0 0 1\r\nx\r\nadd b 1 0 1\r\ny\r\nreplace c 0 0 1\r\nz\r\n"
               b"replace b 2 0 2\r\nzz\r\nappend b 9 0 1\r\n!\r\nprepend b 9 0 1\r\n?\r\nget a b c\r\n"
               b"append none 0 0 1\r\nx\r\nprepend none 0 0 1\r\nx\r\nset empty 0 0 0\r\n\r\nget empty\r\n",
    "numbers": b"set n 0 0 2\r\n10\r\nincr n 5\r\ndecr n 20\r\nget n\r\nincr n 18446744073709551615\r\nincr n 1\r\n"
               b"incr none 1\r\ndecr none 1\r\nset t 0 0 3\r\nabc\r\nincr t 1\r\nincr n abc\r\nincr n -1\r\n"
               b"incr n 18446744073709551616\r\nincr n\r\nset p 0 0 3\r\n100\r\ndecr p 1\r\nget p\r\n",
    "cas": b"cas none 0 0 1 7\r\nx\r\nset a 0 0 1\r\nx\r\ncas a 0 0 1 1\r\ny\r\nget a\r\n",
    "delete": b"set a 0 0 1\r\nx\r\ndelete a\r\ndelete a\r\nget a\r\ndelete a 0\r\ndelete a 5\r\ndelete a 0 noreply\r\n"
              b"delete\r\nset a 0 0 1\r\ny\r\ndelete a noreply\r\nget a\r\n",
    "touch": b"touch none 10\r\nset a 0 0 1\r\nx\r\ntouch a 100\r\ngat 100 a none\r\nget a\r\ntouch a abc\r\n"
             b"touch a\r\ntouch a -1\r\nget a\r\nset b 0 -1 1\r\nx\r\nget b\r\ngat abc a\r\n",
    "noreply": b"set a 0 0 1 noreply\r\nx\r\nadd a 0 0 1 noreply\r\ny\r\nincr a 1 noreply\r\nget a\r\nset n 0 0 1 noreply\r\n"
               b"1\r\nincr n 1 noreply\r\nappend n 0 0 1 noreply\r\n0\r\nget n\r\ntouch n 0 noreply\r\nget n\r\n",
    "flush": b"set a 0 0 1\r\nx\r\nflush_all\r\nget a\r\nset a 0 0 1\r\ny\r\nget a\r\nflush_all noreply\r\nget a\r\n"
             b"flush_all 0\r\nflush_all abc\r\n",
    "no CRLF": b"set a 0 0 3\r\nabcdef\r\nget a\r\n",
    "too large": b"set a 0 0 1048577\r\n" + b"x" * 1048577 + b"\r\nget a\r\nset a 0 0 4\r\nfine\r\nget a\r\n",
    "large": b"set a 0 0 1000000\r\n" + b"x" * 1000000 + b"\r\nget a\r\n",
    "many keys": b"".join(b"set k%d 0 0 3 noreply\r\nv%02d\r\n" % (i, i) for i in range(90)) +
                 b"get " + b" ".join(b"k%d" % i for i in range(100)) + b"\r\n",
    "long key": b"set " + b"k" * 250 + b" 0 0 1\r\nx\r\nget " + b"k" * 250 + b"\r\n",
    "newline only": b"set a 0 0 1\nx\r\nget a\n",
}

# One connection each, and the first line of the answer: versions differ in whether they swallow a data block behind it.
BAD_LINES = (b"", b"x", b"nonsense", b"nonsense with words", b"get", b"gets", b"set", b"set a", b"set a 0 0", b"SET a 0 0 1",
             b"add a 0 0", b"cas a 0 0 1", b"cas a 0 0 1 abc", b"incr", b"incr a", b"decr a", b"touch", b"touch a", b"gat",
             b"delete", b"verbosity", b"get " + LONG_KEY, b"set " + LONG_KEY + b" 0 0 1", b"set a abc 0 1",
             b"set a 0 abc 1", b"set a 0 0 abc", b"set a 0 0 -1", b"set a -1 0 1",
             b"incr " + LONG_KEY + b" 1", b"delete " + LONG_KEY, b"touch " + LONG_KEY + b" 0", b"flush_all abc")


class Memcached:
    """Debian's, as the judge."""

    name = "memcached"

    def __enter__(self):
        self.port = free_ports(1)[0][0]
        user = ["-u", "root"] if os.geteuid() == 0 else []
        self.process = subprocess.Popen(["memcached", "-p", str(self.port), "-l", "127.0.0.1", "-U", "0", *user])
        wait_until("memcached listens", lambda: not is_free(self.port), 30)
        return self

    def __exit__(self, *ignored):
        self.process.terminate()
        self.process.wait()


def play(port, script):
    """All that comes back; `version` at the end shows that nothing more will."""
    with Connection(port) as connection:
        sender = threading.Thread(target=connection.send, args=(script + b"version\r\n",))
        sender.start()
        try:
            while b"VERSION " not in connection.pending and connection.receive():
                pass
        except (TimeoutError, ConnectionError):
            pass
        sender.join()
        return re.sub(rb"VERSION .*", b"", connection.pending)


NEWER = {  # Debian's 1.6.18 says the left, later 1.6 the right
    b"ERROR": b"CLIENT_ERROR bad command line format",
    b"CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]": b"NOT_FOUND",
}


def first_line(port, line):
    with Connection(port) as connection:
        try:
            # Some answer only when the announced data block is there: give them one.
            return connection.ask(line + b"\r\nx" if line[:4] in (b"set ", b"cas ", b"add ") else line)
        except (OSError, ConnectionError):
            return b"(nothing)"


def same(want, got):
    want, got = want.split(b"\r\n"), got.split(b"\r\n")
    return len(want) == len(got) and all(w == g or NEWER.get(w) == g for w, g in zip(want, got))


def compare(memcached, node):
    problems = []
    for name, script in SCRIPTS.items():
        with node.connect() as connection:
            connection.ask(b"flush_all")
        with Connection(memcached.port) as connection:
            connection.ask(b"flush_all")
        want, got = play(memcached.port, script), play(node.port, script)
        if not same(want, got):
            at = next((i for i, (a, b) in enumerate(zip(want, got)) if a != b), min(len(want), len(got)))
            problems.append(f"{node.name}, script `{name}`: memcached answers ...{want[max(0, at - 60):at + 60]!r}, "
                            f"we ...{got[max(0, at - 60):at + 60]!r}")
    for line in BAD_LINES:
        want, got = first_line(memcached.port, line), first_line(node.port, line)
        if not same(want, got):
            problems.append(f"{node.name}, `{line[:40]!r}`: memcached answers {want!r}, we {got!r}")
    if problems:
        raise Failure("\n    ".join(problems))


def case_one_node_answers_as_memcached_does():
    with Memcached() as memcached, Cluster(1, durable=False) as cluster:
        compare(memcached, cluster.start().nodes[0])


def case_each_of_three_nodes_answers_as_memcached_does():
    with Memcached() as memcached, Cluster(3) as cluster:
        cluster.start()
        for node in cluster.nodes:
            compare(memcached, node)


def case_pymemcache_finds_on_every_node_what_any_has_stored():
    with Cluster(3) as cluster:
        cluster.start()
        clients = [Client(("127.0.0.1", node.port), timeout=30) for node in cluster.nodes]
        for i, writer in enumerate(clients):
            check(writer.set(f"key{i}", f"value{i}", noreply=False), "set")
            check(writer.set_many({f"m{i}.{n}": str(n) for n in range(50)}, noreply=False) == [], "set_many")
            for reader in clients:
                check(reader.get(f"key{i}") == f"value{i}".encode(), "get elsewhere")
                check(len(reader.get_many([f"m{i}.{n}" for n in range(60)])) == 50, "get_many elsewhere")
        value, unique = clients[0].gets("key0")
        check(clients[1].cas("key0", "mine", unique, noreply=False) is True, "cas with the number of another node")
        check(clients[2].cas("key0", "late", unique, noreply=False) is False, "cas with an old number")
        check(clients[2].delete("key0", noreply=False), "delete")
        check(all(client.get("key0") is None for client in clients), "deleted everywhere")
        check(clients[0].set("soon", "x", expire=1, noreply=False), "set with expiry")
        wait_until("it expires everywhere", lambda: all(c.get("soon") is None for c in clients), 30)
        check(clients[1].flush_all(noreply=False), "flush_all")
        check(all(client.get("key1") is None for client in clients), "flushed everywhere")
        for client in clients:
            client.close()


def tool(name, node, *arguments):
    done = subprocess.run([name, f"--servers=127.0.0.1:{node.port}", *arguments], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=30, check=False)
    check(done.returncode == 0, f"{name} against {node.name}: {done.returncode} {done.stdout[-500:]!r}")
    return done.stdout


def case_libmemcached_tools_work_with_every_node():
    with Cluster(3) as cluster, tempfile.TemporaryDirectory() as folder:
        cluster.start()
        for node in cluster.nodes:
            path = os.path.join(folder, f"file-{node.name}")
            with open(path, "wb") as file:
                file.write(os.urandom(200).hex().encode())
            tool("memccp", node, path)
            for other in cluster.nodes:
                with open(path, "rb") as file:
                    check(tool("memccat", other, os.path.basename(path)).strip() == file.read(), "memccat")
            check(b"pid" in tool("memcstat", node), "memcstat")
            tool("memcping", node)
            tool("memcrm", cluster.others(node)[0], os.path.basename(path))


# It wants an error for `delete KEY WORD`, which later versions of memcached 1.6 take without a word.
OLDER_ONLY = {"ascii delete", "ascii delete noreply"}


def ascii_passes(port):
    """The commands of the text protocol with which memccapable is content."""
    done = subprocess.run(["memccapable", "-h", "127.0.0.1", "-p", str(port), "-a"], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, timeout=60, check=False)
    return set(re.findall(r"(ascii(?: (?!ascii\b)\w+)+)\s*\[pass\]", done.stdout.decode(errors="replace")))


def case_memccapable_says_the_same_as_of_memcached():
    with Memcached() as memcached, Cluster(3) as cluster:
        cluster.start()
        want = ascii_passes(memcached.port) - OLDER_ONLY
        check(len(want) > 20, f"memccapable says of memcached: {want}")
        got = ascii_passes(cluster.nodes[1].port)
        check(want <= got, f"it is content with memcached, but not with us: {want - got}")


def case_stats_show_view_role_and_peers():
    with Cluster(3) as cluster:
        cluster.start()
        for node in cluster.nodes:
            with node.connect() as connection:
                general = connection.stats()
                for name in ("pid", "uptime", "version", "curr_connections", "cmd_get", "curr_items"):
                    check(name in general, f"no `{name}` in stats")
                check(int(general["pid"]) == node.process.pid, "pid")
                words = " ".join(general).lower()
                check("epoch" in words and "role" in words, f"no view or role in stats: {sorted(general)}")
                check(connection.stats(b"heal") is not None, "stats heal")


def case_bad_clients_cost_nothing():
    """Half requests, closed in the middle; a value that never comes; garbage: the node goes on and frees them."""
    with Cluster(1, durable=False) as cluster:
        node = cluster.start().nodes[0]
        for data in (b"get", b"set a 0 0 100\r\nhalf", b"\0\1\2\3" * 1000, b"x" * 70000, b"get " + b"a " * 20000):
            for _ in range(20):
                with socket.create_connection(("127.0.0.1", node.port), timeout=30) as connection:
                    try:
                        connection.sendall(data)
                    except OSError:
                        pass
        with node.connect() as connection:
            check(connection.set(b"a", b"fine") == b"STORED" and connection.get(b"a") == b"fine", "goes on")
            wait_until("the connections are gone", lambda: int(connection.stats()["curr_connections"]) < 5, 30)


def case_too_many_connections_are_told_so():
    with Cluster(1, durable=False, arguments=("-m", "64", "-t", "2", "-c", "10")) as cluster:
        node = cluster.start().nodes[0]
        wait_until("earlier probes are gone", lambda: count_connections(node) <= 2, 30)
        served, refused = [], 0
        for _ in range(20):
            connection = node.connect()
            try:
                served.append(connection) if connection.ask(b"version").startswith(b"VERSION") else None
                if connection not in served:
                    refused += 1
                    connection.socket.close()
            except OSError:
                refused += 1
                connection.socket.close()
        check(5 <= len(served) <= 10 and refused >= 10, f"{len(served)} served, {refused} refused with -c 10")
        with node.connect() as connection:
            check(connection.line() == b"ERROR Too many open connections", "memcached's own words")
        for connection in served:
            connection.socket.close()
        wait_until("there is room again", lambda: count_connections(node) <= 2, 30)


def count_connections(node):
    try:
        with node.connect() as connection:
            return int(connection.stats()["curr_connections"])
    except (OSError, Failure):
        return 1000


def case_sigterm_ends_a_node_at_once_with_0():
    with Cluster(1) as single, Cluster(3) as group:
        for cluster in (single, group):
            cluster.start()
            idle = [node.connect() for node in cluster.nodes]
            for node in cluster.nodes:
                code, seconds = node.stop()
                check(code == 0, f"{node.name} ended with {code}")
                check(seconds < 15, f"{node.name} took {seconds:.1f} s")
            for connection in idle:
                connection.socket.close()


def case_sigint_ends_a_node_too():
    with Cluster(1, durable=False) as cluster:
        node = cluster.start().nodes[0]
        node.signal(signal.SIGINT)
        check(node.wait_exit(30) == 0, "SIGINT")


def case_wrong_options_are_named():
    with Cluster(1, durable=False) as cluster:
        node = cluster.nodes[0]
        for wrong in (["--nonsense"], ["-t", "0"], ["-m", "abc"], ["--node=9", f"--peers={cluster.peers}"],
                      ["--peers=1@127.0.0.1"], ["-p", "70000"]):
            done = subprocess.run(node.command(wrong), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  timeout=30, check=False)
            name = wrong[0].split("=")[0]
            check(done.returncode not in (0, -signal.SIGABRT, -signal.SIGSEGV), f"{wrong}: {done.returncode}")
            check(name.lstrip("-") in done.stdout or "peers" in done.stdout, f"{wrong}: {done.stdout!r}")
