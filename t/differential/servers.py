"""The two servers that are compared, and how a stream is played to one of them."""
import os
import re
import select
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e"))
from cluster import Cluster, free_ports, is_free, wait_until  # noqa: E402

JUDGE = os.environ.get("MEMCACHED", "memcached")  # another memcached may be the judge
NEW = (1, 6, 40)  # from here on bad lines are answered as we do
ITEM_SIZE_MAX = 1 << 20
ANSWER_SECONDS_MAX = 20
PATIENT = ("--suspect-ms=10000", "--lease-ms=8000", "--election-ms=2000", "--stall-ms=30000")
FLUSH_TRIES = 5
MARKER_SECONDS = (0.2, 2)  # a marker may have become part of a value: at first, and when a difference was seen
COUNTS = (b"incr", b"decr", b"ma ", *(bytes([0x80, opcode]) for opcode in (5, 6, 0x15, 0x16)))
WRONG = b"\7\7\7"  # stands in the packet where it means nothing
READ_SECONDS = (0.001, 0.05)  # after its last answer memcached may hold the item read for so long
PIECE_SECONDS = 0.0003  # between two pieces, so that the server sees them as two
NOT_CLOSED = b"\0<NOT CLOSED>"

BINARY_NOOP = "%02x0a000000000000" "00000000" "7e%06x" "0000000000000000"
SEEN_IN_TEXT = re.compile(rb"(?:VALUE [^ \r\n]+ \d+ \d+ |[A-Z][^\r\n]* c)(\d+)(?: [^\r\n]*)?\r\n")
IN_TEXT = re.compile(rb"\{\{cas([+-]\d)\}\}")
IN_BINARY = re.compile(rb"\{\{CAS([+-]\d)\}")  # eight bytes: the field of the header


class Judge:
    """memcached."""

    name = "memcached"

    def __enter__(self):
        self.start()
        return self

    def start(self):
        self.port = free_ports(1)[0][0]
        user = ["-u", "root"] if os.geteuid() == 0 else []
        command = [JUDGE, "-p", str(self.port), "-l", "127.0.0.1", "-U", "0", "-R", "1000", *user]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_until("memcached listens", lambda: not is_free(self.port), 30)
        self.ports = [self.port]
        self.version = self.ask_version()

    def __exit__(self, *ignored):
        self.process.terminate()
        self.process.wait()

    def ask_version(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(b"version\r\n")
            found = re.match(rb"VERSION (\d+)\.(\d+)\.(\d+)", connection.recv(100))
        return tuple(map(int, found.groups())) if found else NEW

    @property
    def is_new(self):
        return self.version >= NEW

    def alive(self):
        return self.process.poll() is None


class Ours:
    """healcached: one node, or a group whose nodes the connections go to in turn. Its patience is long: that the machine is slow is no difference."""

    def __init__(self, count):
        self.name = f"healcached, {count} node{'s' if count > 1 else ''}"
        self.cluster = Cluster(count, durable=False, arguments=("-m", "128", "-t", "2", *PATIENT))

    def __enter__(self):
        self.cluster.__enter__().start()
        self.ports = [node.port for node in self.cluster.nodes]
        return self

    def __exit__(self, *why):
        return self.cluster.__exit__(*why)

    def alive(self):
        return all(node.process.poll() is None for node in self.cluster.nodes)


class Peer:
    """One connection that is written and read at once, so that neither side waits for the other."""

    def __init__(self, port, patience):
        self.patience = patience
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS_MAX)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.answer = b""
        self.out = b""
        self.is_binary = None
        self.marks = 0
        self.ended = False

    def read(self):
        try:
            data = self.socket.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.answer += data
        self.ended = self.ended or not data

    def write(self):
        try:
            self.out = self.out[self.socket.send(self.out):]
        except BlockingIOError:
            pass
        except OSError:  # closed by the server: what is left has no reader
            self.out = b""

    def pump(self, done, seconds):
        until = time.monotonic() + seconds
        while not self.ended and not done():
            left = until - time.monotonic()
            if left <= 0:
                return False
            reads, writes, _ = select.select([self.socket], [self.socket] if self.out else [], [], left)
            if writes:
                self.write()
            if reads:
                self.read()
        return True

    def send(self, data, pause):
        if self.is_binary is None and data:
            self.is_binary = data[0] == 0x80
        self.out += data
        self.pump(lambda: not self.out, ANSWER_SECONDS_MAX)
        if pause:
            time.sleep(PIECE_SECONDS)

    def mark(self):
        """Waits until everything sent so far has been answered."""
        self.marks += 1
        if self.is_binary:
            ask, told = (bytes.fromhex(BINARY_NOOP % (magic, self.marks)) for magic in (0x80, 0x81))
        else:
            name = b"M%05d\r\n" % self.marks
            ask, told = b"set ~ 0 0 6\r\n" + name + b"get ~\r\n", b"STORED\r\nVALUE ~ 0 6\r\n" + name + b"END\r\n"
        self.send(ask, False)
        self.pump(lambda: self.answer.endswith(told), self.patience)
        return self.answer.endswith(told)

    def last_cas(self):
        if not self.is_binary:
            found = SEEN_IN_TEXT.findall(self.answer)
            return int(found[-1]) if found else 0
        at = cas = 0
        while at + 24 <= len(self.answer):
            cas = int.from_bytes(self.answer[at + 16:at + 24], "big") or cas
            at += 24 + int.from_bytes(self.answer[at + 8:at + 12], "big")
        return cas

    def finish(self):
        """All answers, and whether the stream ended inside a value (or the server went before its end)."""
        self.pump(lambda: not self.out, ANSWER_SECONDS_MAX)
        whole = self.mark()
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        if not self.pump(lambda: False, ANSWER_SECONDS_MAX):
            self.answer += NOT_CLOSED
        self.socket.close()
        return self.answer, whole


