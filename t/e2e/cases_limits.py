"""Every limit, just below it, at it and just above it, in each protocol that has it."""
import base64
import contextlib
import time

from binary import (APPEND, EXISTS, FOREVER, GET, INCREMENT, INVALID, NOT_FOUND, NOT_STORED, OK, SET, TOO_LARGE, TOUCH, Binary, counting, seconds,
                    storing)
from cluster import Cluster, Connection, check, wait_until

KEY_MAX = 250
LINE_MAX = 2048
OPAQUE_MAX = 31
WORDS_MAX = 20
MONTH = 30 * 24 * 3600
VALUE_MAX_SENT = 2147483645
ITEM_OVERHEAD, FLAGS_SIZE = 59, 4  # what memcached's -I counts beside key and value
BAD_FORMAT = b"CLIENT_ERROR bad command line format"
TOO_LARGE_TEXT = b"SERVER_ERROR object too large for cache"


@contextlib.contextmanager
def one_node(*more):
    with Cluster(1, durable=False, arguments=("-m", "128", "-t", "2", *more)) as cluster:
        node = cluster.start().nodes[0]
        with node.connect() as text, Binary(node.port) as binary:
            yield node, text, binary


def same(what, got, wanted):
    check(got == wanted, f"{what}: {got!r} instead of {wanted!r}")


# ---- keys --------------------------------------------------------------------------------------------------------------------------------

KEY_LINES = ((b"set %b 0 0 1\r\nx", b"STORED"), (b"touch %b 0", b"TOUCHED"), (b"append %b 0 0 1\r\n1", b"STORED"), (b"set %b 0 0 1\r\n1", b"STORED"),
             (b"incr %b 1", b"2"), (b"delete %b", b"DELETED"), (b"get %b", b"END"), (b"gets %b", b"END"), (b"gat 0 %b", b"END"), (b"gats 0 %b", b"END"),
             (b"ms %b 1\r\n1", b"HD"), (b"mg %b", b"HD"), (b"md %b", b"HD"), (b"ma %b N0", b"HD"), (b"me absent%.0b", b"EN"))


def case_limit_keys_in_text_and_meta():
    with one_node() as (_, text, _binary):
        for size in (1, KEY_MAX - 1, KEY_MAX):
            for line, wanted in KEY_LINES:
                same(f"{line!r} with {size} bytes", text.ask(line % (b"k" * size)), wanted)
        for line, _ in KEY_LINES[:-1]:
            wanted = b"CLIENT_ERROR invalid or duplicate flag" if line.startswith(b"ma") else BAD_FORMAT
            same(f"{line!r} with {KEY_MAX + 1} bytes", text.ask(line % (b"k" * (KEY_MAX + 1))), wanted)
        same("the connection goes on", text.get(b"k" * KEY_MAX), b"0")


def case_limit_base64_keys():
    """The limit is that of what is sent: 248 of base64 are 186 bytes; 252, the next size, are too many."""
    with one_node() as (_, text, _binary):
        for size in (1, 185, 186):
            key = base64.b64encode(b"\0" * size)
            same(f"ms of {size} bytes", text.ask(b"ms " + key + b" 1 b\r\nx"), b"HD")
            same(f"mg of {size} bytes", text.ask(b"mg " + key + b" b k"), b"HD k" + key + b" b")
        key = base64.b64encode(b"\0" * 187)
        same("187 bytes", text.ask(b"mg " + key + b" b"), BAD_FORMAT)
        for size in (249, KEY_MAX):
            same(f"{size} of no base64", text.ask(b"mg " + b"A" * size + b" b"), b"CLIENT_ERROR error decoding key")


def case_limit_keys_in_binary():
    with one_node() as (node, _, binary):
        for size in (1, KEY_MAX - 1, KEY_MAX):
            key = b"k" * size
            same(f"set, {size}", binary.set(key, b"1").status, OK)
            same(f"get, {size}", binary.get(key).value, b"1")
            same(f"touch, {size}", binary.ask(TOUCH, key, seconds(0)).status, OK)
            same(f"increment, {size}", binary.ask(INCREMENT, key, counting(1)).number(), 2)
        for size in (0, KEY_MAX + 1, 65535):
            for opcode, extras in ((GET, b""), (SET, storing()), (TOUCH, seconds(0)), (INCREMENT, counting(1))):
                with Binary(node.port) as other:
                    same(f"opcode {opcode}, {size}", other.ask(opcode, b"k" * size, extras).status, INVALID)
                    check(other.is_closed(), f"opcode {opcode}, {size}: it goes on")


