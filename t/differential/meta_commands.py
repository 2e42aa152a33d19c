"""Streams of meta commands: flags in any order, base64 keys, cas, stale and win, quiet; and wrong ones."""
import base64

import text_commands as text

STALE = b"s"  # only here: memcached forgets that a value is stale when a command builds on it
KEYS = (b"a", b"a", b"a", b"b", b"n", b"n", b"c", STALE, STALE, b"schl\xc3\xbcssel", b"k" * 250)
RAW_KEYS = (b"with space", b"\0\1\2", b"raw", b"x" * 180)  # none that is also used as text
TTLS = (b"0", b"-1", b"100", b"1000", b"2592000")
NUMBERS = (b"0", b"1", b"5", b"18446744073709551615")
CAS = (b"{{cas+0}}", b"{{cas+0}}", b"{{cas-1}}", b"{{cas+1}}", b"1", b"18446744073709551613")
OPAQUES = (b"O1", b"Oabc", b"O" + b"o" * 31, b"O")


def flag(letter, *tokens):
    return lambda draw: letter + (draw.choice(tokens) if tokens else b"")


OPAQUE = lambda draw: draw.choice(OPAQUES)  # noqa: E731
GET_FLAGS = {"always": [flag(b"v"), flag(b"t"), flag(b"f"), flag(b"s"), flag(b"k"), flag(b"c"), flag(b"q"), flag(b"u"), OPAQUE, flag(b"P", b"x"),
                        flag(b"L", b"y"), flag(b"N", *TTLS), flag(b"R", b"30", b"200", b"0"), flag(b"T", *TTLS)],
             "one connection": [flag(b"h"), flag(b"l")], "newer": [flag(b"C", *CAS), flag(b"E", b"1099511627776")]}
SET_FLAGS = {"always": [flag(b"c"), flag(b"k"), flag(b"q"), OPAQUE, flag(b"F", b"0", b"1", b"4294967295"), flag(b"T", *TTLS), flag(b"I"),
                        flag(b"M", b"S", b"E", b"A", b"P", b"R"), flag(b"C", *CAS), flag(b"P", b"x")],
             "newer": [flag(b"s"), flag(b"E", b"1099511627777"), flag(b"N", *TTLS), flag(b"f"), flag(b"t")]}
DELETE_FLAGS = {"always": [flag(b"k"), flag(b"q"), OPAQUE, flag(b"I"), flag(b"T", *TTLS), flag(b"C", *CAS), flag(b"L", b"x")],
                "newer": [flag(b"x"), flag(b"E", b"1099511627778")]}
COUNT_FLAGS = {"always": [flag(b"k"), flag(b"q"), flag(b"v"), flag(b"t"), flag(b"c"), OPAQUE, flag(b"N", *TTLS), flag(b"J", *NUMBERS), flag(b"D", *NUMBERS),
                          flag(b"M", b"I", b"D", b"+", b"-", b"i", b"d")],
               "newer": [flag(b"E", b"1099511627779"), flag(b"P", b"x")]}


def flags_of(draw, table, kinds):
    choices = [one for kind, some in table.items() if kind in kinds for one in some]
    return [make(draw) for make in draw.sample(choices, draw.randrange(min(7, len(choices)) + 1))]


def key_of(draw, flags):
    if draw.random() < 0.1:
        flags.insert(draw.randrange(len(flags) + 1), b"b")
        return base64.b64encode(draw.choice(RAW_KEYS))
    return draw.choice(KEYS)


def with_cas(line, key, flags):
    """A command that compares comes behind one that asks."""
    return [b"mg " + key + b" c" + (b" b" if b"b" in flags else b"") + b"\r\n", line] if b"{{" in line else [line]


def without(word, key, flags, kinds):
    """What memcached does not do as it should (doc/differences.md), or what asks for the cas of another key."""
    gone = ()
    if word == b"mg" and (b"b" in flags or any(one.startswith(b"C") for one in flags)):
        gone += (b"N",)
    if word in (b"md", b"ms") and key != STALE:
        gone += (b"I",)
    if word == b"ma" and "newer" not in kinds and any(one.startswith(b"N") for one in flags):
        gone += (b"q",)  # before 1.6.40 a number that is created is answered all the same
    if word == b"ms" and key == STALE:
        gone += (b"MA", b"MP")
    return [one for one in flags if not one.startswith(gone)] if gone else flags


