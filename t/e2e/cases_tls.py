"""TLS for clients: it serves as plain sockets do, checks certificates as it is told, exchanges its own while serving,
and whoever speaks wrongly is told so, without cost to others."""
import contextlib
import os
import select
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time

from certificates import Authority, openssl
from cluster import PROGRAM, Failure, Node, Wire, check, free_ports, plain, wait_until
from single import Single

HANDSHAKE_SECONDS = 10  # server/connection_sweep.c
AT_ONCE_SECONDS = HANDSHAKE_SECONDS - 2  # not by that limit


def secure(port, context, host="127.0.0.1", session=None):
    raw = socket.create_connection((host, port), timeout=30)
    try:
        return Wire(context.wrap_socket(raw, server_hostname=host, session=session))
    except BaseException:
        raw.close()
        raise


def is_refused(port, context):
    """With TLS 1.3 a client learns only with the first answer that its certificate was not good enough."""
    try:
        with secure(port, context) as connection:
            connection.ask(b"version")
    except (ssl.SSLError, ConnectionError):
        return True
    return False


class TlsNode(Single):
    """One node with TLS. Ports: [0] is the main one, the others are for `listeners(ports)`."""
    name, listens = "tls", "clients (TLS) at"

    def __init__(self, *words, listeners=lambda ports: (), arguments=(), certificate=None):
        super().__init__()
        self.authority = Authority(self.directory)
        self.certificate, self.key = certificate or self.authority.sign("server")
        options = ",".join((f"ssl_chain_cert={self.certificate}", f"ssl_key={self.key}", *words))
        extra = [word for address in listeners(self.ports) for word in ("-l", address)]
        self.node.arguments += ["-Z", "-o", options, *extra, *arguments]

    def client(self, *arguments, **words):
        return self.authority.client(*arguments, **words)

    def connect(self, context=None):
        return secure(self.ports[0], context or self.client())

    def stat(self, name):
        with self.connect() as connection:
            return int(connection.stats()[name])

    def check_counted(self, name, count, context=None):
        """A client may see its end before the other thread has counted it."""
        with self.connect(context) as connection:
            with contextlib.suppress(Failure):
                wait_until(name, lambda: int(connection.stats()[name]) >= count, 30)
            found = int(connection.stats()[name])
        check(found == count, f"{name}: {found}, not {count}")


def talk(connection):
    """Small and large, pipelined and in pieces."""
    large = os.urandom(900000)
    check(connection.set(b"small", b"value") == b"STORED", "set")
    check(connection.get(b"small") == b"value", "get")
    check(connection.set(b"large", large) == b"STORED", "set of a large value")
    check(connection.get(b"large") == large, "get of a large value")
    for byte in b"get small\r\n":
        connection.send(bytes([byte]))
    answer = b"VALUE small 0 5\r\nvalue\r\nEND\r\n"
    check(connection.exactly(len(answer)) == answer, "byte by byte")
    count = 3000
    check(exchange(connection, b"get small\r\n" * count, len(answer) * count) == answer * count, "pipelined")
    answer = b"VALUE large 0 900000\r\n" + large + b"\r\nEND\r\n"
    got = exchange(connection, b"get large\r\n" * 20 + b"no-command\r\n", len(answer) * 20 + 7)
    check(got == answer * 20 + b"ERROR\r\n", "large ones, and what follows them")
    values = [large[size * 7:size * 9] for size in range(0, 10000, 37)]  # values that end anywhere in a record
    sets = b"".join(b"set piped%d 0 0 %d\r\n%b\r\n" % (i, len(value), value) for i, value in enumerate(values))
    check(exchange(connection, sets, 8 * len(values)) == b"STORED\r\n" * len(values), "pipelined sets")
    check(connection.get(b"piped200") == values[200], "one of them")


def exchange(connection, data, size):
    """Sends and receives at once: OpenSSL's sessions are not for two threads."""
    got, begin, connected = [], 0, connection.socket
    waits = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
    connected.setblocking(False)
    while size > 0:
        moved = False
        with contextlib.suppress(*waits):
            if begin < len(data):
                begin += connected.send(data[begin:begin + 16384])
                moved = True
        with contextlib.suppress(*waits):
            piece = connected.recv(65536)
            if not piece:
                raise ConnectionError("closed by the server")
            got.append(piece)
            size -= len(piece)
            moved = True
        if not moved and not select.select([connected], [connected] if begin < len(data) else [], [], 30)[0]:
            check(begin < len(data), "an answer within 30 s")
    connected.settimeout(30)
    return b"".join(got)


