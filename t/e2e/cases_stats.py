"""Statistics: the lines that readers of memcached's ask for, in its order, and numbers equal to its numbers."""
import re
import subprocess

from cases_basic import Memcached
from cluster import Cluster, Connection, check

# Not in ours: threads and buffers that do not exist here have no settings.
SETTINGS_LEFT_OUT = re.compile(r"ext_|slab_automove_freeratio")
COUNTED = ("cmd_get", "cmd_set", "cmd_flush", "cmd_touch", "get_hits", "get_misses", "get_flushed", "delete_misses", "delete_hits",
           "incr_misses", "incr_hits", "decr_misses", "decr_hits", "cas_misses", "cas_hits", "cas_badval",
           "touch_hits", "touch_misses", "cmd_meta", "store_too_large")
# Not compared: get_expired, where a thread of memcached's may have been faster; total_items, which counts an incr that copies.
COMMANDS = (b"set a 0 0 1\r\n1\r\n", b"get a\r\n", b"get none\r\n", b"get a a none\r\n", b"gets a\r\n", b"gat 0 a none\r\n",
            b"touch a 0\r\n", b"touch none 0\r\n", b"incr a 1\r\n", b"incr none 1\r\n", b"decr a 1\r\n", b"decr none 1\r\n",
            b"set t 0 0 1\r\nx\r\n", b"incr t 1\r\n", b"cas none 0 0 1 1\r\nx\r\n", b"cas a 0 0 1 1\r\nx\r\n",
            b"add a 0 0 1\r\nx\r\n", b"add b 0 0 1\r\nx\r\n", b"replace none 0 0 1\r\nx\r\n", b"append none 0 0 1\r\nx\r\n",
            b"append a 0 0 1\r\n0\r\n", b"prepend a 0 0 1\r\n1\r\n", b"delete b\r\n", b"delete none\r\n",
            b"set gone 0 -1 1\r\nx\r\n", b"get gone\r\n", b"get gone\r\n", b"set gone 0 -1 1\r\nx\r\n", b"gat 0 gone\r\n",
            b"set big 0 0 1100000\r\n" + b"x" * 1100000 + b"\r\n", b"set bad 0 0 1\r\nxx\r\n", b"nonsense\r\n",
            b"set f 0 0 1\r\nx\r\n", b"delete a\r\n", b"delete t\r\n", b"flush_all\r\n", b"get f\r\n",
            b"set a 0 0 1 noreply\r\n5\r\n", b"incr a 1 noreply\r\n",
            b"get " + b" ".join(b"k%d" % i for i in range(100)) + b"\r\n",
            b"ms m 1\r\n5\r\n", b"mg m v\r\n", b"mg m v T60\r\n", b"mg none v T60\r\n", b"mg none v\r\n", b"mg viv v N60\r\n",
            b"ma m\r\n", b"ma none\r\n", b"ma made N0 J5\r\n", b"ma m MD\r\n", b"md none\r\n", b"md m C1\r\n", b"ms m 1 C1\r\n1\r\n",
            b"ms none 1 C1\r\n1\r\n", b"ms m 1 ME\r\n1\r\n", b"ms m 1 MA\r\n1\r\n", b"md m I T30\r\n", b"mg m v\r\n", b"md m\r\n",
            b"me a\r\n", b"me none\r\n", b"mn\r\n")


def run_commands(port):
    """What `stats` says afterwards. A version behind each command is the sign that its answers are all there."""
    with Connection(port) as connection:
        check(connection.ask(b"stats reset") == b"RESET", "reset")
        for command in COMMANDS:
            connection.send(command + b"version\r\n")
            while not connection.line().startswith(b"VERSION"):
                pass
        connection.send(b"gets a\r\n")
        unique = connection.line().split()[4]
        connection.exactly(len(b"6\r\nEND\r\n"))
        check(connection.ask(b"cas a 0 0 1 " + unique + b"\r\n7") == b"STORED", "cas")
        return connection.stats()


def is_part_of(names, others):
    """In the same order, with others between them."""
    rest = iter(others)
    return [name for name in names if name not in rest]


def one_node(*arguments):
    return Cluster(1, durable=False, arguments=("-m", "64", "-t", "2", *arguments))


def case_stats_count_as_memcached_does():
    with Memcached() as judge, one_node() as cluster:
        node = cluster.start().nodes[0]
        theirs, ours = run_commands(judge.port), run_commands(node.port)
        wrong = {name: (theirs[name], ours[name]) for name in COUNTED if theirs[name] != ours[name]}
        check(not wrong, f"memcached's and ours: {wrong}")
        check(ours["get_expired"] == "2", f"get_expired {ours['get_expired']}")


def case_stats_have_the_lines_of_memcached_in_its_order():
    with Memcached() as judge, one_node() as cluster:
        node = cluster.start().nodes[0]
        with Connection(judge.port) as their, node.connect() as our:
            for connection in (their, our):
                connection.set(b"a", b"x")
            for group in (b"", b"settings", b"items", b"slabs"):
                theirs, ours = their.stats(group), our.stats(group)
                names = [name for name in theirs if not SETTINGS_LEFT_OUT.match(name)]
                missing = is_part_of(names, ours)
                check(not missing, f"stats {group.decode()}: not there or out of order: {missing[:3]}")
                for name, value in theirs.items():
                    if name in ours and re.fullmatch(r"\d+", value):
                        check(re.fullmatch(r"\d+", ours[name]), f"{name} is no number: {ours[name]}")
            check(re.fullmatch(r"\d+\.\d{6}", our.stats()["rusage_user"]), "rusage")


