"""Real healcached processes on loopback: started, watched, hurt and ended by pid."""
import contextlib
import glob
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "t"))
from ports import RAFT_OFFSET, free_ports, is_free  # noqa: E402,F401 the cases import them from here
PROGRAM = os.environ.get("HEALCACHED", os.path.join(ROOT, "build", "healcached"))
PEER_HOST = os.environ.get("PEER_HOST", "127.0.0.1")  # the whole suite runs over another network: PEER_HOST=10.9.0.1
NODE_ARGUMENTS = os.environ.get("NODE_ARGUMENTS", "").split()  # behind those of the case: NODE_ARGUMENTS=--net=rdma
SERVE_SECONDS_MAX = 60
STOP_SECONDS_MAX = 30
ANSWER_SECONDS_MAX = 30  # nobody waits so long; a slow machine is no fault
REPORTS = "Assertion|Sanitizer|runtime error:"  # of a node, in any case


class Failure(Exception):
    """What a case has found."""


def alone(case):
    """Marks a case that runs while no other does: it measures time, or takes many processors or much memory."""
    case.alone = True
    return case


def check(condition, text):
    if not condition:
        raise Failure(text)


def wait_until(what, condition, seconds):
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise Failure(f"not within {seconds} s: {what}")
        time.sleep(0.02)


class Connection:
    """Speaks the text protocol, byte by byte as the case wants it."""

    def __init__(self, port, timeout=ANSWER_SECONDS_MAX):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.pending = b""

    def __enter__(self):
        return self

    def __exit__(self, *ignored):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def receive(self):
        data = self.socket.recv(1 << 16)
        self.pending += data
        return data

    def line(self):
        while b"\r\n" not in self.pending:
            if not self.receive():
                raise ConnectionError("closed by the server")
        line, self.pending = self.pending.split(b"\r\n", 1)
        return line

    def exactly(self, size):
        while len(self.pending) < size:
            if not self.receive():
                raise ConnectionError("closed by the server")
        data, self.pending = self.pending[:size], self.pending[size:]
        return data

    def ask(self, command):
        """A command with one line as its answer."""
        self.send(command + b"\r\n")
        return self.line()

    def set(self, key, value):
        return self.ask(b"set %b 0 0 %d\r\n%b" % (key, len(value), value))

    def get(self, key):
        """The value; None: a miss; a Failure is an error line."""
        line = self.ask(b"get " + key)
        if line == b"END":
            return None
        if not line.startswith(b"VALUE "):
            raise Failure(f"get {key!r}: {line!r}")
        value = self.exactly(int(line.split()[3]) + 2)[:-2]
        check(self.line() == b"END", "no END behind a value")
        return value

    def stats(self, what=b""):
        self.send(b"stats" + (b" " + what if what else b"") + b"\r\n")
        found = {}
        while (line := self.line()) != b"END":
            words = line.decode().split(" ", 2)
            if words[0] != "STAT":
                raise Failure(f"stats: {line!r}")
            found[words[1]] = words[2] if len(words) > 2 else ""
        return found


class Wire(Connection):
    """The same over a socket that is connected already."""

    def __init__(self, connected):  # pylint: disable=super-init-not-called
        self.socket = connected
        self.pending = b""


def plain(port, host="127.0.0.1"):
    return Wire(socket.create_connection((host, port), timeout=ANSWER_SECONDS_MAX))


