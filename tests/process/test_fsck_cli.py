#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""fsck as its users meet it when a device has lost index pages: it says what is gone, repairs, and the
store opens with all the rest. Prints TAP.

  test_fsck_cli.py PENSTOCK [ROUNDS]
"""
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import traceback

PENSTOCK = os.path.abspath(sys.argv[1])
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 8
BLOCK = 4096


def run(folder, *args):
    done = subprocess.run([PENSTOCK] + [str(a) for a in args], cwd=folder, timeout=120, text=True,
                          capture_output=True, errors="surrogateescape")
    assert done.returncode in (0, 1, 2), (args, done.returncode, done.stderr)
    return done


def ok(folder, *args):
    done = run(folder, *args)
    assert done.returncode == 0, (args, done.stdout, done.stderr)
    return done.stdout


def index_pages(path):
    """Places of whole index pages of containers (not of the system tree), by what each begins with.
    Old ones that nothing refers to any more are among them."""
    places = []
    with open(path, "rb") as f:
        at = 0
        while block := f.read(BLOCK):
            if block[:4] == b"PSbt" and struct.unpack_from("<I", block, 36)[0]:
                places.append(at)
            at += BLOCK
    return places


def flip(path, at):
    with open(path, "r+b") as f:
        f.seek(at + 500)
        byte = f.read(1)[0]
        f.seek(at + 500)
        f.write(bytes([byte ^ 0xff]))


def tree(top, rnd):
    for d in range(12):
        folder = top / ("dir%02d" % d) / "below"
        folder.mkdir(parents=True)
        for i in range(60):
            (folder / ("file%03d" % i)).write_bytes(rnd.randbytes(rnd.randrange(9000)))
        os.symlink("file001", folder / "link")
        os.link(folder / "file002", folder.parent / "second")


def fill(folder, devs, rnd):
    store = "local:" + ",".join(devs)
    for dev in devs:
        assert not (folder / dev).exists()
    ok(folder, "format", *devs, "--size", "64m")
    ok(folder, "-s", store, "container", "create", "t")
    tree(folder / "data", rnd)
    for i in range(2):
        ok(folder, "-s", store, "put", "-r", "data", "t:/put%d" % i)
        ok(folder, "-s", store, "snapshot", "create", "t@s%d" % i)
        ok(folder, "-s", store, "rm", "-r", "t:/put%d/dir03" % i)
    return store


def lost_pages(seed):
    """Some pages are gone on every mirror: told, repaired, and then nothing is found any more."""
    rnd = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="penstock-fsck-") as name:
        folder = pathlib.Path(name)
        devs = ["a.pst", "b.pst"][:1 + seed % 2]
        store = fill(folder, devs, rnd)
        places = index_pages(folder / "a.pst")
        for at in rnd.sample(places, min(len(places) // 2, rnd.randrange(1, 12))):
            for dev in devs:
                flip(folder / dev, at)
        first = run(folder, "fsck", *devs)
        if first.returncode == 0:
            return False  # only old ones
        assert "is lost" in first.stdout and "repair: drop what hung below" in first.stdout, first.stdout
        assert run(folder, "fsck", *devs).stdout == first.stdout  # nothing was changed
        repair = run(folder, "fsck", *devs, "--repair")
        assert repair.returncode == 0, repair.stdout + repair.stderr
        again = run(folder, "fsck", *devs)
        assert again.returncode == 0 and again.stdout.startswith("clean"), \
            repair.stdout + "then:\n" + again.stdout + again.stderr
        # What is there can be read, and the store takes more.
        for view in ("t:/", "t@s0:/", "t@s1:/"):
            (folder / "out").mkdir(exist_ok=True)
            ok(folder, "-s", store, "get", "-r", view, folder / "out" / view.strip(":/"))
        ok(folder, "-s", store, "put", "-r", "data", "t:/after")
        ok(folder, "-s", store, "verify", "t:/after", "data")
        ok(folder, "-s", store, "snapshot", "destroy", "t@s0")
        ok(folder, "-s", store, "rm", "-r", "t:/after")
        assert ok(folder, "fsck", *devs).startswith("clean")
        return True


def one_mirror(seed):
    """The other mirror has them: nothing is lost."""
    rnd = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="penstock-fsck-") as name:
        folder = pathlib.Path(name)
        devs = ["a.pst", "b.pst"]
        store = fill(folder, devs, rnd)
        for at in index_pages(folder / "a.pst"):
            flip(folder / devs[rnd.randrange(2)], at)
        first = run(folder, "fsck", *devs)
        assert first.returncode == 1 and "is lost" not in first.stdout, first.stdout
        assert run(folder, "fsck", *devs, "--repair").returncode == 0
        assert ok(folder, "fsck", *devs).startswith("clean")
        ok(folder, "-s", store, "verify", "t@s0:/put0", "data")


def main():
    print("1..%d" % (ROUNDS + 1))
    failed = hurt = 0
    for n in range(ROUNDS + 1):
        what = "lost_pages %d" % n if n < ROUNDS else "one_mirror"
        try:
            if n < ROUNDS:
                hurt += bool(lost_pages(n))
            else:
                one_mirror(n)
                assert hurt * 2 > ROUNDS, "too few rounds hit a page in use"
            print("ok %d - %s" % (n + 1, what), flush=True)
        except Exception:  # a test that fails must not stop the others
            failed += 1
            print("not ok %d - %s" % (n + 1, what))
            print("# " + traceback.format_exc().replace("\n", "\n# "), flush=True)
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