# ---- values ------------------------------------------------------------------------------------------------------------------------------

def value_borders(item_size_max):
    """(key, flags, largest value)."""
    for key in (b"k", b"k" * KEY_MAX):
        for flags in (0, 1):
            yield key, flags, item_size_max - ITEM_OVERHEAD - len(key) - (FLAGS_SIZE if flags else 0)


def text_value(text, key, flags, size):
    for good in (size - 1, size):
        same(f"set {good}", text.ask(b"set %b %d 0 %d\r\n%b" % (key, flags, good, b"v" * good)), b"STORED")
        same(f"get {good}", len(text.get(key)), good)
        same(f"ms {good}", text.ask(b"ms %b %d F%d\r\n%b" % (key, good, flags, b"v" * good)), b"HD")
    same("append behind the largest", text.ask(b"append %b 0 0 1\r\nv" % key), b"NOT_STORED")
    same("prepend before the largest", text.ask(b"prepend %b 0 0 1\r\nv" % key), b"NOT_STORED")
    same("ms MA behind the largest", text.ask(b"ms %b 1 MA\r\nv" % key), b"NS")
    same("it is still there", len(text.get(key)), size)
    for word in (b"add", b"replace", b"append"):
        same(f"{word} {size + 1}", text.ask(b"%b %b %d 0 %d\r\n%b" % (word, key, flags, size + 1, b"v" * (size + 1))), TOO_LARGE_TEXT)
    same("and they leave the old one", len(text.get(key)), size)
    same(f"set {size + 1}", text.ask(b"set %b %d 0 %d\r\n%b" % (key, flags, size + 1, b"v" * (size + 1))), TOO_LARGE_TEXT)
    same("and it takes the old one", text.get(key), None)
    same("ms", text.ask(b"ms %b %d F%d\r\n%b" % (key, size + 1, flags, b"v" * (size + 1))), TOO_LARGE_TEXT)


def binary_value(binary, key, flags, size):
    for good in (size - 1, size):
        same(f"set {good}", binary.set(key, b"v" * good, flags).status, OK)
    same("append behind the largest", binary.ask(APPEND, key, b"", b"v").status, NOT_STORED)
    same("it is still there", len(binary.get(key).value), size)
    same(f"set {size + 1}", binary.set(key, b"v" * (size + 1), flags).status, TOO_LARGE)
    same("and it takes the old one", binary.get(key).status, NOT_FOUND)


def check_values(item_size_max, *options):
    with one_node(*options) as (_, text, binary):
        for key, flags, size in value_borders(item_size_max):
            text_value(text, key, flags, size)
            binary_value(binary, key, flags, size)


def case_limit_values_of_the_usual_size():
    check_values(1 << 20)


def case_limit_values_when_items_are_small():
    check_values(1024, "-I", "1k")


def case_limit_values_when_items_are_large():
    check_values(4 << 20, "-I", "4m", "-m", "1024")


def case_limit_lengths_that_are_announced():
    """Up to the limit the block is waited for; above it the line is refused at once."""
    with one_node() as (node, text, _binary):
        for line in (b"set a 0 0 %d", b"ms a %d"):
            for size in (VALUE_MAX_SENT - 1, VALUE_MAX_SENT):
                with Connection(node.port, 0.5) as waiting:
                    waiting.send(line % size + b"\r\n" + b"v" * 1000)
                    try:
                        check(False, f"{line!r} {size}: {waiting.line()!r}")
                    except TimeoutError:
                        pass
            for size in (VALUE_MAX_SENT + 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 32 + 1, 2 ** 64, -1):
                same(f"{line!r} {size}", text.ask(line % size), BAD_FORMAT)
        same("0", text.ask(b"set a 0 0 0\r\n"), b"STORED")


# ---- numbers -----------------------------------------------------------------------------------------------------------------------------

def flags_of(text, key):
    line = text.ask(b"get " + key)
    text.exactly(int(line.split()[3]) + 2)
    text.line()
    return int(line.split()[2])


