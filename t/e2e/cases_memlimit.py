"""cache_memlimit: the store takes less than -m, and more again, while it serves."""
from cluster import Cluster, check

VALUE = b"x" * 100000


def fill(connection, first):
    """Values until there is no room; how many went in."""
    for i in range(first, first + 5000):
        answer = connection.set(b"key%d" % i, VALUE)
        if answer != b"STORED":
            check(answer == b"SERVER_ERROR out of memory storing object", f"{answer}")
            return i - first
    return 5000


def case_memlimit_is_kept_and_can_be_raised_again():
    for durable in (False, True):
        with Cluster(1, durable=durable, arguments=("-m", "128", "-t", "2", "-M")) as cluster:
            with cluster.start().nodes[0].connect() as c:
                check(c.ask(b"cache_memlimit 64") == b"OK", "64 MB")
                check(c.stats(b"settings")["maxbytes"] == str(64 << 20), "maxbytes")
                small = fill(c, 0)
                check(200 < small < 700, f"{small} values of 100,000 bytes in 64 MB")
                check(c.ask(b"cache_memlimit 32") == b"MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust", "in use")
                check(c.ask(b"cache_memlimit 129") == b"MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust", "over -m")
                check(c.stats()["limit_maxbytes"] == str(64 << 20), "limit_maxbytes")
                check(c.ask(b"cache_memlimit 128") == b"OK", "128 MB")
                more = fill(c, small)
                check(small + more > 1.6 * small, f"{small} and then {more} values")
                for i in range(small + more):
                    check(c.get(b"key%d" % i) == VALUE, f"key{i}")
