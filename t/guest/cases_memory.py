"""Persistent memory: the log on it, nodes on it, and cells of it that break."""
import ctypes
import os
import re
import subprocess
import time

from guest import ARGUMENTS, MEDIUM_FAILED, PMEM, ROOT, check_filled, directories_at, fill, run, say  # first: it sets TMPDIR
from cluster import Cluster, Failure, check, lines_matching, wait_until
from load import Load

UNIT_TESTS = ("pmem_medium_test",)
UNIT_SECONDS_MAX = 100
SECTOR = 512
SYNCS = "msync,fsync,fdatasync,sync_file_range,sync,syncfs"


# ---- the memory itself, and the unit tests on it ----

def case_pmem_is_pmem_is_1():
    """Asked of libpmem itself, not of us; and it is 0 where it should be."""
    pmem = ctypes.CDLL("libpmem.so.1", use_errno=True)
    pmem.pmem_map_file.restype = ctypes.c_void_p
    pmem.pmem_map_file.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_uint32,
                                   ctypes.POINTER(ctypes.c_size_t), ctypes.POINTER(ctypes.c_int)]
    pmem.pmem_is_pmem.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    check("PMEM_IS_PMEM_FORCE" not in os.environ, "forced")
    for directory, wanted in ((PMEM, 1), ("/run", 0)):
        size, is_pmem = ctypes.c_size_t(), ctypes.c_int(-1)
        path = os.path.join(directory, "probe")
        base = pmem.pmem_map_file(path.encode(), 1 << 20, 1, 0o600, ctypes.byref(size), ctypes.byref(is_pmem))
        check(base, f"{path}: {os.strerror(ctypes.get_errno())}")
        check(is_pmem.value == wanted and pmem.pmem_is_pmem(base, size) == wanted, f"{path}: pmem_is_pmem is {is_pmem.value}")
        os.unlink(path)