def case_limit_client_flags():
    with one_node() as (_, text, binary):
        for flags in (0, 1, 2 ** 31, 2 ** 32 - 2, 2 ** 32 - 1):
            same(f"set {flags}", text.ask(b"set a %d 0 1\r\nx" % flags), b"STORED")
            same(f"flags {flags}", flags_of(text, b"a"), flags)
            same(f"ms F{flags}", text.ask(b"ms a 1 F%d\r\nx" % flags), b"HD")
            same(f"in binary {flags}", binary.get(b"a").flags(), flags)
            same(f"set in binary {flags}", binary.set(b"b", b"x", flags).status, OK)
            same(f"in text {flags}", flags_of(text, b"b"), flags)
        same("set with 2^32 cuts it", (text.ask(b"set a 4294967296 0 1\r\nx"), flags_of(text, b"a")), (b"STORED", 0))
        same("ms F with 2^32", text.ask(b"ms a 1 F4294967296\r\nx"), BAD_FORMAT)
        same("set with -1", text.ask(b"set a -1 0 1\r\nx"), BAD_FORMAT)


def case_limit_numbers_and_cas():
    top = 2 ** 64 - 1
    with one_node() as (_, text, binary):
        for delta, wanted in ((top - 1, b"%d" % (top - 1)), (top, b"%d" % top), (top + 1, b"CLIENT_ERROR invalid numeric delta argument")):
            text.set(b"n", b"0")
            same(f"incr by {delta}", text.ask(b"incr n %d" % delta), wanted)
        same("ma D2^64", text.ask(b"ma n D%d" % (top + 1))[:12], b"CLIENT_ERROR")
        for stored, wanted in ((top - 1, b"%d" % top), (top, b"0")):
            text.set(b"n", b"%d" % stored)
            same(f"incr of {stored}", text.ask(b"incr n 1"), wanted)
        text.set(b"n", b"%d" % (top + 1))
        same("incr of 2^64", text.ask(b"incr n 1"), b"CLIENT_ERROR cannot increment or decrement non-numeric value")
        for cas, wanted in ((top - 1, b"EXISTS"), (top, b"EXISTS"), (top + 1, BAD_FORMAT)):
            same(f"cas {cas}", text.ask(b"cas n 0 0 1 %d\r\nx" % cas), wanted)
        same("cas 2^64-1 in binary", binary.set(b"n", b"x", cas=top).status, EXISTS)
        for initial in (0, top):
            same(f"initial {initial}", binary.ask(INCREMENT, b"i%d" % initial, counting(1, initial)).number(), initial)
        same("not created", binary.ask(INCREMENT, b"none", counting(1, 1, FOREVER)).status, NOT_FOUND)


def is_there(text, key):
    return text.get(key) is not None


def case_limit_exptimes():
    """Up to 30 days a number counts from now; above, it is a moment."""
    now = int(time.time())
    cases = ((0, True), (MONTH - 1, True), (MONTH, True), (MONTH + 1, False), (now - 1, False), (now + 1000, True), (2 ** 31 - 1, True), (-1, False))
    with one_node() as (_, text, binary):
        for exptime, stays in cases:
            same(f"set {exptime}", text.ask(b"set a 0 %d 1\r\nx" % exptime), b"STORED")
            same(f"after set {exptime}", is_there(text, b"a"), stays)
            text.set(b"a", b"x")
            same(f"touch {exptime}", text.ask(b"touch a %d" % exptime), b"TOUCHED")
            same(f"after touch {exptime}", is_there(text, b"a"), stays)
            same(f"ms T{exptime}", text.ask(b"ms a 1 T%d\r\nx" % exptime), b"HD")
            same(f"after ms {exptime}", is_there(text, b"a"), stays)
            same(f"binary {exptime}", binary.set(b"a", b"x", exptime=exptime % 2 ** 32).status, OK)
            same(f"after binary {exptime}", is_there(text, b"a"), stays or exptime < 0)  # unsigned: the year 2106
        text.ask(b"set a 0 %d 1\r\nx" % MONTH)
        left = int(text.ask(b"mg a t").split(b"t")[1])
        check(MONTH - 5 <= left <= MONTH, f"{left} seconds left of 30 days")
        same("set 2^31 is gone", (text.ask(b"set a 0 %d 1\r\nx" % 2 ** 31), is_there(text, b"a")), (b"STORED", False))
        for line in (b"touch a %d", b"gat %d a", b"flush_all %d"):
            same(f"{line!r} 2^31", text.ask(line % 2 ** 31), b"CLIENT_ERROR invalid exptime argument")
        same("mg T2^31", text.ask(b"mg a T%d" % 2 ** 31), b"CLIENT_ERROR bad token in command line format")


