"""A disk that fails under a node."""
import os

from guest import ARGUMENTS, MEDIUM_FAILED, check_filled, directories_at, fill, run, say  # first: it sets TMPDIR
from cluster import Cluster, Failure, check, lines_matching


def map_disk(target):
    run("dmsetup", "suspend", "--noflush", "--nolockfs", "failing")
    run("dmsetup", "load", "failing", "--table", f"0 {disk_sectors()} {target}")
    run("dmsetup", "resume", "failing")


def disk_sectors():
    return int(run("blockdev", "--getsz", "/dev/ram0"))


def case_a_disk_that_fails_ends_the_node_and_keeps_what_was_acknowledged():
    place = "/run/disk"
    os.makedirs(place, exist_ok=True)
    run("dmsetup", "create", "failing", "--table", f"0 {disk_sectors()} linear /dev/ram0 0")
    device = "/dev/" + run("dmsetup", "info", "-c", "--noheadings", "-o", "blkdevname", "failing").strip()
    run("mkfs.ext4", "-q", device)
    run("mount", device, place)
    try:
        with directories_at("/run"), Cluster(1, arguments=ARGUMENTS) as cluster:
            node = cluster.nodes[0]
            node.data = os.path.join(place, "node1")
            node.start()
            node.wait_serving()
            done = 0
            try:
                with node.connect(timeout=60) as connection:
                    fill(connection, 100)
                    map_disk("error")
                    for done in range(100, 3000):
                        fill(connection, 1, done)
            except (OSError, Failure):
                pass
            check(node.wait_exit(60) == MEDIUM_FAILED, node.log_text()[-800:])
            # Whichever is met first: the kernel also makes the file system read-only.
            lines = lines_matching(node.log_text(), "error .*(cannot be (synced|made): (Input/output error|Read-only file system)|SIGBUS)")
            check(lines, node.log_text()[-800:])
            say(f"{max(done - 100, 0)} writes after it; {lines[0].split(' error ')[1].replace(place, 'DIR')}")
            run("umount", place)
            map_disk("linear /dev/ram0 0")
            run("mount", device, place)
            size = len(node.log_text())
            node.start()
            node.wait_serving()
            check_filled(node, 100)
            with node.connect() as connection:
                check(connection.stats()["log_medium"] == "file", "not an ordinary file")
            check(not lines_matching(node.log_since(size), "damaged"), node.log_since(size))
            node.stop()
    finally:
        run("umount", place)
        run("dmsetup", "remove", "failing")
