"""Streams of classic text commands: right ones, wrong ones, and right ones with bytes changed."""

LONGEST = b"k" * 250
TOO_LONG = b"k" * 251
KEYS = (b"a", b"a", b"a", b"b", b"b", b"n", b"n", b"c", b"key\twith\ttabs", "schlüssel".encode(), b"\x80\xff", b"k" * 249, LONGEST,
        b"noreply", b"0")
NUMBERS = (b"0", b"1", b"9", b"10", b"99", b"100", b"18446744073709551615", b"18446744073709551614", b"007", b" 5", b"5 ", b"9   ")
ODD = (b"-5", b"+5", b"1a", b"18446744073709551616", b"x\r\n", b"END\r\n", b"\0\0", b"VALUE a 0 1\r\nx\r\nEND\r\n", b"get a\r\n", b"x" * 100)
PIECES = (b"0", b"1", b"9", b"x", b" ")  # short: a number that has grown over 127 bytes is none to us
FLAGS = (b"0", b"0", b"0", b"1", b"32", b"65535", b"4294967295")
EXPTIMES = (b"0", b"0", b"0", b"0", b"1000", b"2592000", b"2147483647", b"-1", b"2592001", b"-2147483648", b"2000000000")
STORAGE = (b"set", b"set", b"set", b"add", b"replace", b"append", b"prepend", b"cas")
DELTAS = (b"0", b"1", b"1", b"5", b"18446744073709551615", b"007")
DELAYS = (b"", b"", b" 0", b" -1")  # in memcached a delayed flush_all brings back what an earlier one has hidden
# What the judge before 1.6.40 has to be asked to give the answer that is expected of us now.
BAD_LINE = b"verbosity x\r\n"
UNKNOWN = b"nonsense\r\n"
ITEM_OVERHEAD = 59  # of memcached's item with a cas, beside key and value


def end(draw):
    return b"\n" if draw.random() < 0.05 else b"\r\n"


def gap(draw):
    return b"   " if draw.random() < 0.05 else b" "


def noreply(draw):
    return b" noreply" if draw.random() < 0.12 else b""


def value(draw, item_size_max, key):
    chance = draw.random()
    if key == b"c":  # of a value without digits, incr reads memory behind it in memcached: not with the keys that are counted
        return draw.choice((b"", b"\r\n", b" ", b"\0"))
    if chance < 0.4:
        return draw.choice(NUMBERS)
    if chance < 0.6:
        return draw.choice(ODD)
    if chance < 0.985 or key == b"n":
        return draw.randbytes(draw.randrange(1, 60)).lstrip() or b"v"
    border = item_size_max - ITEM_OVERHEAD - len(key)
    return b"v" * draw.choice((border - 5, border - 4, border - 3, border - 1, border, border + 1, border + 100, item_size_max + 1))


def storage(draw, item_size_max):
    word, key, space = draw.choice(STORAGE), draw.choice(KEYS), gap(draw)
    data = draw.choice(PIECES) if word in (b"append", b"prepend") and draw.random() < 0.9 else value(draw, item_size_max, key)
    words = [word, key, draw.choice(FLAGS), draw.choice(EXPTIMES), b"%d" % len(data)]
    before = b""
    if word == b"cas":
        words.append(draw.choice((b"{{cas+0}}", b"{{cas+0}}", b"{{cas+0}}", b"{{cas-1}}", b"{{cas+1}}", b"0", b"18446744073709551613")))
        before = b"gets " + key + b"\r\n" if words[-1].startswith(b"{{") else b""
    return ([before] if before else []) + [space.join(words) + noreply(draw) + end(draw) + data + b"\r\n"]


def keys(draw):
    if draw.random() < 0.03:
        return b"noreply"  # a key; of more than 24 words memcached does not know which is the last
    return gap(draw).join(draw.choice(KEYS[:-2]) for _ in range(draw.choice((1, 1, 1, 2, 3, 5, 24, 40))))


def retrieval(draw, _):
    word = draw.choice((b"get", b"get", b"gets", b"gat", b"gats"))
    return [word + gap(draw) + (draw.choice(EXPTIMES) + b" " if word[:2] == b"ga" else b"") + keys(draw) + end(draw)]


def arithmetic(draw, _):
    return [draw.choice((b"incr", b"decr")) + gap(draw) + draw.choice((b"n", b"n", b"a", b"b")) + b" " + draw.choice(DELTAS)
            + noreply(draw) + end(draw)]


def short(draw, _):
    return [draw.choice((
        b"delete " + draw.choice(KEYS[:-2]), b"delete " + draw.choice(KEYS) + b" 0", b"touch " + draw.choice(KEYS) + b" " + draw.choice(EXPTIMES),
        b"touch " + draw.choice(KEYS) + b" " + draw.choice(EXPTIMES), b"flush_all" + draw.choice(DELAYS), b"verbosity 0",
    )) + noreply(draw) + end(draw)]


def version(draw, _):
    return [b"version" + end(draw)]


VALID = (storage,) * 10 + (retrieval,) * 8 + (arithmetic,) * 4 + (short,) * 3 + (version,)


def valid(draw, item_size_max, count):
    """Commands one by one; a cas with the number just read comes with the gets before it."""
    steps = []
    for _ in range(count):
        steps += draw.choice(VALID)(draw, item_size_max)
    return steps


# ---- wrong lines: (to us, to a judge before 1.6.40, to one after it) ------------------------------------------------------------

