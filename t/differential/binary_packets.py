"""Streams of the binary protocol: right packets, and as the last one a wrong packet."""
import text_commands as text
from servers import WRONG

GET, SET, ADD, REPLACE, DELETE, INCR, DECR, QUIT, FLUSH, GETQ, NOOP, VERSION, GETK, GETKQ, APPEND, PREPEND = range(16)
STAT, SETQ, ADDQ, REPLACEQ, DELETEQ, INCRQ, DECRQ, QUITQ, FLUSHQ, APPENDQ, PREPENDQ, VERBOSITY, TOUCH, GAT, GATQ = range(0x10, 0x1F)
GATK, GATKQ = 0x23, 0x24
GETS = (GET, GETQ, GETK, GETKQ)
STORES = (SET, SET, ADD, REPLACE, SETQ, ADDQ, REPLACEQ)
JOINS = (APPEND, PREPEND, APPENDQ, PREPENDQ)
COUNTS = (INCR, DECR, INCRQ, DECRQ)
TOUCHES = (TOUCH, GAT, GATQ, GATK, GATKQ)
KEYS = text.KEYS + (b"with space", b"with\r\nnewline", b"\0")
EXPTIMES = (0, 0, 0, 1000, 2592000, 2592001, 2000000000, 0xFFFFFFFF)
CAS = (b"{{CAS+0}", b"{{CAS+0}", b"{{CAS-1}", b"{{CAS+1}", b"\0" * 7 + b"\1", b"\xff" * 8)


def packet(draw, opcode, key=b"", extras=b"", value=b"", cas=b"\0" * 8, body_size=None, magic=0x80, key_size=None, extras_size=None, noise=None):
    size = len(extras) + len(key) + len(value) if body_size is None else body_size
    noise = noise or draw.choice((b"\0\0\0", b"\0\0\0", b"\1\2\3"))  # data type and vbucket mean nothing
    return (bytes([magic, opcode]) + (len(key) if key_size is None else key_size).to_bytes(2, "big")
            + bytes([len(extras) if extras_size is None else extras_size]) + noise + size.to_bytes(4, "big") + draw.randbytes(4) + cas
            + extras + key + value)


def u32(number):
    return number.to_bytes(4, "big")


def some_cas(draw):
    return draw.choice(CAS) if draw.random() < 0.15 else b"\0" * 8


def one(draw, item_size_max):
    """A right packet."""
    kind, key = draw.randrange(20), draw.choice(KEYS)
    if kind < 6:
        value = text.value(draw, item_size_max, key)
        return packet(draw, draw.choice(STORES), key, u32(draw.choice((0, 1, 0xFFFFFFFF))) + u32(draw.choice(EXPTIMES)), value, some_cas(draw))
    if kind < 11:
        return packet(draw, draw.choice(GETS), key)
    if kind < 13:
        return packet(draw, draw.choice(JOINS), key, b"", draw.choice(text.PIECES), some_cas(draw))
    if kind < 15:
        extras = draw.choice((0, 1, 5, 2 ** 64 - 1)).to_bytes(8, "big") + draw.choice((0, 10, 2 ** 64 - 1)).to_bytes(8, "big")
        key = draw.choice((b"n", b"n", b"a", b"b"))
        return packet(draw, draw.choice(COUNTS), key, extras + u32(draw.choice((0, 1000, 0xFFFFFFFF))), b"", some_cas(draw) if key == b"n" else bytes(8))
    if kind < 17:
        return packet(draw, draw.choice((DELETE, DELETEQ)), key, cas=some_cas(draw))
    if kind < 19:
        return packet(draw, draw.choice(TOUCHES), key, u32(draw.choice(EXPTIMES)))
    return draw.choice((
        lambda: packet(draw, NOOP), lambda: packet(draw, VERSION), lambda: packet(draw, FLUSH), lambda: packet(draw, FLUSHQ, b"", u32(0)),
        lambda: packet(draw, FLUSH, b"", u32(0)), lambda: packet(draw, draw.choice((VERBOSITY, 0x1F, 0x30, 0x3C, 0x7F, 0xFF))),
        lambda: packet(draw, STAT, b"reset"), lambda: packet(draw, STAT, b"nonsense")))()


def valid(draw, item_size_max, count):
    packets = []
    for _ in range(count):
        made = one(draw, item_size_max)
        if b"{{CAS" in made[16:24]:
            key_size, extras_size = int.from_bytes(made[2:4], "big"), made[4]
            packets.append(packet(draw, GET, made[24 + extras_size:24 + extras_size + key_size]))
        packets.append(made)
    return packets


def wrong(draw, _):
    """After which the connection is closed, or waits for what does not come."""
    key, flags = b"a", u32(0) + u32(0)

    def bad(opcode, *parts, **sizes):
        return packet(draw, opcode, *parts, **sizes, noise=WRONG)

    return draw.choice((
        lambda: bad(draw.choice(GETS)), lambda: bad(GET, b"k" * 251), lambda: bad(GET, key, b"\0\0\0\0"),
        lambda: bad(GET, key, b"", b"value"), lambda: bad(draw.choice(STORES), key, b"", b"value"),
        lambda: bad(SET, key, b"\0\0\0\0", b"value"), lambda: bad(SET, b"", flags, b"value"),
        lambda: bad(SET, b"k" * 251, flags, b"value"), lambda: bad(draw.choice(JOINS), key, flags, b"value"),
        lambda: bad(draw.choice(COUNTS), key, bytes(16)), lambda: bad(draw.choice(COUNTS), key, bytes(20), b"x"),
        lambda: bad(draw.choice((DELETE, DELETEQ)), key, b"\0\0\0\0"), lambda: bad(DELETE, key, b"", b"x"),
        lambda: bad(draw.choice(TOUCHES), key), lambda: bad(draw.choice(TOUCHES), key, bytes(8)),
        lambda: bad(NOOP, key), lambda: bad(NOOP, b"", b"", b"x"), lambda: bad(VERSION, key),
        lambda: bad(FLUSH, key), lambda: bad(FLUSH, b"", bytes(8)), lambda: bad(draw.choice((QUIT, QUITQ)), key),
        lambda: bad(draw.choice((QUIT, QUITQ))), lambda: bad(GET, key, magic=0x81), lambda: bad(GET, key, magic=ord("g")),
        lambda: bad(GET, key, key_size=20), lambda: bad(SET, key, flags, b"x", extras_size=12),
        lambda: bad(SET, key, flags, b"x", extras_size=255), lambda: bad(SET, key, flags, b"x", key_size=65535),
        lambda: bad(SET, key, flags, b"x", body_size=0), lambda: bad(SET, key, flags, b"x", body_size=8),
        lambda: bad(SET, key, flags, b"x", body_size=11), lambda: bad(GET, key, body_size=30), lambda: bad(GET, key)[:20],
        lambda: bad(STAT, key, bytes(4)), lambda: bad(ADD, key, flags, b"x" * 20)[:-5]))()
