"""What the benchmarks share: servers that are started and ended by pid on free ports, the load generator, and figures.

A figure is printed as a line for scripts, `figure NAME VALUE UNIT`, and by rows in a table for people."""
import contextlib
import glob
import json
import os
import signal
import socket
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "t"))
from ports import free_ports  # noqa: E402

HEALCACHED = os.path.join(ROOT, "build", "healcached")
LOAD = os.path.join(ROOT, "build", "bench", "load")
USER = ["-u", "root"] if os.geteuid() == 0 else []
TICKS = os.sysconf("SC_CLK_TCK")
THREADS = "2"


def say(text):
    print(text, flush=True)


def figure(name, value, unit):
    """For scripts. The name says what was measured and where, in words joined by dots."""
    say(f"figure {name} {value:.6g} {unit}")


def free_base(count):
    """The first of `count` ports."""
    return free_ports(count)[0][0]


class Server:
    def __init__(self, command, port, log, environment=None):
        self.command, self.port, self.log = command, port, log
        self.environment = {**os.environ, **(environment or {})}
        self.start()

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, env=self.environment)
        self.started = time.monotonic()

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def ask(self, command, end=b"END\r\n"):
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(command)
            answer = b""
            while not answer.endswith(end) and b"ERROR" not in answer:
                data = connection.recv(65536)
                if not data:
                    break
                answer += data
        return answer

    def serves(self):
        if self.process.poll() is not None:
            raise SystemExit(f"{self.command[0]} ended with {self.process.returncode}:\n{self.log_text()[-2000:]}")
        try:
            return self.ask(b"get is-it-there\r\n").startswith(b"END")
        except OSError:
            return False

    def wait_serving(self, seconds=120):
        until = time.monotonic() + seconds
        while not self.serves():
            if time.monotonic() > until:
                raise SystemExit(f"port {self.port} does not serve:\n{self.log_text()[-2000:]}")
            time.sleep(0.005)
        return time.monotonic()

    def log_text(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        moment = time.monotonic()
        self.process.wait()
        return moment

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()


@contextlib.contextmanager
def servers(commands, ports, folder, environment=None):
    running = []
    try:
        for i, (command, port) in enumerate(zip(commands, ports)):
            running.append(Server(command, port, os.path.join(folder, f"log.{port}.{i}"), environment))
        for server in running:
            server.wait_serving()
        yield running
    finally:
        for server in running:
            server.end()


def remove_indexes(folder):
    """Those of the data directories below: they lie in a RAM file system, and links lead to them."""
    for link in glob.glob(os.path.join(folder, "**", "shard-*", "index"), recursive=True):
        with contextlib.suppress(OSError):
            os.unlink(os.readlink(link))


def memcached_command(port, megabytes):
    return ["memcached", "-p", str(port), "-l", "127.0.0.1", "-U", "0", "-t", THREADS, "-m", str(megabytes), *USER]


def healcached_command(port, megabytes):
    return [HEALCACHED, "-p", str(port), "-l", "127.0.0.1", "-t", THREADS, "-m", str(megabytes), *USER]


@contextlib.contextmanager
def group(folder, name, durable, megabytes, more=(), environment=None, host="127.0.0.1"):
    """Three nodes of one group, which talk to each other at `host`; `more` are arguments of each."""
    ports, peer_ports = free_ports(3)
    peers = ",".join(f"{i + 1}@{host}:{port}" for i, port in enumerate(peer_ports))
    commands = []
    for i, port in enumerate(ports):
        command = healcached_command(port, megabytes) + [f"--node={i + 1}", f"--peers={peers}", *more]
        if durable:
            command.append(f"--data={os.path.join(folder, name)}{i + 1}")
        commands.append(command)
    with servers(commands, ports, folder, environment) as running:
        yield running
    remove_indexes(folder)


def load_start(targets, *arguments):
    names = ",".join(f"127.0.0.1:{server.port}" for server in targets)
    return subprocess.Popen([LOAD, f"--servers={names}", *arguments], stdout=subprocess.PIPE, text=True)


def load_end(process):
    text = process.communicate()[0]
    results = [json.loads(line[len("result "):]) for line in text.splitlines() if line.startswith("result ")]
    if process.returncode != 0 or not results:
        raise SystemExit(f"bench/load ended with {process.returncode}:\n{text}")
    return results


def load(targets, *arguments):
    """The results of the phases, and the servers' processor time for each request of them together."""
    before = sum(server.cpu_seconds() for server in targets)
    results = load_end(load_start(targets, *arguments))
    used = sum(server.cpu_seconds() for server in targets) - before
    done = sum(result["get"]["count"] + result["set"]["count"] for result in results)
    return results, used / done * 1e6 if done else 0


def resident_bytes(server):
    with open(f"/proc/{server.process.pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmRSS"))


def stats_of(server, *words):
    text = server.ask(b" ".join([b"stats", *words]) + b"\r\n").decode()
    return dict(line.split(" ", 2)[1:] for line in text.splitlines() if line.startswith("STAT "))