def one(draw, item_size_max, kinds):
    chance = draw.random()
    if chance < 0.04:
        return [draw.choice((b"mn\r\n", b"mn x y\r\n", b"me b\r\n" if "one connection" in kinds else b"me absent\r\n"))]
    word, table = draw.choice(((b"mg", GET_FLAGS), (b"mg", GET_FLAGS), (b"ms", SET_FLAGS), (b"ms", SET_FLAGS), (b"md", DELETE_FLAGS), (b"ma", COUNT_FLAGS)))
    flags = flags_of(draw, table, kinds)
    key = key_of(draw, flags) if word != b"ma" else draw.choice((b"n", b"n", b"n", b"a", b"b", b"nothing"))
    flags = without(word, key, flags, kinds)
    words, block = [word, key], b""
    if word == b"ms":
        joins = b"MA" in flags or b"MP" in flags
        data = draw.choice((b"0", b"1", b"9", b"x")) if joins else text.value(draw, item_size_max, key)
        words.append(b"%d" % len(data))
        block = data + b"\r\n"
    return with_cas(text.gap(draw).join(words + flags) + text.end(draw) + block, key, flags)


def valid(draw, item_size_max, count, kinds):
    steps = []
    for _ in range(count):
        steps += one(draw, item_size_max, kinds)
    return steps


WRONG = (b"mg", b"mg ", b"ms", b"ms a", b"ma", b"md", b"me", b"mg a v v", b"mg a !", b"mg a t t k", b"mg a Tx", b"mg a T", b"mg a Nabc", b"mg a Cx",
         b"mg a C-1", b"mg a E", b"mg !!! b", b"mg YQ= b v", b"mg " + b"k" * 251 + b" v", b"mg " + b"k" * 251, b"mg a O" + b"o" * 32, b"mg a O" + b"o" * 100,
         b"md a z", b"md a q q", b"md a Tx I", b"md a C", b"md " + b"k" * 251, b"ma n Mx", b"ma n M", b"ma n Dabc", b"ma n D-1", b"ma n D18446744073709551616",
         b"ma n v v", b"ma n z", b"ma a", b"ma " + b"k" * 251, b"mg a" + b" k" * 3, b"mg a " + b" ".join(b"P%d" % i for i in range(30)),
         b"mx a", b"mgg a", b"MG a v", b"me absent", b"ma n N", b"ma n Nx", b"mg a S100", b"mg  a  v", b"md a M", b"md a v")
WRONG_SETS = (b"ms a 5 z", b"ms a 5 F-1", b"ms a 5 Fx", b"ms a 5 Tx", b"ms a 5 Mx", b"ms a 5 M", b"ms a 5 MSS", b"ms a 5 T0 T0", b"ms a 5 Cx", b"ms a 5 O" + b"o" * 32,
              b"ms " + b"k" * 251 + b" 5", b"ms !!! 5 b", b"ms a 5 Ms", b"ms a 5 I I", b"ms a 5 F4294967296", b"ms a 5 v")
WRONG_SIZES = (b"ms a x", b"ms a -1", b"ms a S5", b"ms a 5x", b"ms a 4294967297")


# What memcached before 1.6.40 answers otherwise.
NEWER = {b"mg", b"mg ", b"ms", b"ma", b"md", b"mg a !", b"mg a E", b"md a z", b"md a q q", b"md a Tx I", b"md a C", b"ma n M", b"md a M",
         b"ma " + b"k" * 251, b"ms a 5 M", b"ms a 5 MSS", b"ms " + b"k" * 251 + b" 5", b"ms a 5 F4294967296", b"ms a 4294967297"}


def wrong(draw, kinds):
    """One wrong line, as it is."""
    kind, tail = draw.randrange(8), text.end(draw)
    if kind == 7:
        return b"ms a 5" + draw.choice((b"", b" q", b" c k", b" q Oabc")) + b"\r\n" + draw.choice((b"valueXX", b"value\n\r", b"valueXXnonsense\r\n"))
    lines = WRONG if kind < 5 else WRONG_SETS if kind == 5 else WRONG_SIZES
    line = draw.choice([line for line in lines if "newer" in kinds or line not in NEWER])
    return line + tail + (b"value\r\n" if kind == 5 else b"")
