"""What an operator does in bad hours: going on without nodes that are lost, secrets, damaged disks."""
import os
import random
import shutil
import time

from cases_borders import check_filled, fill, patch, refusal_lines, segment_files
from cluster import Cluster, check, lines_matching, wait_until


def kill_all(cluster):
    for node in cluster.nodes:
        node.kill()


def case_force_members_goes_on_without_a_node_that_is_lost():
    """All died; one never comes back. The others wait for it, say so, and go on when told to. A new disk heals later."""
    with Cluster(3) as cluster:
        cluster.start()
        fill(cluster.nodes[0])
        kill_all(cluster)
        left, lost = cluster.nodes[:2], cluster.nodes[2]
        shutil.rmtree(lost.data)
        for node in left:
            node.start()
        wait_until("they say for whom they wait",
                   lambda: any(lines_matching(node.log_text(), "waiting for node 3 of the last view.*--force-members")
                               for node in left), 40)
        check(not any(node.serves() for node in left), "they serve without it")
        for node in left:
            node.kill()
            node.start("--force-members=1,2")
        for node in left:
            node.wait_serving()
            check_filled(node)
        fill(left[1], 30, b"later")
        lost.start()
        lost.wait_serving()
        check_filled(lost)
        check_filled(lost, 30, b"later")
        for node in left:  # it works once: the option is harmless in a start script
            node.kill()
            node.start("--force-members=1,2")
            node.wait_serving()
            check_filled(node)
            check_filled(node, 30, b"later")


def case_force_members_does_not_disturb_a_group_that_lives():
    with Cluster(3) as cluster:
        cluster.start()
        fill(cluster.nodes[0])
        node = cluster.nodes[2]
        node.kill()
        fill(cluster.nodes[0], 30, b"later")
        node.start("--force-members=3")
        node.wait_serving()
        for other in cluster.nodes:
            check_filled(other)
            check_filled(other, 30, b"later")


def case_force_members_names_a_node_that_is_not_configured():
    with Cluster(3) as cluster:
        node = cluster.nodes[0]
        node.start("--force-members=1,5")
        check(node.wait_exit(30) == 64, "wrong use")
        check("--force-members" in node.log_text(), node.log_text())


def write_secret(cluster, name, text):
    path = os.path.join(cluster.directory, name)
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, 0o600)
    return f"--secret-file={path}"


def refused_by_name(cluster, node, pattern):
    """The group says why, goes on, and the node does not serve."""
    sizes = [len(other.log_text()) for other in cluster.nodes]
    node.start()
    wait_until(f"a line like {pattern!r}", lambda: refusal_lines(cluster, sizes, pattern), 40)
    time.sleep(1)
    check(not node.serves(), f"{node.name} serves in spite of it")
    for other in cluster.others(node):
        fill(other, 10)
        check_filled(other, 10)
    node.kill()


def case_a_node_with_another_secret_is_refused_by_name():
    with Cluster(3) as cluster:
        right, wrong = write_secret(cluster, "right", "open sesame"), write_secret(cluster, "wrong", "open barley")
        for node in cluster.nodes:
            node.arguments.append(right)
        cluster.start()
        fill(cluster.nodes[0])
        for node in (cluster.nodes[0], cluster.nodes[2]):  # one is called by all, one calls all
            node.kill()
            node.arguments[-1] = wrong
            refused_by_name(cluster, node, "another secret")
            node.arguments[-1:] = []
            refused_by_name(cluster, node, "only one side has a secret")
            node.arguments.append(right)
            node.start()
            node.wait_serving()
            check_filled(node)


def case_a_secret_file_that_cannot_be_used_is_named():
    with Cluster(3) as cluster:
        node = cluster.nodes[0]
        for option in (f"--secret-file={cluster.directory}/nowhere", write_secret(cluster, "empty", "")):
            size = len(node.log_text())
            node.start(option)
            check(node.wait_exit(30) not in (0, -6, -11), option)
            check("--secret-file" in node.log_since(size), node.log_since(size))


def case_a_badly_damaged_log_heals_in_a_group():
    """Bytes are flipped all over the files of one node while it is down; the others write on meanwhile."""
    seed = int(os.environ.get("SEED", time.time_ns() % 100000))
    dice = random.Random(seed)
    with Cluster(3) as cluster:
        cluster.start()
        fill(cluster.nodes[0], 500)
        time.sleep(0.5)
        node = cluster.nodes[1]
        node.kill()
        fill(cluster.nodes[2], 50, b"later")
        flip_bytes(node, dice)
        size = len(node.log_text())
        node.start("--rebuild-index")
        node.wait_serving()
        reported = lines_matching(node.log_since(size), "damaged")
        check(reported, f"SEED={seed}: not reported: {node.log_since(size)}")
        check(all(os.path.basename(os.path.dirname(node.data)) in line for line in reported), f"by name: {reported}")
        wait_until("it says that it healed in full",
                   lambda: lines_matching(node.log_since(size), r"healed \(full\)"), 30)
        for other in cluster.nodes:
            check_filled(other, 500)
            check_filled(other, 50, b"later")
        size = len(node.log_text())
        node.kill()
        node.start()
        node.wait_serving()
        check_filled(node, 500)
        kill_all(cluster)
        for other in cluster.nodes:
            other.start()
        cluster.wait_serving()
        for other in cluster.nodes:
            check_filled(other, 500)


def flip_bytes(node, dice):
    """In what is used: a flip in bytes that were never written is none."""
    for path in segment_files(node):
        with open(path, "rb") as file:
            used = len(file.read().rstrip(b"\0"))
        for _ in range(5 if used > 1000 else 0):
            at = dice.randrange(200, used - 1)
            with open(path, "rb") as file:
                file.seek(at)
                old = file.read(1)[0]
            patch(path, at, bytes([old ^ (1 << dice.randrange(8))]))
