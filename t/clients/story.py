"""For the clients in Python: what was done is printed, and the first difference ends the program."""
import sys


def check(what, got, wanted=True):
    if got != wanted:
        sys.exit(f"FAILED {what}: {got!r} instead of {wanted!r}")
    print(f"ok {what}")


def arguments():
    """MODE PORT...: written is through the first, read through the last, and all together are a pool."""
    return sys.argv[1], [int(port) for port in sys.argv[2:]]
