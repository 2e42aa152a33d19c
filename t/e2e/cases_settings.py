"""A start with other settings than the last one: each has a defined answer (the table is in doc/operations.md)."""
import os
import shutil

from cases_borders import check_filled, check_refused, fill, patch
from cluster import Cluster, Node, check, lines_matching, wait_until

VALUE = b"x" * 50_000
SMALL = ("-m", "16", "-t", "2")
NO_MEMORY = b"SERVER_ERROR out of memory storing object"


def set_option(node, name, value):
    node.arguments[node.arguments.index(name) + 1] = value


def restart(node, *extra):
    """What the node says while it starts again."""
    size = len(node.log_text())
    node.start(*extra)
    node.wait_serving()
    return node.log_since(size)


def restart_with(node, name, value):
    node.stop()
    set_option(node, name, value)
    return restart(node)


def fill_large(node, count):
    with node.connect() as connection:
        for i in range(count):
            check(connection.set(b"large%d" % i, b"%d." % i + VALUE) == b"STORED", f"large{i}")


def check_large(node, numbers):
    with node.connect() as connection:
        for i in numbers:
            check(connection.get(b"large%d" % i) == b"%d." % i + VALUE, f"{node.name}: large{i}")


def check_limit(node, megabytes):
    with node.connect() as connection:
        found = int(connection.stats()["limit_maxbytes"]) >> 20
    check(found == megabytes, f"limit_maxbytes is {found} MB")


def case_a_smaller_m_than_the_data_loses_nothing_and_says_so():
    with Cluster(1, arguments=("-m", "128", "-t", "2", "-M")) as cluster:
        node = cluster.start().nodes[0]
        fill_large(node, 1600)  # some 76 MB
        text = restart_with(node, "-m", "32")
        lines = lines_matching(text, "-m 32: 7[0-9] MB are in use")
        check(len(lines) == 1 and "nothing is lost" in lines[0], text)
        check_limit(node, 32)
        check_large(node, range(1600))
        with node.connect() as connection:
            check(connection.set(b"one-more", VALUE) == NO_MEMORY, "it grows")
            check(connection.set(b"large7", b"7." + VALUE) == b"STORED", "what does not grow")
            for i in range(1400):
                check(connection.ask(b"delete large%d" % i) == b"DELETED", f"delete of large{i}")
            wait_until("there is room", lambda: connection.set(b"one-more", VALUE) == b"STORED", 30)
        check_large(node, range(1400, 1600))
        node.kill()
        text = restart(node)
        check(not lines_matching(text, "are in use"), text)
        check_large(node, range(1400, 1600))


def case_a_smaller_m_than_the_data_evicts_until_it_fits():
    with Cluster(3, arguments=("-m", "64", "-t", "2")) as cluster:
        node = cluster.start().nodes[2]
        fill_large(node, 800)  # some 38 MB
        text = restart_with(node, "-m", "16")
        check(lines_matching(text, "-m 16: 3[0-9] MB are in use and .* items are evicted until it fits"), text)
        for each in cluster.nodes:
            with each.connect() as connection:
                wait_until(f"{each.name} has come down", lambda connection=connection: int(connection.stats()["bytes"]) < 18 << 20, 30)
        with node.connect() as connection:
            wait_until("there is room", lambda: connection.set(b"one-more", VALUE) == b"STORED", 30)
            there = sum(connection.get(b"large%d" % i) is not None for i in range(800))
        check(150 < there < 400, f"{there} of 800 items are left")


def case_a_smaller_m_than_before_is_kept_when_the_data_fits():
    """The log was spread over all of the old -m; afterwards it takes no more than the new one."""
    with Cluster(1, arguments=("-m", "128", "-t", "2")) as cluster:
        node = cluster.start().nodes[0]
        fill_large(node, 200)
        for _ in range(10):
            fill_large(node, 200)
        text = restart_with(node, "-m", "32")
        check(not lines_matching(text, "are in use"), text)
        check_limit(node, 32)
        check_large(node, range(200))
        for _ in range(10):
            fill_large(node, 200)
        check_large(node, range(200))
        set_option(node, "-m", "64")
        node.kill()
        restart(node)
        check_limit(node, 64)
        check_large(node, range(200))


def case_a_smaller_m_on_one_of_three_nodes_loses_nothing():
    with Cluster(3, arguments=("-m", "128", "-t", "2", "-M")) as cluster:
        node = cluster.start().nodes[1]
        fill_large(node, 1000)
        text = restart_with(node, "-m", "32")
        check(lines_matching(text, "-m 32: 4[0-9] MB are in use"), text)
        for each in cluster.nodes:
            check_large(each, range(1000))
        with cluster.nodes[0].connect() as connection:
            wait_until("nobody lets the data grow",
                       lambda: connection.set(b"one-more", VALUE) == NO_MEMORY, 30)
            check(connection.ask(b"delete large0") == b"DELETED", "it can be made smaller")


