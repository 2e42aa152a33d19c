"""Logging in with SASL."""
import contextlib
import os
import socket
import subprocess
import tempfile
import threading
import time

from binary import (AUTH_CONTINUE, AUTH_ERROR, FLUSH, GET, INVALID, NOOP, OK, PERSIST, PERSISTQ, QUIT, SASL_AUTH,
                    SASL_LIST, SASL_STEP, SET, SETQ, STAT, VERSION, Binary, packet, storing)
from cluster import Cluster, check, wait_until
from single import bare_node, same


def write(directory, name, text):
    path = os.path.join(directory, name)
    with open(path, "w", encoding="latin-1", newline="") as file:
        file.write(text)
    return path


@contextlib.contextmanager
def directory():
    with tempfile.TemporaryDirectory(prefix="healcached-auth-") as path:
        yield path


def plain(user, password):
    return b"\0%b\0%b" % (user, password)


def check_dialogues(port):
    with Binary(port) as c:
        check(b"PLAIN" in c.ask(SASL_LIST).value.split(), "PLAIN is not offered")
        check(b"ANONYMOUS" not in c.ask(SASL_LIST).value, "anonymous is offered")
        same("version", c.ask(VERSION).status, OK)
        same("a step of nothing", c.ask(SASL_STEP, b"PLAIN", value=plain(b"bob", b"secret")).status, AUTH_ERROR)
        same("an unknown mechanism", c.ask(SASL_AUTH, b"NOPE", value=b"x").status, AUTH_ERROR)
        same("anonymous", c.ask(SASL_AUTH, b"ANONYMOUS", value=b"x").status, AUTH_ERROR)
        same("a long mechanism", c.ask(SASL_AUTH, b"P" * 33, value=b"x").status, INVALID)
        answer = c.ask(SASL_AUTH, b"PLAIN", value=plain(b"bob", b"wrong"), opaque=3)
        same("a wrong password", (answer.status, answer.value, answer.opaque), (AUTH_ERROR, b"Auth failure.", 3))
        same("an unknown user", c.ask(SASL_AUTH, b"PLAIN", value=plain(b"eve", b"secret")).status, AUTH_ERROR)
        same("nonsense", c.ask(SASL_AUTH, b"PLAIN", value=b"x").status, AUTH_ERROR)
        same("after a failure", c.ask(SASL_STEP, b"PLAIN", value=plain(b"bob", b"secret")).status, AUTH_ERROR)
        answer = c.ask(SASL_AUTH, b"PLAIN", value=plain(b"bob", b"secret"))
        same("the right one", (answer.status, answer.value), (OK, b"Authenticated"))
        same("set", c.set(b"k", b"v").status, OK)
        same("a failed attempt", c.ask(SASL_AUTH, b"PLAIN", value=plain(b"bob", b"wrong")).status, AUTH_ERROR)
        same("takes it back", c.get(b"k").status, AUTH_ERROR)
        check(c.is_closed(), "an unauthenticated get does not close")
    with Binary(port) as c:
        same("no data", c.ask(SASL_AUTH, b"PLAIN").status, AUTH_CONTINUE)
        same("a step", c.ask(SASL_STEP, b"PLAIN", value=plain(b"bob", b"secret")).status, OK)
        same("get", c.get(b"k").value, b"v")
        same("a step too many", c.ask(SASL_STEP, b"PLAIN", value=plain(b"bob", b"secret")).status, AUTH_ERROR)
        same("takes it back", c.ask(NOOP).status, AUTH_ERROR)
    with Binary(port) as c:
        c.send(packet(SASL_AUTH, b"PLAIN", value=plain(b"bob", b"secret")) + packet(GET, b"k") + packet(NOOP))
        same("in one piece", [c.receive().status for _ in range(3)], [OK, OK, OK])


def check_strangers(port):
    for opcode in (GET, SET, SETQ, NOOP, QUIT, STAT, FLUSH, PERSIST, PERSISTQ, 0x1b, 0x30):
        with Binary(port) as c:
            extras = storing() if opcode in (SET, SETQ) else b""
            key = b"k" if opcode in (GET, SET, SETQ) else b""
            answer = c.ask(opcode, key, extras)
            same(f"{opcode:02x}", (answer.status, answer.value), (AUTH_ERROR, b"Auth failure."))
            check(c.is_closed(), f"{opcode:02x} does not close")
    with Binary(port) as c:
        c.send(packet(SETQ, b"k", storing(), b"x" * 100, body_size=1 << 30))
        same("a large value", c.receive().status, AUTH_ERROR)
    with Binary(port) as c:
        c.send(b"get k\r\n")
        check(c.is_closed(), "text is answered with -S")


def case_sasl_with_the_database_of_libsasl2():
    with directory() as path:
        database = os.path.join(path, "sasldb2")
        write(path, "memcached.conf", "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN CRAM-MD5\n"
                                      f"sasldb_path: {database}\n")
        subprocess.run(["saslpasswd2", "-p", "-c", "-f", database, "-a", "memcached", "bob"], input=b"secret", check=True)
        with bare_node("-S", environment={"SASL_CONF_PATH": path}) as node:
            check_dialogues(node.port)
            check_strangers(node.port)
            with Binary(node.port) as c:
                same("mechanisms", sorted(c.ask(SASL_LIST).value.split()), [b"CRAM-MD5", b"PLAIN"])


