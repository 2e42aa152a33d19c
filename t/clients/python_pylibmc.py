#!/usr/bin/python3
"""pylibmc (libmemcached from Python): text and binary, SASL, compression, many keys, cas, pools."""
import threading

import pylibmc

from story import arguments, check

mode, ports = arguments()
servers = [f"127.0.0.1:{port}" for port in ports]
login = {"username": "user", "password": "secret word"} if mode == "sasl" else {}


def client(addresses, **behaviors):
    made = pylibmc.Client(addresses, binary=mode != "text", **login)
    made.behaviors = {"cas": True, "tcp_nodelay": True, "connect_timeout": 20000, **behaviors}
    return made


def missed(call, *words):
    """In binary some misses are exceptions."""
    try:
        return call(*words)
    except pylibmc.NotFound:
        return False


writer, reader = client(servers[:1]), client(servers[-1:])
check("flush_all", writer.flush_all())
for name, value in (("text", "Grüße"), ("number", 42), ("long", 1 << 62), ("true", True), ("float", 1.5), ("dict", {"a": [1, (2, None)]}),
                    ("bytes", bytes(range(256))), ("empty", b""), ("large", b"x" * 900000)):
    check(f"set {name}", writer.set(name, value))
    check(f"get {name}", reader.get(name), value)
check("compressed", writer.set("zip", b"z" * 3000000, min_compress_len=1000))
check("and back", reader.get("zip"), b"z" * 3000000)
check("a miss", reader.get("nothing"), None)
check("add of what is there", missed(writer.add, "text", "no"), False)
check("add of what is not", writer.add("added", "yes"))
check("replace of what is not there", missed(writer.replace, "absent", "no"), False)
check("replace", writer.replace("added", "again"))
check("append", writer.set("raw", b"middle") and writer.append("raw", b"-end"))
check("prepend", writer.prepend("raw", b"begin-"))
check("appended and prepended", reader.get("raw"), b"begin-middle-end")
check("set a number", writer.set("count", 10))
check("incr", writer.incr("count", 5), 15)
check("decr", reader.decr("count", 20), 0)
value, unique = reader.gets("text")
check("gets", value, "Grüße")
check("cas", writer.cas("text", "first", unique))
check("cas that is late", reader.cas("text", "second", unique), False)
many = {f"many{i}": f"value {i}" for i in range(500)}
check("set_multi", writer.set_multi(many), [])
check("get_multi", reader.get_multi([*many, "nothing"]), many)
check("get_multi with a prefix", reader.get_multi(["0", "1"], key_prefix="many"), {"0": "value 0", "1": "value 1"})
check("add_multi of what is there", sorted(writer.add_multi({"many0": 1, "new": 1})), ["many0"])
check("delete_multi", writer.delete_multi(list(many)[:100]))
check("deleted", len(reader.get_multi(list(many))), 400)
check("touch", writer.touch("many200", 100))
check("touch of nothing", missed(writer.touch, "nothing", 100), False)
check("set that expires", writer.set("brief", "x", time=100) and reader.get("brief") == "x")
check("delete", writer.delete("text"))
check("delete of nothing", missed(reader.delete, "text"), False)
try:
    writer.incr("nothing", 1)
    check("incr of nothing is refused", False)
except pylibmc.NotFound:
    check("incr of nothing is refused", True)
check("get_stats", int(writer.get_stats()[0][1][b"pid" if b"pid" in writer.get_stats()[0][1] else "pid"]) > 0)
spread = client(servers, ketama=True)
check("a ring of all nodes: set_multi", spread.set_multi({f"ring{i}": i for i in range(200)}), [])
check("a ring of all nodes: get_multi", len(spread.get_multi([f"ring{i}" for i in range(200)])), 200)
check("every node has all", len(reader.get_multi([f"ring{i}" for i in range(200)])), 200)
pool = pylibmc.ThreadMappedPool(client(servers[:1]))
writer.set("pooled", 0)


def work():
    with pool.reserve() as mine:
        for _ in range(200):
            mine.incr("pooled")
    pool.relinquish()


threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
check("a pool of four threads counts", reader.get("pooled"), 800)
check("flush_all", writer.flush_all())
check("all is gone", reader.get_multi(["dict", "many200", "count"]), {})
if mode == "sasl":
    stranger = pylibmc.Client(servers[:1], binary=True, username="user", password="wrong")
    try:
        stranger.get("x")
        check("a wrong password is refused", False)
    except pylibmc.Error as error:
        check(f"a wrong password is refused ({error})", True)