def case_an_empty_node_with_less_memory_than_the_data_says_why_it_does_not_heal():
    with Cluster(3, arguments=("-m", "128", "-t", "2", "-M")) as cluster:
        node = cluster.start().nodes[1]
        fill_large(node, 1000)
        node.stop()
        shutil.rmtree(node.data)
        set_option(node, "-m", "32")
        node.start()
        wait_until("it says so", lambda: lines_matching(
            node.log_text(), "healing cannot go on: this node's store is full with [0-9]+ MB .* larger -m"), 30)
        with cluster.nodes[0].connect() as connection:
            check(connection.set(b"large1", b"1." + VALUE) == b"STORED", "the others go on")
        node.kill()
        set_option(node, "-m", "128")
        restart(node)
        check_large(node, range(1000))


def case_a_larger_m_works():
    with Cluster(1, arguments=("-m", "32", "-t", "2", "-M")) as cluster:
        node = cluster.start().nodes[0]
        fill_large(node, 300)
        restart_with(node, "-m", "128")
        check_limit(node, 128)
        fill_large(node, 1600)
        check_large(node, range(1600))


def case_a_larger_m_than_the_segments_allow_is_cut_and_said():
    """A shard has 4096 segments at most, of the size that the directory has."""
    with Cluster(1, arguments=("-m", "32", "-t", "2")) as cluster:
        node = cluster.start().nodes[0]
        fill(node)
        text = restart_with(node, "-m", "60000")
        check(lines_matching(text, "-m 60000 is too large for 2 shards with segments of .* using [0-9]+ MB"), text)
        check_filled(node)


def case_another_segment_size_has_no_effect_and_is_said():
    with Cluster(1, arguments=SMALL) as cluster:
        node = cluster.start().nodes[0]
        fill(node)
        node.stop()
        text = restart(node, "--segment-size=4m")
        check(lines_matching(text, "--segment-size has no effect: .* was made with segments of"), text)
        check_filled(node)


def case_another_number_of_shards_is_refused_with_the_right_one():
    with Cluster(1, arguments=SMALL) as cluster:
        node = cluster.start().nodes[0]
        fill(node)
        node.stop()
        for threads in ("1", "3"):
            set_option(node, "-t", threads)
            check_refused(node, ("start with -t 2,",))
        set_option(node, "-t", "2")
        restart(node)
        check_filled(node)


def case_the_refusal_of_a_foreign_directory_says_what_to_do():
    with Cluster(3, arguments=SMALL) as cluster:
        cluster.start()
        fill(cluster.nodes[0])
        for node in cluster.nodes:
            node.stop()
        first, second = cluster.nodes[:2]
        own = second.data
        second.data = first.data
        check_refused(second, ("its own --data, or as --node=1",))
        second.data = own
        alone = Node(first.port, list(SMALL), cluster.directory, "node1")
        check_refused(alone, ("start with the --peers it was made with",))
        cluster.start()
        check_filled(second)


def case_an_identity_file_that_cannot_be_read_is_refused():
    """Empty, of another version, missing, no file at all; with the right one put back all is there."""
    with Cluster(1, arguments=SMALL) as cluster:
        node = cluster.start().nodes[0]
        fill(node)
        node.stop()
        name = os.path.join(node.data, "node")
        shutil.copy(name, cluster.directory)
        with open(name, "wb"):
            pass
        check_refused(node, ("/node: empty, or not a file",))
        patch(name, 0, b"healnode\x63\0\0\0")
        check_refused(node, ("format version 99, this program knows",))
        os.unlink(name)
        check_refused(node, ("/node: missing, but there is a log",))
        os.mkdir(name)
        check_refused(node, ("/node: cannot be read: is a directory",))
        os.rmdir(name)
        shutil.copy(os.path.join(cluster.directory, "node"), name)
        restart(node)
        check_filled(node)


def case_the_second_process_on_a_directory_names_the_first():
    with Cluster(1, arguments=SMALL) as cluster:
        node = cluster.start().nodes[0]
        second = Node(node.port + 1, list(node.arguments), cluster.directory, node.name)
        second.log_path += ".second"
        second.start()
        try:
            check(second.wait_exit(30) > 0, "it runs")
            lines = lines_matching(second.log_text(), rf"another process \({node.process.pid}\) is using")
            check(len(lines) == 1 and "stop it first, or choose another --data" in lines[0], second.log_text())
        finally:
            second.end()
        fill(node, 10)
        node.kill()  # the lock goes with the process
        restart(node)
        check_filled(node, 10)
