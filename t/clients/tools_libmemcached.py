#!/usr/bin/python3
"""The tools of libmemcached, in text and binary: files in and out, dump, load, and all checks of memccapable."""
import os
import re
import subprocess
import tempfile

from story import arguments, check

mode, ports = arguments()
BINARY = ["--binary"] if mode == "binary" else []


def tool(name, port, *words, codes=(0,), binary=True):
    done = subprocess.run([name, f"--servers=127.0.0.1:{port}", *(BINARY if binary else []), *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=120, check=False)
    check(f"{name} {' '.join(map(os.path.basename, words))[:60]}: {done.returncode} {done.stdout[-200:] if done.returncode not in codes else ''}",
          done.returncode in codes)
    return done.stdout


def capable(port, *words):
    done = subprocess.run(["memccapable", "-h", "127.0.0.1", "-p", str(port), *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=120, check=False)
    text = done.stdout.decode(errors="replace")
    failed = [line for line in text.splitlines() if "[FAIL" in line or "fail" in line.lower()]
    check(f"memccapable {' '.join(words)}: {len(re.findall(r'.pass.', text))} checks {failed}", (done.returncode, failed), (0, []))
    return len(re.findall(r"\[pass\]", text))


first, last = ports[0], ports[-1]
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "file.txt")
    with open(path, "w", encoding="utf-8") as file:
        file.write("Grüße " * 1000)
    tool("memcping", first, binary=False)
    tool("memccp", first, "--expire=100", "--flag=5", path)
    with open(path, "rb") as file:
        check("memccat has the same bytes", tool("memccat", last, "file.txt").strip(), file.read().strip())
    tool("memcexist", last, "file.txt")
    tool("memcexist", last, "nothing", codes=(1,))
    tool("memctouch", first, "--expire=1000", "file.txt")
    check("memcstat", b"pid" in tool("memcstat", last))
    tool("memcrm", last, "file.txt")
    tool("memcexist", first, "file.txt", codes=(1,))
    tool("memccp", first, path)
    keys = tool("memcdump", last, binary=False)
    check("memcdump", b"file.txt" in keys.split())
    tool("memcflush", first)
    tool("memcexist", last, "file.txt", codes=(1,))
tool("memcslap", ",127.0.0.1:".join(map(str, ports)), "--concurrency=4", "--execute-number=500", "--test=set")
tool("memcslap", ",127.0.0.1:".join(map(str, ports)), "--concurrency=4", "--execute-number=500", "--test=mget", "--initial-load=1000")
if mode == "text":
    check("ASCII checks", capable(first, "-a"), 27)
    check("all checks", capable(last), 54)
else:
    check("binary checks", capable(first, "-b"), 27)
