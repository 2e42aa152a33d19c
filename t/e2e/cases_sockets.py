"""Where clients come in: UNIX sockets, UDP, IPv6, several listeners; and those who come and do nothing."""
import contextlib
import os
import re
import resource
import select
import socket
import stat
import struct
import subprocess
import tempfile
import time

from cases_basic import Memcached
from cases_tls import TlsNode, run_and_exit, secure
from certificates import Authority
from cluster import PROGRAM, Cluster, Failure, Wire, check, free_ports, is_free, plain, wait_until
from single import Single


def set_and_get(connection, key=b"key"):
    large = os.urandom(300000)
    check(connection.set(key, large) == b"STORED", "set")
    check(connection.get(key) == large, "get")


# ---- UNIX sockets ----


def unix(path):
    connected = socket.socket(socket.AF_UNIX)
    connected.settimeout(30)
    connected.connect(path)
    return Wire(connected)


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def case_a_unix_socket_is_instead_of_the_network():
    for words, permissions in (((), 0o700), (("-a", "0777"), 0o777), (("-a", "660"), 0o660)):
        with Single("-s", "{directory}/socket", "-U", "{ports[1]}", *words) as server:
            with unix(server.path("socket")) as connection:
                set_and_get(connection)
                check(connection.stats()["curr_connections"] == "1", "it counts as a connection")
            check(mode(server.path("socket")) == permissions, f"permissions {mode(server.path('socket')):o}")
            check(is_free(server.ports[0]), "no TCP")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.bind(("127.0.0.1", server.ports[1]))  # no UDP
            check(server.node.stop()[0] == 0, "it ends in order")
            check(not os.path.exists(server.path("socket")), "the file is removed at the end")


def case_a_stale_unix_socket_is_replaced_and_nothing_else_is():
    with Single("-s", "{directory}/socket") as server:
        path = server.path("socket")
        code, text = run_and_exit("-s", path)
        check(code == 71 and path in text and "serves" in text, f"a live one is refused: {code} {text}")
        with unix(path) as connection:
            set_and_get(connection)
        server.node.kill()
        check(stat.S_ISSOCK(os.lstat(path).st_mode), "kill -9 leaves it behind")
        server.node.start()
        wait_until("it is there again", lambda: server.log().count("clients at") == 2, 30)
        with unix(path) as connection:
            set_and_get(connection)
        os.unlink(path)
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(path)
            server.node.stop()
            check(os.path.exists(path), "what somebody else has put there stays")
        for name, make in (("file", lambda path: open(path, "w", encoding="ascii").close()), ("folder", os.mkdir)):
            make(server.path(name))
            code, text = run_and_exit("-s", server.path(name))
            check(code == 71 and server.path(name) in text and "no socket" in text, f"{name}: {code} {text}")
            check(os.path.exists(server.path(name)), f"the {name} is still there")
        code, text = run_and_exit("-s", server.path("none/socket"))
        check(code == 71 and "No such file" in text, f"no directory: {code} {text}")
        code, text = run_and_exit("-s", "/tmp/" + "x" * 103)
        check(code == 64 and "at most 107 bytes" in text, f"too long: {code} {text}")
        for words in (("-a", "9"), ("-a", "1000"), ("-a", ""), ("-a", "rw")):
            code, text = run_and_exit("-s", server.path("socket"), *words)
            check(code == 64 and "octal" in text, f"{words}: {code} {text}")


# ---- listeners ----


def case_ipv6_and_several_listeners_serve_together():
    with Single("-l", "[::1]:{ports[1]},127.0.0.1:{ports[2]}", "-l", "tag[one]:127.0.0.2:{ports[3]}") as server:
        with contextlib.ExitStack() as stack:
            hosts = (("127.0.0.1", 0), ("::1", 1), ("127.0.0.1", 2), ("127.0.0.2", 3))
            all_of_them = [stack.enter_context(plain(server.ports[number], host)) for host, number in hosts]
            for connection in all_of_them:
                set_and_get(connection)
                check(connection.stats()["curr_connections"] == "4", "all are counted")


