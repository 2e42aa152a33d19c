"""A stream: what several connections send, in this order. Drawn from a seed."""
import random
import re

import binary_packets as binary
import meta_commands as meta
import text_commands as text
from servers import must_wait

COMMAND = re.compile(rb"set|add|replace|append|prepend|cas|incr|decr|touch|gats?|gets?|delete|flush_all|verbosity|version")
STORAGE_LINE = re.compile(rb"(set|add|replace|append|prepend|cas) ")


class Stream:
    """`steps`: (connection, bytes for us, for a judge before 1.6.40, for one after it). `loose`: random bytes, so that the answers to bad lines are
    those of two versions. `everywhere`: is cut at each byte, one run for each."""

    def __init__(self, name, steps, cuts=(), loose=False, everywhere=False):
        self.name, self.steps, self.cuts = name, steps, cuts
        self.loose, self.everywhere = loose, everywhere

    def ours(self):
        return [(step[0], step[1], must_wait(step[1])) for step in self.steps]

    def theirs(self, judge_is_new):
        return [(step[0], step[3 if judge_is_new else 2], must_wait(step[1])) for step in self.steps]

    def size(self):
        return sum(len(step[1]) for step in self.steps)

    def with_steps(self, steps):
        return Stream(self.name, steps, self.cuts, self.loose, self.everywhere)

    def with_cuts(self, cuts):
        return Stream(self.name, self.steps, cuts, self.loose, self.everywhere)


def both(connection, data):
    return connection, data, data, data


def cuts_of(draw, steps):
    size = sum(len(step[1]) for step in steps)
    return tuple(draw.randrange(1, size) for _ in range(draw.choice((0, 0, 1, 3, 8)))) if size > 1 else ()


def spread(draw, commands, connections):
    """Some commands in a row on one connection, then some on another."""
    steps, number = [], 0
    for command in commands:
        if not command.startswith(b"cas") and b"{{CAS" not in command[16:24] and draw.random() < 0.15:
            number = draw.randrange(connections)
        steps.append(both(number, command))
    return steps


def valid(draw, item_size_max):
    steps = spread(draw, text.valid(draw, item_size_max, draw.randrange(5, 60)), draw.choice((1, 1, 2, 3)))
    return Stream("valid", steps, cuts_of(draw, steps))


def wrong(draw, item_size_max):
    steps = []
    for command in text.valid(draw, item_size_max, draw.randrange(3, 20)):
        steps.append(both(0, command))
        if draw.random() < 0.6 and not command.startswith(b"gets"):
            steps.append((0, *text.wrong(draw, item_size_max)))
    return Stream("wrong", steps, cuts_of(draw, steps))


GET_LINE = re.compile(rb"(\A|\n)(get|gat|mg)")
COUNT_LINE = re.compile(rb"(\A|\n)(incr|decr|ma)")


def any_agrees(data):
    """Not for the answers that doc/differences.md explains."""
    return not re.search(rb"[^ \n]{251,}", data) and not (GET_LINE.search(data) and COUNT_LINE.search(data)) \
        and not re.search(rb"flush_all +[-1-9]| [\t\v\f]+( |\r?\n)", data) and not any(len(line) > 2000 for line in data.split(b"\n"))


def older_agrees(data):
    """Whether a judge before 1.6.40 reads these bytes as we do, apart from the words of its refusals."""
    if b"\0" in data or b"noreply" in data or re.search(rb"(\A|\n) |\r(?!\n)|\d[\t\v\f]|[\t\v\f]\d|(\A|\n)gats? +[^ \n]+ *\r?\n| -(0| |\r?\n)|\A\x80", data):
        return False
    lines = [line[match.start():] for line in re.split(rb"\r?\n", data) for match in COMMAND.finditer(line)]  # a value may end in the middle of a line
    return all(older_agrees_on(line, line.split()) for line in lines)


WORDS = {b"incr": 3, b"decr": 3, b"touch": 3, b"flush_all": 2, b"verbosity": 2, b"version": 1, b"cas": 6, b"set": 5, b"add": 5, b"replace": 5,
         b"append": 5, b"prepend": 5, b"delete": 2}


def older_agrees_on(line, words):
    """It counts words otherwise, and reads numbers otherwise."""
    if len(words) > WORDS.get(b"".join(words[:1]), len(words)):
        return False
    if STORAGE_LINE.match(line) and len(words) >= 5:
        numbers = words[2:6 if words[0] == b"cas" else 5]
        return (words[0] != b"cas" or len(numbers) == 4) and all(re.fullmatch(rb"-?\d{1,9}", word) for word in numbers) and b" -" not in line
    where = {b"touch": 2, b"gat": 1, b"gats": 1}.get(b"".join(words[:1]), len(words))
    return len(words) <= where or len(words[where]) < 10


def mutated(draw, item_size_max):
    while True:
        commands = [command for command in text.valid(draw, item_size_max, draw.randrange(2, 12)) if b"{{" not in command]
        if draw.random() < 0.3:
            commands.insert(draw.randrange(len(commands) + 1), text.cut_off(draw))
        data = b"".join(commands)
        data = text.mutated(draw, data) + b"\r\n" if data else b"\r\n"
        if len(data) < 3000 and any_agrees(data) and older_agrees(data):
            break
    steps = [both(0, line) for line in data.splitlines(True)]
    return Stream("mutated", steps, cuts_of(draw, steps), loose=True)