FEW = (b"get", b"gets", b"gat", b"gats", b"gat 0", b"set", b"set a", b"set a 0", b"set a 0 0", b"add a 0 0", b"replace a 0 0", b"append a 0 0",
       b"prepend a 0 0", b"incr", b"incr a", b"decr a", b"touch", b"touch a", b"delete", b"verbosity")
SAME = (b"nonsense", b"GET a", b"Set a 0 0 1", b"getx a", b"incr a abc", b"incr a -1", b"incr a 18446744073709551616",
        b"decr a 1x", b"incr n abc noreply", b"touch a abc", b"gat abc a", b"gat 1x a b", b"flush_all abc",
        b"flush_all 1x noreply", b"verbosity abc", b"incr " + TOO_LONG + b" 1",
        b"delete " + TOO_LONG, b"touch " + TOO_LONG + b" 0", b"set a 0 0 abc", b"set a 0 0 -1",
        b"add a 0 0 1x", b"cas a 0 0 x 1", b"stats nonsense", b"verbosity 0 noreply", b"version 1 2", b"get a noreply",
        b"cache_memlimit", b"   ")
# With a data block behind it, which we swallow; the judge before 1.6.40 reads it as commands, so it is not sent there.
SWALLOWED = (b"set " + TOO_LONG + b" 0 0 5", b"add " + TOO_LONG + b" 0 0 5", b"cas " + TOO_LONG + b" 0 0 5 1", b"append " + TOO_LONG + b" 0 0 5",
             b"set a abc 0 5", b"set a 0 abc 5", b"set a -1 0 5", b"replace a 1x 0 5", b"cas a 0 0 5 abc", b"cas a 0 0 5 -1")
# memcached adds an empty line, and forgets what was answered and not yet sent.
BAD_KEYS = (b"get " + TOO_LONG, b"gets " + TOO_LONG, b"gat 0 " + TOO_LONG, b"gats 0 a " + TOO_LONG, b"get a b " + TOO_LONG + b" c")
EXTRA = (b"delete a 5", b"delete none 0 0", b"delete a noreply x")


def same(line):
    return line, line, line


def wrong(draw, _):
    """One wrong line: its bytes for us, for an older judge, for a newer one."""
    kind, tail = draw.randrange(13), end(draw)
    if kind <= 2:
        return same(draw.choice(SAME) + tail)
    if kind == 3:
        line = draw.choice(FEW) + tail
        return line, BAD_LINE, line
    if kind == 4:
        line = draw.choice((b"\r\n", b"\n", b"x\r\n", b"x\n", b"xy\n"))
        return line, BAD_LINE, line
    if kind == 5:
        line = draw.choice(SWALLOWED) + tail
        return line + b"get a\r\n", line, line + b"get a\r\n"
    if kind == 6:
        line = b" " + draw.choice((b"get a", b"set a 0 0 1", b"version", b"delete a")) + tail
        return line, UNKNOWN, line
    if kind == 7:
        line = draw.choice(EXTRA)
        return line + tail, b" ".join(line.split()[:2]) + tail, line + tail
    if kind == 8:
        return b"touch a 99999999999" + tail, b"touch a abc" + tail, b"touch a 99999999999" + tail
    if kind == 11:
        line = draw.choice((b"set a 0 0 2147483648", b"set a 0 0 4294967297"))
        return line + tail, b"set a 0 0 abc" + tail, line + tail
    if kind == 10:
        return b"nonsense noreply" + tail, b"", b"nonsense noreply" + tail
    if kind == 9:
        return draw.choice(BAD_KEYS) + tail, BAD_LINE, BAD_LINE
    return wrong_block(draw)


def wrong_block(draw):
    """A data block that is not as long as its line says. What is left of it is the next command."""
    size = draw.randrange(1, 30)
    line = draw.choice(STORAGE[:-1]) + b" a 0 0 %d" % size + noreply(draw) + b"\r\n" + b"v" * size
    left = draw.choice((b"", b"\n", b"x\r\n"))
    if draw.random() < 0.4 and left:
        bad = line + draw.choice((b"XX", b"\n\r", b"\r\r"))
        return bad + left, bad + BAD_LINE, bad + left
    return same(line + draw.choice((b"XX", b"XXget a\r\n", b"\r\n" + b"get a\r\n", b"XXnonsense\r\n")))


def cut_off(draw):
    """A data block that lacks its end: what follows becomes a part of it."""
    size = draw.randrange(1, 30)
    return draw.choice(STORAGE[:-1]) + b" a 0 0 %d\r\n" % size + b"v" * (size - draw.randrange(2)) + draw.choice((b"", b"\r"))


# ---- changed bytes -------------------------------------------------------------------------------------------------------------

def mutated(draw, data):
    data = bytearray(data)
    for _ in range(draw.randrange(1, 4)):
        at = draw.randrange(len(data))
        chance = draw.randrange(5)
        if chance == 0:
            data[at] = draw.choice(b" \r\n\t0-9ax\x80\xff")
        elif chance == 1:
            del data[at:at + draw.randrange(1, 8)]
        elif chance == 2:
            data[at:at] = draw.choice((b" ", b"\r\n", b"\n", b"\r", b"0", b"-", b"noreply ", b"\xff"))
        elif chance == 3:
            data[at:at] = data[at:at + draw.randrange(1, 30)]
        else:
            data[at] ^= 1 << draw.randrange(8)
        if not data:
            return b"\r\n"
    return bytes(data)
