"""Compares the answers of two servers: byte for byte, but for what doc/differences.md lists.

Each name in ALLOWED is a heading there; `t/differential/run --self-test` demands it."""
import re

ALLOWED = {
    "version": "the word behind VERSION",
    "cas unique": "ids are compared by what they name",
    "seconds": "times that count in seconds may differ by one",
    "below zero": "the seconds left of what is already gone",
    "debug": "exp, la, cas, cls and size of me",
    "unfinished value": "where a stream ends inside a value, memcached may be some answers behind",
    "bad lines": "before 1.6.40 the judge answers ERROR where we say what is wrong",
}

VALUE = re.compile(rb"(VALUE ([^ \r\n]+) \d+ (\d+))(?: (\d+))?\Z")
META_VALUE = re.compile(rb"VA (\d+)(?: |\Z)")
META = re.compile(rb"(VA|HD|EN|NF|NS|EX)( [^\r\n]*)?\Z")
DEBUG = re.compile(rb"ME \S+ .*\bcas=")
DEBUG_WORD = re.compile(rb"(exp|la|cas|cls|size)=\S+")
RESPONSE = 0x81
HEADER_SIZE = 24
OPCODE_VERSION = 0x0B


class Ids:
    """Which cas unique of the judge is which of ours. One of the judge's is one of ours; of one key also the other way round (ours
    count by key)."""

    def __init__(self):
        self.ours, self.theirs = {}, {}

    def same(self, theirs, ours, key=None):
        if theirs == 0 or ours == 0:
            return theirs == ours
        if self.ours.setdefault(theirs, ours) != ours:
            return False
        return key is None or self.theirs.setdefault((key, ours), theirs) == theirs


def units(answer):
    """Lines, each with the data block that belongs to it."""
    found, at = [], 0
    while at < len(answer):
        end = answer.find(b"\n", at)
        if end < 0:
            found.append((answer[at:], None))
            break
        line = answer[at:end - 1] if answer[end - 1:end] == b"\r" else answer[at:end] + b" <bare LF>"
        at = end + 1
        value = VALUE.match(line) or META_VALUE.match(line)
        if value:
            size = int(value.group(3) if line.startswith(b"VALUE") else value.group(1)) + 2
            found.append((line, answer[at:at + size]))
            at += size
        else:
            found.append((line, None))
    return found


def close(theirs, ours):
    return theirs.lstrip(b"-").isdigit() and ours.lstrip(b"-").isdigit() and abs(int(theirs) - int(ours)) <= 1


def same_flag(theirs, ours, ids):
    if theirs[:1] == ours[:1] == b"c" and theirs[1:].isdigit() and ours[1:].isdigit():
        return ids.same(int(theirs[1:]), int(ours[1:]))
    if theirs[:1] == ours[:1] and theirs[:1] in (b"t", b"l"):
        return close(theirs[1:], ours[1:]) or is_below_zero(theirs[1:]) and ours == b"t0"
    return theirs == ours


def is_below_zero(number):
    """As memcached prints it."""
    return number.isdigit() and 2 ** 31 < int(number) < 2 ** 32


def same_meta(theirs, ours, ids):
    theirs, ours = theirs.split(b" "), ours.split(b" ")
    return len(theirs) == len(ours) and all(same_flag(t, o, ids) for t, o in zip(theirs, ours))


def same_line(theirs, ours, ids, loose):
    if theirs.startswith(b"VERSION ") and ours.startswith(b"VERSION "):
        return True
    one, other = VALUE.match(theirs), VALUE.match(ours)
    if one and other and one.group(1) == other.group(1) and (one.group(4) is None) == (other.group(4) is None):
        return one.group(4) is None or ids.same(int(one.group(4)), int(other.group(4)), one.group(2))
    if META.match(theirs) and META.match(ours):
        return same_meta(theirs, ours, ids)
    if DEBUG.match(theirs) and DEBUG.match(ours):
        return DEBUG_WORD.sub(rb"\1", theirs) == DEBUG_WORD.sub(rb"\1", ours)
    if loose and theirs == b"ERROR" and ours == b"CLIENT_ERROR bad command line format":
        return True
    return theirs == ours


