"""Values above 1 MB, which lie in pieces: whole everywhere, in one step, and cheap for everybody else."""
import random
import signal
import threading
import time

from cases_dump import slow_connection
from cases_sockets import ask_udp, datagrams, unix
from cases_tls import TlsNode
from cluster import Cluster, check, wait_until
from single import Single

MEGABYTE = 1 << 20
ARGUMENTS = ("-m", "600", "-I", "128m", "-t", "2", "--suspect-ms=2000")


def value_of(size, seed):
    return random.Random(seed).randbytes(size)


def start(durable=True, count=3):
    return Cluster(count=count, durable=durable, arguments=ARGUMENTS)


def store(connection, key, value, command=b"set", end=b"\r\n"):
    connection.socket.sendall(b"%b %b 7 0 %d\r\n" % (command, key, len(value)))
    connection.socket.sendall(value)
    connection.socket.sendall(end)
    return connection.line()


def read(connection, size):
    """Exactly so many bytes; fewer: the server closed."""
    data = bytearray(connection.pending[:size])
    connection.pending = connection.pending[size:]
    while len(data) < size:
        more = connection.socket.recv(min(MEGABYTE, size - len(data)))
        if not more:
            break
        data += more
    return bytes(data)


def load(connection, key):
    line = connection.ask(b"get " + key)
    if line == b"END":
        return None
    check(line.startswith(b"VALUE " + key + b" 7 "), f"get: {line!r}")
    size = int(line.split()[3])
    data = read(connection, size + 7)
    check(data[size:] == b"\r\nEND\r\n", f"{len(data)} of {size + 7} bytes")
    return data[:size]


def check_everywhere(cluster, key, value):
    for node in cluster.nodes:
        with node.connect(timeout=60) as connection:
            check(load(connection, key) == value, f"{node.name}: another value of {key!r}")


def pieces(node):
    with node.connect() as connection:
        return int(connection.stats()["large_pieces"])


def resident(node):
    with open(f"/proc/{node.process.pid}/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS"))


def case_large_values_are_whole_on_every_node():
    with start().start() as cluster:
        value = value_of(40 * MEGABYTE + 123, 1)
        with cluster.nodes[0].connect(timeout=60) as connection:
            check(store(connection, b"big", value) == b"STORED", "set")
        check_everywhere(cluster, b"big", value)
        with cluster.nodes[1].connect(timeout=60) as connection:
            check(store(connection, b"big", b"tail", b"append") == b"STORED", "append")
            check(store(connection, b"big", value[:2 * MEGABYTE], b"prepend") == b"STORED", "prepend")
            check(connection.ask(b"incr big 1").startswith(b"CLIENT_ERROR cannot increment"), "incr")
            check(connection.ask(b"touch big 0") == b"TOUCHED", "touch")
            check(store(connection, b"big", b"x" * 2 * MEGABYTE, b"add") == b"NOT_STORED", "add")
        check_everywhere(cluster, b"big", value[:2 * MEGABYTE] + value + b"tail")


def case_a_small_value_grows_large_by_appends_in_order():
    with start(count=1).start() as cluster:
        with cluster.nodes[0].connect(timeout=60) as connection:
            check(store(connection, b"k", b"") == b"STORED", "set")
            parts = [bytes([65 + i]) * 300000 for i in range(8)]
            connection.send(b"".join(b"append k 0 0 %d noreply\r\n%b\r\n" % (len(p), p) for p in parts))
            check(load(connection, b"k") == b"".join(parts), "the value is another")


def case_a_small_value_takes_a_large_append_and_what_follows_waits_for_it():
    """All in one go: the get and the delete behind an append must not overtake the rewriting that it becomes."""
    with start(count=1).start() as cluster:
        with cluster.nodes[0].connect(timeout=60) as connection:
            head, tail = b"head", value_of(2 * MEGABYTE + 5, 6)
            check(store(connection, b"k", head) == b"STORED", "set")
            connection.socket.sendall(b"append k 0 0 %d noreply\r\n%b\r\n" % (len(tail), tail) +
                                      b"prepend k 0 0 %d noreply\r\n%b\r\nget k\r\ndelete k\r\nmn\r\n" % (len(tail), tail))
            value = tail + head + tail
            check(connection.line() == b"VALUE k 7 %d" % len(value), "the append was overtaken")
            check(connection.exactly(len(value) + 7) == value + b"\r\nEND\r\n", "another value")
            check(connection.line() == b"DELETED" and connection.line() == b"MN", "delete")


