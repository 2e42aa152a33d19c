"""The index outlives a process that was killed, and is taken over; one that is not this node's of this boot, or not whole, is not."""
import contextlib
import glob
import os
import random
import shutil
import subprocess
import time

from cases_borders import check_filled, fill, segment_files
from cases_failures import kill_at_once
from cases_settings import restart
from cluster import Cluster, check, lines_matching, wait_until
from load import cluster_for_load

TAKEN = "index taken over"
SHARDS = 2


def indexes(node):
    return sorted(os.path.realpath(link) for link in glob.glob(os.path.join(node.data, "shard-*", "index")))


def check_taken(text, count=SHARDS):
    check(len(lines_matching(text, TAKEN)) == count, f"not taken over by {count} shards: {text}")


def check_scanned(text, why):
    check(not lines_matching(text, TAKEN), f"taken over: {text}")
    check(lines_matching(text, f"rebuilt by scan .*{why}"), f"not because of {why!r}: {text}")


@contextlib.contextmanager
def killed_node():
    """One node with data, whose process is gone."""
    with Cluster(1) as cluster:
        node = cluster.start().nodes[0]
        fill(node)
        node.kill()
        yield node


def case_a_node_killed_under_load_takes_its_index_over_and_heals_what_it_missed():
    with cluster_for_load(seed=11) as (cluster, load):
        with load:
            for node in cluster.nodes:
                time.sleep(1)
                node.kill()
                time.sleep(0.5)
                text = restart(node)
                check_taken(text)
                check(lines_matching(text, r"healed \(incremental\)") or not lines_matching(text, r"healed \(full\)"), text)


def case_all_are_killed_under_load_and_take_their_indexes_over():
    with cluster_for_load(seed=12) as (cluster, load):
        sizes = [len(node.log_text()) for node in cluster.nodes]
        with load:
            time.sleep(1.5)
            kill_at_once(cluster.nodes)
        for node in cluster.nodes:
            node.start()
        cluster.wait_serving()
        for node, size in zip(cluster.nodes, sizes):
            check_taken(node.log_since(size))


def case_a_single_node_takes_over_after_a_kill_and_after_a_stop():
    with Cluster(1) as cluster:
        node = cluster.start().nodes[0]
        fill(node)
        for end in (node.kill, node.stop, node.kill):
            end()
            text = restart(node)
            check_taken(text)
            check_filled(node)
            wait_until("all of it was checked",
                       lambda: len(lines_matching(node.log_text(), "index checked")) % SHARDS == 0, 30)
        node.kill()
        check_scanned(restart(node, "--rebuild-index"), "--rebuild-index")
        check_filled(node)
        node.kill()
        check_scanned(restart(node, "--index-dir=none"), "there is none")
        check(not indexes(node), "what was not used is still there, and is old")
        node.kill()
        check_scanned(restart(node), "there is none")
        check_filled(node)


def case_an_index_that_is_not_whole_is_not_taken_over():
    def cut(path):
        os.truncate(path, 5000)

    def scribble(path):
        with open(path, "r+b") as file:
            file.seek(4096)
            file.write(random.Random(1).randbytes(65536))

    def empty(path):
        with open(path, "r+b") as file:
            file.seek(4096)
            file.write(bytes(65536))

    with Cluster(1) as cluster:
        node = cluster.start().nodes[0]
        fill(node)
        for hurt, why in ((cut, "damaged|there is none"), (scribble, "damaged"), (empty, "there is none"), (os.unlink, "there is none")):
            node.kill()
            for path in indexes(node):
                hurt(path)
            check_scanned(restart(node), why)
            check_filled(node)


def case_an_index_of_another_shard_is_not_taken_over():
    with killed_node() as node:
        first, second = indexes(node)
        with open(second, "rb") as source, open(first, "r+b") as file:
            for each in (source, file):
                each.seek(4096)  # the page says whose it is: any node that starts removes a file with a wrong one
            shutil.copyfileobj(source, file)
        text = restart(node)
        check(len(lines_matching(text, TAKEN)) == 1, text)
        check(lines_matching(text, "another boot or directory"), text)
        check_filled(node)


def case_a_copy_of_a_directory_does_not_use_its_index():
    with killed_node() as node:
        original = node.data
        node.data = original + "-copy"
        shutil.copytree(original, node.data, symlinks=True)
        check_scanned(restart(node), "another boot or directory")
        check_filled(node)
        fill(node, 10, b"later")
        node.kill()
        node.data = original
        check_scanned(restart(node), "another boot or directory")
        check_filled(node)


def case_segments_that_were_changed_meanwhile_are_scanned():
    with killed_node() as node:
        time.sleep(1.5)
        for path in segment_files(node):
            os.utime(path)
        check_scanned(restart(node), "changed after the process had ended")
        check_filled(node)


def case_after_a_boot_the_log_is_scanned():
    """Another boot id, in a mount namespace of the node's own: root only."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False, stderr=subprocess.DEVNULL).returncode != 0:
        return
    with killed_node() as node:
        boot = os.path.join(os.path.dirname(node.data), "boot_id")
        with open(boot, "w", encoding="ascii") as file:
            file.write("01234567-89ab-cdef-0123-456789abcdef\n")
        plain = type(node).command

        def command(extra=()):
            mount = f"mount --bind {boot} /proc/sys/kernel/random/boot_id && exec \"$@\""
            return ["unshare", "-m", "sh", "-c", mount, "sh", *plain(node, extra)]
        node.command = command
        check_scanned(restart(node), "another boot or directory")
        check_filled(node)
        node.kill()
        check_taken(restart(node))
        check_filled(node)


def case_a_damaged_entry_ends_the_process_and_the_next_one_scans():
    """Bytes of the buckets are changed: nothing wrong is served, also while it is looked for."""
    with Cluster(1) as cluster:
        node = cluster.start().nodes[0]
        fill(node)
        time.sleep(0.5)  # a stable round: nothing is replayed, which would use entries at once
        node.kill()
        for path in indexes(node):
            hurt_entries(path)
        size = len(node.log_text())
        node.start()
        wait_until("it ends, and says why", lambda: node.process.poll() is not None, 30)
        node.wait_exit(1)
        check(lines_matching(node.log_since(size), "damaged"), node.log_since(size))
        check_scanned(restart(node), "known to be wrong")
        check_filled(node)


def hurt_entries(path):
    """A bit of the place in each word that looks like an entry: buckets are lines of them."""
    def looks(word):
        return word >> 53 != 0 and word & (1 << 28) - 1 != 0

    with open(path, "r+b") as file:
        data = bytearray(file.read(4 << 20))
        for at in range(4096, len(data) - 63, 64):
            words = [int.from_bytes(data[at + i:at + i + 8], "little") for i in (0, 8, 16)]
            if all(map(looks, words)):
                data[at] ^= 0x40
        file.seek(0)
        file.write(data)
