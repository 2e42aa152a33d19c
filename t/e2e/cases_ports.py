"""Goal: no two tests ever meet on a port (t/ports.py). Method: processes take ports side by side; strangers sit on some."""
import os
import socket
import subprocess
import sys

import ports
from cluster import ROOT, check

PROCESSES, TAKES = 4, 20
TAKER = """import sys
sys.dont_write_bytecode = True
from ports import RAFT_OFFSET, free_ports
for _ in range(int(sys.argv[1])):
    clients, peers = free_ports(3)
    print(*clients, *peers, *(port + RAFT_OFFSET for port in peers))
print(flush=True)
sys.stdin.read()
"""


def case_processes_side_by_side_never_get_the_same_port():
    environment = {**os.environ, "PYTHONPATH": os.path.join(ROOT, "t")}
    takers = [subprocess.Popen([sys.executable, "-c", TAKER, str(TAKES)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)
              for _ in range(PROCESSES)]
    try:
        taken = []
        for taker in takers:
            while (line := taker.stdout.readline().split()):
                taken += map(int, line)
    finally:
        for taker in takers:
            taker.kill()
            taker.communicate()
    check(len(taken) == PROCESSES * TAKES * 9, f"{len(taken)} ports")
    check(len(set(taken)) == len(taken), f"twice: {sorted(port for port in set(taken) if taken.count(port) > 1)}")
    check(max(taken) < ports.top() and min(taken) >= ports.LOWEST, f"{min(taken)} to {max(taken)}")


def free_slot():
    """One that was free a moment ago."""
    for slot in range(ports.SLOT_COUNT):
        holder = ports.claim(slot)
        if holder is not None:
            return slot, holder
    return None


def case_a_slot_is_one_process_s_until_it_gives_it_back():
    slot, holder = free_slot()
    with holder:
        check(ports.claim(slot) is None, f"slot {slot} was given twice")


def case_ports_that_a_stranger_has_are_left_out():
    for what in range(4):
        slot, holder = free_slot()
        clients, peers, raft = ports.ports_of(slot)
        port, kind = ((clients[1], socket.SOCK_STREAM), (peers[2], socket.SOCK_STREAM), (raft[7], socket.SOCK_STREAM),
                      (clients[0], socket.SOCK_DGRAM))[what]
        with ports.listen(port) if kind == socket.SOCK_STREAM else socket.socket(type=kind) as stranger:
            if kind == socket.SOCK_DGRAM:
                stranger.bind(("127.0.0.1", port))
            holder.close()
            check(ports.claim(slot) is None, f"port {port} is a stranger's")


def case_one_process_may_take_ports_hundreds_of_times():
    for _ in range(2 * ports.HELD_MAX):
        clients, peers = ports.free_ports(ports.SLOT_SIZE)
        check(all(map(ports.is_free, clients + peers)), "not free")
    check(len(ports.held) == ports.HELD_MAX, f"{len(ports.held)} slots are held")
