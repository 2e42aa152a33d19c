#!/usr/bin/python3
"""pymemcache: plain, pooled and hashing clients, serializer, many keys, cas, noreply."""
import threading
import time

from pymemcache.client.base import Client, PooledClient
from pymemcache.client.hash import HashClient
from pymemcache.exceptions import MemcacheServerError
from pymemcache.serde import pickle_serde

from story import arguments, check

_, ports = arguments()
writer = Client(("127.0.0.1", ports[0]), serde=pickle_serde, timeout=20)
reader = Client(("127.0.0.1", ports[-1]), serde=pickle_serde, timeout=20)

check("flush_all", writer.flush_all(noreply=False))
for name, value in (("text", "Grüße"), ("number", 42), ("dict", {"a": [1, 2, (3, None)]}), ("bytes", bytes(range(256))), ("empty", b""),
                    ("large", b"x" * 900000)):
    check(f"set {name}", writer.set(name, value, noreply=False))
    check(f"get {name}", reader.get(name), value)
check("a miss has the default", reader.get("nothing", "default"), "default")
check("add of what is there", writer.add("text", "no", noreply=False), False)
check("add of what is not", writer.add("added", "yes", noreply=False))
check("replace of what is not there", writer.replace("absent", "no", noreply=False), False)
check("replace", writer.replace("added", "again", noreply=False))
check("replaced", reader.get("added"), "again")
raw = Client(("127.0.0.1", ports[0]), timeout=20)
raw_reader = Client(("127.0.0.1", ports[-1]), timeout=20)
check("set raw", raw.set("raw", b"middle", noreply=False))
check("append", raw.append("raw", b"-end", noreply=False))
check("prepend", raw.prepend("raw", b"begin-", noreply=False))
check("appended and prepended", raw_reader.get("raw"), b"begin-middle-end")
check("set a number", raw.set("count", b"10", noreply=False))
check("incr", raw.incr("count", 5), 15)
check("decr", raw_reader.decr("count", 20), 0)
check("incr of nothing", raw.incr("no-count", 1), None)
value, unique = reader.gets("text")
check("gets", value, "Grüße")
check("cas", writer.cas("text", "first", unique, noreply=False))
check("cas that is late", reader.cas("text", "second", unique, noreply=False), False)
check("cas of nothing", reader.cas("absent", "x", b"1", noreply=False), None)
many = {f"many{i}": f"value {i}" for i in range(500)}
check("set_many", writer.set_many(many, noreply=False), [])
check("get_many", reader.get_many([*many, "nothing"]), many)
check("gets_many", {key: value for key, (value, _) in reader.gets_many(list(many)).items()}, many)
check("delete_many", writer.delete_many(list(many)[:100], noreply=False))
check("deleted", len(reader.get_many(list(many))), 400)
check("touch", writer.touch("many200", 100, noreply=False))
check("touch of nothing", writer.touch("nothing", 100, noreply=False), False)
check("set that expires", writer.set("brief", "x", expire=1, noreply=False))
check("set that is gone at once", writer.set("gone", "x", expire=-1, noreply=False))
check("gone", reader.get("gone"), None)
check("delete", writer.delete("text", noreply=False))
check("delete of nothing", reader.delete("text", noreply=False), False)
for i in range(100):
    writer.set(f"quiet{i}", i, noreply=True)
check("noreply, then an answer", writer.get("quiet99"), 99)
check("seen elsewhere", reader.get("quiet0"), 0)
try:
    writer.set("too-large", b"x" * 1100000, noreply=False)
    check("a value that is too large is refused", False)
except MemcacheServerError as error:
    check("a value that is too large is refused", str(error), "b'object too large for cache'")
check("and the connection goes on", writer.get("quiet1"), 1)
check("version", writer.version()[:1].isdigit())
check("stats", int(reader.stats()[b"pid"]) > 0)

pool = PooledClient(("127.0.0.1", ports[0]), max_pool_size=4, timeout=20)


def work(number):
    for i in range(200):
        pool.set(f"pool{number}.{i}", str(i), noreply=False)
        pool.incr("pooled", 1)


pool.set("pooled", "0", noreply=False)
threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
check("a pool of four threads counts", raw_reader.get("pooled"), b"800")
hashing = HashClient([("127.0.0.1", port) for port in ports], timeout=20)
check("HashClient set_many", hashing.set_many({f"hash{i}": str(i) for i in range(100)}, noreply=False), [])
check("HashClient get_many", len(hashing.get_many([f"hash{i}" for i in range(100)])), 100)
until = time.monotonic() + 5
while reader.get("brief") is not None and time.monotonic() < until:
    time.sleep(0.05)
check("it has expired", reader.get("brief"), None)
check("flush_all", writer.flush_all(noreply=False))
check("all is gone", reader.get_many(["dict", "many200", "count"]), {})
