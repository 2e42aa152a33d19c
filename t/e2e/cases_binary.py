"""The binary protocol on real nodes."""
import contextlib
import random
import socket
import subprocess
import threading
import time

from binary import (ADD, ADDQ, APPEND, APPENDQ, AUTH_ERROR, DECREMENT, DELETE, DELETEQ, EXISTS, FLUSH, FLUSHQ,
                    FOREVER, GAT, GATK, GATKQ, GATQ, GET, GETK, GETKQ, GETQ, INCREMENT, INCREMENTQ, INVALID,
                    NON_NUMERIC, NOOP, NOT_FOUND, NOT_SERVING, NOT_STORED, OK, PERSIST, PERSISTQ, PREPEND, QUIT,
                    QUITQ, REPLACE, REPLACEQ, SET, SETQ, STAT, TOO_LARGE, TOUCH, UNKNOWN, VERSION, Binary, counting,
                    packet, seconds, storing)
from cluster import Cluster, Failure, check, wait_until
from single import SMALL, bare_node, one_node, same


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
        same("settings", c.stats(b"settings")[b"binding_protocol"], b"auto-negotiate")
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
    with one_node("-I", "2m") as node, Binary(node.port, timeout=30) as c:
        alone = c.stats()[b"curr_connections"]
        until = time.monotonic() + 4
        threads = [threading.Thread(target=talk_at_random, args=(node.port, seed + i, until)) for i in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        try:
            # what they sent last is still executed, and may have to wait for room
            wait_until("they have gone", lambda: c.stats()[b"curr_connections"] == alone, 60)
            # what was begun of large values goes when their clients have gone
            wait_until("there is room again", lambda: c.set(b"k0", b"v").status == OK, 30)
            same("get", c.get(b"k0").value, b"v")
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
