"""The binary protocol on real nodes; logging in with SASL and with a password file."""
import contextlib
import os
import random
import signal
import socket
import subprocess
import tempfile
import threading
import time

from binary import (ADD, ADDQ, APPEND, APPENDQ, AUTH_CONTINUE, AUTH_ERROR, Binary, DECREMENT, DELETE, DELETEQ, EXISTS,
                    FLUSH, FLUSHQ, FOREVER, GAT, GATK, GATKQ, GATQ, GET, GETK, GETKQ, GETQ, INCREMENT, INCREMENTQ,
                    INVALID, NON_NUMERIC, NOOP, NOT_FOUND, NOT_SERVING, NOT_STORED, OK, PERSIST, PERSISTQ, PREPEND,
                    QUIT, QUITQ, REPLACE,
                    REPLACEQ, SASL_AUTH, SASL_LIST, SASL_STEP, SET, SETQ, STAT, TOO_LARGE, TOUCH, UNKNOWN, VERSION,
                    counting, packet, seconds, storing)
from cluster import Cluster, Failure, check, wait_until

SMALL = ("-m", "128", "-t", "2")


def same(what, got, wanted):
    check(got == wanted, f"{what}: {got!r}, wanted {wanted!r}")


@contextlib.contextmanager
def one_node(*arguments):
    with Cluster(1, durable=False, arguments=(*SMALL, *arguments)) as cluster:
        cluster.start()
        yield cluster.nodes[0]


# ---- data


def case_binary_and_text_see_the_same_data_on_different_nodes():
    with Cluster(3) as cluster:
        cluster.start()
        one, two, three = cluster.nodes
        with Binary(one.port) as binary, two.connect() as text, Binary(three.port) as other:
            same("set", text.ask(b"set t 4294967295 0 3\r\nabc"), b"STORED")
            answer = binary.get(b"t")
            same("get", (answer.status, answer.flags(), answer.value), (OK, 4294967295, b"abc"))
            set_answer = binary.set(b"b", b"x\r\ny", flags=7)
            same("set", set_answer.status, OK)
            text.send(b"gets b\r\n")
            same("gets", text.line(), b"VALUE b 7 4 %d" % set_answer.cas)
            text.exactly(len(b"x\r\ny\r\nEND\r\n"))
            same("text cas", text.ask(b"cas b 0 0 1 %d\r\nz" % set_answer.cas), b"STORED")
            same("binary cas, old", other.set(b"b", b"no", cas=set_answer.cas).status, EXISTS)
            same("text incr", text.ask(b"set n 5 0 2\r\n10"), b"STORED")
            same("binary incr", binary.ask(INCREMENT, b"n", counting(5)).number(), 15)
            same("text incr", text.ask(b"incr n 1"), b"16")
            same("binary decr", other.ask(DECREMENT, b"n", counting(7)).number(), 9)
            same("padded", text.get(b"n"), b"9 ")
            same("created", binary.ask(INCREMENT, b"new", counting(1, 2 ** 64 - 2)).number(), 2 ** 64 - 2)
            same("text incr of it", text.ask(b"incr new 1"), b"18446744073709551615")
            same("wraps", other.ask(INCREMENT, b"new", counting(2)).number(), 1)
            same("text delete", text.ask(b"delete b"), b"DELETED")
            same("gone", other.get(b"b").status, NOT_FOUND)


def case_binary_answers_with_the_statuses_of_memcached():
    with one_node() as node, Binary(node.port) as c:
        same("replace", c.ask(REPLACE, b"k", storing(), b"v").status, NOT_FOUND)
        same("append", c.ask(APPEND, b"k", value=b"v").status, NOT_STORED)
        same("prepend", c.ask(PREPEND, b"k", value=b"v").status, NOT_STORED)
        same("delete", c.ask(DELETE, b"k").status, NOT_FOUND)
        same("touch", c.ask(TOUCH, b"k", seconds(0)).status, NOT_FOUND)
        same("incr", c.ask(INCREMENT, b"k", counting(1, 5, FOREVER)).status, NOT_FOUND)
        same("set with a cas", c.set(b"k", b"v", cas=5).status, NOT_FOUND)
        same("add with a cas", c.ask(ADD, b"k", storing(), b"v", 5).status, NOT_FOUND)
        same("add", c.ask(ADD, b"k", storing(), b"v").status, OK)
        answer = c.ask(ADD, b"k", storing(), b"w", opaque=77)
        same("add again", (answer.status, answer.value, answer.opaque, answer.cas),
             (EXISTS, b"Data exists for key.", 77, 0))
        same("incr", c.ask(INCREMENT, b"k", counting(1)).status, NON_NUMERIC)
        same("append", c.ask(APPEND, b"k", value=b"2").status, OK)
        same("prepend", c.ask(PREPEND, b"k", value=b"1").status, OK)
        same("get", c.get(b"k").value, b"1v2")
        answer = c.ask(GETK, b"k")
        same("getk", (answer.key, answer.value, answer.extras), (b"k", b"1v2", b"\0\0\0\0"))
        answer = c.ask(GETK, b"none")
        same("getk miss", (answer.status, answer.key, answer.value), (NOT_FOUND, b"none", b""))
        same("get miss", c.get(b"none").value, b"Not found")
        answer = c.ask(DELETE, b"k")
        same("delete", (answer.status, answer.cas, answer.value), (OK, 0, b""))
        same("verbosity", c.ask(0x1b, b"", seconds(1)).status, UNKNOWN)
        same("after it", c.ask(VERSION).value[:4], b"1.6.")
        same("a key of any bytes", c.set(b"a b\r\n\0\xff", b"").status, OK)
        same("an empty value", c.get(b"a b\r\n\0\xff").value, b"")