def case_sasl_with_a_password_file():
    with directory() as path:
        file = write(path, "users", "bob:secret\nalice:a:b c")
        with bare_node("-S", "-vv", environment={"MEMCACHED_SASL_PWDB": file}) as node:
            check_dialogues(node.port)
            check("secret" not in node.log_text(), "a password stands in the log")
            check_strangers(node.port)
            with Binary(node.port) as c:
                same("mechanisms", c.ask(SASL_LIST).value, b"PLAIN")
                same("the last line", c.ask(SASL_AUTH, b"PLAIN", value=plain(b"alice", b"a:b c")).status, OK)
                found = c.stats()
                errors, commands = int(found[b"auth_errors"]), int(found[b"auth_cmds"])
                check(errors > 5, f"auth_errors {errors}")
                check(commands > errors, f"auth_cmds {commands}")


def case_sasl_of_many_at_once():
    with directory() as path:
        file = write(path, "users", "bob:secret\n")
        with bare_node("-S", environment={"MEMCACHED_SASL_PWDB": file}) as node:
            problems = []

            def log_in(number):
                with Binary(node.port) as c:
                    for i in range(30):
                        good = (i + number) % 3 != 0
                        answer = c.ask(SASL_AUTH, b"PLAIN", value=plain(b"bob", b"secret" if good else b"no"))
                        if answer.status != (OK if good else AUTH_ERROR):
                            problems.append(answer)
            threads = [threading.Thread(target=log_in, args=(number,)) for number in range(16)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            check(not problems, f"{problems[:3]}")


class SlowAuthority:
    """In place of saslauthd: four counted strings in, OK or NO out, when it likes to."""

    def __init__(self, path):
        self.delay = 0
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(64)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self.answer, args=(self.listener.accept()[0],), daemon=True).start()

    def answer(self, client):
        with client, client.makefile("rb") as stream:
            words = [stream.read(int.from_bytes(stream.read(2), "big")) for _ in range(4)]
            time.sleep(self.delay)
            with contextlib.suppress(OSError):
                client.sendall(b"\0\2OK" if words[1] == b"secret" else b"\0\2NO")

    def close(self):
        self.listener.close()


def logged_in(port):
    client = Binary(port)
    same("login", client.ask(SASL_AUTH, b"PLAIN", value=plain(b"bob", b"secret")).status, OK)
    return client


def serves_binary(node):
    with contextlib.suppress(OSError), logged_in(node.port) as client:
        return client.set(b"is-it-there", b"v").status == OK
    return False


def case_sasl_of_a_slow_authority_holds_up_nobody_else():
    """A node whose worker waited for it would be missed by the others, and removed."""
    with directory() as path:
        authority = SlowAuthority(os.path.join(path, "mux"))
        write(path, "memcached.conf", f"pwcheck_method: saslauthd\nsaslauthd_path: {authority.path}\nmech_list: PLAIN\n")
        os.chmod(path, 0o755)
        before = dict(os.environ)
        os.environ["SASL_CONF_PATH"] = path
        try:
            with Cluster(3, arguments=("-m", "128", "-t", "1", "-S", "--suspect-ms=2000")) as cluster:
                for node in cluster.nodes:
                    node.start()
                for node in cluster.nodes:
                    wait_until(f"{node.name} serves", lambda node=node: serves_binary(node), 60)
                with logged_in(cluster.nodes[0].port) as c:
                    epoch = c.stats().get(b"view_epoch")
                    authority.delay = 5
                    strangers = [Binary(cluster.nodes[0].port) for _ in range(6)]
                    for stranger in strangers:
                        stranger.send(packet(SASL_AUTH, b"PLAIN", value=plain(b"bob", b"wrong")) + packet(GET, b"k"))
                    gone = Binary(cluster.nodes[0].port)
                    gone.send(packet(SASL_AUTH, b"PLAIN", value=plain(b"bob", b"secret")))
                    gone.socket.close()
                    until, slowest = time.monotonic() + 1.8, 0
                    while time.monotonic() < until:
                        began = time.monotonic()
                        same("set meanwhile", c.set(b"k", b"v").status, OK)
                        slowest = max(slowest, time.monotonic() - began)
                    check(slowest < 4, f"a set took {slowest:.1f} s")
                    for stranger in strangers:
                        same("the stranger", stranger.receive().status, AUTH_ERROR)
                        same("what it sent behind", stranger.receive().status, AUTH_ERROR)
                    same("the view", c.stats().get(b"view_epoch"), epoch)
                    authority.delay = 0
                    logged_in(cluster.nodes[0].port).socket.close()
                    authority.delay = 20
                    with Binary(cluster.nodes[0].port) as late:
                        late.send(packet(SASL_AUTH, b"PLAIN", value=plain(b"bob", b"secret")))
                        time.sleep(0.2)
                        code, took = cluster.nodes[0].stop()
                        same("exit code", code, 0)
                        check(took < 15, f"it waited {took:.1f} s for a login before it stopped")
        finally:
            os.environ.clear()
            os.environ.update(before)
            authority.close()
