"""Ports for tests and benchmarks that no other test or benchmark has at the same time, also none of another clone of the repository.

The ports come in slots: SLOT_SIZE ports for clients, as many for peers, and those for raft, RAFT_OFFSET above the peers'. Who uses a slot
holds an abstract Unix socket of the slot's name: the kernel lets one process bind it, knows it in the same network namespace as the ports,
and forgets it with the process, so that nothing is left behind by whoever is killed. t/ports.h does the same for tests in C; the names, the numbers
and the order of the probes stand in both.

Of other programs a slot is probed to be free. All slots lie below what the kernel gives to outgoing connections, so
that none of those comes in between a probe and its use, or while a node is down."""
import collections
import random
import socket

RAFT_OFFSET = 10000  # membership listens at the peer port and this
SLOT_COUNT = 600
SLOT_SIZE = 8
HELD_MAX = 24  # slots of one process; the oldest is given back for a new one
USUAL_TOP = 32768
LOWEST = 1024

held = collections.deque()


def is_free(port, host="127.0.0.1", kind=socket.SOCK_STREAM):
    """TCP connections that linger do not count: servers here listen beside them."""
    with socket.socket(type=kind) as probe:
        if kind == socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def listen(port):
    """A stranger there: connections of earlier tests that linger do not keep it out."""
    stranger = socket.socket()
    stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    stranger.bind(("127.0.0.1", port))
    stranger.listen()
    return stranger


def top():
    """One more than the highest port. A machine that gives nearly all ports to outgoing connections has only the probes."""
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
            lowest_outgoing = int(file.read().split()[0])
    except OSError:
        return USUAL_TOP
    fits = lowest_outgoing - RAFT_OFFSET - SLOT_COUNT * SLOT_SIZE >= LOWEST
    return min(lowest_outgoing, USUAL_TOP) if fits else USUAL_TOP


def ports_of(slot):
    """Ports of clients, of peers, of raft."""
    raft = top() - (SLOT_COUNT - slot) * SLOT_SIZE
    return [list(range(first, first + SLOT_SIZE)) for first in (raft - SLOT_COUNT * SLOT_SIZE, raft - RAFT_OFFSET, raft)]


def claim(slot):
    """The socket that holds the slot; None: another process has it, or a stranger one of its ports."""
    holder = socket.socket(socket.AF_UNIX)
    try:
        holder.bind(f"\0healcached-ports-{slot}")
    except OSError:
        holder.close()
        return None
    clients, peers, raft = ports_of(slot)
    if all(is_free(port, "") for port in clients + peers + raft) and all(is_free(port, "", socket.SOCK_DGRAM) for port in clients):
        return holder
    holder.close()
    return None


def free_ports(count):
    """`count` client ports and `count` peer ports, each of them one after the other; the raft ports of these peers
    are taken with them. They stay this process's until it ends, or has taken HELD_MAX times more."""
    assert 1 <= count <= SLOT_SIZE
    for slot in random.SystemRandom().sample(range(SLOT_COUNT), SLOT_COUNT):
        holder = claim(slot)
        if holder is not None:
            held.append(holder)
            if len(held) > HELD_MAX:
                held.popleft().close()
            clients, peers, _ = ports_of(slot)
            return clients[:count], peers[:count]
    raise OSError("no free ports: all slots are taken")
