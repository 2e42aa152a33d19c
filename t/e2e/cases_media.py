"""Media that fail under a running node, or are not what they should be: a clear message, nothing lost, nobody limps.

Full disks are small tmpfs mounts in a mount namespace of the node's own (unshare), so only root tries these; a medium that does
not sync is an msync(2) that fails (failing_sync.c, preloaded)."""
import os
import subprocess
import threading
import time

from cases_borders import check_filled, fill, segment_files
from cluster import ROOT, Cluster, Failure, check, lines_matching, wait_until

MEDIUM_FAILED = 74
NOT_USABLE = 78
FULL = b"SERVER_ERROR out of memory storing object"


def say(text):
    print(f"         {text}", flush=True)


def used_segments(node):
    """Files that hold records."""
    found = []
    for path in segment_files(node):
        with open(path, "rb") as file:
            if file.read(8) == b"healclog":
                found.append(path)
    return found


def await_end(node, words):
    """It ends by itself, with the code of a failed medium; returns its one line about it."""
    size = len(node.log_text())
    code = node.wait_exit(30)
    text = node.log_text()
    check(code == MEDIUM_FAILED, f"{node.name} ended with {code}: {text[-600:]}")
    lines = lines_matching(text, words)
    check(len(lines) >= 1, f"no line with {words!r}: {text[max(0, size - 2000):]}")
    check(lines_matching(lines[0], " error "), f"no error: {lines[0]}")
    return lines[0]


class Writer:
    """Writes rising numbers to one key after another, and notes what was acknowledged."""

    def __init__(self, node, keys=50):
        self.node, self.keys = node, keys
        self.acknowledged, self.unknown = {}, {}
        self.thread = threading.Thread(target=self.run)
        self.stopping = False

    def run(self):
        number = 0
        try:
            with self.node.connect(timeout=20) as connection:
                while not self.stopping:
                    key = b"w%d" % (number % self.keys)
                    number += 1
                    self.unknown[key] = number
                    if connection.set(key, b"%d:" % number + b"." * 500) == b"STORED":
                        self.acknowledged[key] = self.unknown.pop(key)
        except (OSError, Failure):
            pass  # the node has ended

    def __enter__(self):
        self.thread.start()
        wait_until("it writes", lambda: len(self.acknowledged) >= self.keys // 2 or not self.thread.is_alive(), 30)
        return self

    def __exit__(self, *ignored):
        self.stopping = True
        self.thread.join()

    def verify(self, nodes):
        for node in nodes:
            with node.connect() as connection:
                for key in {**self.acknowledged, **self.unknown}:
                    found = int((connection.get(key) or b"0:").split(b":")[0])
                    check(found in (self.acknowledged.get(key, 0), self.unknown.get(key)),
                          f"{node.name}: {key} is {found}, acknowledged was {self.acknowledged.get(key)}")


# ---- pages that can't be had (SIGBUS) ----

def case_a_segment_cut_under_a_running_node_ends_it_and_heals():
    with Cluster(3) as cluster:
        cluster.start()
        fill(cluster.nodes[0], 500)
        node = cluster.nodes[1]
        with Writer(cluster.nodes[0]) as writer:
            for path in used_segments(node):
                os.truncate(path, 4096)
            fill_quietly(node)
            line = await_end(node, "SIGBUS")
            check("segment-" in line and node.data in line, f"the file is not named: {line}")
            say(line.split(" error ")[1].replace(cluster.directory, "DIR"))
            time.sleep(1)
        size = len(node.log_text())
        node.start()
        node.wait_serving()
        text = node.log_since(size)
        check(lines_matching(text, "has 4096 bytes instead of"), f"not reported: {text}")
        check(lines_matching(text, "damaged.*fetched from the other nodes"), f"not reported: {text}")
        for other in cluster.nodes:
            check_filled(other, 500)
        writer.verify(cluster.nodes)
        wait_until("the damaged files are put aside", lambda: any(path.endswith(".damaged") for path in segment_files_all(node)), 30)
        node.kill()
        size = len(node.log_text())
        node.start()
        node.wait_serving()
        check(not lines_matching(node.log_since(size), "damaged"), f"still damaged: {node.log_since(size)}")
        check_filled(node, 500)


def segment_files_all(node):
    return [os.path.join(folder, name) for folder, _, names in os.walk(node.data) for name in names]


def fill_quietly(node):
    """It must touch what is cut; that it ends meanwhile is what is wanted."""
    try:
        fill(node, 200, b"touch")
    except (OSError, Failure):
        pass


def case_a_single_node_whose_segment_is_cut_serves_the_rest_only_when_it_is_told_to():
    with Cluster(1) as cluster:
        node = cluster.start().nodes[0]
        fill(node)
        path = used_segments(node)[0]
        os.truncate(path, 8192)
        fill_quietly(node)
        await_end(node, "SIGBUS")
        node.start()
        check(node.wait_exit(30) == NOT_USABLE, node.log_text()[-800:])
        check(lines_matching(node.log_text(), "damaged.*and all of 1 segments that cannot be read.*not started"), node.log_text()[-800:])
        node.start("--damaged=serve")
        node.wait_serving()
        check(lines_matching(node.log_text(), "--damaged=serve: what is left is served"), node.log_text()[-800:])
        with node.connect() as connection:
            values = [connection.get(b"k%d" % i) for i in range(300)]
            check(all(value in (None, b"value-%d-" % i + b"x" * 200) for i, value in enumerate(values)), "a wrong value")
            check(connection.set(b"new", b"1") == b"STORED", "it does not write")


# ---- a medium that does not sync (EIO) ----

def preload(cluster, once=True):
    """Nodes started with this environment have an msync that fails while the returned path exists: once, or each time."""
    library = os.path.join(cluster.directory, "failing_sync.so")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-D_GNU_SOURCE", os.path.join(ROOT, "t", "e2e", "failing_sync.c"),
                    "-o", library], check=True)
    trigger = os.path.join(cluster.directory, "fail-now")
    return trigger, {"LD_PRELOAD": library, "FAILING_SYNC": trigger, **({"FAILING_SYNC_ONCE": "1"} if once else {})}


