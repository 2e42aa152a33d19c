"""A client of the binary protocol that can say anything, also what is wrong."""
import socket
import struct

from cluster import ANSWER_SECONDS_MAX

GET, SET, ADD, REPLACE, DELETE, INCREMENT, DECREMENT, QUIT, FLUSH, GETQ, NOOP, VERSION, GETK, GETKQ, APPEND, PREPEND, \
    STAT, SETQ, ADDQ, REPLACEQ, DELETEQ, INCREMENTQ, DECREMENTQ, QUITQ, FLUSHQ, APPENDQ, PREPENDQ = range(0x1b)
TOUCH, GAT, GATQ = range(0x1c, 0x1f)
PERSIST, PERSISTQ = 0xe0, 0xe1
SASL_LIST, SASL_AUTH, SASL_STEP, GATK, GATKQ = range(0x20, 0x25)
OK, NOT_FOUND, EXISTS, TOO_LARGE, INVALID, NOT_STORED, NON_NUMERIC = range(7)
AUTH_ERROR, AUTH_CONTINUE, UNKNOWN, NO_MEMORY, NOT_SERVING = 0x20, 0x21, 0x81, 0x82, 0x86
FOREVER = 0xffffffff
HEADER = struct.Struct(">BBHBBHIIQ")


def packet(opcode, key=b"", extras=b"", value=b"", cas=0, opaque=0, key_size=None, body_size=None, extras_size=None):
    """The last three: what the header says in place of the truth."""
    return HEADER.pack(0x80, opcode, len(key) if key_size is None else key_size,
                       len(extras) if extras_size is None else extras_size, 0, 0,
                       len(extras) + len(key) + len(value) if body_size is None else body_size,
                       opaque, cas) + extras + key + value


def storing(flags=0, exptime=0):
    return struct.pack(">II", flags, exptime)


def counting(delta, initial=0, exptime=0):
    return struct.pack(">QQI", delta, initial, exptime)


def seconds(exptime):
    return struct.pack(">I", exptime)


class Answer:
    def __init__(self, header, body):
        self.magic, self.opcode, key_size, extras_size, _, self.status, _, self.opaque, self.cas = header
        self.extras = body[:extras_size]
        self.key = body[extras_size:extras_size + key_size]
        self.value = body[extras_size + key_size:]

    def __repr__(self):
        return (f"<{self.opcode:02x} status {self.status:02x} opaque {self.opaque} cas {self.cas} extras {self.extras} "
                f"key {self.key} value {self.value[:60]}>")

    def flags(self):
        return struct.unpack(">I", self.extras)[0]

    def number(self):
        return struct.unpack(">Q", self.value)[0]


class Binary:
    def __init__(self, port, timeout=ANSWER_SECONDS_MAX):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)

    def __enter__(self):
        return self

    def __exit__(self, *ignored):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def exactly(self, size):
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                raise ConnectionError(f"closed by the server behind {data!r}")
            data += more
        return data

    def receive(self):
        header = HEADER.unpack(self.exactly(HEADER.size))
        return Answer(header, self.exactly(header[6]))

    def ask(self, *arguments, **more):
        self.send(packet(*arguments, **more))
        return self.receive()

    def is_closed(self):
        """By the server, with nothing before it."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def set(self, key, value, flags=0, exptime=0, cas=0):
        return self.ask(SET, key, storing(flags, exptime), value, cas)

    def get(self, key):
        return self.ask(GET, key)

    def stats(self, group=b""):
        self.send(packet(STAT, group))
        found = {}
        while (answer := self.receive()).key:
            found[answer.key] = answer.value
        return found