def case_binary_cas_works_in_every_command_that_changes():
    changes = [(SET, storing(), b"5"), (ADD, storing(), b"5"), (REPLACE, storing(), b"5"), (APPEND, b"", b"1"),
               (PREPEND, b"", b"1"), (INCREMENT, counting(1), b""), (DECREMENT, counting(1), b""), (DELETE, b"", b"")]
    with Cluster(3) as cluster:
        cluster.start()
        with Binary(cluster.nodes[0].port) as c, Binary(cluster.nodes[1].port) as other:
            for opcode, extras, value in changes:
                cas = c.set(b"k", b"10").cas
                newer = other.ask(SET, b"k", storing(), b"11").cas
                check(cas not in (0, newer), f"{opcode:02x}: cas {cas}, then {newer}")
                answer = c.ask(opcode, b"k", extras, value, cas)
                same(f"{opcode:02x} with an old cas", answer.status, EXISTS)
                same("untouched", (c.get(b"k").value, c.get(b"k").cas), (b"11", newer))
                answer = c.ask(opcode, b"k", extras, value, newer)
                same(f"{opcode:02x} with the cas", answer.status, OK)
                if opcode != DELETE:
                    same("the new one", other.get(b"k").cas, answer.cas)
                    check(answer.cas != newer, "a change keeps the cas")


def case_binary_option_c_turns_cas_off():
    with one_node("-C") as node, Binary(node.port) as c:
        same("set", c.set(b"k", b"1").cas, 0)
        same("get", c.get(b"k").cas, 0)
        same("set with a cas", c.set(b"k", b"2", cas=5).status, OK)
        same("append with a cas", c.ask(APPEND, b"k", value=b"3", cas=5).status, OK)
        same("delete with a cas", c.ask(DELETE, b"k", cas=5).status, EXISTS)
        same("incr with a cas", c.ask(INCREMENT, b"k", counting(1), cas=5).status, EXISTS)
        same("incr", c.ask(INCREMENT, b"k", counting(1)).number(), 24)


def case_binary_touch_and_gat_change_the_time_and_keep_the_cas():
    with one_node() as node, Binary(node.port) as c:
        cas = c.set(b"k", b"value", flags=3).cas
        answer = c.ask(TOUCH, b"k", seconds(100))
        same("touch", (answer.status, answer.flags(), answer.value, answer.cas), (OK, 3, b"", cas))
        answer = c.ask(GAT, b"k", seconds(100))
        same("gat", (answer.flags(), answer.key, answer.value, answer.cas), (3, b"", b"value", cas))
        for opcode in (GET, TOUCH, GAT):  # only changes compare
            extras = b"" if opcode == GET else seconds(0)
            same(f"{opcode:02x} with another cas", c.ask(opcode, b"k", extras, cas=cas + 1).status, OK)
        answer = c.ask(GATK, b"k", seconds(2592001))  # in 1970
        same("gatk", (answer.key, answer.value), (b"k", b"value"))
        same("gone", c.get(b"k").status, NOT_FOUND)
        same("gat", c.ask(GAT, b"k", seconds(0)).status, NOT_FOUND)
        same("gatk miss", c.ask(GATK, b"k", seconds(0)).key, b"k")
        c.set(b"k", b"v", exptime=0xffffffff)  # unsigned: the year 2106
        same("far away", c.get(b"k").value, b"v")
        same("created and gone", c.ask(INCREMENT, b"n", counting(1, 5, 2592001)).number(), 5)
        same("incr", c.ask(INCREMENT, b"n", counting(1, 5, FOREVER)).status, NOT_FOUND)