def case_any_free_port_is_written_to_the_file():
    with Single("-p", "-1", "-U", "-1", "-l", "[::1]", environment={"MEMCACHED_PORT_FILENAME": "{directory}/ports"}) \
            as server:
        with open(server.path("ports"), encoding="ascii") as file:
            lines = file.read().splitlines()
        found = [re.fullmatch(r"(TCP|UDP) (INET6?): (\d+)", line) for line in lines]
        check(len(lines) == 4 and all(found), f"the file says {lines}")
        for line in found:
            host = "::1" if line[2] == "INET6" else "127.0.0.1"
            if line[1] == "TCP":
                with plain(int(line[3]), host) as connection:
                    set_and_get(connection)
            else:
                check(answer_udp(int(line[3]), b"version\r\n", host).startswith(b"VERSION "), "UDP")
        check(not os.path.exists(server.path("ports.lck")), "no half file is left")


def case_each_listener_may_have_its_own_protocol():
    binary_version = b"\x80\x0b" + b"\0" * 22
    with Single("-l", "proto[ascii]:127.0.0.1:{ports[1]},proto[binary]:127.0.0.1:{ports[2]}") as server:
        for port, text, binary in zip(server.ports, (True, True, False), (True, False, True)):
            with plain(port) as connection:
                connection.send(b"version\r\n" + b"\0" * 15)
                check(answers(connection, b"VERSION", text) == text, f"text at {port}")
            with plain(port) as connection:
                connection.send(binary_version)
                check(answers(connection, b"\x81", binary) == binary, f"binary at {port}")


def answers(connection, begin, expected):
    connection.socket.settimeout(30 if expected else 1)
    try:
        return connection.socket.recv(100).startswith(begin)
    except (TimeoutError, ConnectionError):
        return False


def case_wrong_places_to_listen_are_named():
    for words, part in ((("-l", "proto[x]:127.0.0.1"), "proto[x]"), (("-l", "127.0.0.1:70000"), "70000"),
                        (("-l", "[::1"), "[::1"), (("-p", "65536"), "65536"), (("-p", "-2"), "-2"),
                        (("-U", "x"), "-U"), (("-U", "1", "-Y", "/dev/null"), "-U"), (("-U", "1", "-S"), "-U")):
        code, text = run_and_exit(*words)
        check(code in (1, 64) and part in text and text.count("\n") == 1, f"{words}: {code} {text}")
    code, text = run_and_exit("-l", "no-such-host.invalid")
    check(code == 71 and "no-such-host.invalid" in text, f"{code} {text}")


# ---- UDP ----


def frame(body, identity=7, sequence=0, count=1, rest=0):
    return struct.pack("!4H", identity, sequence, count, rest) + body


def ask_udp(host, port, *bodies, framed=False, quiet=0.3, count=None, patience=None):
    """All that comes back, until nothing has come for a while, or there are `count`. `patience`: for the first one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        client.connect((host, port))
        for body in bodies:
            client.send(body if framed else frame(body))
        found = []
        while len(found) != count and select.select([client], [], [], quiet if found else patience or quiet)[0]:
            found.append(client.recv(65536))
        return found


ALL_SAID = 8  # identity of the question that a server answers after all others


def ask_udp_all(port, body, framed=False, wanted=0):
    """All that comes back, however slow the machine: a server with one thread answers another question afterwards. At least `wanted` are
    waited for, as long as it takes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        client.settimeout(30)
        client.connect(("127.0.0.1", port))
        client.send(body if framed else frame(body))
        client.send(frame(b"version\r\n", ALL_SAID))
        found, is_over = [], False
        while not is_over or len(found) < wanted:
            data = client.recv(65536)
            if data[:2] == ALL_SAID.to_bytes(2, "big"):
                is_over = True
            else:
                found.append(data)
        return found