def case_tls_serves_as_a_plain_socket_does():
    with TlsNode(listeners=lambda ports: (f"notls:127.0.0.1:{ports[1]}", f"[::1]:{ports[2]}")) as server:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            with server.connect(server.client(newest=version, oldest=version)) as connection:
                talk(connection)
        with plain(server.ports[1]) as connection:
            talk(connection)
        with secure(server.ports[2], server.client(), "::1") as connection:
            talk(connection)
        check(server.stat("ssl_handshake_errors") == 0, "nothing went wrong")
        check(server.stat("ssl_proto_errors") == 0, "nothing went wrong")


def case_a_client_that_reads_slowly_over_tls_gets_everything():
    """The socket is full in the middle of a record, again and again."""
    with TlsNode() as server:
        large = os.urandom(1000000)
        with server.connect() as connection:
            connection.set(b"large", large)
            connection.send(b"get large\r\n" * 40)
            time.sleep(1)
            with server.connect() as other:
                check(other.get(b"large") == large, "others go on")
            for _ in range(40):
                connection.line()
                check(connection.exactly(1000007) == large + b"\r\nEND\r\n", "all of it")


def case_certificates_of_clients_are_checked_as_told():
    with tempfile.TemporaryDirectory() as folder:
        stranger = Authority(folder, "stranger").sign("client")
        for mode, without, wrong in ((0, True, True), (1, True, False), (2, False, False), (3, True, False)):
            server = TlsNode()
            server.node.arguments[server.node.arguments.index("-o") + 1] += (
                f",ssl_verify_mode={mode},ssl_ca_cert={server.authority.path}")
            with server:
                good = server.client(server.authority.sign("client"))
                check(not is_refused(server.ports[0], good), f"mode {mode}: a good certificate")
                check(is_refused(server.ports[0], server.client()) != without, f"mode {mode}: none")
                check(is_refused(server.ports[0], server.client(stranger)) != wrong, f"mode {mode}: a stranger's")
                server.check_counted("ssl_handshake_errors", (not without) + (not wrong), good)


def case_each_listener_has_its_own_way_with_certificates():
    server = TlsNode(listeners=lambda ports: (f"btls:127.0.0.1:{ports[1]}", f"mtls:127.0.0.1:{ports[2]}"))
    server.node.arguments[server.node.arguments.index("-o") + 1] += f",ssl_ca_cert={server.authority.path}"
    with server:
        good = server.client(server.authority.sign("client"))
        for port, without in zip(server.ports, (True, True, False)):
            check(not is_refused(port, good), "with a certificate")
            check(is_refused(port, server.client()) != without, "without")


def case_old_versions_of_tls_are_refused():
    old = {"oldest": ssl.TLSVersion.TLSv1, "newest": ssl.TLSVersion.TLSv1_1}
    with TlsNode() as server:
        check(is_refused(server.ports[0], server.client(**old)), "TLS 1.1")
        server.check_counted("ssl_handshake_errors", 1)
        with server.connect() as connection:
            check(connection.socket.version() == "TLSv1.3", "the newest is taken")
    with TlsNode("ssl_min_version=3") as server:
        check(is_refused(server.ports[0], server.client(newest=ssl.TLSVersion.TLSv1_2)), "TLS 1.2")
        check(not is_refused(server.ports[0], server.client()), "TLS 1.3")


def case_a_session_can_be_resumed_if_that_is_asked_for():
    for word, resumed in (("ssl_session_cache", True), (None, False)):
        with TlsNode(*([word] if word else [])) as server:
            context = server.client(newest=ssl.TLSVersion.TLSv1_2)
            with server.connect(context) as connection:
                connection.ask(b"version")
                session = connection.socket.session
                before = int(connection.stats()["ssl_new_sessions"])
            with secure(server.ports[0], context, session=session) as connection:
                check(connection.socket.session_reused == resumed, f"{word}: {connection.socket.session_reused}")
                check(int(connection.stats()["ssl_new_sessions"]) == before, "a resumed one is not new")
            check(before == resumed, f"{word}: {before} new sessions")


# ---- certificates that are exchanged ----


def name_of(connection):
    return dict(pair[0] for pair in connection.socket.getpeercert()["subject"])["commonName"]


def replace(server, certificate):
    """As tools do: the file is another one from one moment to the next."""
    for new, old in zip(certificate, (server.certificate, server.key)):
        shutil.copy(new, new + ".part")
        os.rename(new + ".part", old)


def connect_again_and_again(server, stop, problems, names):
    while not stop.is_set():
        try:
            with server.connect() as connection:
                names.add(name_of(connection))
                if not connection.ask(b"version").startswith(b"VERSION"):
                    problems.append("no answer")
        except (OSError, Failure) as problem:
            problems.append(repr(problem))