def case_binary_quiet_requests_answer_only_what_is_not_expected():
    with one_node() as node, Binary(node.port) as c:
        c.set(b"k", b"v")
        c.set(b"n", b"1")
        quiet = [(GETQ, b"none", b"", b""), (GETKQ, b"none", b"", b""), (GATQ, b"none", seconds(0), b""),
                 (GATKQ, b"none", seconds(0), b""), (SETQ, b"s", storing(), b"v"), (ADDQ, b"a", storing(), b"v"),
                 (REPLACEQ, b"s", storing(), b"w"), (APPENDQ, b"s", b"", b"x"), (INCREMENTQ, b"n", counting(1), b""),
                 (DELETEQ, b"a", b"", b"")]
        loud = [(GETQ, b"k", b"", b"", OK), (GETKQ, b"k", b"", b"", OK), (GATQ, b"k", seconds(0), b"", OK),
                (GATKQ, b"k", seconds(0), b"", OK), (ADDQ, b"k", storing(), b"v", EXISTS),
                (REPLACEQ, b"none", storing(), b"v", NOT_FOUND), (DELETEQ, b"none", b"", b"", NOT_FOUND),
                (APPENDQ, b"none", b"", b"v", NOT_STORED), (INCREMENTQ, b"k", counting(1), b"", NON_NUMERIC)]
        burst = b"".join(packet(opcode, key, extras, value, opaque=1) for opcode, key, extras, value in quiet)
        c.send(burst + b"".join(packet(row[0], row[1], row[2], row[3], opaque=2) for row in loud) + packet(NOOP, opaque=3))
        for row in loud:
            answer = c.receive()
            same(f"{row[0]:02x}", (answer.opcode, answer.opaque, answer.status), (row[0], 2, row[4]))
            same("its key", answer.key, b"k" if row[0] in (GETKQ, GATKQ) else b"")
        same("then the noop", c.receive().opaque, 3)
        same("done all the same", c.get(b"s").value, b"wx")


def case_binary_bursts_keep_their_order_over_shards():
    """Keys of different shards and nodes finish at different times."""
    generator = random.Random(5)
    with Cluster(3) as cluster:
        cluster.start()
        with Binary(cluster.nodes[2].port) as c:
            for number in range(20):
                count = generator.randrange(1, 300)
                burst = b"".join(packet(SETQ, b"key%d" % i, storing(i), b"%d" % number) for i in range(count))
                burst += b"".join(packet(generator.choice((GETKQ, GETK)), b"key%d" % i, opaque=i) for i in range(count))
                c.send(burst + packet(NOOP, opaque=9999))
                for i in range(count):
                    answer = c.receive()
                    same("order", (answer.opaque, answer.key, answer.value, answer.flags()),
                         (i, b"key%d" % i, b"%d" % number, i))
                same("noop", c.receive().opaque, 9999)


def case_binary_stat_flush_and_quit():
    with one_node() as node, Binary(node.port) as c:
        c.set(b"k", b"v")
        c.send(packet(STAT, opaque=4))
        found = {}
        while (answer := c.receive()).key:
            same("stat", (answer.opcode, answer.status, answer.opaque), (STAT, OK, 4))
            found[answer.key] = answer.value
        same("pid", found[b"pid"], b"%d" % node.process.pid)
        same("version", found[b"version"], c.ask(VERSION).value)
        check(int(found[b"cmd_set"]) == 1, f"cmd_set {found[b'cmd_set']}")
        answer = c.ask(STAT, b"reset")
        same("reset", (answer.status, answer.key, answer.value), (OK, b"", b""))
        same("unknown group", c.ask(STAT, b"nonsense").status, NOT_FOUND)
        same("no statistics", c.ask(STAT, b"cachedump 1 1").status, NOT_FOUND)
        same("prefixes on", c.ask(STAT, b"detail on").status, OK)
        c.get(b"a:1")
        answer = c.ask(STAT, b"detail dump")
        same("prefixes", (answer.key, answer.value), (b"detailed", b"PREFIX a get 1 hit 0 set 0 del 0\r\nEND\r\n"))
        same("their end", c.receive().key, b"")
        same("long group", c.ask(STAT, b"x" * 250).status, NOT_FOUND)
        c.send(packet(STAT, b"settings"))
        settings = {}
        while (answer := c.receive()).key:
            settings[answer.key] = answer.value
        same("settings", settings[b"binding_protocol"], b"auto-negotiate")
        c.send(packet(FLUSHQ) + packet(GET, b"k") + packet(FLUSH, b"", seconds(3600)))
        same("flushed", (c.receive().status, c.receive().status), (NOT_FOUND, OK))
        c.set(b"k", b"v")
        same("delayed", c.get(b"k").status, OK)
        same("quit", c.ask(QUIT).status, OK)
        check(c.is_closed(), "quit does not close")
        with Binary(node.port) as other:
            other.send(packet(GET, b"k") + packet(QUITQ) + packet(DELETE, b"k"))
            same("before quitq", other.receive().value, b"v")
            check(other.is_closed(), "quitq does not close")
        with Binary(node.port) as other:
            same("nothing runs behind quitq", other.get(b"k").status, OK)


