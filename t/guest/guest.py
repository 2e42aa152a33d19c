"""What the cases of this folder share: where things are in the guest, and how patient to be with it."""
import contextlib
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "t", "e2e"))
PMEM = "/run/pmem"
os.environ["TMPDIR"] = tempfile.tempdir = PMEM  # of unit tests, and of nodes
from cluster import check  # noqa: E402

MEDIUM_FAILED = 74
PATIENT = ("--suspect-ms=4000", "--lease-ms=3000", "--election-ms=2000", "--stall-ms=20000")
ARGUMENTS = ("-m", "32", "-t", "2", *PATIENT)


def say(text):
    print(f"         {text}", flush=True)


def run(*command, **options):
    done = subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    check(done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}: {done.stdout[-1500:]}")
    return done.stdout


@contextlib.contextmanager
def directories_at(place):
    tempfile.tempdir = place
    try:
        yield
    finally:
        tempfile.tempdir = PMEM


def fill(connection, count, first=0):
    for i in range(first, first + count):
        check(connection.set(b"k%d" % i, b"%d:" % i + b"x" * 1000) == b"STORED", f"set {i}")


def check_filled(node, count):
    with node.connect() as connection:
        for i in range(count):
            check(connection.get(b"k%d" % i) == b"%d:" % i + b"x" * 1000, f"{node.name}: k{i}")