def answer_udp(port, body, host="127.0.0.1"):
    """The first datagram's text, however slow the machine; a lost one is asked for again."""
    for _ in range(10):
        if found := ask_udp(host, port, body, quiet=2, count=1):
            return found[0][8:]
    raise Failure(f"no answer to {body!r}")


def datagrams(found):
    return [datagram[8:] for datagram in found]


def messages(found):
    """What the datagrams say together, each message by itself; checks their headers."""
    parts = []
    for datagram in found:
        check(8 < len(datagram) <= 1400, f"a datagram of {len(datagram)} bytes")
        identity, sequence, count, rest = struct.unpack("!4H", datagram[:8])
        check(identity == 7 and rest == 0 and sequence < count, f"a header {datagram[:8].hex()}")
        if sequence == 0:
            parts.append((count, []))
        check(len(parts[-1][1]) == sequence and parts[-1][0] == count, "in order, with the same total")
        parts[-1][1].append(datagram[8:])
    check(all(len(pieces) == count for count, pieces in parts), "each is complete")
    return [b"".join(pieces) for _, pieces in parts]


UDP_SCRIPT = (
    b"set a 0 0 1\r\nx\r\nset b 5 0 2\r\nyy\r\n", b"get a b c\r\n", b"get c\r\n", b"get a\r\nget b\r\n", b"get a c b\r\n",
    b"nonsense\r\nget a\r\n", b"set big 0 0 5000\r\n" + b"x" * 5000 + b"\r\n", b"get big\r\n", b"get big a big\r\n",
    b"set n 0 0 1 noreply\r\n5\r\nincr n 5\r\n", b"set edge 0 0 1366\r\n" + b"e" * 1366 + b"\r\n", b"get edge\r\n",
    b"set edge 0 0 1367\r\n" + b"e" * 1367 + b"\r\n", b"get edge\r\n", b"set edge 0 0 1368\r\n" + b"e" * 1368 + b"\r\n",
    b"get edge\r\n", b"delete a\r\ndelete a\r\n", b"get b", b"\x80\x0a" + b"\0" * 22)
UDP_HEADERS = ((7, 0, 1, 0), (7, 9, 1, 0), (7, 0, 0, 0), (7, 0, 2, 0), (7, 1, 2, 0), (7, 0, 256, 0), (65535, 0, 1, 0),
               (7, 0, 1, 1))


class MemcachedUdp(Memcached):
    """The judge, with UDP at the same port."""

    def __enter__(self):
        self.port = free_ports(1)[0][0]
        user = ["-u", "root"] if os.geteuid() == 0 else []
        self.process = subprocess.Popen(["memcached", "-p", str(self.port), "-l", "127.0.0.1", "-U", str(self.port), "-t", "1", *user])
        wait_until("memcached answers", self.answers, 30)
        return self

    def answers(self):
        try:
            return bool(ask_udp("127.0.0.1", self.port, b"version\r\n", count=1))
        except ConnectionRefusedError:
            return False


def case_udp_is_framed_as_memcached_frames_it():
    with MemcachedUdp() as judge, Single("-U", "{ports[0]}", "-t", "1") as server:
        for script in UDP_SCRIPT:
            want = ask_udp_all(judge.port, script)
            got = ask_udp_all(server.ports[0], script, wanted=len(want))
            messages(got)
            check(want == got, f"{script[:60]!r}: memcached says {[w[:60] for w in want]}, we {[g[:60] for g in got]}")
        for header in UDP_HEADERS:
            body = frame(b"get b\r\n", *header)
            want = ask_udp_all(judge.port, body, framed=True)
            got = ask_udp_all(server.ports[0], body, framed=True, wanted=len(want))
            check(want == got, f"{header}: memcached says {want}, we {got}")