def case_stats_names_may_be_short_and_wrong_ones_are_errors():
    with one_node("-o", "idle_timeout=100") as cluster, cluster.start().nodes[0].connect() as c:
        check("maxconns" in c.stats(b"set"), "stats set")
        check(c.stats(b"settings")["idle_timeout"] == "100" and "idle_kicks" in c.stats(), "idle_timeout")
        check(c.ask(b"stats r") == b"RESET", "stats r")
        check(c.ask(b"stats nonsense") == b"ERROR" and c.ask(b"stats item") == b"ERROR", "a wrong name")
        check(c.stats(b"sizes") == {"sizes_status": "disabled"}, "sizes")
        for line, answer in ((b"cachedump", b"CLIENT_ERROR bad command line"), (b"cachedump 1", b"CLIENT_ERROR bad command line"),
                             (b"cachedump 64 1", b"CLIENT_ERROR Illegal slab id"), (b"cachedump 2 0", b"END"),
                             (b"cachedump x 0", b"CLIENT_ERROR bad command line format"),
                             (b"detail", b"CLIENT_ERROR usage: stats detail on|off|dump"),
                             (b"detail maybe", b"CLIENT_ERROR usage: stats detail on|off|dump")):
            got = c.ask(b"stats " + line)
            check(got == answer, f"stats {line}: {got}")


def case_stats_are_read_by_memcached_tool():
    tool = "/usr/share/memcached/scripts/memcached-tool"
    with one_node("-o", "track_sizes") as cluster:
        node = cluster.start().nodes[0]
        with node.connect() as c:
            c.set(b"a", b"abc")
        for command, words in (("display", r"\b1\b.*\bno\b"), ("stats", "curr_items +1\n"), ("settings", "maxconns +1024"),
                               ("sizes", " 64 +1\n"), ("dump", "add a 0 0 3"), ("keys", "key=a exp=-1")):
            done = subprocess.run([tool, f"127.0.0.1:{node.port}", command], stdout=subprocess.PIPE, text=True, timeout=30, check=True)
            check(re.search(words, done.stdout), f"memcached-tool {command}: {done.stdout}")


def case_stats_conns_lists_every_client_once():
    with one_node() as cluster:
        node = cluster.start().nodes[0]
        clients = [node.connect() for _ in range(400)]
        for client in clients:
            check(client.get(b"a") is None, "get")
        with node.connect() as c:
            lines = c.stats(b"conns")
            addresses = {value for name, value in lines.items() if name.endswith(":addr")}
            for client in clients:
                check("tcp:127.0.0.1:%d" % client.socket.getsockname()[1] in addresses, "a client is missing")
            own = [name for name, value in lines.items() if value == "tcp:127.0.0.1:%d" % c.socket.getsockname()[1]]
            fd = own[0].split(":")[0]
            check(lines[fd + ":state"] == "conn_parse_cmd" and lines[fd + ":secs_since_last_cmd"] == "0" and
                  lines[fd + ":listen_addr"] == f"tcp:127.0.0.1:{node.port}", f"{own}")
            check(int(c.stats()["curr_connections"]) == len(addresses), "more lines than clients")
        for client in clients:
            client.socket.close()


def details(connection):
    connection.send(b"stats detail dump\r\n")
    lines = {}
    while (line := connection.line()) != b"END":
        words = line.split()
        check(words[0] == b"PREFIX" and words[2::2] == [b"get", b"hit", b"set", b"del"], f"{line}")
        lines[words[1]] = [int(word) for word in words[3::2]]
    return lines


def case_stats_detail_counts_by_prefix():
    with one_node() as cluster, cluster.start().nodes[0].connect() as c:
        c.set(b"before:it", b"x")
        check(details(c) == {}, "counted while it is off")
        check(c.ask(b"stats detail on") == b"OK", "on")
        c.set(b"a:1", b"x")
        c.set(b"a:2", b"x")
        c.set(b"none", b"x")
        c.get(b"a:1")
        c.get(b"a:3")
        c.get(b"b:1:2")
        c.ask(b"delete a:2")
        check(details(c) == {b"a": [2, 1, 2, 1], b"b": [1, 0, 0, 0]}, f"{details(c)}")
        check(c.ask(b"stats detail off") == b"OK", "off")
        c.get(b"a:1")
        check(details(c)[b"a"][0] == 2, "counted after it was set off")
        c.ask(b"stats reset")
        check(details(c) == {}, "there after a reset")
        check(c.ask(b"stats detail on") == b"OK", "on")
        for start in range(0, 70000, 1000):
            c.send(b"get " + b" ".join(b"p%d:x" % i for i in range(start, start + 1000)) + b"\r\n")
            check(c.line() == b"END", "get")
        check(len(details(c)) == 65536, f"{len(details(c))} prefixes")
    with one_node("-D", "/") as cluster, cluster.start().nodes[0].connect() as c:
        c.get(b"a:b/c")
        check(details(c) == {b"a:b": [1, 0, 0, 0]}, "-D")
