"""The persistency models and the command persist, in its three forms."""
import select
import signal
import time

from binary import GET, NOOP, OK, PERSIST, PERSISTQ, SET, Binary, packet, storing
from cases_sockets import answer_udp
from cluster import Cluster, Failure, check, lines_matching, wait_until
from single import Single

MODELS = ("synch", "strict", "read-enforced", "eventual", "scope")
NOT_DURABLE = b"SERVER_ERROR not known to be durable: this node is not serving (no quorum, healing or starting)"


def with_model(model, count=3, *more):
    return Cluster(count, arguments=("-m", "64", "-t", "2", "-I", "4m", f"--persistency={model}", *more))


def counter(node, name):
    with node.connect() as connection:
        return int(connection.stats()[name])


def is_silent(connection, seconds):
    return not connection.pending and not select.select([connection.socket], [], [], seconds)[0]


def check_text_forms(node):
    with node.connect() as c:
        before = counter(node, "persist_shards")
        check(c.ask(b"persist") == b"OK", "nothing was written")
        check(c.get(b"none") is None and c.ask(b"replace none 0 0 1\r\nx") == b"NOT_STORED", "what writes nothing")
        check(c.ask(b"persist") == b"OK" and counter(node, "persist_shards") == before, "no shard was asked")
        check(c.set(b"k", b"1") == b"STORED" and c.ask(b"persist") == b"OK", "a set")
        check(counter(node, "persist_shards") == before + 1, "its shard was asked")
        check(c.ask(b"persist") == b"OK" and counter(node, "persist_shards") == before + 1, "and no more")
        c.send(b"set k 0 0 1\r\n2\r\nincr k 1\r\npersist\r\nget k\r\npersist noreply\r\nset k 0 0 1\r\n4\r\npersist\r\n")
        found = [c.line() for _ in range(8)]
        check(found == [b"STORED", b"3", b"OK", b"VALUE k 0 1", b"3", b"END", b"STORED", b"OK"], f"in order: {found}")
        for line in (b"persist all", b"persist 1"):
            check(c.ask(line) == b"CLIENT_ERROR bad command line format", line)
        for line in (b"Persist", b"persists", b"mpp", b"MP"):
            check(c.ask(line) == b"ERROR", line)


def check_meta_forms(node):
    with node.connect() as c:
        check(c.ask(b"mp") == b"HD" and c.ask(b"mp k O7 v") == b"HD O7", "nothing was written")
        c.send(b"ms k 1 q\r\n5\r\nmp Oabc\r\nmg k v\r\nmd k q\r\nmp q O9\r\nmg k v\r\nmn\r\n")
        found = [c.line() for _ in range(5)]
        check(found == [b"HD Oabc", b"VA 1", b"5", b"EN", b"MN"], f"in order: {found}")
        before = counter(node, "persist_shards")
        check(c.ask(b"mg k N60 v") == b"VA 0 W" and c.line() == b"" and c.ask(b"mp") == b"HD", "a get that creates")
        check(counter(node, "persist_shards") == before + 1, "it is a write")
        check(c.ask(b"mp q q") == b"CLIENT_ERROR duplicate flag" and c.ask(b"mp q z") == b"CLIENT_ERROR invalid flag", "flags")


def check_binary_forms(node):
    with Binary(node.port) as c:
        answer = c.ask(PERSIST, opaque=77)
        check((answer.status, answer.opcode, answer.opaque, answer.value) == (OK, PERSIST, 77, b""), f"{answer}")
        before = counter(node, "persist_shards")
        c.send(packet(SET, b"k", storing(), b"6") + packet(PERSIST, opaque=1) + packet(GET, b"k"))
        found = [c.receive() for _ in range(3)]
        check([a.status for a in found] == [OK] * 3 and found[1].opaque == 1 and found[2].value == b"6", f"{found}")
        check(counter(node, "persist_shards") == before + 1, "its shard was asked")
        c.send(packet(PERSISTQ) + packet(NOOP, opaque=2))
        check(c.receive().opcode == NOOP, "a quiet one says nothing")
        c.send(packet(PERSIST, b"key"))
        check(c.receive().status != OK and c.is_closed(), "it has no key")