def case_binary_flush_all_may_be_forbidden():
    with one_node("-F") as node, Binary(node.port) as c:
        same("flush", c.ask(FLUSH).status, AUTH_ERROR)
        same("flushq", c.ask(FLUSHQ).status, AUTH_ERROR)


def case_binary_too_large_values_are_swallowed():
    with one_node("-I", "64k") as node, Binary(node.port) as c:
        for opcode, kept in ((SET, False), (SETQ, False), (ADD, True), (REPLACE, True), (APPEND, True)):
            c.set(b"k", b"old")
            extras = b"" if opcode == APPEND else storing()
            answer = c.ask(opcode, b"k", extras, b"x" * 65536)
            same(f"{opcode:02x}", (answer.status, answer.value), (TOO_LARGE, b"Too large."))
            same("the old value", c.get(b"k").status, OK if kept else NOT_FOUND)
        c.set(b"k", b"x" * 40000)
        same("append beyond the limit", c.ask(APPEND, b"k", value=b"x" * 40000).status, NOT_STORED)
        limit = next(size for size in range(65536, 0, -1) if c.set(b"k", b"x" * size).status == OK)
        same("the same limit as text", 65536 - limit, 48 + 8 + 1 + 2 + 1)
        same("it is whole", c.get(b"k").value, b"x" * limit)


def case_binary_values_of_many_pieces_are_like_others():
    """Above 1 MiB a value is stored in pieces, with a manifest under its key."""
    value = random.Random(3).randbytes(3000000)
    with one_node("-I", "8m") as node, Binary(node.port) as c:
        cas = c.set(b"k", value, flags=5).cas
        answer = c.get(b"k")
        same("get", (answer.value == value, answer.flags(), answer.cas), (True, 5, cas))
        answer = c.ask(TOUCH, b"k", seconds(100))
        same("touch", (answer.status, answer.flags(), answer.value, answer.cas), (OK, 5, b"", cas))
        answer = c.ask(GATK, b"k", seconds(100))
        same("gatk", (answer.key, answer.value == value, answer.cas), (b"k", True, cas))
        newer = c.ask(APPEND, b"k", value=b"tail").cas
        same("append with the old cas", c.ask(APPEND, b"k", value=b"no", cas=cas).status, EXISTS)
        answer = c.ask(PREPEND, b"k", value=b"head", cas=newer)
        same("prepend with the new one", answer.status, OK)
        same("the cas", c.get(b"k").cas, answer.cas)
        same("all of it", c.get(b"k").value == b"head" + value + b"tail", True)
        same("incr", c.ask(INCREMENT, b"k", counting(1)).status, NON_NUMERIC)
        same("add", c.ask(ADD, b"k", storing(), value).status, EXISTS)
        c.send(packet(GETKQ, b"k") + packet(SETQ, b"k", storing(), value) + packet(DELETE, b"k") + packet(NOOP))
        same("a burst", [c.receive().opcode for _ in range(3)], [GETKQ, DELETE, NOOP])
        for opcode, whole in ((APPEND, b"small" + value), (PREPEND, value + b"small")):  # the new part is the large one
            c.set(b"k", b"small")
            same(f"{opcode:02x}", c.ask(opcode, b"k", value=value).status, OK)
            same("both", c.get(b"k").value == whole, True)
            c.set(b"k", b"")
            same("to nothing", c.ask(opcode, b"k", value=value).status, OK)
            same("it alone", c.get(b"k").value == value, True)