# ---- lines -------------------------------------------------------------------------------------------------------------------------------

def case_limit_lines():
    """2,048 bytes with the CR; a list of keys has no limit. However the line comes in pieces."""
    with one_node() as (node, _, _binary):
        for size in (3, LINE_MAX - 2, LINE_MAX - 1):
            for first in (size, size // 2, size + 1, 1):
                with node.connect() as text:
                    line = b"x" * size + b"\r\n"
                    text.send(line[:first])
                    time.sleep(0.01)
                    text.send(line[first:])
                    same(f"{size} bytes, the first {first} alone", text.line(), b"ERROR")
        for size in (LINE_MAX, LINE_MAX + 1, 100000):
            with Binary(node.port) as text:
                text.send(b"x" * size + b"\r\n")
                check(text.is_closed(), f"{size} bytes are answered")
        with node.connect() as text:
            for count in (20, 5000):
                text.send(b"get" + b" key" * count + b"\r\n")
                same(f"get of {count} keys", text.line(), b"END")


def case_limit_meta_words_and_opaques():
    letters = [b"k", b"v", b"t", b"f", b"s", b"c", b"q", b"u", b"O1", b"h", b"l", b"Px", b"Lx", b"N0", b"R1", b"T0", b"C1", b"E1", b"x", b"I"]
    with one_node() as (_, text, _binary):
        for words in (WORDS_MAX - 1, WORDS_MAX):
            line = text.ask(b"mg a " + b" ".join(letters[:words - 2]))
            check(line[:2] in (b"HD", b"VA"), f"{words} words: {line!r}")
            if line[:2] == b"VA":
                text.exactly(int(line.split()[1]) + 2)
            text.ask(b"md a")
        same(f"{WORDS_MAX + 1} words", text.ask(b"mg a " + b" ".join(letters[:WORDS_MAX - 1])), b"CLIENT_ERROR options flags are too long")
        for size in (0, OPAQUE_MAX - 1, OPAQUE_MAX):
            same(f"mg, opaque of {size}", text.ask(b"mg a O" + b"o" * size), b"EN O" + b"o" * size)
            same(f"md, opaque of {size}", text.ask(b"md a O" + b"o" * size), b"NF O" + b"o" * size)
            same(f"ms, opaque of {size}", text.ask(b"ms a 1 MR O" + b"o" * size + b"\r\nx"), b"NS O" + b"o" * size)
        for size in (OPAQUE_MAX + 1, 1000):
            for line in (b"mg a ", b"md a ", b"ms a 1 ", b"ma a "):
                same(f"{line!r}opaque of {size}", text.ask(line + b"O" + b"o" * size + (b"\r\nx" if line[:2] == b"ms" else b"")),
                     b"CLIENT_ERROR opaque token too long")


# ---- connections -------------------------------------------------------------------------------------------------------------------------

def wait_connections(client, count):
    wait_until(f"{count} connections are left", lambda: client.stats()["curr_connections"] == str(count), 30)


def case_limit_connections():
    limit = 20
    with Cluster(1, durable=False, arguments=("-m", "64", "-t", "2", "-c", str(limit))) as cluster, contextlib.ExitStack() as stack:
        node = cluster.start().nodes[0]
        clients = [stack.enter_context(node.connect())]
        wait_connections(clients[0], 1)  # the probe's has gone
        clients += [stack.enter_context(node.connect()) for _ in range(limit - 1)]
        for number, client in enumerate(clients):
            check(client.ask(b"version").startswith(b"VERSION"), f"client {number + 1} of {limit}")
        for _ in range(3):
            with node.connect() as refused:
                same(f"client {limit + 1}", refused.line(), b"ERROR Too many open connections")
                check(not refused.receive(), "and it is closed")
        same("rejected_connections", clients[0].stats()["rejected_connections"], "3")
        clients.pop().socket.close()
        wait_connections(clients[0], limit - 1)
        with node.connect() as another:
            check(another.ask(b"version").startswith(b"VERSION"), "there is room for one again")