def start_with(node, environment):
    os.environ.update(environment)
    node.start()
    for name in environment:
        del os.environ[name]


def can_preload():
    with open(os.environ.get("HEALCACHED", os.path.join(ROOT, "build", "healcached")), "rb") as file:
        return b"__asan_init" not in file.read()


def case_a_node_that_cannot_sync_stops_and_what_it_acknowledged_is_there():
    """The failing sync is one: if it were tried again, it would succeed, and the kernel may have dropped the data meanwhile."""
    if not can_preload():
        return
    with Cluster(1) as cluster:
        node = cluster.nodes[0]
        trigger, environment = preload(cluster)
        start_with(node, environment)
        node.wait_serving()
        with Writer(node) as writer:
            with open(trigger, "w", encoding="utf-8"):
                pass
            line = await_end(node, "cannot be synced")
        check("Input/output error" in line and "segment-" in line, line)
        say(line.split(" error ")[1].replace(cluster.directory, "DIR"))
        os.unlink(trigger)
        node.start()
        node.wait_serving()
        writer.verify([node])


def case_nobody_is_told_of_a_write_that_was_not_synced():
    if not can_preload():
        return
    with Cluster(1) as cluster:
        node = cluster.nodes[0]
        trigger, environment = preload(cluster, once=False)
        start_with(node, environment)
        node.wait_serving()
        connections = [node.connect() for _ in range(20)]
        check(all(connection.set(b"k%d" % i, b"old") == b"STORED" for i, connection in enumerate(connections)), "set")
        with open(trigger, "w", encoding="utf-8"):
            pass
        for i, connection in enumerate(connections):
            connection.send(b"set k%d 0 0 3\r\nnew\r\n" % i)
        answers = set()
        for connection in connections:
            try:
                answers.add(connection.line())
            except ConnectionError:
                answers.add(None)
            connection.socket.close()
        check(b"STORED" not in answers, f"{answers}")
        await_end(node, "cannot be synced")
        os.unlink(trigger)
        node.start()
        node.wait_serving()
        with node.connect() as connection:
            values = {connection.get(b"k%d" % i) for i in range(20)}
        check(values <= {b"old", b"new"}, f"{values}")


def case_a_group_goes_on_without_a_node_that_cannot_sync():
    if not can_preload():
        return
    with Cluster(3) as cluster:
        node = cluster.nodes[2]
        trigger, environment = preload(cluster)
        for other in cluster.others(node):
            other.start()
        start_with(node, environment)
        cluster.wait_serving()
        with Writer(cluster.nodes[0]) as writer:
            with open(trigger, "w", encoding="utf-8"):
                pass
            await_end(node, "cannot be synced")
            before = len(writer.acknowledged), max(writer.acknowledged.values())
            wait_until("the others go on", lambda: max(writer.acknowledged.values()) > before[1] + 10, 30)
        os.unlink(trigger)
        node.start()
        node.wait_serving()
        writer.verify(cluster.nodes)


# ---- disks that are full, read-only, or not to be used ----

def can_mount():
    return os.geteuid() == 0 and subprocess.run(["unshare", "-m", "true"], check=False, stderr=subprocess.DEVNULL).returncode == 0


def on_small_disk(node, mib, options="size"):
    """The node's directory lies on a tmpfs of its own; what is mounted goes when the process ends."""
    mount = f"mount -t tmpfs -o size={mib}m healcached-test {node.data} && exec \"$@\""
    os.makedirs(node.data, exist_ok=True)
    plain = type(node).command

    def command(extra=()):
        return ["unshare", "-m", "sh", "-c", mount, "sh", *plain(node, extra)]
    node.command = command