def cut(draw, item_size_max):
    """Short, and cut everywhere."""
    steps = []
    while sum(len(step[1]) for step in steps) < 100:
        commands = text.valid(draw, item_size_max, 1) if draw.random() < 0.7 else []
        steps += [both(0, command) for command in commands]
        if not commands:
            steps.append((0, *text.wrong(draw, item_size_max)))
        steps = [step for step in steps if len(step[1]) < 300 and b"{{" not in step[1]]
    return Stream("cut", steps, everywhere=True)


OLDER_META, NEWER_META = ("always",), ("always", "newer")


def in_meta(draw, item_size_max, kinds=OLDER_META):
    connections = draw.choice((1, 1, 2, 3))
    kinds = kinds + ("one connection",) if connections == 1 else kinds
    commands = []
    for _ in range(draw.randrange(5, 50)):
        commands += meta.valid(draw, item_size_max, 1, kinds) if draw.random() < 0.8 else text.valid(draw, item_size_max, 1)
    steps, number = [], 0
    for command in commands:
        if b"{{" not in command and draw.random() < 0.15:
            number = draw.randrange(connections)
        steps.append(both(number, command))
    return Stream("meta", steps, cuts_of(draw, steps))


def newer_meta(draw, item_size_max):
    return in_meta(draw, item_size_max, NEWER_META)


def wrong_meta(draw, item_size_max, kinds=OLDER_META):
    steps = []
    for command in meta.valid(draw, item_size_max, draw.randrange(3, 12), kinds):
        steps.append(both(0, command))
        if draw.random() < 0.7 and not command.endswith(b" c\r\n"):
            steps.append(both(0, meta.wrong(draw, kinds)))
    return Stream("wrong-meta", steps, cuts_of(draw, steps))


def newer_wrong_meta(draw, item_size_max):
    return wrong_meta(draw, item_size_max, NEWER_META)


def in_binary(draw, item_size_max):
    steps = spread(draw, binary.valid(draw, item_size_max, draw.randrange(5, 60)), draw.choice((1, 1, 2, 3)))
    if draw.random() < 0.5:
        steps.append(both(steps[-1][0], binary.wrong(draw, item_size_max)))
    return Stream("binary", steps, cuts_of(draw, steps))


def mixed(draw, item_size_max):
    """Connections of all protocols on the same keys."""
    steps = []
    for _ in range(draw.randrange(3, 12)):
        number = draw.randrange(4)
        count = draw.randrange(1, 6)
        commands = (meta.valid(draw, item_size_max, count, OLDER_META) if number == 2 else
                    (binary if number else text).valid(draw, item_size_max, count))
        steps += [both(number, command) for command in commands]
    return Stream("mixed", steps, cuts_of(draw, steps))


def binary_cut(draw, item_size_max):
    packets = [packet for packet in binary.valid(draw, item_size_max, draw.randrange(2, 5)) if len(packet) < 200 and b"{{" not in packet]
    packets.append(binary.wrong(draw, item_size_max))
    return Stream("binary-cut", [both(0, packet) for packet in packets], everywhere=True)


def meta_cut(draw, item_size_max):
    commands = meta.valid(draw, item_size_max, 3, OLDER_META) + [meta.wrong(draw, OLDER_META)]
    return Stream("meta-cut", [both(0, command) for command in commands if len(command) < 200 and b"{{" not in command], everywhere=True)


# By name: what draws it, and its share. Those named newer are for judges from 1.6.40 on.
PROFILES = {"valid": (valid, 6), "wrong": (wrong, 6), "mutated": (mutated, 6), "cut": (cut, 1), "meta": (in_meta, 6), "newer-meta": (newer_meta, 6), "wrong-meta": (wrong_meta, 4), "newer-wrong-meta": (newer_wrong_meta, 4), "binary": (in_binary, 6), "mixed": (mixed, 3), "binary-cut": (binary_cut, 1),
            "meta-cut": (meta_cut, 1)}


# Before 1.6.40 memcached looks for a minus sign behind a number of 2^63 and more, in whatever stands there.
HALF = ((b"18446744073709551614", b"00000000000000099998"), (b"18446744073709551615", b"00000000000000099999"), (b"\xff" * 8, b"\0" * 7 + b"\x63"))


def with_small_numbers(step):
    for large, small in HALF:
        step = tuple(part if isinstance(part, int) else part.replace(large, small) for part in step)
    return step


def draw_stream(seed, item_size_max, only, judge_is_new):
    draw = random.Random(f"stream {seed}")
    names = [name for name in PROFILES if (not only or name in only) and (judge_is_new or not name.startswith("newer"))]
    name = draw.choices(names, [PROFILES[name][1] for name in names])[0]
    stream = PROFILES[name][0](draw, item_size_max)
    return stream if judge_is_new else stream.with_steps([with_small_numbers(step) for step in stream.steps])