def compare_text(theirs, ours, ids, loose):
    theirs, ours = units(theirs), units(ours)
    for i, (their, our) in enumerate(zip(theirs, ours)):
        if their[1] != our[1] or not (their[0] == our[0] and not VALUE.match(our[0]) and not META.match(our[0])
                                      or same_line(their[0], our[0], ids, loose)):
            return f"answer {i + 1}: {shown(*their)} <> {shown(*our)}"
    if len(theirs) != len(ours):
        rest = [shown(*unit) for unit in max(theirs, ours, key=len)[min(len(theirs), len(ours)):][:3]]
        return f"{len(theirs)} answers <> {len(ours)}; what the other has not: {', '.join(rest)}"
    return None


def packets(answer):
    found, at = [], 0
    while len(answer) - at >= HEADER_SIZE and answer[at] == RESPONSE:
        size = HEADER_SIZE + int.from_bytes(answer[at + 8:at + 12], "big")
        found.append(answer[at:at + size])
        at += size
    return found + ([answer[at:]] if at < len(answer) else [])


def same_packet(theirs, ours, ids):
    if len(theirs) < HEADER_SIZE or len(ours) < HEADER_SIZE or theirs[0] != RESPONSE or ours[0] != RESPONSE:
        return theirs == ours
    if theirs[1] == ours[1] == OPCODE_VERSION and theirs[6:8] == ours[6:8] == b"\0\0":
        return theirs[:8] == ours[:8] and theirs[12:16] == ours[12:16]
    return (theirs[:16] == ours[:16] and theirs[24:] == ours[24:]
            and ids.same(int.from_bytes(theirs[16:24], "big"), int.from_bytes(ours[16:24], "big")))


def compare_binary(theirs, ours, ids):
    theirs, ours = packets(theirs), packets(ours)
    for i, (their, our) in enumerate(zip(theirs, ours)):
        if not same_packet(their, our, ids):
            return f"packet {i + 1}: {shown(their)} <> {shown(our)}"
    if len(theirs) != len(ours):
        rest = [shown(packet) for packet in max(theirs, ours, key=len)[min(len(theirs), len(ours)):][:2]]
        return f"{len(theirs)} packets <> {len(ours)}; what the other has not: {', '.join(rest)}"
    return None


def shown(line, data=None):
    text = repr(line[:160])[1:]
    if line[:1] == bytes([RESPONSE]):
        text = line[:24].hex(" ", 4) + " " + repr(line[24:100])[1:]
    return text + (f" + {len(data)} bytes {data[:40]!r}" if data is not None else "")


def unfinished(theirs, ours, loose):
    """The end came inside a value: memcached has not yet sent the answers to what stood before it in the same piece."""
    known = len(units(theirs[0]))
    return compare_text(theirs[0], b"".join(line + b"\r\n" + (data or b"") for line, data in units(ours[0])[:known]), Ids(), loose)


def compare(theirs, ours, loose):
    """None: equal. Otherwise the first difference, the judge's side first."""
    ids = Ids()
    for number in sorted(theirs):
        (one, one_whole), (other, other_whole) = theirs[number], ours[number]
        if one_whole != other_whole:
            return f"connection {number} ends inside a value or is closed only in {'our' if one_whole else 'the judge'} eyes: {shown(one[-60:])} <> {shown(other[-60:])}"
        if one[:1] == bytes([RESPONSE]) or other[:1] == bytes([RESPONSE]):
            found = compare_binary(one, other, ids)
        else:
            found = compare_text(one, other, ids, loose)
            if found and not one_whole and len(other) > len(one):
                found = unfinished(theirs[number], ours[number], loose)
        if found:
            return f"connection {number}, {found}"
    return None