def case_udp_answers_are_bounded():
    with Single("-U", "{ports[0]}") as server, plain(server.ports[0]) as connection:
        large = os.urandom(900000)
        check(connection.set(b"large", large) == b"STORED", "set")
        check(connection.set(b"none", b"") == b"STORED", "set")
        check(answer_udp(server.ports[0], b"get none\r\n") == b"VALUE none 0 0\r\n\r\nEND\r\n", "a small one")
        ask_udp("127.0.0.1", server.ports[0], b"get" + b" large" * 150 + b"\r\n")
        whole = b"VALUE large 0 900000\r\n" + large + b"\r\nEND\r\n"
        for datagram in ask_udp("127.0.0.1", server.ports[0], b"get large\r\n"):  # some may be lost
            _, sequence, total, _ = struct.unpack("!4H", datagram[:8])
            check(total == 647 and datagram[8:] == whole[sequence * 1392:(sequence + 1) * 1392], f"datagram {sequence}")
        with open("/proc/sys/net/core/rmem_max", encoding="ascii") as file:
            if int(file.read()) < 4 << 20:
                return  # the line would be lost with what is too much for the socket
        told = datagrams(ask_udp("127.0.0.1", server.ports[0], b"get" + b" large" * 150 + b"\r\n", quiet=2, patience=30))[-1]
        check(told == b"SERVER_ERROR the answer is too large for UDP\r\n", f"too much: {told[:60]!r}")


def case_udp_is_off_unless_asked_for():
    with Single() as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", server.ports[0]))
    with Single("-U", "{ports[1]}", "-p", "0") as server:
        check(is_free(server.ports[0]) and is_free(server.ports[1]), "-p 0: no TCP")
        check(answer_udp(server.ports[1], b"version\r\n").startswith(b"VERSION "), "UDP alone")


def case_udp_garbage_costs_nothing():
    bodies = [b"", b"\0", b"\0" * 7, frame(b""), os.urandom(8), os.urandom(1400), os.urandom(65507), frame(b"x" * 65499),
              frame(b"get " + b"k " * 30000), frame(b"set a 0 0 10\r\nabc"), frame(b"set a 0 0 2147483647\r\n"),
              frame(b"\x80\x01" + b"\xff" * 22), frame(b"\x80" * 3000), frame(b"\n" * 3000), frame(b"quit\r\nget a\r\n"),
              frame(b"ERROR\r\n"), frame(b"SERVER_ERROR x\r\n"), frame(b"\x81" + b"\0" * 23), frame(b"watch\r\n"),
              frame(b"lru_crawler metadump all\r\n"), frame(b"shutdown\r\n"), frame(b"refresh_certs\r\n")]
    with Single("-U", "{ports[0]}") as server, plain(server.ports[0]) as connection:
        set_and_get(connection)
        for answer in (b"ERROR\r\n", b"CLIENT_ERROR bad\r\n", b"SERVER_ERROR x\r\n", b"\x81" + b"\0" * 23):
            check(not ask_udp("127.0.0.1", server.ports[0], answer), "another server's answer is not answered")
        for _ in range(20):
            ask_udp("127.0.0.1", server.ports[0], *bodies, framed=True, quiet=0.01)
        for command in (b"lru_crawler metadump all\r\n", b"lru_crawler mgdump all\r\n", b"stats cachedump 1 0\r\n"):
            answer = answer_udp(server.ports[0], command)
            check(answer.endswith(b"not allowed\r\n"), f"{command}: {answer}")
        set_and_get(connection)
        check(answer_udp(server.ports[0], b"get none\r\n") == b"END\r\n", "UDP goes on")
        check(connection.stats()["curr_connections"] == "1", "nothing is left of them")


# ---- those who do nothing ----