def filled_in(data, peer):
    """The cas unique that this server has told this connection last stands where the stream says so."""
    if b"{{" not in data:
        return data
    cas = peer.last_cas()
    data = IN_TEXT.sub(lambda m: b"%d" % ((cas + int(m.group(1))) % 2 ** 64), data)
    return IN_BINARY.sub(lambda m: ((cas + int(m.group(1))) % 2 ** 64).to_bytes(8, "big"), data)


def must_wait(data):
    """For the answers before it: to learn a cas unique; because memcached pads a number that got shorter only if nobody reads it; because memcached
    forgets what it has not sent when it closes at a wrong packet."""
    return data.startswith(COUNTS) or data[5:8] == WRONG or IN_TEXT.search(data) or IN_BINARY.search(data)


def flush(server):
    for _ in range(FLUSH_TRIES):
        with socket.create_connection(("127.0.0.1", server.ports[0]), timeout=ANSWER_SECONDS_MAX) as connection:
            connection.sendall(b"flush_all\r\n")
            answer = connection.recv(200)
            if answer == b"OK\r\n":
                return
        time.sleep(1)  # a group that is between two views says so
    raise ConnectionError(f"{server.name}: flush_all: {answer!r}")


def merged(steps):
    """Steps that need not wait for the ones before them go out in one piece with them."""
    whole = []
    for number, data, waits in steps:
        if whole and whole[-1][0] == number and not waits:
            whole[-1][1] += data
        else:
            whole.append([number, data, waits])
    return whole


def play(server, steps, cuts=(), pause=False, slow=False):
    """Sends `steps`: (connection, bytes, waits). Returns, by connection, all answers, and whether it ended between commands. A connection is
    left only when all its answers are there. `cuts`: places in the stream where a piece ends."""
    flush(server)
    peers, last, at = {}, None, 0
    cuts = sorted(cuts)
    for number, data, waits in merged(steps):
        if last is not None and (last != number or waits):
            peers[last].mark()
            time.sleep(READ_SECONDS[slow] if data.startswith(COUNTS) else 0)
        if number not in peers:
            peers[number] = Peer(server.ports[number % len(server.ports)], MARKER_SECONDS[slow])
        begin, peer = 0, peers[number]
        filled = filled_in(data, peer)
        inside = [cut - at for cut in cuts if at < cut < at + len(data) and cut - at < len(filled)]
        for end in [*inside, len(filled)]:
            peer.send(filled[begin:end], pause and bool(inside))
            begin = end
        at += len(data)
        last = number
    # The one that spoke last first: what it has sent must not run beside the others' end.
    return {number: peers[number].finish() for number in sorted(peers, key=lambda number: number != last)}
