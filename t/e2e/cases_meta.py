"""Meta commands on a group: a win is handed out once, whatever dies, and what is known of a value survives like the value."""
import threading
import time

from cluster import Cluster, Failure, check

KEYS, RECACHED = 300, 3


class Asker(threading.Thread):
    """Asks its node for key after key, and keeps what it was told: W, Z, or ? where the answer did not come."""

    def __init__(self, node, command, keys, pause=0.0):
        super().__init__()
        self.node, self.command, self.keys, self.pause, self.told = node, command, keys, pause, {}

    def run(self):
        connection = None
        for key in self.keys:
            try:
                connection = connection or self.node.connect()
                self.told[key] = marks(connection.ask(self.command % key))
            except (OSError, ConnectionError, Failure):
                self.told[key] = "?"
                connection = None
                time.sleep(0.05)
            time.sleep(self.pause)


def marks(line):
    if line.startswith(b"SERVER_ERROR not applied"):
        return "-"
    if not line.startswith((b"HD", b"EN")):
        return "?"
    words = line.split()[1:]
    return ("W" if b"W" in words else "") + ("Z" if b"Z" in words else "")


def ask_all(cluster, command, keys, threads=2, meanwhile=None, pause=0.0):
    """What each asker was told of each key."""
    askers = [Asker(node, command, keys, pause) for node in cluster.nodes for _ in range(threads)]
    for asker in askers:
        asker.start()
    if meanwhile:
        meanwhile()
    for asker in askers:
        asker.join()
    return {key: [asker.told[key] for asker in askers] for key in keys}


def check_one_win(told):
    for key, answers in told.items():
        check(answers.count("W") == 1 and answers.count("Z") == len(answers) - 1, f"{key.decode()}: {answers}")


def keys_of(name):
    return [b"%s%d" % (name, i) for i in range(KEYS)]


def case_meta_wins_are_handed_out_once_over_three_nodes():
    with Cluster(3) as cluster:
        cluster.start()
        made = keys_of(b"made")
        check_one_win(ask_all(cluster, b"mg %s N300", made))
        with cluster.nodes[0].connect() as connection:
            for key in made:
                check(connection.ask(b"ms %s 1 T300\r\nx" % key) == b"HD", "stored")
                check(connection.ask(b"md %s I" % key) == b"HD", "marked")
        check_one_win(ask_all(cluster, b"mg %s", made))
        for round_number in range(RECACHED):
            with cluster.nodes[round_number].connect() as connection:
                for key in made:
                    check(connection.ask(b"ms %s 1 T300\r\nx" % key) == b"HD", "stored again")
            check_one_win(ask_all(cluster, b"mg %s R301", made))


def case_meta_wins_are_handed_out_at_most_once_while_a_node_is_killed():
    """An answer that the dead node did not give may have been the win; nobody else gets it then."""
    with Cluster(3) as cluster:
        cluster.start()
        victim = cluster.nodes[1]

        def kill():
            time.sleep(0.3)
            victim.kill()

        told = ask_all(cluster, b"mg %s N300", keys_of(b"kill"), meanwhile=kill, pause=0.003)
        victim.start()
        victim.wait_serving()
        wins = {key: answers.count("W") for key, answers in told.items()}
        check(max(wins.values()) == 1, f"won twice: {[key for key, count in wins.items() if count > 1]}")
        for key, answers in told.items():
            check(wins[key] == 1 or "?" in answers, f"{key.decode()}: nobody won, and nothing was lost: {answers}")
        lost = sum("?" in answers for answers in told.values())
        print(f"         {lost} of {KEYS} keys had an answer that was lost, {sum(wins.values())} were won", flush=True)
        again = ask_all(cluster, b"mg %s", [key for key in told if wins[key] == 1])
        check(all(answers == ["Z"] * len(answers) for answers in again.values()), "a win that was handed out is forgotten")


def case_meta_marks_survive_the_death_of_all_and_reach_who_was_away():
    with Cluster(3) as cluster:
        cluster.start()
        away = cluster.nodes[2]
        away.kill()
        with cluster.nodes[0].connect() as connection:
            for command in (b"ms Zm9v 3 b F9 T500\r\nabc", b"md Zm9v b I", b"ms won 1 E4242\r\nx", b"md won I E4243", b"ms plain 1\r\nx"):
                check(connection.ask(command) == b"HD", command.decode())
            check(connection.ask(b"mg won c") == b"HD c4243 X W", "won")
        away.start()
        away.wait_serving()
        with away.connect() as connection:
            check(connection.ask(b"mg won c") == b"HD c4243 Z X", "the marks have come")
            check(connection.ask(b"mg plain k") == b"HD kplain", "and no others")
        for node in cluster.nodes:
            node.kill()
        for node in cluster.nodes:
            node.start()
        cluster.wait_serving()
        for node in reversed(cluster.nodes):
            with node.connect() as connection:
                check(connection.ask(b"mg won c") == b"HD c4243 Z X", f"{node.name}: the marks are still there")
        with away.connect() as connection:
            check(connection.ask(b"mg foo k f s") == b"HD kZm9v b f9 s3 X W", "stale, in base64, and won now")
        with cluster.nodes[1].connect() as connection:
            check(connection.ask(b"mg foo k") == b"HD kZm9v b Z X", "once")