def case_certificates_are_exchanged_while_serving():
    with TlsNode() as server:
        second, third = server.authority.sign("second"), server.authority.sign("third")
        stop, problems, names = threading.Event(), [], set()
        threads = [threading.Thread(target=connect_again_and_again, args=(server, stop, problems, names))
                   for _ in range(3)]
        with server.connect() as old:
            for thread in threads:
                thread.start()
            replace(server, second)
            for _ in range(30):
                check(old.ask(b"refresh_certs") == b"OK", "refresh_certs")
            with server.connect() as new:
                check(name_of(new) == "second", f"a new connection has {name_of(new)}")
            replace(server, third)
            server.node.signal(signal.SIGHUP)
            wait_until("SIGHUP brings the third", lambda: "third" in names, 30)
            stop.set()
            for thread in threads:
                thread.join()
            talk(old)
        check(not problems, f"handshakes failed meanwhile: {problems[:3]}")
        check(server.stat("ssl_handshake_errors") == 0, "no handshake failed")
        check(server.stat("time_since_server_cert_refresh") < 60, "the age of the certificates")


def case_a_bad_new_certificate_leaves_the_old():
    with TlsNode() as server, server.connect() as connection:
        stranger = server.authority.sign("stranger")
        for harm, words in ((lambda: os.unlink(server.certificate), (server.certificate, "No such file")),
                            (lambda: shutil.copy(stranger[0], server.certificate), (server.certificate, "ssl_key")),
                            (lambda: shutil.copy(stranger[1], server.certificate), (server.certificate,)),
                            (lambda: os.truncate(server.key, 0), (server.key,))):
            kept = [(path, open(path, "rb").read()) for path in (server.certificate, server.key)]
            harm()
            answer = connection.ask(b"refresh_certs").decode()
            check(answer.startswith("Error") and all(word in answer for word in words), f"the answer: {answer}")
            check(answer in server.log(), "the log says the same")
            with server.connect() as new:
                check(name_of(new) == "server", "the old one is still shown")
            for path, data in kept:
                with open(path, "wb") as file:
                    file.write(data)
        check(connection.ask(b"refresh_certs") == b"OK", "repaired")
    with plain_node() as port, plain(port) as connection:
        check(connection.ask(b"refresh_certs") == b"Error TLS not enabled", "without TLS")


@contextlib.contextmanager
def plain_node():
    node = Node(free_ports(1)[0][0], ["-t", "1"], None, "plain")
    try:
        node.start()
        node.wait_serving()
        yield node.port
    finally:
        node.end()
        os.unlink(node.log_path)


def run_and_exit(*arguments):
    user = ["-u", "root"] if os.geteuid() == 0 else []
    done = subprocess.run([PROGRAM, *user, "-l", "127.0.0.1", "-p", str(free_ports(1)[0][0]), *arguments],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30, check=False)
    return done.returncode, done.stdout.decode(errors="replace")


def case_wrong_certificates_are_named_at_the_start():
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority(folder)
        certificate, key = authority.sign("server")
        other = authority.sign("other")[1]
        locked = os.path.join(folder, "locked.key")
        openssl("ec", "-in", key, "-aes128", "-passout", "pass:secret", "-out", locked)
        good = f"ssl_chain_cert={certificate},ssl_key={key}"
        for options, words in (("", ("ssl_chain_cert",)),
                               (f"ssl_chain_cert={folder}/none", (f"{folder}/none", "No such file")),
                               (f"ssl_chain_cert={folder},ssl_key={key}", (folder,)),
                               (f"ssl_chain_cert={key},ssl_key={key}", (key,)),
                               (f"ssl_chain_cert={certificate}", (certificate, "key")),
                               (f"ssl_chain_cert={certificate},ssl_key={folder}/none", (f"{folder}/none",)),
                               (f"ssl_chain_cert={certificate},ssl_key={other}", (certificate, "ssl_key")),
                               (f"ssl_chain_cert={certificate},ssl_key={locked}", (locked,)),
                               (f"{good},ssl_ca_cert={folder}/none", (f"{folder}/none",)),
                               (f"{good},ssl_verify_mode=2", ("ssl_ca_cert",)),
                               (f"{good},ssl_verify_mode=4", ("ssl_verify_mode", "0 to 3")),
                               (f"{good},ssl_min_version=9", ("ssl_min_version", "0 to 3")),
                               (f"{good},ssl_ciphers=nonsense", ("nonsense",)),
                               (f"{good},ssl_keyformat=3", ("ssl_keyformat",))):
            code, text = run_and_exit("-Z", *(["-o", options] if options else []))
            check(code in (1, 64), f"{options}: exit code {code}: {text}")
            check(text.count("\n") == 1 and all(word in text for word in words), f"{options}: {text}")
        for arguments, words in ((("-l", "mtls:127.0.0.1"), ("ssl_ca_cert",)), (("-s", f"{folder}/s"), ("TCP",))):
            code, text = run_and_exit("-Z", "-o", good, *arguments)
            check(code == 64 and all(word in text for word in words), f"{arguments}: {code} {text}")
        code, text = run_and_exit("-l", "notls:127.0.0.1")
        check(code == 64 and "-Z" in text, f"notls without TLS: {code} {text}")