def allow_descriptors(count):
    """False: this user may not have so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= count:
        return True
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, max(count, hard)))
    except (ValueError, OSError):
        return False
    return True


def resident(node):
    with open(f"/proc/{node.process.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def case_ten_thousand_idle_connections_are_cheap():
    count = 10000
    if not allow_descriptors(count + 600):
        print("         skipped: this user may not have so many open files (ulimit -Hn)")
        return
    with Single("-c", str(count + 10)) as server, plain(server.ports[0]) as first, contextlib.ExitStack() as stack:
        set_and_get(first)
        before = resident(server.node)
        waiting = [stack.enter_context(socket.create_connection(("127.0.0.1", server.ports[0]))) for _ in range(count)]
        wait_until("all are there", lambda: first.stats()["curr_connections"] == str(count + 1), 30)
        each = (resident(server.node) - before) / count
        for connected in waiting[::100]:
            connected.sendall(b"get none\r\n")
            check(connected.recv(100) == b"END\r\n", "each is served")
        began = time.monotonic()
        for _ in range(1000):
            first.get(b"none")
        print(f"         {count} idle connections: {each:.0f} bytes each; beside them {1000 / (time.monotonic() - began):.0f} "
              "requests/s, one by one")
        check(each < 4096, f"{each} bytes for an idle connection")


def case_a_thousand_idle_tls_connections_are_affordable():
    count = 1000
    with TlsNode() as server, contextlib.ExitStack() as stack:
        first = stack.enter_context(server.connect())
        context = server.client()
        before = resident(server.node)
        for _ in range(count):
            connection = stack.enter_context(server.connect(context))
            check(connection.get(b"none") is None, "it is served")
        each = (resident(server.node) - before) / count
        print(f"         {count} idle TLS connections: {each:.0f} bytes each")
        check(first.stats()["curr_connections"] == str(count + 1), "all are there")
        if "san/" in PROGRAM:
            return  # a sanitizer keeps what was freed
        check(each < 65536, f"{each} bytes for an idle TLS connection")


def case_a_byte_a_second_is_not_idle_and_costs_nothing():
    with Single("-o", "idle_timeout=4") as server, contextlib.ExitStack() as stack:
        silent, half, slow, busy, watcher = (stack.enter_context(plain(server.ports[0])) for _ in range(5))
        check(watcher.ask(b"watch evictions") == b"OK", "watch")
        silent.get(b"a")
        half.send(b"get a")
        for byte in b"set a 0 0":
            slow.send(bytes([byte]))
            until = time.monotonic() + 0.8
            while time.monotonic() < until:
                busy.get(b"a")
        slow.send(b" 1\r\nx\r\n")
        check(slow.line() == b"STORED", "a slow one is served when it has said all")
        check(silent.socket.recv(10) == b"" and half.socket.recv(10) == b"", "those who say nothing are closed")
        check(busy.stats()["curr_connections"] == "3", "a watcher may be silent")
        check(busy.stats()["idle_kicks"] == "2", f"idle_kicks {busy.stats()['idle_kicks']}")
    with Single() as server, plain(server.ports[0]) as silent:
        time.sleep(2.5)
        check(silent.get(b"a") is None, "without the option nobody is closed")


def case_every_way_in_leads_to_the_same_data():
    """TLS at one node, UDP at another, plain at the third."""
    with Cluster(3) as cluster, tempfile.TemporaryDirectory() as folder:
        authority = Authority(folder)
        certificate, key = authority.sign("server")
        ports = free_ports(2)[0]
        first, second, third = cluster.nodes
        first.arguments += ["-p", str(ports[0]), "-l", f"notls:127.0.0.1:{first.port}",
                            "-Z", "-o", f"ssl_chain_cert={certificate},ssl_key={key}"]
        second.arguments += ["-U", str(ports[1])]
        cluster.start()
        with secure(ports[0], authority.client()) as encrypted, third.connect() as other:
            check(encrypted.set(b"n", b"1") == b"STORED", "set by TLS")
            for i in range(2, 20, 3):
                check(datagrams(ask_udp("127.0.0.1", ports[1], b"incr n 1\r\n", quiet=10, count=1)) == [b"%d\r\n" % i],
                      "incr by UDP")
                check(other.ask(b"incr n 1") == b"%d" % (i + 1), "incr by plain TCP")
                check(encrypted.ask(b"incr n 1") == b"%d" % (i + 2), "incr by TLS")
