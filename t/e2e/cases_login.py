"""Logging in with the password file of the text protocol; and what all ways to log in have to do with each other."""
import os
import signal
import socket
import threading
import time

from binary import NOOP, SASL_AUTH, SASL_LIST, Binary, packet
from cases_sasl import directory, write
from cluster import Cluster, check, wait_until
from single import SMALL, bare_node, same


def login(user, password):
    pair = b"%b %b" % (user, password)
    return b"set any 0 0 %d\r\n%b" % (len(pair), pair)


def case_text_clients_log_in_with_a_set():
    with directory() as path:
        file = write(path, "users", "bob:secret\nalice:a:b c\r\nlast:end")
        with bare_node("-Y", file) as node:
            with node.connect() as c:
                for line in (b"get a", b"mn", b"version", b"quit", b"", b"stats", b"set a 0 0 x", b"add a 0 0 1", b"persist", b"mp"):
                    same(f"{line}", c.ask(line), b"CLIENT_ERROR unauthenticated")
                same("wrong", c.ask(login(b"bob", b"wrong")), b"CLIENT_ERROR authentication failure")
                same("no space", c.ask(b"set a 0 0 3\r\nbob"), b"CLIENT_ERROR bad authentication token format")
                c.send(b"set a 0 0 3\r\nb sXY")
                same("no end", c.line(), b"CLIENT_ERROR bad command line termination")
                same("right", c.ask(login(b"bob", b"secret")), b"STORED")
                same("set", c.set(b"k", b"v"), b"STORED")
                same("get", c.get(b"k"), b"v")
                same("now a set is a set", c.ask(login(b"eve", b"any")), b"STORED")
                check(int(c.stats()["auth_errors"]) == 1, "auth_errors")
            for user, password in ((b"alice", b"a:b c"), (b"last", b"end")):
                with node.connect() as c:
                    c.send(login(user, password) + b"\r\nget k\r\n")
                    same(f"{user}", (c.line(), c.line()), (b"STORED", b"VALUE k 0 1"))
            with node.connect() as c:
                same("too long", c.ask(b"set a 0 0 2147483646"), b"CLIENT_ERROR auth token too long")
            with Binary(node.port) as c:
                c.send(packet(NOOP) + b"\n")
                same("binary", c.exactly(30), b"CLIENT_ERROR unauthenticated\r\n")
            with node.connect() as c:
                c.send(b"x" * 3000)
                check(c.receive() == b"", "a line without end is kept")


def case_the_password_file_is_read_again_at_sighup():
    with directory() as path:
        file = write(path, "users", "bob:secret\n")

        def answer(node, user, password):
            with node.connect() as c:
                return c.ask(login(user, password))

        def reload(node, text, wanted):
            write(path, "users", text)
            size = len(node.log_text())
            node.signal(signal.SIGHUP)
            wait_until("it says so", lambda: wanted in node.log_since(size), 30)
        with bare_node("-Y", file) as node, node.connect() as old:
            same("old", old.ask(login(b"bob", b"secret")), b"STORED")
            reload(node, "bob:other\nalice:pw\n", "read again, 2 users")
            same("the old password", answer(node, b"bob", b"secret"), b"CLIENT_ERROR authentication failure")
            same("the new one", answer(node, b"bob", b"other"), b"STORED")
            same("a new user", answer(node, b"alice", b"pw"), b"STORED")
            same("who is in stays", old.set(b"k", b"v"), b"STORED")
            reload(node, "nonsense\n", "the old users stay")
            same("still", answer(node, b"alice", b"pw"), b"STORED")
            os.unlink(file)
            node.signal(signal.SIGHUP)
            same("and still", answer(node, b"alice", b"pw"), b"STORED")
            stop, problems = threading.Event(), []

            def log_in():
                while not stop.is_set():
                    if answer(node, b"alice", b"pw") != b"STORED":
                        problems.append("refused")
            thread = threading.Thread(target=log_in)
            thread.start()
            for number in range(30):
                reload(node, f"user{number}:x\nalice:pw\n" + "filler:filler\n" * (number % 6), "read again")
            stop.set()
            thread.join()
            check(not problems, f"{len(problems)} logins failed while the file was read")


def check_strangers_cost(node, half):
    """Each sends `half` of an attempt to log in, as much as is allowed."""
    def resident():
        with open(f"/proc/{node.process.pid}/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    strangers = []

    def come(count):
        for _ in range(count):
            strangers.append(socket.create_connection(("127.0.0.1", node.port), timeout=30))
            strangers[-1].sendall(half)
        time.sleep(0.3)
        return resident()
    before = come(100)  # what is taken once is there now
    grown = come(400) - before
    for stranger in strangers:
        stranger.close()
    check(grown < 400 * 45000, f"{grown} bytes for 400 strangers")


def case_strangers_cannot_make_a_node_keep_much():
    with directory() as path:
        file = write(path, "users", "bob:secret\n")
        with bare_node("-Y", file) as node:
            check_strangers_cost(node, b"set a 0 0 16382\r\n" + b"x" * 16000)
        with bare_node("-S", environment={"MEMCACHED_SASL_PWDB": file}) as node:
            check_strangers_cost(node, packet(SASL_AUTH, b"PLAIN", value=b"x" * 16000, body_size=5 + 16384))
            check_strangers_cost(node, packet(SASL_LIST) * 1000)


def refusal(*arguments):
    with Cluster(1, durable=False, arguments=(*SMALL, *arguments)) as cluster:
        node = cluster.nodes[0].start()
        return node.wait_exit(30), node.log_text()


def case_ways_to_authenticate_exclude_each_other():
    with directory() as path:
        file = write(path, "users", "bob:secret\n")
        for arguments, code in ((("-S", "-Y", file), 64), (("-S", "-B", "ascii"), 64), (("-Y", file, "-B", "binary"), 64),
                                (("-S", "-U", "11211"), 64), (("-Y", file, "-U", "11211"), 64),
                                (("-S", "-l", "proto[ascii]:127.0.0.1"), 64),
                                (("-Y", file, "-l", "proto[binary]:127.0.0.1"), 64),
                                (("-Y", os.path.join(path, "none")), 1),
                                (("-Y", write(path, "bad", "bob\n")), 1),
                                (("-Y", write(path, "many", "a:b\n" * 9)), 1),
                                (("-Y", write(path, "empty", "")), 1)):
            got, text = refusal(*arguments)
            same(f"{arguments}", got, code)
            check(text.count("\n") == 1, f"{arguments}: {text!r}")