# ---- those who speak wrongly ----


def drain(connected, seconds=AT_ONCE_SECONDS):
    """All that comes until it is closed, and how long that took."""
    began, data = time.monotonic(), b""
    connected.settimeout(seconds)
    try:
        while piece := connected.recv(65536):
            data += piece
    except ConnectionError:
        pass
    except TimeoutError:
        raise Failure(f"not closed within {seconds} s; it has said {data!r}") from None
    return data, time.monotonic() - began


CLIENT_HELLO_BEGIN = bytes.fromhex("16030100c8010000c40303") + b"x" * 40


def case_plain_text_to_a_tls_port_and_tls_to_a_plain_one_is_told_at_once():
    with TlsNode(listeners=lambda ports: (f"notls:127.0.0.1:{ports[1]}",)) as server:
        for data in (b"get a\r\n", b"x", b"\r\n", b"GET / HTTP/1.0\r\n\r\n", b"\x80" + b"\0" * 23, b"\xff" * 5000):
            for _ in range(20):
                with socket.create_connection(("127.0.0.1", server.ports[0])) as connected:
                    connected.sendall(data)
                    said, seconds = drain(connected)
                    check(said in (b"CLIENT_ERROR this port expects TLS\r\n", b"") and seconds < AT_ONCE_SECONDS,
                          f"{data[:20]!r}: {said!r} after {seconds} s")
        for _ in range(50):
            with socket.create_connection(("127.0.0.1", server.ports[1])) as connected:
                connected.sendall(CLIENT_HELLO_BEGIN)
                said, seconds = drain(connected)
                check(said[:1] in (b"\x15", b"") and seconds < AT_ONCE_SECONDS, f"TLS to a plain port: {said!r} after {seconds} s")
        context = server.client()
        with socket.create_connection(("127.0.0.1", server.ports[1])) as raw:
            try:
                context.wrap_socket(raw, server_hostname="127.0.0.1")
                raise Failure("TLS where there is none")
            except (ssl.SSLError, ConnectionError):
                pass
        for words in ("it does not speak TLS to a port with TLS", "it speaks TLS to a port without TLS"):
            lines = [line for line in server.log().splitlines() if words in line]
            check(len(lines) <= 2, f"the log repeats itself: {lines}")
        check("closed a client" in server.log(), "a line about it")
        server.check_counted("ssl_handshake_errors", 120)
        with server.connect() as connection:
            talk(connection)


def case_broken_records_end_only_their_own_connection():
    with TlsNode() as server, server.connect() as other:
        for data in (CLIENT_HELLO_BEGIN + b"\xff" * 500, b"\x16\x03\x01\xff\xff" + os.urandom(3000),
                     b"\x16\x03\x01\x00\x04" + b"\x01\xff\xff\xff" * 100):
            with socket.create_connection(("127.0.0.1", server.ports[0])) as connected:
                connected.sendall(data)
                drain(connected)
        with socket.create_connection(("127.0.0.1", server.ports[0])) as raw:
            wrapped = server.client().wrap_socket(raw, server_hostname="127.0.0.1", do_handshake_on_connect=True)
            wrapped.sendall(b"version\r\n")
            wrapped.recv(100)
            with socket.socket(fileno=os.dup(wrapped.fileno())) as below:
                below.sendall(b"\x17\x03\x03\x00\x20" + os.urandom(32))  # a record that nobody has signed
                drain(below)
            wrapped.detach()
        server.check_counted("ssl_handshake_errors", 3)
        server.check_counted("ssl_proto_errors", 1)
        talk(other)


def case_a_handshake_that_never_ends_is_closed():
    with TlsNode() as server, contextlib.ExitStack() as stack:
        began = time.monotonic()
        waiting = [stack.enter_context(socket.create_connection(("127.0.0.1", server.ports[0]))) for _ in range(20)]
        for connected in waiting[10:]:
            connected.sendall(CLIENT_HELLO_BEGIN)
        with server.connect() as other:
            talk(other)
            for connected in waiting:
                drain(connected, HANDSHAKE_SECONDS + 10)
            check(time.monotonic() - began > HANDSHAKE_SECONDS / 2, "not too early")
            check(other.get(b"small") == b"value", "one whose handshake was done stays")
        server.check_counted("ssl_handshake_errors", 20)
        wait_until("nothing is left of them", lambda: server.stat("curr_connections") == 1, 30)