def meta(connection, line, value):
    connection.socket.sendall(b"%b\r\n%b\r\n" % (line, value))
    return connection.line()


def case_meta_commands_tell_the_size_and_the_marks_of_large_values():
    with start(count=1).start() as cluster:
        with cluster.nodes[0].connect(timeout=60) as connection:
            value, more = value_of(3 * MEGABYTE, 7), value_of(MEGABYTE + 1, 8)
            size = len(value)
            check(meta(connection, b"ms k %d MA N60" % len(more), more) == b"HD", "append makes it")
            check(connection.ask(b"mg k s") == b"HD s%d" % len(more), "size of what an append has made")
            check(meta(connection, b"ms k %d F7 T100 s c E55 k" % size, value) == b"HD s%d c55 kk" % size, "ms")
            check(connection.ask(b"mg k s f c") == b"HD s%d f7 c55" % size, "mg")
            whole = size + len(more)
            check(meta(connection, b"ms k %d MA s C54" % len(more), more).startswith(b"EX"), "another unique")
            check(meta(connection, b"ms k %d MP s c C55 E56" % len(more), more) == b"HD s%d c56" % whole, "prepend")
            check(connection.ask(b"mg k s f c") == b"HD s%d f7 c56" % whole, "flags stay")
            connection.send(b"mg k v s q\r\nmg none v q\r\nmn\r\n")
            check(connection.line() == b"VA %d s%d" % (whole, whole), "quiet mg")
            check(connection.exactly(whole + 2) == more + value + b"\r\n", "another value")
            check(connection.line() == b"MN", "nothing of a quiet miss")
            check(meta(connection, b"ms k %d ME q" % size, value) == b"NS", "add")
            connection.socket.sendall(b"ms k %d q\r\n%b\r\nmg k s\r\n" % (size, value))
            check(connection.line() == b"HD s%d" % size, "quiet ms")
            check(connection.ask(b"md k I T30") == b"HD", "md I")
            line = connection.ask(b"mg k s")
            check(set(line.split()) == {b"HD", b"s%d" % size, b"W", b"X"}, f"stale: {line!r}")
            check(connection.ask(b"md k x") == b"HD" and connection.ask(b"mg k s v").startswith(b"VA 0 s0"), "md x")
            connection.line()