def case_binary_contradicting_lengths_are_answered_and_closed():
    value = dict(key=b"key", extras=storing(), value=b"value")
    wrong = [(packet(SET, **value, body_size=10), UNKNOWN), (packet(SET, **value, key_size=300), UNKNOWN),
             (packet(SET, **value, extras_size=255), UNKNOWN), (packet(GET, b"key", value=b"v"), INVALID),
             (packet(GET, b"x" * 251), INVALID), (packet(GET), INVALID), (packet(SET, b"k", b"1234567", b"v"), INVALID),
             (packet(NOOP, b"k"), INVALID), (packet(FLUSH, b"", b"123"), INVALID),
             (packet(INCREMENT, b"k", counting(1)[:19]), INVALID), (packet(TOUCH, b"k"), INVALID),
             (packet(SET, **value, body_size=(1 << 30) + 1), INVALID), (packet(SET, **value, body_size=2 ** 31), INVALID),
             (packet(SET, **value, body_size=2 ** 32 - 1), INVALID)]
    with one_node() as node:
        for data, status in wrong:
            with Binary(node.port) as c:
                c.send(packet(SETQ, b"before", storing(), b"v") + data + b"\0" * 600)  # they are answered behind their key
                answer = c.receive()
                same(f"{data!r}", answer.status, status)
                check(c.is_closed(), f"{data!r} does not close")
        for magic in (b"\x81", b"\0", b"g"):
            with Binary(node.port) as c:
                c.send(packet(NOOP) + magic * 24)
                same("noop", c.receive().status, OK)
                check(c.is_closed(), "a wrong magic does not close")
        check(node.serves(), "it does not serve any more")


def case_binary_requests_cut_anywhere_leave_nothing_and_slow_ones_work():
    request = packet(SET, b"cut", storing(), b"value")
    with one_node() as node:
        for size in range(1, len(request)):
            with Binary(node.port) as c:
                c.send(request[:size])
        with Binary(node.port) as c:
            same("a set that was cut", c.get(b"cut").status, NOT_FOUND)
            c.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in request + packet(GET, b"cut"):
                c.send(bytes([byte]))
            same("byte by byte", (c.receive().status, c.receive().value), (OK, b"value"))
            c.send(packet(SET, b"cut", storing(), b"") + packet(NOOP))
            same("no bytes", (c.receive().status, c.receive().status), (OK, OK))
            half = packet(SET, b"half", storing(), b"x" * 500000)
            c.send(half[:100])
            time.sleep(0.05)
            c.send(half[100:])
            same("in pieces", c.receive().status, OK)
            c.send(packet(GET, b"half"))
            c.socket.shutdown(socket.SHUT_WR)
            same("after a half-close", len(c.receive().value), 500000)


VALUES = (0, 1, 5, 100, 2000, 70000, 1100000)
EXTRAS = {SET: 8, ADD: 8, REPLACE: 8, SETQ: 8, ADDQ: 8, REPLACEQ: 8, INCREMENT: 20, DECREMENT: 20, INCREMENTQ: 20, TOUCH: 4,
          GAT: 4, GATQ: 4, GATK: 4, GATKQ: 4}
STORING = (SET, ADD, REPLACE, SETQ, ADDQ, REPLACEQ, APPEND, PREPEND, APPENDQ)
KEYED = (*EXTRAS, APPEND, PREPEND, APPENDQ, GET, GETQ, GETK, GETKQ, DELETE, DELETEQ)
PLAIN = (NOOP, VERSION, STAT, FLUSH, FLUSHQ, PERSIST, PERSISTQ)


def any_request(draw):
    """Mostly good; now and then its lengths lie."""
    opcode = draw.choice(PLAIN if draw.random() < 0.05 else KEYED)
    extras = draw.choice((draw.randbytes(EXTRAS.get(opcode, 0)), bytes(EXTRAS.get(opcode, 0))))
    key = b"k%d" % draw.randrange(5) if opcode in KEYED else b""
    value = b"7" * draw.choices(VALUES, (5, 5, 5, 5, 5, 3, 1))[0] if opcode in STORING else b""
    lies = {}
    if draw.random() < 0.003:
        lies = {draw.choice(("body_size", "key_size", "extras_size")): draw.randrange(256)}
    return packet(opcode, key, extras, value, draw.choice((0, 0, 0, 5)), draw.randrange(1 << 32), **lies)


def talk_at_random(port, seed, until):
    draw = random.Random(seed)
    while time.monotonic() < until:
        with Binary(port, timeout=0.1) as c, contextlib.suppress(OSError):
            for _ in range(draw.randrange(1, 20)):
                data = b"".join(any_request(draw) for _ in range(draw.randrange(1, 30)))
                cut = draw.randrange(len(data)) if draw.random() < 0.3 else len(data)
                c.send(data[:cut])
                c.send(data[cut:])
                if draw.random() < 0.5:
                    c.socket.recv(draw.randrange(1, 200000))