def case_unit_tests_of_the_log_on_dax():
    for name in UNIT_TESTS:
        began = time.monotonic()
        try:
            text = run(os.path.join(ROOT, "build", "t", name), timeout=UNIT_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            raise Failure(f"{name}: not within {UNIT_SECONDS_MAX} s") from None
        passed = re.search(r"PASSED +\] (\d+) tests?", text)
        say(f"{name}: {passed.group(1)} tests, {time.monotonic() - began:.1f} s")


# ---- nodes on it ----

def count_syncs(node, writes=30):
    """System calls that sync, of all threads, while a client writes."""
    tracer = subprocess.Popen(["strace", "-f", "-q", "-e", f"trace={SYNCS}", "-p", str(node.process.pid)], stderr=subprocess.PIPE, text=True)
    time.sleep(1.5)
    with node.connect() as connection:
        for i in range(writes):
            check(connection.set(b"k%d" % i, b"x" * 100) == b"STORED", "set")
    tracer.terminate()
    _, text = tracer.communicate(timeout=20)
    return len(re.findall(r"sync\w*\(", text))


def case_a_node_on_dax_flushes_and_drains_and_never_syncs():
    with Cluster(1, arguments=ARGUMENTS) as cluster:
        node = cluster.start().nodes[0]
        with node.connect() as connection:
            for i in range(200):
                check(connection.set(b"k%d" % i, b"x" * 100) == b"STORED", "set")
        time.sleep(1)  # the segments that are made ahead are made
        syncs = count_syncs(node)
        with node.connect() as connection:
            stats = connection.stats()
        check(lines_matching(node.log_text(), r"persistent memory \(DAX\): flush and drain"), node.log_text())
        check(stats["log_medium"] == "dax" and stats["log_syncs"] == "0", f"{stats['log_medium']}, {stats['log_syncs']} syncs")
        check(int(stats["log_drains"]) >= 230, f"{stats['log_drains']} drains of 230 writes")
        check(syncs == 0, f"{syncs} system calls that sync")
        say(f"230 writes, {stats['log_drains']} drains, no sync")
    with directories_at("/run"), Cluster(1, arguments=ARGUMENTS) as cluster:  # elsewhere the same way of counting finds some
        node = cluster.start().nodes[0]
        syncs = count_syncs(node)
        check(syncs > 0, "no sync of 30 writes on tmpfs: strace sees nothing")
        say(f"on tmpfs: 30 writes, {syncs} syncs")


def case_a_single_node_on_dax_is_killed_again_and_again():
    with Cluster(1, arguments=ARGUMENTS) as cluster:
        node = cluster.start().nodes[0]
        kept = 0
        for seed in range(4):
            with node.connect() as connection:
                check(connection.ask(b"flush_all") == b"OK", "flush_all")
            with Load(cluster.nodes, writers=3, readers=1, counters=0, seed=seed) as load:
                time.sleep(1.5)
                node.kill()
            node.start()
            node.wait_serving()
            with node.connect() as connection:
                for key, record in load.all_records.items():
                    found = int((connection.get(key.encode()) or b"0:").split(b":")[0])
                    check(found == record.acknowledged or found in record.unknown,
                          f"seed {seed}: {found} for {key}, acknowledged was {record.acknowledged}")
                    kept += record.acknowledged > 0
        check(lines_matching(node.log_text(), "DAX"), "not on DAX")
        say(f"{kept} keys compared")


def case_a_node_on_full_persistent_memory_starts_again():
    """No new file is needed to find out what the old ones lie on."""
    with Cluster(1, arguments=ARGUMENTS) as cluster:
        node = cluster.start().nodes[0]
        with node.connect() as connection:
            fill(connection, 100)
        node.kill()
        filler = os.path.join(PMEM, "filler")
        subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=1M"], check=False, stderr=subprocess.DEVNULL)
        os.truncate(filler, os.path.getsize(filler) - (256 << 10))  # for DIR/node, and less than a segment
        try:
            node.start()
            node.wait_serving()
            check_filled(node, 100)
            with node.connect() as connection:
                check(connection.stats()["log_medium"] == "dax", "not on DAX")
            check(not lines_matching(node.log_text(), "damaged|not like the other"), node.log_text())
        finally:
            os.unlink(filler)


def case_one_of_three_on_dax_is_killed_under_load_and_heals():
    with Cluster(3, arguments=ARGUMENTS) as cluster:
        cluster.start()
        load = Load(cluster.nodes, writers=3, readers=2, counters=1, seed=7)
        load.prepare()
        with load:
            time.sleep(1.5)
            cluster.nodes[1].kill()
            time.sleep(2)
            cluster.nodes[1].start()
            cluster.nodes[1].wait_serving()
            time.sleep(1)
        say(load.summary())
        load.verify(cluster.nodes)
        for node in cluster.nodes:
            check(lines_matching(node.log_text(), "DAX"), "not on DAX")


# ---- cells that are broken ----

def blocks_of(path):
    """Where each page of the file lies on the device."""
    blocks = {}
    for line in run("filefrag", "-e", "-v", "-b4096", path).splitlines():
        found = re.match(r"\s*\d+:\s*(\d+)\.\.\s*(\d+):\s*(\d+)\.\.", line)
        if found:
            first, last, place = map(int, found.groups())
            blocks.update((block, place + block - first) for block in range(first, last + 1))
    return blocks


def break_pages(path, offsets):
    """From now on the driver does not give these pages; what is mapped already stays. Nobody else may get them later."""
    blocks = blocks_of(path)
    kept = os.path.join(PMEM, f"broken-{os.stat(path).st_ino}")
    if not os.path.exists(kept):
        os.link(path, kept)
    for offset in offsets:
        with open("/sys/block/pmem0/badblocks", "w", encoding="ascii") as file:
            file.write(f"{blocks[offset // 4096] * (4096 // SECTOR)} {4096 // SECTOR}\n")


def first_segment(node):
    return os.path.join(node.data, "shard-0", "segment-000000")


def read_all(node, count):
    """False: it ended, as it must when it meets a broken page."""
    try:
        node.wait_serving()
        check_filled(node, count)
        return True
    except (OSError, Failure):
        check(node.wait_exit(60) == MEDIUM_FAILED, node.log_text()[-800:])
        return False


def case_a_broken_cell_is_found_and_heals():
    """Who takes the index over meets it later, when it is read; the start after that looks at everything."""
    with Cluster(3, arguments=ARGUMENTS) as cluster:
        cluster.start()
        node = cluster.nodes[2]
        with cluster.nodes[0].connect() as connection:
            fill(connection, 300)
        time.sleep(1)
        node.kill()
        break_pages(first_segment(node), [3 * 4096])
        size = len(node.log_text())
        node.start()
        if not read_all(node, 300):
            say("it was met after the start")
            node.start()
            node.wait_serving()
        text = node.log_since(size)
        lines = lines_matching(text, r"segment-000000: the page at byte 12288 cannot be read")
        check(lines, text)
        say(lines[0].split(" warning ")[1].replace(cluster.directory, "DIR"))
        check(lines_matching(text, "damaged.*fetched from the other nodes"), text)
        check_filled(node, 300)
        wait_until("the segment is put aside", lambda: os.path.exists(first_segment(node) + ".damaged"), 60)
        node.kill()
        size = len(node.log_text())
        node.start()
        node.wait_serving()
        check(not lines_matching(node.log_since(size), "damaged|cannot be read"), node.log_since(size))
        check_filled(node, 300)


def case_a_cell_that_breaks_under_a_running_node_ends_it():
    with Cluster(1, arguments=ARGUMENTS) as cluster:
        node = cluster.start().nodes[0]
        with node.connect() as connection:
            fill(connection, 20)
        break_pages(first_segment(node), range(400 << 10, 800 << 10, 4096))  # not yet reached
        done = 20
        try:
            with node.connect(timeout=60) as connection:
                for done in range(20, 2000):
                    fill(connection, 1, done)
        except (OSError, Failure):
            pass
        check(node.wait_exit(60) == MEDIUM_FAILED, node.log_text()[-800:])
        lines = lines_matching(node.log_text(), r"error .*segment-000000: the page at byte \d+ cannot be had \(SIGBUS\)")
        check(lines, node.log_text()[-800:])
        say(lines[0].split(" error ")[1].replace(cluster.directory, "DIR"))
        check(done > 20, "it wrote nothing before")
