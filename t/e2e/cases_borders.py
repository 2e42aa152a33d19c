"""What is not ours is refused by name: other nodes' logs, damaged ones, other versions, strangers."""
import os
import shutil
import socket
import time

from cluster import (RAFT_OFFSET, Cluster, Node, check, files_below, lines_matching, tree_hash, wait_until)


def fill(node, count=300, prefix=b"k"):
    with node.connect(timeout=30) as connection:
        for i in range(count):
            check(connection.set(prefix + b"%d" % i, b"value-%d-" % i + b"x" * 200) == b"STORED", "set")


def check_filled(node, count=300, prefix=b"k"):
    with node.connect(timeout=30) as connection:
        for i in range(count):
            value = connection.get(prefix + b"%d" % i)
            check(value == b"value-%d-" % i + b"x" * 200, f"{node.name}: {prefix}{i} is {value!r}")


# Exit status of a start that is refused.
REFUSED = 78
# The node's own file may get a higher incarnation before the log is looked at, and the index is made from the log; that may not be
# touched.
INCARNATION_ONLY = ("lock", "node", "index")


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def check_refused(node, words, without=("lock",)):
    """The start fails, says why with the directory's name, and writes nothing."""
    before, size = tree_hash(node.data, without), len(node.log_text())
    node.start()
    code = node.wait_exit(30)
    text = node.log_since(size)
    check(code != 0, f"{node.name} ended with 0")
    check(code > 0, f"{node.name} was ended by signal {-code}: {text[-800:]}")
    named = [line for line in text.splitlines() if node.data in line]
    check(named, f"the file is not named: {text!r}")
    check(any(word in text.lower() for word in words), f"none of {words} in {text!r}")
    check(tree_hash(node.data, without) == before, "the directory was written to")


def segment_files(node):
    """The log's files, largest first."""
    return sorted((path for path in files_below(node.data) if os.path.basename(path).startswith("segment-")),
                  key=os.path.getsize, reverse=True)