class Node:
    def __init__(self, port, arguments, directory, name):
        self.port = port
        self.arguments = arguments
        self.data = os.path.join(directory, name) if directory else None
        self.log_path = os.path.join(tempfile.gettempdir() if not directory else directory, f"{name}.{port}.log")
        self.name = name
        self.process = None

    def command(self, extra=()):
        user = ["-u", "root"] if os.geteuid() == 0 else []
        data = [f"--data={self.data}"] if self.data else []
        return [PROGRAM, "-p", str(self.port), "-l", "127.0.0.1", *user, *self.arguments, *NODE_ARGUMENTS, *data, *extra]

    def start(self, *extra):
        check(self.process is None, f"{self.name} runs already")
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command(extra), stdout=log, stderr=log, cwd=ROOT)
        return self

    def signal(self, number):
        os.kill(self.process.pid, number)

    def kill(self):
        """kill -9; returns the moment."""
        moment = time.monotonic()
        self.signal(signal.SIGKILL)
        self.process.wait()
        self.process = None
        return moment

    def stop(self):
        """SIGTERM; returns exit code and seconds."""
        began = time.monotonic()
        self.process.terminate()
        code = self.wait_exit(STOP_SECONDS_MAX)
        return code, time.monotonic() - began

    def wait_exit(self, seconds):
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} does not end within {seconds} s") from None
        self.process = None
        return code

    def end(self):
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.signal(signal.SIGCONT)
                self.process.kill()
            self.process.wait()
            self.process = None

    def connect(self, timeout=ANSWER_SECONDS_MAX):
        return Connection(self.port, timeout)

    def serves(self):
        if self.process.poll() is not None:
            raise Failure(f"{self.name} ended with {self.process.returncode}: {self.log_text()[-2000:]}")
        try:
            with self.connect(timeout=3) as connection:
                connection.get(b"is-it-there")
                return True
        except (OSError, Failure):
            return False

    def wait_serving(self, seconds=SERVE_SECONDS_MAX):
        began = time.monotonic()
        wait_until(f"{self.name} serves\n{self.log_text()[-1500:]}", self.serves, seconds)
        return time.monotonic() - began

    def log_text(self):
        with contextlib.suppress(FileNotFoundError):
            with open(self.log_path, errors="replace") as file:
                return file.read()
        return ""

    def log_since(self, size):
        return self.log_text()[size:]


def remove_data(directory):
    """Also the indexes, which lie in a RAM file system, and links lead to them."""
    for link in glob.glob(os.path.join(directory, "**", "shard-*", "index"), recursive=True):
        with contextlib.suppress(OSError):
            os.unlink(os.readlink(link))
    shutil.rmtree(directory, ignore_errors=True)


class Cluster:
    """A group of nodes; a context manager that leaves nothing behind."""

    def __init__(self, count=3, durable=True, arguments=("-m", "128", "-t", "2"), peer_host=PEER_HOST):
        self.directory = tempfile.mkdtemp(prefix="healcached-e2e-")
        clients, self.peer_ports = free_ports(count)
        self.peers = ",".join(f"{i + 1}@{peer_host}:{port}" for i, port in enumerate(self.peer_ports))
        self.nodes = [self.make_node(i + 1, port, list(arguments), count, durable)
                      for i, port in enumerate(clients)]

    def make_node(self, number, port, arguments, count, durable):
        group = [f"--node={number}", f"--peers={self.peers}"] if count > 1 else []
        node = Node(port, arguments + group, self.directory, f"node{number}")
        if not durable:
            node.data = None
        return node

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        for node in self.nodes:
            node.end()
        reports = [line for node in self.nodes for line in lines_matching(node.log_text(), REPORTS)]
        if kind is not None or reports:
            for node in self.nodes:
                lines = node.log_text().splitlines()[-60 if reports else -25:]
                print("".join(f"    {node.name} | {line}\n" for line in lines), end="")
        remove_data(self.directory)
        if kind is None:
            check(not reports, f"a node reports: {reports[:5]}")

    def start(self):
        for node in self.nodes:
            node.start()
        self.wait_serving()
        return self

    def wait_serving(self):
        for node in self.nodes:
            node.wait_serving()

    def others(self, node):
        return [other for other in self.nodes if other is not node]


def tree_hash(directory, without=("lock",)):
    """Of all files below: has anything been written?"""
    digest = hashlib.sha256()
    for folder, _, names in sorted(os.walk(directory)):
        for name in sorted(names):
            if name in without:
                continue
            with open(os.path.join(folder, name), "rb") as file:
                digest.update(name.encode() + hashlib.sha256(file.read()).digest())
    return digest.hexdigest()


def files_below(directory):
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(directory) for name in names)


def lines_matching(text, pattern):
    return [line for line in text.splitlines() if re.search(pattern, line, re.I)]
