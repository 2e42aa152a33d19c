"""Mistakes in starting a node, as people make them: each is answered by one line that says what to do, or the log says what is missing."""
import os
import subprocess

from cases_borders import fill
from cluster import PROGRAM, Cluster, check, free_ports, lines_matching, wait_until
from single import one_node, same

THREE = "1@127.0.0.1:27001,2@127.0.0.1:27002,3@127.0.0.1:27003"


def refusal(*arguments):
    """The exit status of a start that must fail, and its lines."""
    user = ("-u", "root") if os.geteuid() == 0 else ()
    ended = subprocess.run([PROGRAM, *user, "-l", "127.0.0.1", "-p", str(free_ports(1)[0][0]), *arguments], timeout=30, check=False,
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return ended.returncode, ended.stdout.decode().splitlines()


def case_wrong_options_are_refused_with_one_line_that_says_what_is_right():
    def peers(text):
        return ("--node=1", f"--peers={text}")
    for arguments, wanted, words in (
            (("--memory=1",), 1, "the nearest is --memory-limit"),
            (("--bogus",), 1, "unknown option --bogus .-h lists all"),
            (("-v=2",), 1, "'=' stands only behind a long name"),
            (("--verbose=much",), 64, "a number from 0 to 9"),
            (("-l", ""), 64, "an address"),
            (("--segment-size=512m",), 64, "a power of two from 2m to 256m"),
            (("--segment-size=1m",), 64, "a power of two from 2m to 256m"),
            (("--force-members=",), 64, "ids in --peers"),
            (("--secret-file=/nowhere",), 64, "'/nowhere' cannot be read: No such file"),
            (("-Y", "/nowhere"), 1, "password file '/nowhere': No such file"),
            (("-Z", "-o", "ssl_chain_cert=/dev/null"), 64, "nothing of that kind is in it"),
            (peers(""), 64, "0 nodes"),
            (peers("1@a:1,2@b:2"), 64, "2 nodes; it must be .* 1, 3, 5 or 7"),
            (peers("1@a:1,1@b:2,3@c:3"), 64, "'1@b:2' has the id of another"),
            (peers("1@a:1,2@b,3@c:3"), 64, "'2@b' has no port"),
            (peers("1@a:1,2@:2,3@c:3"), 64, "'2@:2' has no host"),
            (peers("1@a:1,2@b:65536,3@c:3"), 64, "'2@b:65536' has no good address"),
            (peers("a:1,b:2,c:3"), 64, "'a:1' does not begin with an id"),
            (peers("1@a:7000,2@a:7000,3@c:3"), 64, "nodes 1 and 2 cannot both listen on a"),
            (peers("1@a:7000,2@b:1,3@a:17000"), 64, r"nodes 1 and 3 cannot both .*\(7000 and 17000\) and the one 10000 away"),
            (("--node=4", f"--peers={THREE}"), 64, "--node=4 is not one of --peers"),
            (peers("1@192.0.2.1:27001,2@127.0.0.1:27002,3@127.0.0.1:27003"), 71, "192.0.2.1:27001.* must be an address of this machine")):
        code, lines = refusal(*arguments)
        same(f"{arguments}: status", code, wanted)
        lines = [line for line in lines if " note net: " not in line]
        check(len(lines) == 1 and lines_matching(lines[0], words), f"{arguments}: {words!r} is not in {lines}")


def case_a_node_without_a_majority_says_so_and_when_it_is_over():
    warning, over = "warning not serving: no connection to node 2,3; it takes 2 of the 3 nodes", "a majority of the nodes is here again"
    with Cluster(3, durable=False) as cluster:
        first, *others = cluster.nodes
        first.start()
        wait_until("it says so at the start", lambda: lines_matching(first.log_text(), warning), 60)
        for node in others:
            node.start()
        cluster.wait_serving()
        check(lines_matching(first.log_text(), over), first.log_text())
        size = len(first.log_text())
        for node in others:
            node.kill()
        wait_until("it says so later", lambda: lines_matching(first.log_since(size), warning), 60)
        check(not first.serves(), "it serves alone")


def case_a_node_that_waits_says_whose_log_says_why():
    with Cluster(3) as cluster:
        fill(cluster.start().nodes[0], 10)
        for node in cluster.nodes:
            node.stop()
        here = cluster.nodes[:2]
        sizes = [len(node.log_text()) for node in here]
        for node in here:
            node.start()

        def lines(pattern):
            return [bool(lines_matching(node.log_since(size), pattern)) for node, size in zip(here, sizes)]
        wait_until("one says for whom the start waits", lambda: any(lines("waiting for node 3 of the last view")), 60)
        leader = lines("waiting for node 3 of the last view").index(True)
        wait_until("the other names it", lambda: lines(f"not serving: node {leader + 1}, which leads, .* its log says why")[1 - leader], 60)
        cluster.nodes[2].start()
        cluster.wait_serving()


def case_an_index_directory_on_a_disk_is_used_with_a_warning():
    with Cluster(1, arguments=("-m", "32", "-t", "1")) as cluster:
        node = cluster.nodes[0]
        node.start(f"--index-dir={cluster.directory}")
        node.wait_serving()
        with node.connect() as connection:
            if connection.stats()["log_medium"] != "file":
                return  # the index is beside the log
        check(lines_matching(node.log_text(), f"--index-dir={cluster.directory} is on a disk"), node.log_text())
        size = len(node.log_text())
        node.kill()
        node.start(f"--index-dir={cluster.directory}")
        node.wait_serving()
        check(lines_matching(node.log_since(size), "index taken over"), node.log_since(size))


def case_a_start_says_which_options_do_not_fit():
    with one_node("-m", "64", "-t", "4", "-I", "100m", "--node=1", "--net=rdma") as node:
        check(lines_matching(node.log_text(), "-I lets clients store up to 100 MB, but a shard has room for [12][0-9] MB"), node.log_text())
        check(lines_matching(node.log_text(), "--node without --peers has no effect: this is a single node"), node.log_text())
        check(lines_matching(node.log_text(), "--net=rdma without --peers has no effect"), node.log_text())
        with node.connect() as connection:
            same("too large for a shard", connection.set(b"k", b"x" * (40 << 20)), b"SERVER_ERROR out of memory storing object")
            same("as much as fits", connection.set(b"k", b"x" * (8 << 20)), b"STORED")