def case_binary_clients_that_talk_at_random_leave_a_node_whole():
    seed = random.randrange(1 << 30)
    with one_node("-I", "2m") as node:
        until = time.monotonic() + 4
        threads = [threading.Thread(target=talk_at_random, args=(node.port, seed + i, until)) for i in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        try:
            with Binary(node.port, timeout=10) as c:
                # what was begun of large values goes when their clients have gone
                wait_until("there is room again", lambda: c.set(b"k0", b"v").status == OK, 10)
                same("get", c.get(b"k0").value, b"v")
                check(stat_of(c, b"curr_connections") is not None, "no statistics")
            code, took = node.stop()
            check(code == 0 and took < 10, f"it stopped with {code} after {took:.1f} s")
        except (OSError, Failure) as failure:
            raise Failure(f"seed {seed}: {failure}") from failure


def case_binary_option_b_chooses_the_protocol():
    with one_node("-B", "ascii") as node, Binary(node.port) as c:
        c.send(packet(VERSION) + b"\r\n")
        same("a bad command", c.exactly(7), b"ERROR\r\n")
        with node.connect() as text:
            same("text", text.ask(b"version")[:7], b"VERSION")
    with bare_node("-B", "binary") as node, Binary(node.port) as c:
        same("binary", c.ask(NOOP).status, OK)
        with Binary(node.port) as text:
            text.send(b"version\r\n")
            check(text.is_closed(), "text is answered with -B binary")


def case_binary_minority_is_told_as_a_temporary_failure():
    with Cluster(3, arguments=(*SMALL, "--stall-ms=300")) as cluster:
        cluster.start()
        with Binary(cluster.nodes[0].port) as c:
            same("set", c.set(b"k", b"v").status, OK)
            for node in cluster.nodes[1:]:
                node.kill()

            def refused():
                answer = c.set(b"k", b"w")
                check(answer.status in (OK, NOT_SERVING), f"{answer}")
                return answer.status == NOT_SERVING and b"not applied" in answer.value
            wait_until("a refusal", refused, 30)
            answer = c.ask(SETQ, b"k", storing(), b"w")
            same("a quiet one", answer.status, NOT_SERVING)
            same("get", c.get(b"k").status, NOT_SERVING)


def case_binary_cas_outlives_the_node_that_gave_it():
    with Cluster(3) as cluster:
        cluster.start()
        with Binary(cluster.nodes[0].port) as c:
            first, second = c.set(b"a", b"1").cas, c.set(b"b", b"1").cas
            newer = c.set(b"b", b"2").cas
        cluster.nodes[0].kill()
        with Binary(cluster.nodes[1].port) as c:
            wait_until("the others go on", lambda: c.set(b"other", b"v").status == OK, 30)
            same("an old cas", c.set(b"b", b"3", cas=second).status, EXISTS)
            same("the cas", c.set(b"b", b"3", cas=newer).status, OK)
            same("the other", (c.get(b"a").cas, c.set(b"a", b"2", cas=first).status), (first, OK))
            same("used up", c.set(b"a", b"3", cas=first).status, EXISTS)


def case_memccapable_passes_all_its_checks():
    with one_node() as node:
        found = subprocess.run(["memccapable", "-h", "127.0.0.1", "-p", str(node.port)], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, timeout=120)
        same("passed", found.stdout.count("[pass]"), 54)
        same("exit code", found.returncode, 0)


# ---- SASL


@contextlib.contextmanager
def bare_node(*arguments, environment=()):
    """One node that text clients cannot ask whether it serves."""
    with Cluster(1, durable=False, arguments=(*SMALL, *arguments)) as cluster:
        before = dict(os.environ)
        os.environ.update(environment)
        try:
            node = cluster.nodes[0].start()
        finally:
            os.environ.clear()
            os.environ.update(before)

        def listens():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", node.port), timeout=3):
                return True
            check(node.process.poll() is None, f"it ended: {node.log_text()}")
            return False
        wait_until("it listens", listens, 30)
        yield node


def write(directory, name, text):
    path = os.path.join(directory, name)
    with open(path, "w", encoding="latin-1", newline="") as file:
        file.write(text)
    return path


@contextlib.contextmanager
def directory():
    with tempfile.TemporaryDirectory(prefix="healcached-auth-") as path:
        yield path


def plain(user, password):
    return b"\0%b\0%b" % (user, password)


def check_dialogues(port):
    with Binary(port) as c:
        check(b"PLAIN" in c.ask(SASL_LIST).value.split(), "PLAIN is not offered")
        check(b"ANONYMOUS" not in c.ask(SASL_LIST).value, "anonymous is offered")
        same("version", c.ask(VERSION).status, OK)
        same("a step of nothing", c.ask(SASL_STEP, b"PLAIN", value=plain(b"bob", b"secret")).status, AUTH_ERROR)
        same("an unknown mechanism", c.ask(SASL_AUTH, b"NOPE", value=b"x").status, AUTH_ERROR)
        same("anonymous", c.ask(SASL_AUTH, b"ANONYMOUS", value=b"x").status, AUTH_ERROR)
        same("a long mechanism", c.ask(SASL_AUTH, b"P" * 33, value=b"x").status, INVALID)
        answer = c.ask(SASL_AUTH, b"PLAIN", value=plain(b"bob", b"wrong"), opaque=3)
        same("a wrong password", (answer.status, answer.value, answer.opaque), (AUTH_ERROR, b"Auth failure.", 3))
        same("an unknown user", c.ask(SASL_AUTH, b"PLAIN", value=plain(b"eve", b"secret")).status, AUTH_ERROR)
        same("nonsense", c.ask(SASL_AUTH, b"PLAIN", value=b"x").status, AUTH_ERROR)
        same("after a failure", c.ask(SASL_STEP, b"PLAIN", value=plain(b"bob", b"secret")).status, AUTH_ERROR)
        answer = c.ask(SASL_AUTH, b"PLAIN", value=plain(b"bob", b"secret"))
        same("the right one", (answer.status, answer.value), (OK, b"Authenticated"))
        same("set", c.set(b"k", b"v").status, OK)
        same("a failed attempt", c.ask(SASL_AUTH, b"PLAIN", value=plain(b"bob", b"wrong")).status, AUTH_ERROR)
        same("takes it back", c.get(b"k").status, AUTH_ERROR)
        check(c.is_closed(), "an unauthenticated get does not close")
    with Binary(port) as c:
        same("no data", c.ask(SASL_AUTH, b"PLAIN").status, AUTH_CONTINUE)
        same("a step", c.ask(SASL_STEP, b"PLAIN", value=plain(b"bob", b"secret")).status, OK)
        same("get", c.get(b"k").value, b"v")
        same("a step too many", c.ask(SASL_STEP, b"PLAIN", value=plain(b"bob", b"secret")).status, AUTH_ERROR)
        same("takes it back", c.ask(NOOP).status, AUTH_ERROR)
    with Binary(port) as c:
        c.send(packet(SASL_AUTH, b"PLAIN", value=plain(b"bob", b"secret")) + packet(GET, b"k") + packet(NOOP))
        same("in one piece", [c.receive().status for _ in range(3)], [OK, OK, OK])


def check_strangers(port):
    for opcode in (GET, SET, SETQ, NOOP, QUIT, STAT, FLUSH, PERSIST, PERSISTQ, 0x1b, 0x30):
        with Binary(port) as c:
            extras = storing() if opcode in (SET, SETQ) else b""
            key = b"k" if opcode in (GET, SET, SETQ) else b""
            answer = c.ask(opcode, key, extras)
            same(f"{opcode:02x}", (answer.status, answer.value), (AUTH_ERROR, b"Auth failure."))
            check(c.is_closed(), f"{opcode:02x} does not close")
    with Binary(port) as c:
        c.send(packet(SETQ, b"k", storing(), b"x" * 100, body_size=1 << 30))
        same("a large value", c.receive().status, AUTH_ERROR)
    with Binary(port) as c:
        c.send(b"get k\r\n")
        check(c.is_closed(), "text is answered with -S")


def case_sasl_with_the_database_of_libsasl2():
    with directory() as path:
        database = os.path.join(path, "sasldb2")
        write(path, "memcached.conf", "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN CRAM-MD5\n"
                                      f"sasldb_path: {database}\n")
        subprocess.run(["saslpasswd2", "-p", "-c", "-f", database, "-a", "memcached", "bob"], input=b"secret", check=True)
        with bare_node("-S", environment={"SASL_CONF_PATH": path}) as node:
            check_dialogues(node.port)
            check_strangers(node.port)
            with Binary(node.port) as c:
                same("mechanisms", sorted(c.ask(SASL_LIST).value.split()), [b"CRAM-MD5", b"PLAIN"])


def case_sasl_with_a_password_file():
    with directory() as path:
        file = write(path, "users", "bob:secret\nalice:a:b c")
        with bare_node("-S", "-vv", environment={"MEMCACHED_SASL_PWDB": file}) as node:
            check_dialogues(node.port)
            check("secret" not in node.log_text(), "a password stands in the log")
            check_strangers(node.port)
            with Binary(node.port) as c:
                same("mechanisms", c.ask(SASL_LIST).value, b"PLAIN")
                same("the last line", c.ask(SASL_AUTH, b"PLAIN", value=plain(b"alice", b"a:b c")).status, OK)
                found = {}
                c.send(packet(STAT))
                while (answer := c.receive()).key:
                    found[answer.key] = int(answer.value) if answer.value.isdigit() else answer.value
                check(found[b"auth_errors"] > 5, f"auth_errors {found[b'auth_errors']}")
                check(found[b"auth_cmds"] > found[b"auth_errors"], f"auth_cmds {found[b'auth_cmds']}")


def case_sasl_of_many_at_once():
    with directory() as path:
        file = write(path, "users", "bob:secret\n")
        with bare_node("-S", environment={"MEMCACHED_SASL_PWDB": file}) as node:
            problems = []

            def log_in(number):
                with Binary(node.port) as c:
                    for i in range(30):
                        good = (i + number) % 3 != 0
                        answer = c.ask(SASL_AUTH, b"PLAIN", value=plain(b"bob", b"secret" if good else b"no"))
                        if answer.status != (OK if good else AUTH_ERROR):
                            problems.append(answer)
            threads = [threading.Thread(target=log_in, args=(number,)) for number in range(16)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            check(not problems, f"{problems[:3]}")


class SlowAuthority:
    """In place of saslauthd: four counted strings in, OK or NO out, when it likes to."""

    def __init__(self, path):
        self.delay = 0
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(64)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self.answer, args=(self.listener.accept()[0],), daemon=True).start()

    def answer(self, client):
        with client, client.makefile("rb") as stream:
            words = [stream.read(int.from_bytes(stream.read(2), "big")) for _ in range(4)]
            time.sleep(self.delay)
            with contextlib.suppress(OSError):
                client.sendall(b"\0\2OK" if words[1] == b"secret" else b"\0\2NO")

    def close(self):
        self.listener.close()


def stat_of(client, wanted):
    client.send(packet(STAT))
    found = None
    while (answer := client.receive()).key:
        found = answer.value if answer.key == wanted else found
    return found


def logged_in(port):
    client = Binary(port)
    same("login", client.ask(SASL_AUTH, b"PLAIN", value=plain(b"bob", b"secret")).status, OK)
    return client


def serves_binary(node):
    with contextlib.suppress(OSError), logged_in(node.port) as client:
        return client.set(b"is-it-there", b"v").status == OK
    return False


def case_sasl_of_a_slow_authority_holds_up_nobody_else():
    """A node whose worker waited for it would be missed by the others, and removed."""
    with directory() as path:
        authority = SlowAuthority(os.path.join(path, "mux"))
        write(path, "memcached.conf", f"pwcheck_method: saslauthd\nsaslauthd_path: {authority.path}\nmech_list: PLAIN\n")
        os.chmod(path, 0o755)
        before = dict(os.environ)
        os.environ["SASL_CONF_PATH"] = path
        try:
            with Cluster(3, arguments=("-m", "128", "-t", "1", "-S")) as cluster:
                for node in cluster.nodes:
                    node.start()
                for node in cluster.nodes:
                    wait_until(f"{node.name} serves", lambda node=node: serves_binary(node), 60)
                with logged_in(cluster.nodes[0].port) as c:
                    epoch = stat_of(c, b"view_epoch")
                    authority.delay = 2
                    strangers = [Binary(cluster.nodes[0].port) for _ in range(6)]
                    for stranger in strangers:
                        stranger.send(packet(SASL_AUTH, b"PLAIN", value=plain(b"bob", b"wrong")) + packet(GET, b"k"))
                    gone = Binary(cluster.nodes[0].port)
                    gone.send(packet(SASL_AUTH, b"PLAIN", value=plain(b"bob", b"secret")))
                    gone.socket.close()
                    until, slowest = time.monotonic() + 1.8, 0
                    while time.monotonic() < until:
                        began = time.monotonic()
                        same("set meanwhile", c.set(b"k", b"v").status, OK)
                        slowest = max(slowest, time.monotonic() - began)
                    check(slowest < 1, f"a set took {slowest:.1f} s")
                    for stranger in strangers:
                        same("the stranger", stranger.receive().status, AUTH_ERROR)
                        same("what it sent behind", stranger.receive().status, AUTH_ERROR)
                    same("the view", stat_of(c, b"view_epoch"), epoch)
                    authority.delay = 0
                    logged_in(cluster.nodes[0].port).socket.close()
                    authority.delay = 5
                    with Binary(cluster.nodes[0].port) as late:
                        late.send(packet(SASL_AUTH, b"PLAIN", value=plain(b"bob", b"secret")))
                        time.sleep(0.2)
                        code, took = cluster.nodes[0].stop()
                        same("exit code", code, 0)
                        check(took < 4, f"it waited {took:.1f} s for a login before it stopped")
        finally:
            os.environ.clear()
            os.environ.update(before)
            authority.close()


# ---- the password file of the text protocol


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
            wait_until("it says so", lambda: wanted in node.log_since(size), 10)
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
