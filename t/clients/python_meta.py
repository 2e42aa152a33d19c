#!/usr/bin/python3
"""The meta commands, every one with every flag, by a small client of ours: no packaged one speaks them. Written is through one node and read through
another; at the end all nodes are asked at once who may bring a new value."""
import base64
import socket
import sys
import threading

from story import arguments, check

OPAQUE_MAX = 31


class Answer:
    """What came back: the code, the flags in their order, and the value, if there is one."""

    def __init__(self, line, value=None):
        words = line.split(b" ")
        self.code, self.value = words[0].decode(), value
        self.words = [word.decode("latin1") for word in words[2 if self.code == "VA" else 1:]]
        self.flags = {word[:1]: word[1:] for word in self.words}

    def __repr__(self):
        return " ".join([self.code, *self.words]) + ("" if self.value is None else f" {self.value!r}")

    def __getitem__(self, letter):
        return int(self.flags[letter])

    def has(self, letters):
        return [letter for letter in letters if letter in self.flags]


class Meta:
    """One connection. call() asks and waits; tell() only asks, and gather() collects all answers up to an mn."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.file = self.socket.makefile("rb")

    @staticmethod
    def request(command, key=b"", flags="", value=None):
        size = b"" if value is None else b" %d" % len(value)
        return b"%s %s%s %s\r\n" % (command.encode(), key, size, flags.encode()) + (b"" if value is None else value + b"\r\n")

    def tell(self, *request, **more):
        self.socket.sendall(self.request(*request, **more))

    def read(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            sys.exit(f"FAILED the answer ends after {line!r}")
        line = line[:-2]
        if line.startswith(b"VA "):
            size = int(line.split(b" ")[1])
            return Answer(line, self.file.read(size + 2)[:-2])
        return Answer(line)

    def call(self, *request, **more):
        self.tell(*request, **more)
        return self.read()

    def text(self, *request, **more):
        return repr(self.call(*request, **more))

    def line(self, line):
        """Any line, and the one that comes back."""
        self.socket.sendall(line + b"\r\n")
        return self.file.readline()[:-2]

    def gather(self):
        self.socket.sendall(b"mn\r\n")
        answers = []
        while not answers or answers[-1].code != "MN":
            answers.append(self.read())
        return answers[:-1]


def sets(one, other):
    check("ms", one.text("ms", b"k", "", value=b"value"), "HD")
    check("ms with every flag that answers", one.call("ms", b"k", "Oabc k c s F7 T100", value=b"value").words[:2], ["Oabc", "kk"])
    got = other.call("mg", b"k", "v c f s t k Oxyz")
    check("mg", (got.code, got.value, got["f"], got["s"], got.flags["k"], got.flags["O"]), ("VA", b"value", 7, 5, "k", "xyz"))
    check("time left", 95 <= got["t"] <= 100)
    check("flags come in their order", [word[0] for word in got.words], list("cfstkO"))
    check("without v", other.text("mg", b"k", "s"), "HD s5")
    check("without flags", other.text("mg", b"k"), "HD")
    check("mode E of what is there", other.text("ms", b"k", "ME k Oq", value=b"x"), "NS kk Oq")
    check("mode E of what is not", one.text("ms", b"new", "ME", value=b"x"), "HD")
    check("mode R", other.text("ms", b"new", "MR s", value=b"middle"), "HD s6")
    check("mode R of nothing", one.text("ms", b"absent", "MR", value=b"x"), "NS")
    check("mode A", one.text("ms", b"new", "MA s", value=b">"), "HD s7")
    check("mode P", other.text("ms", b"new", "MP s", value=b"<"), "HD s8")
    check("appended", one.call("mg", b"new", "v").value, b"<middle>")
    check("mode A of nothing", one.text("ms", b"list", "MA", value=b"1,"), "NS")
    check("mode A makes it", [one.text("ms", b"list", "MA N60 s", value=b"1,") for _ in range(2)], ["HD s2", "HD s4"])
    check("mode S", one.text("ms", b"new", "MS", value=b"s"), "HD")


def uniques(one, other):
    cas = one.call("ms", b"c", "c", value=b"1")["c"]
    check("the unique is the same on all nodes", other.call("mg", b"c", "c")["c"], cas)
    newer = other.call("ms", b"c", f"C{cas} c", value=b"2")
    check("C that matches", (newer.code, newer["c"] > cas), ("HD", True))
    check("C that does not", one.text("ms", b"c", f"C{cas} c", value=b"3"), "EX c0")
    check("C of nothing", one.text("ms", b"absent", "C1 k", value=b"3"), "NF kabsent")
    check("mg C that matches sends no value", one.text("mg", b"c", f"C{newer['c']} v s"), "HD s1")
    check("mg C that does not sends it", one.call("mg", b"c", f"C{cas} v").value, b"2")
    check("md C that does not match", one.text("md", b"c", f"C{cas} Oz"), "EX Oz")
    check("ma C that does not match", one.text("ma", b"c", f"C{cas}"), "EX")
    check("E", one.text("ms", b"c", "E1234 c", value=b"4"), "HD c1234")
    check("E is the same on all nodes", other.text("mg", b"c", "c"), "HD c1234")
    check("md C that matches", other.text("md", b"c", "C1234"), "HD")
    check("mg of nothing with E and N", (one.call("mg", b"e", "N30 E77 c")["c"], other.call("mg", b"e", "c")["c"]), (77, 77))


def arithmetic(one, other):
    check("ma of nothing", one.text("ma", b"n", "k Oa"), "NF kn Oa")
    check("ma that makes it", one.call("ma", b"n", "N60 J13 D5 v").value, b"13")
    check("ma", other.call("ma", b"n", "v").value, b"14")
    check("ma with a delta", one.call("ma", b"n", "D10 v c t T100").value, b"24")
    check("ma M-", other.call("ma", b"n", "M- D4 v").value, b"20")
    check("ma MD stops at 0", one.call("ma", b"n", "MD D100 v").value, b"0")
    check("ma M+ wraps", [other.call("ma", b"n", f"M+ D{2 ** 64 - 1} v").value, one.call("ma", b"n", "MI v").value], [str(2 ** 64 - 1).encode(), b"0"])
    check("the size of what is stored", other.call("mg", b"n", "s")["s"], 20)
    check("ma sets the time", 95 <= other.call("ma", b"n", "T100 t")["t"] <= 100)
    one.call("ms", b"word", "", value=b"abc")
    check("ma of a word", one.line(b"ma word"), b"CLIENT_ERROR cannot increment or decrement non-numeric value")


def deletes(one, other):
    one.call("ms", b"d", "F5 T100", value=b"gone")
    check("md x", other.text("md", b"d", "x"), "HD")
    check("the key stays, without value, flags and time", one.text("mg", b"d", "s f t"), "HD s0 f0 t-1")
    check("md", one.text("md", b"d", "k Oq"), "HD kd Oq")
    check("md of nothing", other.text("md", b"d", "k Oq q"), "NF kd Oq")


def quiet(one, other):
    for request in (("mg", b"nothing", "q v"), ("ms", b"q", "q", b"1"), ("mg", b"q", "q v Oh"), ("ma", b"q", "q v"), ("ma", b"nothing", "q Om"),
                    ("ms", b"q", "q ME Os", b"2"), ("md", b"q", "q C1 Ox"), ("md", b"q", "q"), ("md", b"q", "q On")):
        one.tell(*request[:3], **({"value": request[3]} if len(request) > 3 else {}))
    check("q hides misses of mg and what went well", [repr(a) for a in one.gather()],
          ["VA Oh b'1'", "NF Om", "NS Os", "EX Ox", "NF On"])
    check("mn", other.line(b"mn ignores what follows"), b"MN")


def base64_keys(one, other):
    raw = bytes(range(1, 100))
    key = base64.b64encode(raw)
    check("ms b", one.text("ms", key, "b k", value=b"binary"), f"HD k{key.decode()} b")
    got = other.call("mg", key, "b k v")
    check("mg b", (got.value, got.flags["k"], "b" in got.flags), (b"binary", key.decode(), True))
    check("mg b of nothing", other.text("mg", b"bm90aGluZw==", "b k"), "EN kbm90aGluZw== b")
    one.call("ms", b"Zm9v", "b", value=b"1")
    check("a key is the same in both forms", other.text("mg", b"foo", "k s"), "HD kZm9v b s1")
    one.call("ms", b"foo", "", value=b"2")
    check("and is shown as it was stored", other.text("mg", b"Zm9v", "b k s"), "HD kfoo s1")
    check("md b", other.text("md", key, "b"), "HD")
    check("no base64", one.line(b"mg Zm9 b"), b"CLIENT_ERROR error decoding key")


def times(one, other):
    one.call("ms", b"t", "", value=b"x")
    check("no end", one.text("mg", b"t", "t"), "HD t-1")
    check("t before and behind T", other.text("mg", b"t", "t T30").split()[1], "t-1")
    check("T", 25 <= one.call("mg", b"t", "t")["t"] <= 30)
    check("h and l before anybody here has read it", one.text("ms", b"h", "", value=b"x") and one.text("mg", b"h", "h"), "HD h0")
    check("h after that", one.text("mg", b"h", "h u"), "HD h1")
    check("l", one.call("mg", b"h", "l")["l"] <= 2)
    one.call("ms", b"h", "", value=b"x")
    check("u leaves no trace", [one.text("mg", b"h", "h u") for _ in range(2)], ["HD h0", "HD h0"])
    check("T-1 ends it", (one.call("mg", b"t", "T-1 v").value, other.text("mg", b"t")), (b"x", "EN"))


def stale(one, other):
    cas = one.call("ms", b"s", "c T90", value=b"old")["c"]
    check("md I", one.text("md", b"s", "I T60"), "HD")
    check("the first who asks wins", other.text("mg", b"s", "v s"), "VA s3 X W b'old'")
    check("the next does not", one.text("mg", b"s", "v s"), "VA s3 Z X b'old'")
    check("a plain get sees nothing of it", one.line(b"get s") + b" " + one.file.readline()[:-2] + b" " + one.file.readline()[:-2], b"VALUE s 0 3 old END")
    check("an older value may come as stale", one.text("ms", b"s", f"C{cas} I", value=b"older"), "HD")
    check("who has won is remembered", other.call("mg", b"s", "v").words, ["Z", "X"])
    check("md I lets the next one win", (other.text("md", b"s", "I"), one.text("mg", b"s", "")), ("HD", "HD X W"))
    check("a new value is not stale", (one.text("ms", b"s", "T60", value=b"new"), other.text("mg", b"s", "v")), ("HD", "VA b'new'"))
    check("R above the time left", [node.text("mg", b"s", "R61") for node in (other, one)], ["HD W", "HD Z"])
    check("R below it", one.text("ms", b"s", "T60", value=b"new") and other.text("mg", b"s", "R30"), "HD")
    check("N", [node.text("mg", b"v", "N30 s") for node in (other, one)], ["HD s0 W", "HD s0 Z"])


def faults(one, _):
    for line, answer in ((b"mg", b"bad command line format"), (b"mg k !", b"bad command line format"), (b"mg k z", b"invalid flag"), (b"mg k v v", b"duplicate flag"),
                         (b"mg k Tx", b"bad token in command line format"), (b"mg k Jx", b"invalid numeric initial value"),
                         (b"mg k Dx", b"invalid numeric delta value"), (b"ma k q q", b"invalid or duplicate flag"), (b"ma k MX", b"invalid mode for ma M token"),
                         (b"mg k O" + b"o" * (OPAQUE_MAX + 1), b"opaque token too long"), (b"mg " + b"k" * 251, b"bad command line format"),
                         (b"mg k " + b" ".join(b"%c" % c for c in b"OPLkstcfvhuqxINRTCE"), b"options flags are too long"), (b"ms k x", b"bad command line format")):
        check(line.decode()[:40], one.line(line), b"CLIENT_ERROR " + answer)
    check("ms with a bad mode swallows its data", one.text("ms", b"k", "MX", value=b"mn\r\n"), "CLIENT_ERROR invalid mode for ms M token")
    check("and bad data", one.line(b"ms k 1\r\nxx"), b"CLIENT_ERROR bad data chunk")
    check("the connection goes on", one.gather() == [] or one.gather() == [])


def debugging(one, other):
    one.call("ms", b"dbg", "T100", value=b"x")
    line = other.line(b"me dbg").split()
    check("me", (line[:2], [word.split(b"=")[0] for word in line[2:]]), ([b"ME", b"dbg"], [b"exp", b"la", b"cas", b"fetch", b"cls", b"size"]))
    check("me of nothing", one.line(b"me nothing"), b"EN")


def large(one, other):
    value = bytes(range(256)) * 4000
    check("a large value", one.text("ms", b"large", "s", value=value[:1000000]), "HD s1000000")
    check("comes back", other.call("mg", b"large", "v").value == value[:1000000])
    check("too large", one.text("ms", b"large", "", value=b"x" * 1048577), "SERVER_ERROR object too large for cache")
    check("and the old value is gone", other.text("mg", b"large"), "EN")


def one_win(ports):
    """All nodes at once, again and again: exactly one may bring the value."""
    rounds, threads = 100, 2 * len(ports)
    barrier, wins = threading.Barrier(threads), [0] * rounds
    lock = threading.Lock()

    def ask(port):
        client = Meta(port)
        for number in range(rounds):
            barrier.wait(20)
            got = client.call("mg", b"win%d" % number, "N30 v")
            with lock:
                wins[number] += "W" in got.flags
            if ("W" in got.flags) == ("Z" in got.flags):
                wins[number] += 100

    workers = [threading.Thread(target=ask, args=(port,)) for port in ports for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    check(f"{threads} clients at once: each of {rounds} keys was won once", wins, [1] * rounds)


def main():
    _, ports = arguments()
    one, other = Meta(ports[0]), Meta(ports[-1])
    for part in (sets, uniques, arithmetic, deletes, quiet, base64_keys, times, stale, debugging, large, faults):
        part(one, other)
    one_win(ports)


if __name__ == "__main__":
    main()