def sizes_that_matter():
    for base in (MEGABYTE, MEGABYTE + MEGABYTE // 2, 2 * MEGABYTE):
        yield from (base - 1, base, base + 1)


def case_values_around_the_borders_of_pieces_are_whole():
    with start(count=1).start() as cluster:
        with cluster.nodes[0].connect(timeout=60) as connection:
            for size in sizes_that_matter():
                value = value_of(size, size)
                check(store(connection, b"k", value) == b"STORED" and load(connection, b"k") == value, f"{size} bytes")
                check(store(connection, b"k", b"+", b"append") == b"STORED", f"append to {size} bytes")
                check(load(connection, b"k") == value + b"+", f"{size} bytes and one")
            stats = connection.stats()
            check(stats["curr_items"] == "1" and stats["total_items"] == stats["cmd_set"] == "18", str(stats))


def largest(connection, key, flags, near):
    """The size of the largest value that is stored."""
    low, high = near - 2000, near + 2000
    while low < high:
        middle = (low + high + 1) // 2
        connection.socket.sendall(b"set %b %d 0 %d\r\n%b\r\n" % (key, flags, middle, bytes(middle)))
        line = connection.line()
        check(line in (b"STORED", b"SERVER_ERROR object too large for cache"), f"{middle}: {line!r}")
        low, high = (middle, high) if line == b"STORED" else (low, middle - 1)
    return low


def case_the_limit_of_an_item_counts_its_header_and_key():
    """48 bytes of header, 8 of the unique, the key and its zero, flags if there are any, the value and CRLF."""
    for text, limit in (("1m", MEGABYTE), ("1025k", 1025 << 10), ("2m", 2 * MEGABYTE), ("5m", 5 * MEGABYTE)):
        with Cluster(count=1, durable=False, arguments=("-m", "200", "-t", "1", "-I", text)).start() as cluster:
            with cluster.nodes[0].connect(timeout=60) as connection:
                for key, flags in ((b"k", 0), (b"k" * 250, 0), (b"k", 9)):
                    found = largest(connection, key, flags, limit)
                    wanted = limit - 48 - 8 - len(key) - 1 - 2 - (4 if flags else 0)
                    print(f"  -I {text}, key of {len(key)}, flags {flags}: {found}, {found - wanted:+d}")
                    check(abs(found - wanted) <= 8, f"-I {text}: {found}, not {wanted}")


def case_the_pieces_of_an_upload_that_a_kill_ended_go_after_the_restart():
    with start(count=1).start() as cluster:
        node = cluster.nodes[0]
        with node.connect(timeout=60) as connection:
            connection.socket.sendall(b"set big 7 0 %d\r\n" % (20 * MEGABYTE) + value_of(3 * MEGABYTE, 2))
            wait_until("some are stored", lambda: pieces(node) > 3, 30)
            node.kill()
        node.start()
        node.wait_serving()
        check(pieces(node) > 0, "they were not durable")
        wait_until("orphans are gone", lambda: pieces(node) == 0, 60)


def case_one_large_key_may_be_set_again_and_again_in_little_memory():
    """What was replaced must make room in time: for the next value, and for others."""
    for size, count in ((2 * MEGABYTE, 300), (10 * MEGABYTE, 60)):
        with Cluster(count=1, durable=False, arguments=("-m", "128", "-t", "1", "-I", "20m")).start() as cluster:
            with cluster.nodes[0].connect(timeout=60) as connection:
                value = value_of(size, 9)
                for i in range(count):
                    line = store(connection, b"big", value)
                    check(line == b"STORED", f"set {i} of {count} of {size} bytes: {line!r}")
                check(load(connection, b"big") == value, "the last one")


def case_a_large_set_that_finds_no_memory_takes_the_old_value_along():
    with Cluster(count=1, durable=False, arguments=("-m", "64", "-t", "1", "-I", "200m", "-M")).start() as cluster:
        node = cluster.nodes[0]
        with node.connect(timeout=60) as connection:
            check(store(connection, b"other", bytes(30 * MEGABYTE)) == b"STORED", "set")
            for command, size, left in ((b"replace", 40, b"old"), (b"append", 40, b"old"), (b"set", 40, None),
                                        (b"add", 150, b"old"), (b"set", 150, None)):
                check(connection.ask(b"set k 7 0 3\r\nold") == b"STORED", "set")
                line = store(connection, b"k", bytes(size * MEGABYTE), command)
                check(line == b"SERVER_ERROR out of memory storing object", f"{command}: {line!r}")
                check(load(connection, b"k") == left, f"after {command}")
                wait_until("all is given back", lambda: pieces(node) == 60, 30)
            stats = connection.stats()
            check(stats["delete_misses"] == "0" and stats["delete_hits"] == "0" and stats["cmd_set"] == "11", str(stats))


def case_a_value_that_can_never_fit_leaves_room_to_others_on_its_way():
    with Cluster(count=1, durable=False, arguments=("-m", "64", "-t", "1", "-I", "200m")).start() as cluster:
        node = cluster.nodes[0]
        with node.connect() as writer, node.connect() as other:
            writer.send(b"set k 7 0 %d\r\n" % (150 * MEGABYTE) + bytes(149 * MEGABYTE))
            check(pieces(node) == 0 and other.set(b"small", bytes(900000)) == b"STORED", "others")
            writer.send(bytes(MEGABYTE) + b"\r\n")
            check(writer.line() == b"SERVER_ERROR out of memory storing object", "the end of it")


def case_a_stop_in_the_middle_of_everything_is_clean():
    """Uploads, readers and rewrites under way, some for keys of the other thread."""
    with start().start() as cluster:
        node, value = cluster.nodes[0], value_of(20 * MEGABYTE, 3)
        with node.connect(timeout=60) as connection:
            for i in range(4):
                check(store(connection, b"k%d" % i, value) == b"STORED", "set")
        connections = [node.connect(timeout=60) for _ in range(24)]
        for i, connection in enumerate(connections):
            key = b"k%d" % (i % 4)
            connection.send((b"get %b\r\n" % key, b"append %b 0 0 4\r\nmore\r\nget x\r\n" % key,
                             b"set %b 0 0 %d\r\n%b" % (key, 2 * MEGABYTE, value[:700000]))[i // 4 % 3])
        time.sleep(0.05)
        code, _ = node.stop()
        check(code == 0, f"it ends with {code}")
        for connection in connections:
            connection.socket.close()


def case_an_upload_that_ends_early_changes_nothing_and_leaves_nothing():
    with start().start() as cluster:
        old, node = value_of(3 * MEGABYTE, 2), cluster.nodes[0]
        with node.connect(timeout=60) as connection:
            check(store(connection, b"big", old) == b"STORED", "set")
        before = pieces(node)
        with node.connect(timeout=60) as connection:
            connection.socket.sendall(b"set big 7 0 %d\r\n" % (20 * MEGABYTE) + old)
        with node.connect(timeout=60) as connection:
            check(store(connection, b"big", old + old, end=b"xx\r\n") == b"CLIENT_ERROR bad data chunk", "bad chunk")
        check_everywhere(cluster, b"big", old)
        wait_until("what was uploaded is gone", lambda: all(pieces(n) == before for n in cluster.nodes), 30)


def case_pieces_of_replaced_and_deleted_values_go():
    with start().start() as cluster:
        value = value_of(5 * MEGABYTE, 3)
        for node in cluster.nodes:
            with node.connect(timeout=60) as connection:
                check(store(connection, b"a", value) == b"STORED", "set")
                check(store(connection, b"b", value) == b"STORED", "set")
        with cluster.nodes[2].connect(timeout=60) as connection:
            check(connection.ask(b"delete a") == b"DELETED", "delete")
            check(store(connection, b"b", b"small") == b"STORED", "set")
        wait_until("no piece is left", lambda: all(pieces(n) == 0 for n in cluster.nodes), 30)


def case_a_reader_gets_one_value_or_none_while_it_is_replaced():
    with start(count=1).start() as cluster:
        node, values = cluster.nodes[0], [value_of(30 * MEGABYTE, i) for i in range(2)]
        with node.connect(timeout=60) as writer, node.connect(timeout=60) as reader:
            check(store(writer, b"big", values[0]) == b"STORED", "set")
            reader.socket.sendall(b"get big\r\n")
            first = read(reader, 65536)
            check(store(writer, b"big", values[1]) == b"STORED", "set")
            rest = read(reader, 30 * MEGABYTE + len(b"VALUE big 7 31457280\r\n" + b"\r\nEND\r\n") - len(first))
            line, data = (first + rest).split(b"\r\n", 1)
            check(data[:30 * MEGABYTE] == values[0], "bytes of another value")
            check(load(writer, b"big") == values[1], "not the new value")


def case_slow_readers_of_large_values_cost_little():
    with start(count=1).start() as cluster:
        node, value = cluster.nodes[0], value_of(60 * MEGABYTE, 4)
        with node.connect(timeout=60) as writer:
            check(store(writer, b"big", value) == b"STORED", "set")
            check(load(writer, b"big") == value, "get")
            before = resident(node)
            readers = [node.connect() for _ in range(20)]
            for reader in readers:
                reader.send(b"get big\r\n")
            time.sleep(1)
            grown = resident(node) - before
            print(f"  20 readers that do not read a value of 60 MB hold {grown / MEGABYTE:.1f} MB")
            held = int(writer.stats()["client_memory_values"])
            check(held <= 21 * MEGABYTE, f"20 slow readers hold {held} bytes")
            check(writer.set(b"other", b"x") == b"STORED", "others are served")
            for reader in readers:
                reader.socket.close()


def case_large_values_survive_a_kill_and_heal():
    with start().start() as cluster:
        values = {b"v%d" % i: value_of(8 * MEGABYTE, i) for i in range(4)}
        killed = cluster.nodes[2]
        with cluster.nodes[0].connect(timeout=60) as connection:
            for key, value in list(values.items())[:2]:
                check(store(connection, key, value) == b"STORED", "set")
            killed.kill()
            for key, value in list(values.items())[2:]:
                check(store(connection, key, value) == b"STORED", "set")
            values[b"v0"] = value_of(6 * MEGABYTE, 77)
            check(store(connection, b"v0", values[b"v0"]) == b"STORED", "set")
        killed.start()
        killed.wait_serving()
        for key, value in values.items():
            check_everywhere(cluster, key, value)
        for node in cluster.nodes:
            node.kill()
        for node in cluster.nodes:
            node.start()
        cluster.wait_serving()
        for key, value in values.items():
            check_everywhere(cluster, key, value)


def case_a_large_value_stored_by_a_node_that_dies_is_whole_or_absent():
    with start().start() as cluster:
        value, node = value_of(60 * MEGABYTE, 5), cluster.nodes[0]
        connection = node.connect(timeout=60)

        def upload():
            try:
                store(connection, b"big", value)
            except OSError:
                pass
        thread = threading.Thread(target=upload)
        thread.start()
        time.sleep(0.05)
        node.kill()
        thread.join()
        others = cluster.others(node)
        for other in others:
            other.wait_serving()
        with others[0].connect(timeout=60) as reader:
            found = load(reader, b"big")
        check(found in (None, value), "a part of a value")
        if found is None:
            wait_until("orphans are gone", lambda: all(pieces(n) == 0 for n in others), 60)


def case_large_values_go_over_tls_and_unix_sockets_and_not_over_udp():
    value = value_of(5 * MEGABYTE + 7, 10)
    with TlsNode(arguments=("-I", "8m", "-m", "100")) as server, server.connect() as connection:
        check(store(connection, b"k", value) == b"STORED" and load(connection, b"k") == value, "TLS")
    with Single("-s", "{directory}/socket", "-I", "8m", "-m", "100") as server:
        with unix(server.path("socket")) as connection:
            check(store(connection, b"k", value) == b"STORED" and load(connection, b"k") == value, "a UNIX socket")
    with Single("-U", "{ports[0]}", "-I", "8m", "-m", "100") as server:
        with server.node.connect() as connection:
            check(store(connection, b"k", value) == b"STORED", "set")
        for command in (b"get k\r\n", b"mg k v\r\n"):
            answer = datagrams(ask_udp("127.0.0.1", server.ports[0], command, patience=30))
            check(answer == [b"SERVER_ERROR out of memory writing get response\r\n"], f"UDP: {answer}")
        check(datagrams(ask_udp("127.0.0.1", server.ports[0], b"get none\r\n", patience=30)) == [b"END\r\n"], "UDP goes on")


def case_without_a_majority_an_upload_is_refused_and_a_reader_is_cut():
    with start().start() as cluster:
        old, new = value_of(20 * MEGABYTE, 11), value_of(6 * MEGABYTE, 12)
        node = cluster.nodes[0]
        with node.connect(timeout=60) as writer, node.connect(timeout=60) as reader:
            check(store(writer, b"big", old) == b"STORED", "set")
            writer.socket.sendall(b"set big 7 0 %d\r\n" % len(new) + new[:3 * MEGABYTE])
            reader.socket.sendall(b"get big\r\n")
            head = b"VALUE big 7 %d\r\n" % len(old)
            check(read(reader, len(head) + 1000) == head + old[:1000], "it begins")
            for other in cluster.others(node):
                other.signal(signal.SIGSTOP)
            time.sleep(1)
            writer.socket.sendall(new[3 * MEGABYTE:] + b"\r\n")
            line = writer.line()
            check(line.startswith(b"SERVER_ERROR"), f"without a majority: {line!r}")
            rest = read(reader, len(old) + 7 - 1000)
            check(len(rest) < len(old) and old[1000:].startswith(rest), "bytes of something else")
            for other in cluster.others(node):
                other.signal(signal.SIGCONT)
            cluster.wait_serving()
            check_everywhere(cluster, b"big", old)
            check(store(writer, b"big", new) == b"STORED", "again")
        check_everywhere(cluster, b"big", new)


def case_an_upload_that_a_removal_interrupts_is_refused():
    """The others take its pieces for orphans meanwhile: naming them would store a value with holes."""
    with start().start() as cluster:
        old, new = value_of(2 * MEGABYTE, 13), value_of(6 * MEGABYTE, 14)
        node, other = cluster.nodes[:2]
        with node.connect(timeout=60) as writer:
            check(store(writer, b"big", old) == b"STORED", "set")
            before = pieces(other)
            writer.socket.sendall(b"set big 7 0 %d\r\n" % len(new) + new[:3 * MEGABYTE])
            wait_until("some are stored", lambda: pieces(other) > before + 3, 30)
            node.signal(signal.SIGSTOP)
            wait_until("it was removed, and its pieces are gone", lambda: pieces(other) == before, 60)
            node.signal(signal.SIGCONT)
            node.wait_serving()
            writer.socket.sendall(new[3 * MEGABYTE:] + b"\r\n")
            line = writer.line()
            check(line.startswith(b"SERVER_ERROR"), f"pieces are missing: {line!r}")
            check_everywhere(cluster, b"big", old)
            check(store(writer, b"big", new) == b"STORED", "again")
        check_everywhere(cluster, b"big", new)


def case_values_under_way_are_bounded_and_the_bound_is_shown():
    """20 clients begin a large value each and stop: more than the limit is refused, small ones still go."""
    with Cluster(count=1, arguments=(*ARGUMENTS, "-o", "resp_obj_mem_limit=4")).start() as cluster:
        node, part = cluster.nodes[0], b"x" * (300 << 10)
        writers = [node.connect() for _ in range(20)]
        for writer in writers:
            writer.send(b"set w 0 0 %d\r\n" % (2 * MEGABYTE) + part)
        with node.connect() as other:
            wait_until("the limit is reached", lambda: int(other.stats()["client_memory_values"]) > 3 * MEGABYTE, 30)
            stats = other.stats()
            check(int(stats["client_memory_limit"]) == 4 * MEGABYTE, "the limit")
            check(int(stats["client_memory_values"]) <= 4 * MEGABYTE, stats["client_memory_values"])
            check(other.set(b"small", b"x") == b"STORED", "a small value")
            refused = 0
            for writer in writers:
                writer.send(b"x" * (2 * MEGABYTE - len(part)) + b"\r\n")
                refused += writer.line() == b"SERVER_ERROR out of memory storing object"
                writer.socket.close()
            check(0 < refused < 20, f"{refused} of 20 refused")
            check(other.get(b"w") is None, "the last set that was refused took the value along")
            check(store(other, b"w", bytes(3 * MEGABYTE)) == b"STORED", "set")
            readers = [slow_connection(node.port, 4096) for _ in range(10)]  # else the kernel may take it all from one after the other
            for reader in readers:
                reader.send(b"get w\r\n")
            answers = [reader.line() for reader in readers]
            check(b"VALUE w 7 3145728" in answers, str(answers))
            check(b"SERVER_ERROR out of memory writing get response" in answers, str(answers))
            check(int(other.stats()["client_memory_values"]) <= 5 * MEGABYTE, "readers are counted, too")
            check(other.set(b"small", b"x") == b"STORED", "a small value beside readers")
            for reader in readers:
                reader.socket.close()
            wait_until("all is given back", lambda: int(other.stats()["client_memory_values"]) < MEGABYTE, 30)


def case_a_large_value_is_overwritten_for_ever_in_a_small_store():
    """Old, new and what the collector has not taken yet hardly fit: space comes back in time."""
    with Cluster(count=1, arguments=("-m", "64", "-I", "16m", "-t", "4")).start() as cluster:
        with cluster.nodes[0].connect(timeout=60) as connection:
            answers = {store(connection, b"big", value_of(2_000_000, i)) for i in range(100)}
            check(answers == {b"STORED"}, f"{answers}")
