"""One node for cases about what a client says to it: in memory, and small."""
import contextlib
import os
import shutil
import socket
import tempfile

from cluster import REPORTS, Cluster, Failure, Node, check, free_ports, lines_matching, wait_until

SMALL = ("-m", "128", "-t", "2")


def same(what, got, wanted):
    check(got == wanted, f"{what}: {got!r}, wanted {wanted!r}")


@contextlib.contextmanager
def one_node(*arguments):
    with Cluster(1, durable=False, arguments=(*SMALL, *arguments)) as cluster:
        cluster.start()
        yield cluster.nodes[0]


@contextlib.contextmanager
def bare_node(*arguments, environment=()):
    """One node that text clients cannot ask whether it serves."""
    with Cluster(1, durable=False, arguments=(*SMALL, *arguments)) as cluster:
        before = dict(os.environ)
        os.environ.update(environment)
        try:
            node = cluster.nodes[0].start()
        finally:
            os.environ.clear()
            os.environ.update(before)

        def listens():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", node.port), timeout=3):
                return True
            check(node.process.poll() is None, f"it ended: {node.log_text()}")
            return False
        wait_until("it listens", listens, 30)
        yield node


class Single:
    """A node with listeners of its own choice, which says itself when it listens; a context manager.
    `arguments` may name its directory as {directory}, and its ports as {ports[0]} to {ports[3]}."""
    name, listens = "single", "clients at"

    def __init__(self, *arguments, environment=None):
        self.directory = tempfile.mkdtemp(prefix=f"healcached-{self.name}-")
        self.ports = free_ports(4)[0]
        self.environment = {name: value.format(directory=self.directory)
                            for name, value in (environment or {}).items()}
        words = [word.format(directory=self.directory, ports=self.ports) for word in arguments]
        self.node = Node(self.ports[0], ["-t", "2", *words], None, self.name)
        self.node.log_path = os.path.join(self.directory, "log")

    def __enter__(self):
        os.environ.update(self.environment)
        try:
            self.node.start()
        finally:
            for name in self.environment:
                del os.environ[name]
        try:
            wait_until("it listens", self.is_there, 30)
        except BaseException:
            self.__exit__(*[None] * 3)
            raise
        return self

    def __exit__(self, kind, value, trace):
        self.node.end()
        reports = lines_matching(self.log(), REPORTS)
        if kind is not None or reports:
            print("".join(f"    {self.name} | {line}\n" for line in self.log().splitlines()[-60:]), end="")
        shutil.rmtree(self.directory, ignore_errors=True)
        if kind is None:
            check(not reports, f"the node reports: {reports[:5]}")

    def is_there(self):
        if self.node.process.poll() is not None:
            raise Failure(f"it ended with {self.node.process.returncode}: {self.log()}")
        return self.listens in self.log()

    def log(self):
        return self.node.log_text()

    def path(self, name):
        return os.path.join(self.directory, name)