def case_a_disk_that_fills_up_makes_the_store_smaller_and_loses_nothing():
    if not can_mount():
        return
    with Cluster(1, arguments=("-m", "256", "-t", "2", "-M", "--segment-size=2m")) as cluster:
        node = cluster.nodes[0]
        on_small_disk(node, 60)
        node.start()
        node.wait_serving()
        held, refused = {}, 0
        with node.connect() as connection:
            for i in range(1500):
                key, value = b"k%d" % (i % 900), b"%d:" % i + b"x" * 60000
                answer = connection.set(key, value)
                check(answer in (b"STORED", FULL), f"{answer!r}")
                refused += answer == FULL
                held.pop(key, None)
                if answer == b"STORED":
                    held[key] = value
            check(refused > 100, "it was never full")
            check(all(connection.get(b"k%d" % i) == held.get(b"k%d" % i) for i in range(900)), "a wrong value")
            check(len(held) * 60000 > 30 << 20, f"only {len(held)} fit")
            check(lines_matching(node.log_text(), "No space left on device. The log goes on with"), node.log_text())
            check(lines_matching(node.log_text(), "-m lets the log grow to .* only .* are free"), node.log_text())
            for key in list(held)[::2]:
                check(connection.ask(b"delete " + key) == b"DELETED", f"delete {key!r} on a full disk")
                del held[key]
            for i in range(200):  # cleaning has made room
                check(connection.set(b"new%d" % i, b"y" * 50000) == b"STORED", f"set {i} after the deletes")
            check(all(connection.get(b"k%d" % i) == held.get(b"k%d" % i) for i in range(900)), "a wrong value")
        say(f"{refused} of 1500 refused, {len(held)} values kept and 200 new ones")


def case_a_disk_on_which_not_even_the_smallest_log_fits_is_refused():
    if not can_mount():
        return
    with Cluster(1, arguments=("-m", "256", "-t", "2")) as cluster:
        node = cluster.nodes[0]
        on_small_disk(node, 6)
        node.start()
        check(node.wait_exit(30) == NOT_USABLE, "exit code")
        check(lines_matching(node.log_text(), "--data=.*: 5 MB are free; the smallest log of 2 threads needs"), node.log_text())


def case_a_node_of_a_group_on_a_full_disk_bounds_the_group_and_heals():
    """Its disk is the smallest: the others refuse what it can't hold, and nothing is lost when it dies and comes back empty."""
    if not can_mount():
        return
    with Cluster(3, arguments=("-m", "128", "-t", "2", "-M")) as cluster:
        node = cluster.nodes[1]
        on_small_disk(node, 60)
        cluster.start()
        held, refused = {}, 0
        with cluster.nodes[0].connect() as connection:
            for i in range(900):
                key, value = b"k%d" % i, b"%d:" % i + b"x" * 60000
                answer = connection.set(key, value)
                check(answer in (b"STORED", FULL), f"{answer!r}")
                refused += answer == FULL
                if answer == b"STORED":
                    held[key] = value
        check(refused > 50, "it was never full")
        other = cluster.nodes[2]  # its absence is an entry in the agreed log, also on the full disk
        for i in range(3):
            other.kill()
            with cluster.nodes[0].connect() as connection:
                key = held.popitem()[0]
                check(connection.ask(b"delete " + key) == b"DELETED", "delete without one of three")
            other.start()
            other.wait_serving()
        check(node.process.poll() is None, f"{node.name} has ended: {node.log_text()[-500:]}")
        node.kill()  # and its disk is gone
        with cluster.nodes[2].connect() as connection:
            for key in list(held)[:20]:
                check(connection.ask(b"delete " + key) == b"DELETED", "delete")
                del held[key]
        node.start()
        node.wait_serving()
        for other in cluster.nodes:
            with other.connect() as connection:
                check(all(connection.get(b"k%d" % i) == held.get(b"k%d" % i) for i in range(900)), f"{other.name}: a wrong value")
        say(f"{len(held)} values kept, {refused} refused")


def check_not_usable(node, words):
    """It ends at once, names the place and the reason."""
    size = len(node.log_text())
    node.start()
    check(node.wait_exit(30) == NOT_USABLE, f"exit code; {node.log_since(size)}")
    text = node.log_since(size)
    check([line for line in lines_matching(text, words) if node.data in line and " error " in line], f"{words!r} is not in {text!r}")