def patch(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def find(path, needle):
    with open(path, "rb") as file:
        return file.read().find(needle)


def case_the_directory_of_another_node_is_refused():
    with Cluster(3) as cluster:
        cluster.start()
        fill(cluster.nodes[0])
        for node in cluster.nodes:
            node.stop()
        shutil.rmtree(cluster.nodes[1].data)
        shutil.copytree(cluster.nodes[0].data, cluster.nodes[1].data)
        check_refused(cluster.nodes[1], ("node 1", "belongs"))


def case_the_directory_of_another_cluster_is_refused():
    with Cluster(1) as single, Cluster(3) as cluster:
        single.start()
        fill(single.nodes[0])
        single.nodes[0].stop()
        shutil.copytree(single.nodes[0].data, cluster.nodes[0].data)
        check_refused(cluster.nodes[0], ("cluster", "peers"))


def case_another_number_of_threads_is_refused():
    with Cluster(1) as cluster:
        node = cluster.start().nodes[0]
        fill(node)
        node.stop()
        node.arguments[node.arguments.index("-t") + 1] = "3"
        check_refused(node, ("-t",))


def case_a_directory_of_another_version_is_refused():
    with Cluster(1) as cluster:
        node = cluster.start().nodes[0]
        node.stop()
        patch(os.path.join(node.data, "node"), 8, b"\x63\0\0\0")
        check_refused(node, ("version",))


def case_a_damaged_node_file_is_refused():
    with Cluster(1) as cluster:
        node = cluster.start().nodes[0]
        node.stop()
        patch(os.path.join(node.data, "node"), 20, b"\xff")
        check_refused(node, ("damaged",))


def case_somebody_elses_file_is_refused():
    with Cluster(1) as cluster:
        node = cluster.nodes[0]
        os.makedirs(node.data)
        with open(os.path.join(node.data, "node"), "wb") as file:
            file.write(b"this is my diary\n" * 20)
        check_refused(node, ("not a file", "damaged"))


def case_a_log_file_of_another_node_is_refused():
    """The directory is right, one of the files in it is not."""
    with Cluster(3) as cluster:
        cluster.start()
        fill(cluster.nodes[0])
        for node in cluster.nodes:
            node.stop()
        other, node = cluster.nodes[0], cluster.nodes[1]
        path = segment_files(other)[0]
        shutil.copy(path, os.path.join(node.data, os.path.relpath(path, other.data)))
        check_refused(node, ("another", "belong", "foreign"), INCARNATION_ONLY)


def case_a_log_file_of_another_version_is_refused():
    """Whole, with a right checksum, but of version 99 (doc/format.md: magic 8, checksum 4, version 4, ... 64 bytes)."""
    with Cluster(1) as cluster:
        node = cluster.start().nodes[0]
        fill(node)
        node.stop()
        for path in segment_files(node):
            with open(path, "rb") as file:
                header = file.read(64)
            if header.startswith(b"healclog"):
                rest = b"\x63\0\0\0" + header[16:]
                patch(path, 8, crc32c(rest).to_bytes(4, "little") + rest)
        check_refused(node, ("version",), INCARNATION_ONLY)


def case_a_data_directory_has_one_process():
    with Cluster(1) as cluster:
        node = cluster.start().nodes[0]
        second = Node(node.port + 1, list(node.arguments), cluster.directory, node.name)
        second.log_path += ".second"
        second.start()
        try:
            code = second.wait_exit(30)
            check(code > 0, f"ended with {code}")
            check(lines_matching(second.log_text(), "another process"), second.log_text())
        finally:
            second.end()
        fill(node, 10)


def case_damage_inside_the_log_is_reported_and_healed():
    """One bit of an old record on one node: reported with the file's name, right values from the others."""
    with Cluster(3) as cluster:
        cluster.start()
        fill(cluster.nodes[0])
        time.sleep(0.5)
        node = cluster.nodes[1]
        node.kill()
        fill(cluster.nodes[0], 50, b"later")
        hit = [(path, at) for path in segment_files(node) if (at := find(path, b"value-7-xxx")) >= 0]
        check(hit, "the value is not in any file")
        path, at = hit[0]
        patch(path, at + 20, b"X")
        size = len(node.log_text())
        node.start("--rebuild-index")
        node.wait_serving()
        check(lines_matching(node.log_since(size), os.path.basename(path)) or
              lines_matching(node.log_since(size), "damage|corrupt"), f"not reported: {node.log_since(size)}")
        check_filled(node)
        check_filled(node, 50, b"later")


def hurt_a_value(node, value):
    """One byte of the record that holds it; returns the file's path."""
    hit = [(path, at) for path in segment_files(node) if (at := find(path, value)) >= 0]
    check(len(hit) == 1, f"{value} is in {len(hit)} files")
    path, at = hit[0]
    patch(path, at + len(value) - 1, b"!")
    return path


def case_a_damaged_log_of_a_single_node_is_refused_and_kept():
    """One record is hurt, the newest of its key: nothing tells which key that was. Started again and again it says the same, and
    writes nothing to that log."""
    with Cluster(1) as cluster:
        node = cluster.start().nodes[0]
        fill(node)
        node.kill()
        path = hurt_a_value(node, b"value-7-xxx")
        shard = os.path.dirname(path)
        with open(path, "rb") as file:
            before = file.read()
        names = sorted(os.listdir(shard))
        for options in (("--rebuild-index",), (), ("--rebuild-index",)):
            size = len(node.log_text())
            node.start(*options)
            code = node.wait_exit(30)
            text = node.log_since(size)
            check(code == REFUSED, f"ended with {code}: {text}")
            check(lines_matching(
                text, os.path.relpath(path, cluster.directory) + r": damaged, at bytes \d+ to \d+ \(damaged segments in this shard: 1; "
                "missing records: at least 1\\).*not started.*--damaged=serve"), text)
        with open(path, "rb") as file:
            check(file.read() == before, "the damaged file was written to")
        check(sorted(os.listdir(shard)) == names, f"{names} are {sorted(os.listdir(shard))} now")


def case_a_single_node_whose_only_used_segment_vanishes_does_not_start_empty():
    """Little data: one segment holds it all, and no other record says that there was one."""
    for hurt in (os.unlink, lambda path: patch(path, 0, bytes(4096)), lambda path: patch(path, 0, bytes(os.path.getsize(path)))):
        with Cluster(1, arguments=("-m", "128", "-t", "1")) as cluster:
            node = cluster.start().nodes[0]
            fill(node, 50)
            time.sleep(0.3)
            node.kill()
            path = os.path.join(node.data, "shard-0", "segment-000000")
            check(find(path, b"value-7-") > 0, "the value is in another file")
            hurt(path)
            size = len(node.log_text())
            node.start()
            check(node.wait_exit(30) == REFUSED, node.log_since(size))
            check(lines_matching(node.log_since(size), "segment-000000: damaged.*that cannot be read"), node.log_since(size))


def case_a_single_node_serves_older_values_only_when_it_is_told_to():
    """The newest record of one key and the tombstone of another are hurt: both older values are still in the log."""
    with Cluster(1, arguments=("-m", "128", "-t", "1")) as cluster:
        node = cluster.start().nodes[0]
        with node.connect() as connection:
            for key in (b"overwritten", b"deleted", b"other"):
                check(connection.set(key, b"old-" + key) == b"STORED", key)
            check(connection.set(b"overwritten", b"new-value") == b"STORED", "overwritten")
            check(connection.ask(b"delete deleted") == b"DELETED", "deleted")
            check(connection.set(b"last", b"last") == b"STORED", "last")
        time.sleep(0.5)
        check(node.stop()[0] == 0, "it does not stop")
        path = hurt_a_value(node, b"new-value")
        with open(path, "rb") as file:
            patch(path, file.read().rindex(b"deleted"), b"D")
        size = len(node.log_text())
        node.start("--rebuild-index")
        check(node.wait_exit(30) == REFUSED, node.log_since(size))
        check(lines_matching(node.log_since(size), "missing records: at least 2"), node.log_since(size))
        node.start("--damaged=serve")
        node.wait_serving()
        check(lines_matching(node.log_text(), "--damaged=serve: what is left is served"), node.log_text())
        older = {b"overwritten": b"old-overwritten", b"deleted": b"old-deleted", b"other": b"old-other", b"last": b"last"}
        with node.connect() as connection:
            check({key: connection.get(key) for key in older} == older, "what is left is not served")
            check(connection.stats(b"settings")["damaged"] == "serve", "stats settings")
            wait_until("what can be read has moved", lambda: connection.stats()["log_damaged_segments"] == "0", 30)
            check(connection.set(b"overwritten", b"newer") == b"STORED", "overwritten")
        node.kill()
        node.start("--rebuild-index")
        node.wait_serving()
        with node.connect() as connection:
            check({key: connection.get(key) for key in older} == {**older, b"overwritten": b"newer"}, "after the next start")


def case_a_group_in_which_every_log_is_damaged_waits_for_the_operator():
    """Nobody has it all: an older version could come back, so nobody begins with what is left by itself."""
    with Cluster(3) as cluster:
        cluster.start()
        fill(cluster.nodes[0])
        time.sleep(0.5)
        for node in cluster.nodes:
            node.kill()
        for node in cluster.nodes:
            hurt_a_value(node, b"value-7-xxx")
        for node in cluster.nodes:
            node.start("--rebuild-index")
        wait_until("the leader says what is to be decided", lambda: any(
            lines_matching(node.log_text(), "none holds a whole log: each is damaged or empty.*--force-members") for node in cluster.nodes), 60)
        check(not any(node.serves() for node in cluster.nodes), "one serves")
        for node in cluster.nodes:
            node.kill()
        for node in cluster.nodes:
            node.start("--force-members=1,2,3")
        cluster.wait_serving()
        with cluster.nodes[0].connect() as connection:
            check([connection.get(b"k%d" % number) for number in (7, 8)] != [None, None], "nothing is served")


def refusal_lines(cluster, sizes, pattern):
    return [line for node, size in zip(cluster.nodes, sizes) for line in lines_matching(node.log_since(size), pattern)]


def check_stranger(cluster, node, pattern):
    """The group refuses `node` with a clear line, and goes on."""
    others = cluster.others(node)
    sizes = [len(other.log_text()) for other in cluster.nodes]
    node.start()
    wait_until(f"a line about it\n{others[0].log_text()[-1000:]}",
               lambda: refusal_lines(cluster, sizes, pattern), 30)
    time.sleep(2)
    for other, size in zip(cluster.nodes, sizes):
        if other is not node:
            lines = lines_matching(other.log_since(size), pattern)
            check(len(lines) <= 4, f"{other.name} repeats itself: {lines}")  # once for each way it calls or is called
            fill(other, 20)
            check_filled(other, 20)
    if node.process.poll() is None:
        check(not node.serves(), f"{node.name} serves in spite of it")
    node.end()


def case_a_peer_with_another_configuration_is_refused():
    with Cluster(3) as cluster:
        cluster.start()
        node = cluster.nodes[2]
        node.kill()
        shutil.rmtree(node.data)
        right = list(node.arguments)
        node.arguments = ["--lease-ms=150", *right]
        check_stranger(cluster, node, "another cluster configuration")
        shutil.rmtree(node.data, ignore_errors=True)
        node.arguments = ["3" if before == "-t" else word for before, word in zip([""] + right, right)]
        check_stranger(cluster, node, "configuration|lanes|shards")
        shutil.rmtree(node.data, ignore_errors=True)
        node.arguments = right
        node.start()
        node.wait_serving()
        check_filled(node, 20)


def throw(port, data):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(data)
            connection.settimeout(0.3)
            while connection.recv(4096):
                pass
    except OSError:
        pass


GARBAGE = (b"GET / HTTP/1.0\r\n\r\n", b"\0" * 4096, b"\xff" * 4096, os.urandom(65536), b"HCH1", b"")


def case_garbage_on_the_peer_port_is_refused():
    with Cluster(3) as cluster:
        cluster.start()
        sizes = [len(node.log_text()) for node in cluster.nodes]
        for port in cluster.peer_ports:
            for data in GARBAGE:
                throw(port, data)
        wait_until("a line about it", lambda: refusal_lines(cluster, sizes, "refuse|not speak|stranger"), 30)
        lines = refusal_lines(cluster, sizes, "refuse|not speak|stranger")
        check(len(lines) <= 18, f"too many lines: {len(lines)}")
        for node in cluster.nodes:
            fill(node, 20)
            check_filled(node, 20)


def case_garbage_on_the_membership_port_is_refused():
    with Cluster(3) as cluster:
        cluster.start()
        for port in cluster.peer_ports:
            for data in GARBAGE:
                throw(port + RAFT_OFFSET, data)
        for node in cluster.nodes:
            fill(node, 20)
            check_filled(node, 20)
        cluster.nodes[0].kill()  # membership still works
        with cluster.nodes[1].connect(timeout=30) as connection:
            wait_until("a view without it", lambda: connection.set(b"a", b"b") == b"STORED", 30)
        cluster.nodes[0].start()
        cluster.nodes[0].wait_serving()


def restart_with(node, arguments):
    node.kill()
    node.arguments = arguments
    node.start()
    node.wait_serving()


def case_nodes_may_have_different_item_limits():
    """-I limits what clients of a node store. What is larger is readable, can be touched, and heals everywhere."""
    with Cluster(3, arguments=("-m", "256", "-t", "2", "-I", "4m")) as cluster:
        cluster.start()
        value = os.urandom(1_500_000).hex().encode()
        with cluster.nodes[0].connect() as connection:
            check(connection.set(b"large", value) == b"STORED", "a set of 3 MB with -I 4m")
        small, victim = cluster.nodes[:2]
        restart_with(small, ["512k" if word == "4m" else word for word in small.arguments])
        with small.connect() as connection:
            check(connection.set(b"other", value).startswith(b"SERVER_ERROR object too large"), "a new one is too large")
            check(connection.ask(b"touch large 0") == b"TOUCHED", "a write of the larger item")
        victim.kill()
        shutil.rmtree(victim.data)
        victim.start()
        victim.wait_serving()
        for node in cluster.nodes:
            with node.connect() as connection:
                check(connection.get(b"large") == value, f"{node.name}: the larger item")