def case_persist_has_a_text_a_meta_and_a_binary_form():
    for count in (1, 3):
        with with_model("scope", count) as cluster:
            node = cluster.start().nodes[-1]
            check_text_forms(node)
            check_meta_forms(node)
            check_binary_forms(node)
            check(counter(node, "persist_failed") == 0, "persist_failed")
            check(counter(node, "cmd_persist") == 15, f"cmd_persist is {counter(node, 'cmd_persist')}")
            with node.connect() as c:
                check(c.stats(b"settings")["persistency"] == "scope", "stats settings")


def case_persist_covers_flush_all_and_large_values():
    with with_model("eventual") as cluster:
        node = cluster.start().nodes[1]
        with node.connect() as c:
            for command, shards in ((b"flush_all", 2), (b"set big 0 0 3000000\r\n" + b"x" * 3000000, 1), (b"touch big 0", 1),
                                    (b"append big 0 0 1\r\ny", 1), (b"delete none", 0)):
                before = counter(node, "persist_shards")
                check(not c.ask(command).startswith((b"CLIENT", b"SERVER")) and c.ask(b"persist") == b"OK", command[:9])
                check(counter(node, "persist_shards") == before + shards, f"{command[:9]}: shards")


def case_persist_comes_by_udp_too():
    with Single("-U", "{ports[1]}", "--persistency=scope") as server:
        answer = answer_udp(server.ports[1], b"persist\r\n")
        check(answer == b"OK\r\n", f"{answer}")


def fill(cluster, model):
    """By every node, on many connections; what each has persisted is promised."""
    big = model.encode() * 300000
    for i, node in enumerate(cluster.nodes):
        with node.connect() as c:
            for j in range(100):
                c.send(b"set %d.%d 0 0 4\r\n%04d\r\n" % (i, j, j))
            check([c.line() for _ in range(100)] == [b"STORED"] * 100, "sets")
            check(c.set(b"big%d" % i, big) == b"STORED", "a large value")
            check(c.ask(b"incr %d.7 1" % i) == b"8" and c.ask(b"delete %d.8" % i) == b"DELETED", "changes")
            check(c.ask(b"persist") == b"OK", "persist")
    return big


def check_filled(cluster, big):
    for node in cluster.nodes:
        with node.connect() as c:
            for i in range(len(cluster.nodes)):
                for j in range(100):
                    right = {7: b"8   ", 8: None}.get(j, b"%04d" % j)
                    found = c.get(b"%d.%d" % (i, j))
                    check(found == right, f"{node.name}: {i}.{j} is {found}")
                check(c.get(b"big%d" % i) == big, f"{node.name}: big{i}")


def case_what_was_persisted_survives_the_death_of_all_nodes_in_each_model():
    """kill -9 leaves what lies in the page cache: this is about order and starts, not about loss of power."""
    for model in MODELS:
        with with_model(model) as cluster:
            big = fill(cluster.start(), model)
            for node in cluster.nodes:
                node.kill()
            cluster.start()
            check_filled(cluster, big)


def case_a_group_may_start_with_another_model():
    with with_model("eventual") as cluster:
        big = fill(cluster.start(), "eventual")
        for model in ("synch", "scope"):
            for node in cluster.nodes:
                node.kill()
                node.arguments = [f"--persistency={model}" if word.startswith("--persistency") else word for word in node.arguments]
            cluster.start()
            check_filled(cluster, big)
            with cluster.nodes[0].connect() as c:
                check(c.stats(b"settings")["persistency"] == model, "stats settings")