def case_a_directory_that_cannot_be_used_is_named():
    with Cluster(1) as cluster:
        node = cluster.nodes[0]
        place = node.data
        with open(place, "w", encoding="utf-8") as file:
            file.write("a file\n")
        check_not_usable(node, "Not a directory")
        node.data = os.path.join(cluster.directory, "no", "such", "place")
        check_not_usable(node, "No such file or directory")
        node.data = "/proc/healcached"
        check_not_usable(node, "No such file or directory|Permission denied")


def case_a_directory_of_another_user_is_named():
    if os.geteuid() != 0:
        return
    with Cluster(1) as cluster:
        node = cluster.nodes[0]
        os.makedirs(node.data, mode=0o700)
        os.chmod(cluster.directory, 0o711)
        node.arguments += ["-u", "nobody"]
        check_not_usable(node, "Permission denied")


def case_a_read_only_file_system_is_named():
    if not can_mount():
        return
    with Cluster(1) as cluster:
        node = cluster.start().nodes[0]
        fill(node)
        node.stop()
        plain = type(node).command

        def command(extra=()):
            mount = f"mount --bind {node.data} {node.data} && mount -o remount,ro,bind {node.data} && exec \"$@\""
            return ["unshare", "-m", "sh", "-c", mount, "sh", *plain(node, extra)]
        node.command = command
        check_not_usable(node, "Read-only file system")
        del node.command
        node.start()
        node.wait_serving()
        check_filled(node)


def case_a_segment_that_cannot_be_made_ends_the_node_before_it_limps():
    """Anything but a full disk: here, something stands where the file has to go."""
    with Cluster(1, arguments=("-m", "256", "-t", "1", "--segment-size=2m")) as cluster:
        node = cluster.start().nodes[0]
        os.makedirs(os.path.join(node.data, "shard-0", "segment-000020.new"))
        acknowledged = 0
        with node.connect() as connection:
            try:
                while acknowledged < 2000:
                    answer = connection.set(b"k%d" % acknowledged, b"value-%d-" % acknowledged + b"x" * 50000)
                    if answer != b"STORED":
                        check(answer.startswith(b"SERVER_ERROR"), f"{answer!r}")
                        break
                    acknowledged += 1
            except ConnectionError:
                pass
        check(node.wait_exit(30) == MEDIUM_FAILED, f"exit code: {node.log_text()}")
        check(lines_matching(node.log_text(), "segment-000020: cannot be made: File exists"), node.log_text())
        os.rmdir(os.path.join(node.data, "shard-0", "segment-000020.new"))
        node.start()
        node.wait_serving()
        with node.connect() as connection:
            for i in range(acknowledged):
                check(connection.get(b"k%d" % i) == b"value-%d-" % i + b"x" * 50000, f"k{i} of {acknowledged}")


# ---- where the log may lie ----

def case_stats_and_the_log_say_how_the_log_is_made_durable():
    with Cluster(1) as cluster, Cluster(1, durable=False) as memory:
        node = cluster.start().nodes[0]
        fill(node, 200)
        with node.connect() as connection:
            stats = connection.stats()
        check(stats["log_medium"] in ("file", "tmpfs", "dax"), stats["log_medium"])
        check(lines_matching(node.log_text(), "--data=.*(msync|tmpfs|DAX)"), node.log_text())
        if stats["log_medium"] == "file":
            drains, syncs = int(stats["log_drains"]), int(stats["log_syncs"])
            check(200 <= drains and 0 < syncs <= 4 * drains, f"{drains} drains, {syncs} syncs")
            check(int(stats["log_sync_us_max"]) >= int(stats["log_sync_us_mean"]) > 0, f"{stats}")
        node = memory.start().nodes[0]
        with node.connect() as connection:
            stats = connection.stats()
        check(stats["log_medium"] == "memory" and stats["log_syncs"] == "0", f"{stats}")


def case_one_sync_makes_the_writes_of_many_clients_durable():
    """Group commit: far fewer syncs than commands. On tmpfs there is nothing to wait for, so nothing gathers."""
    with Cluster(1, arguments=("-m", "128", "-t", "1")) as cluster:
        node = cluster.start().nodes[0]
        with node.connect() as connection:
            before = connection.stats()
        connections = [node.connect() for _ in range(32)]
        for turn in range(40):
            for i, connection in enumerate(connections):
                connection.send(b"set c%d 0 0 5\r\n%05d\r\n" % (i, turn))
            check(all(connection.line() == b"STORED" for connection in connections), "set")
        stats = connections[0].stats()
        for connection in connections:
            connection.socket.close()
        syncs = int(stats["log_syncs"]) - int(before["log_syncs"])
        say(f"{40 * 32} writes, {syncs} syncs of {stats['log_sync_us_mean']} us, at most {stats['log_sync_us_max']} us")
        if stats["log_medium"] == "file" and int(stats["log_sync_us_mean"]) > 50:
            check(syncs < 40 * 32 / 2, f"{syncs} syncs of {40 * 32} writes")