def case_nodes_with_different_models_refuse_each_other():
    with with_model("scope") as cluster:
        node = cluster.nodes[2]
        node.arguments = [word.replace("scope", "eventual") for word in node.arguments]
        for each in cluster.nodes:
            each.start()
        for each in cluster.nodes:
            wait_until(f"{each.name} says so", lambda each=each: lines_matching(
                each.log_text(), "another cluster configuration .*--persistency.* must be equal"), 30)


def persist_in_a_pause(paused, connections, value, command, answer):
    """Sends a command that has to wait, and returns the moment. Of ten rounds a second one may come between the set and the pause, and
    there is nothing to wait for: then again."""
    for _ in range(20):
        for connection in connections:
            check(connection.set(b"k", value) == b"STORED", "set")
        paused.signal(signal.SIGSTOP)
        began = time.monotonic()
        for connection in connections:
            connection.send(command)
        if is_silent(connections[0], 0.5) and all(is_silent(connection, 0) for connection in connections):
            return began
        paused.signal(signal.SIGCONT)
        check([connection.line() for connection in connections] == [answer] * len(connections), f"{command}")
    raise Failure(f"{command} never had to wait")


def case_persist_waits_for_a_paused_node_and_is_answered_when_it_returns_or_is_removed():
    """Suspected after 4 s: it returns before that. Then it stays away: the others go on without it."""
    with with_model("scope", 3, "--suspect-ms=4000") as cluster:
        node, paused = cluster.start().nodes[0], cluster.nodes[2]
        with node.connect() as c, node.connect() as gone, node.connect() as other:
            persist_in_a_pause(paused, (c, gone), b"v", b"persist\r\n", b"OK")
            check(counter(node, "persists_waiting") == 2, "persists_waiting")
            check(other.ask(b"persist") == b"OK" and other.get(b"k") == b"v", "others do not")
            gone.socket.close()
            check(is_silent(c, 0.2), "it still waits")
            other.send(b"set k2 0 0 1\r\nv\r\n")
            wait_until("it shows", lambda: counter(node, "records_not_durable_everywhere") > 0, 30)
            paused.signal(signal.SIGCONT)
            check(c.line() == b"OK", "it has returned")
            check(other.line() == b"STORED", "a set that had to wait")
            began = persist_in_a_pause(paused, (c,), b"w", b"mp O1\r\n", b"HD O1")
            check(c.line() == b"HD O1", "it was removed")
            check(time.monotonic() - began > 1, "at once, with a node away that belongs to the group")
            paused.signal(signal.SIGCONT)
            paused.wait_serving()
            check(c.set(b"k", b"x") == b"STORED" and c.ask(b"persist") == b"OK", "all are there again")
            for name in ("here", "everywhere"):
                wait_until(name, lambda name=name: counter(node, f"records_not_durable_{name}") == 0, 30)
            check(counter(node, "stable_round_ms_ago") < 60000 and counter(node, "persists_waiting") == 0, "rounds go on")


def case_a_node_alone_cannot_say_and_keeps_the_scope():
    with with_model("scope", 3, "--stall-ms=500") as cluster:
        node = cluster.start().nodes[0]
        with node.connect() as c, Binary(node.port) as b:
            check(c.set(b"k", b"v") == b"STORED" and b.ask(SET, b"k2", storing(), b"v").status == OK, "set")
            for other in cluster.others(node):
                other.kill()
            check(c.ask(b"persist") == NOT_DURABLE and c.ask(b"mp q O1") == NOT_DURABLE, "the others are gone")
            check(b.ask(PERSIST).status == 0x86 and b.ask(PERSISTQ, opaque=5).opaque == 5, "in binary")
            check(counter(node, "persist_failed") == 4, "persist_failed")
            for other in cluster.others(node):
                other.start()
            cluster.wait_serving()
            before = counter(node, "persist_shards")
            wait_until("they are back", lambda: c.ask(b"persist") == b"OK", 30)
            check(counter(node, "persist_shards") > before, "the scope was kept")
            check(c.get(b"k") == b"v", "the value")
