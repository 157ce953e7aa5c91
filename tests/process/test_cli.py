#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The penstock command as its users meet it: every subcommand, every kind of file, and what happens
when something is wrong. Prints TAP.

  test_cli.py PENSTOCK [NAME...]     NAME: only the tests of these names
"""
import hashlib
import json
import os
import pathlib
import pty
import random
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback

PENSTOCK = os.path.abspath(sys.argv[1])
ROOT = os.geteuid() == 0


class Store:
    """A store in a temporary directory, which is the working directory of every command."""

    def __init__(self, size="192m", container="t"):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="penstock-cli-", dir=os.environ.get("TMPDIR")))
        self.uri = "local:" + str(self.dir / "s.pst")
        self.ok("format", "s.pst", "--size", size, store=False)
        if container:
            self.ok("container", "create", container)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        shutil.rmtree(self.dir, ignore_errors=True)

    def command(self, *args, store=True):
        return [PENSTOCK] + (["-s", self.uri] if store else []) + [str(a) for a in args]

    def run(self, *args, store=True, **kw):
        env = {k: v for k, v in os.environ.items() if k != "PENSTOCK_STORE"}
        done = subprocess.run(self.command(*args, store=store), cwd=self.dir, env=env, timeout=120,
                              capture_output=True, **kw)
        done.out = done.stdout.decode("utf-8", "surrogateescape")
        done.err = done.stderr.decode("utf-8", "surrogateescape")
        assert done.returncode in (0, 1, 2), (args, done.returncode, done.err)
        return done

    def ok(self, *args, **kw):
        done = self.run(*args, **kw)
        assert done.returncode == 0, (args, done.out, done.err)
        return done.out

    def fails(self, *args, say="", status=1, **kw):
        done = self.run(*args, **kw)
        assert done.returncode == status, (args, done.returncode, done.out, done.err)
        assert say in done.err, (args, say, done.err)
        assert done.err.startswith("penstock: "), done.err
        return done

    def json(self, *args, **kw):
        return json.loads(self.ok(*args, "--json", **kw))


def write(path, data, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    if mode is not None:
        path.chmod(mode)
    return path


def listing(top, times=True):
    """Everything that an import and an export keep, as comparable lines."""
    lines, inodes = [], {}
    paths = [pathlib.Path(d, n) for d, dirs, files in os.walk(top) for n in dirs + files]
    for path in sorted(paths):
        st = path.lstat()
        name = os.fsencode(path.relative_to(top))
        line = [name, stat.S_IFMT(st.st_mode), st.st_mode & 0o7777, st.st_uid, st.st_gid]
        if times:
            line.append(st.st_mtime_ns)
        if stat.S_ISREG(st.st_mode):
            line += [st.st_size, path.read_bytes()]
        if stat.S_ISLNK(st.st_mode):
            line.append(os.readlink(path))
        else:
            line.append(sorted((x, os.getxattr(path, x, follow_symlinks=False))
                               for x in os.listxattr(path, follow_symlinks=False)))
        if stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
            line.append(st.st_rdev)
        if st.st_nlink > 1 and not stat.S_ISDIR(st.st_mode):
            line.append(inodes.setdefault(st.st_ino, name))
        lines.append(line)
    return lines


def try_xattr(path, name, value):
    try:
        os.setxattr(path, name, value)
    except OSError:
        pass  # not every file system has them


def make_tree(top):
    """One of everything."""
    rnd = random.Random(7)
    for i in range(150):
        write(top / "many" / ("f%03d" % i), rnd.randbytes(rnd.randrange(20000)))
    write(top / "zero", b"")
    write(top / "exactly", rnd.randbytes(1 << 20))
    write(top / "more", rnd.randbytes((1 << 20) + 1))
    write(top / "big", rnd.randbytes(5_000_003), 0o600)
    write(top / "deep/a/b/c/d/e/leaf", b"leaf")
    write(top / "sp ace" / "new\nline", b"x")
    write(pathlib.Path(os.fsdecode(os.fsencode(top) + b"/latin\xe9")), b"y")
    write(top / "unicode-\u2603", b"z")
    (top / "empty").mkdir()
    for name, size, at in (("hole", 3_000_000, 1_000_000), ("bighole", 40 << 20, 30 << 20),
                           ("allhole", 100_000, None)):
        with open(top / name, "wb") as f:
            f.truncate(size)
            if at is not None:
                f.seek(at)
                f.write(b"data")
    os.link(top / "big", top / "deep/big.again")
    os.link(top / "zero", top / "zero.again")
    os.symlink("../nowhere", top / "link")
    os.symlink("x" * 1000, top / "longlink")
    os.mkfifo(top / "fifo")
    try_xattr(top / "zero", "user.one", b"1")
    try_xattr(top / "big", "user.bin", bytes(range(256)))
    try_xattr(top / "empty", "user.dir", b"d" * 1000)
    (top / "deep/a").chmod(0o1777)
    if ROOT:
        os.mknod(top / "char", stat.S_IFCHR | 0o640, os.makedev(1, 3))
        os.mknod(top / "block", stat.S_IFBLK | 0o600, os.makedev(7, 99))
        os.chown(top / "more", 1234, 4321)
        os.chown(top / "link", 77, 88, follow_symlinks=False)
        (top / "more").chmod(0o4755)
    os.utime(top / "exactly", ns=(1_000_000_001, 981_173_106_789_012_345))
    os.utime(top / "link", ns=(5, 1_012_709_106_000_000_001), follow_symlinks=False)
    os.utime(top / "deep/a/b", ns=(7, 7))
    os.utime(top, ns=(9, 900_000_000_000_000_009))


# --- the command line ---------------------------------------------------------------------------


def test_help():
    with Store(container=None) as s:
        table = s.ok("help", "--table", store=False)
        commands = [line.split("\t") for line in table.splitlines()]
        assert len(commands) >= 19, table
        overview = s.ok("--help", store=False)
        for name, verbs, options in commands:
            text = s.ok(*name.split(), "--help", store=False)
            assert text.startswith("Usage: penstock"), text
            assert "Example" in text, name
            assert "penstock " + name in text or "penstock help" in text, name
            for option in options.split():
                assert option in text, (name, option)
            assert "\n  %s " % name in overview or " " in name, name
            assert s.ok("help", *name.split(), store=False) == text
            page = s.ok("help", "--man", name, store=False)
            build = pathlib.Path(PENSTOCK).parent / ("penstock-%s.1" % name.replace(" ", "-"))
            assert build.read_text() == page, "the man page that is installed"
            if shutil.which("mandoc"):
                lint = subprocess.run(["mandoc", "-T", "lint", "-W", "warning"], input=page, text=True,
                                      capture_output=True)
                left = [l for l in lint.stdout.splitlines() if "missing date" not in l]
                assert not left, left  # the page is of a version, not of a day
            s.fails(*name.split(), "--no-such-option", status=2, say="--no-such-option", store=False)
        for topic in ("devices", "paths"):
            assert s.ok("help", topic, store=False)
        assert "uring" in s.ok("help", "devices", store=False)
        s.fails("help", "nonsense", status=2, store=False)
        s.fails("nonsense", status=2, say="nonsense", store=False)


def test_usage():
    with Store(container=None) as s:
        for args in (["put"], ["put", "x"], ["put", "x", "noconta"], ["ls"], ["ls", "a:/", "b:/"],
                     ["mv", "a:/x", "b:/x"], ["kv", "get", "t:7"], ["kv", "frob"],
                     ["kv", "get", "t:x", "k"], ["container"], ["container", "frob"],
                     ["container", "set", "t"], ["snapshot", "create", "t"],
                     ["bench", "--rw", "read"], ["bench", "--container", "t", "--rw", "sideways"],
                     ["bench", "--container", "t", "--rw", "read", "--bs", "1000"],
                     ["put", "-j", "0", "x", "t:/"], ["put", "-j", "x", "y", "t:/"], ["scrub", "x"],
                     ["get", "-j"], ["rm"], ["cat"], ["du", "x"], ["verify"]):
            s.fails(*args, status=2)
        env = s.run("ls", "t:/", store=False)
        assert env.returncode == 2 and "PENSTOCK_STORE" in env.err
        s.fails("-s", "", "ls", "t:/", say="no store: give -s STORE", status=2, store=False)
        done = subprocess.run([PENSTOCK, "container", "list"], env=dict(os.environ, PENSTOCK_STORE=s.uri),
                              capture_output=True)
        assert done.returncode == 0, done.stderr
        assert s.json("version", store=False)["version"] in s.ok("--version", store=False)
        with open("/dev/full", "w") as full:
            done = subprocess.run([PENSTOCK, "version"], stdout=full, stderr=subprocess.PIPE)
        assert done.returncode == 1, "output that can't be written is a failure"


def test_numbers():
    """Decimal, or hexadecimal with 0x: no octal, no blanks, no signs. Options are of the verb that takes them."""
    with Store(container=None) as s:
        s.ok("container", "create", "c", "--layout", "object")
        s.ok("kv", "put", "c:010", "k", "ten")
        assert s.ok("kv", "get", "c:10", "k") == s.ok("kv", "get", "c:0xa", "k") == "ten"
        s.fails("kv", "get", "c:8", "k", say="no such key")
        for bad in (" 7", "-7", " -7", "+7", "7 ", "0x", "7.", ".7", "7.-1", "7. 1", "", "0", "0.0", "18446744073709551616",
                    "1.2.3"):
            s.fails("kv", "list", "c:" + bad, say="the object is a number but 0", status=2)
        for bad in ("-1", " -1", " 1", "+1", "1 ", "0x", "1e3", "", "18446744073709551616"):
            s.fails("container", "set", "c", "--quota-objects", bad, say="not a number", status=2)
            s.fails("container", "set", "c", "--quota-bytes", bad or "-", say="not a size", status=2) if bad != "0x" else None
        s.ok("container", "set", "c", "--quota-objects", "09")
        assert s.json("container", "show", "c")["quota_objects"] == 9
        s.fails("kv", "get", "c:7", "k", "--prefix", "k", say="list's", status=2)
        s.fails("kv", "list", "c:7", "--new", say="put's", status=2)


def test_output_that_fails():
    """It is the output that is full, not the store: told once."""
    with Store() as s:
        write(s.dir / "f", b"x" * 3_000_000)
        s.ok("put", "f", "t:/")
        s.ok("kv", "put", "t:7", "k", "v" * 9000)
        for args in (["cat", "t:/f", "t:/f"], ["ls", "t:/"], ["ls", "--json", "t:/"], ["kv", "get", "t:7", "k"], ["status"],
                     ["kv", "get", "t:7", "k", "--json"], ["container", "list"], ["help"], ["put", "--help"]):
            for out, why in (("/dev/full", b"No space left on device"), (None, b"Broken pipe")):
                to = open(out, "w") if out else socket.socketpair()
                if not out:  # nobody reads, and the signal that would say so is ignored
                    to[1].close()
                done = subprocess.run(["bash", "-c", "trap '' PIPE; exec \"$@\"", "-"] + s.command(*args), cwd=s.dir,
                                      stdout=to if out else to[0], stderr=subprocess.PIPE, timeout=60)
                say = b"penstock: %s: writing to the standard output: %s\n" % (args[0].encode(), why)
                if args[0] == "help" or "--help" in args:
                    assert done.returncode == 1 and why in done.stderr and done.stderr.count(b"\n") == 1, done
                else:
                    assert (done.returncode, done.stderr) == (1, say), (args, done)
        s.fails("put", "--log", "/dev/full", "f", "t:/again", say="writing the log: No space left on device")


# --- opening and formatting ---------------------------------------------------------------------


def test_format():
    with Store(container=None) as s:
        s.fails("format", "s.pst", say="--force", store=False)
        s.ok("format", "--force", "s.pst", store=False)
        s.fails("format", "none.pst", say="none.pst", store=False)
        s.fails("format", "tiny.pst", "--size", "64k", store=False)
        info = s.json("format", "a.pst", "b.pst", "--size", "128m", store=False)
        assert len(info["devices"]) == 2 and info["size_bytes"] == 128 << 20
        two = "local:%s,%s" % (s.dir / "b.pst", s.dir / "a.pst")
        s.ok("-s", two, "container", "create", "x", store=False)
        s.fails("-s", "local:%s" % (s.dir / "a.pst"), "status", store=False)
        # Three devices don't share this evenly: each gets whole blocks.
        info = s.json("format", "c.pst", "d.pst", "e.pst", "--size", "128m", store=False)
        assert {d["size_bytes"] for d in info["devices"]} == {(128 << 20) // 3 // 4096 * 4096}, info
        s.ok("format", "--force", "c.pst", "d.pst", "e.pst", "--size", "128m", store=False)
        assert s.json("format", "odd.pst", "--size", "67108865", store=False)["size_bytes"] == 64 << 20
        for args in (["format", "n.pst", "--size", "64m"], ["fsck", "a.pst", "b.pst"]):
            s.fails("-s", "local:odd.pst", *args, say="takes no store", status=2, store=False)
            s.fails(args[0], "-s", "local:odd.pst", *args[1:], say="takes no store", status=2, store=False)
        assert "Usage" in s.ok("-s", "local:odd.pst", "help", "fsck", store=False)
        for name, what in (("ext4.img", ["mkfs.ext4", "-q", "-F"]), ("swap.img", ["mkswap"])):
            path = s.dir / name
            with open(path, "wb") as f:
                f.truncate(64 << 20)
            if shutil.which(what[0]) or os.path.exists("/usr/sbin/" + what[0]):
                subprocess.run(what + [str(path)], check=True, capture_output=True,
                               env=dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin"))
                s.fails("format", path, say="--force", store=False)


def test_format_refuses():
    """Whatever a device holds is safe without --force, and a failed format leaves nothing behind."""
    with Store(container=None) as s:
        def nothing_made(*args, **kw):
            before = sorted(os.listdir(s.dir))
            s.fails("format", *args, store=False, **kw)
            assert sorted(os.listdir(s.dir)) == before, args

        text = write(s.dir / "text.img", b"precious\n" * (1 << 20))
        text.write_bytes(text.read_bytes()[:8 << 20])
        tail = s.dir / "tail.img"
        with open(tail, "wb") as f:
            f.truncate(8 << 20)
            f.seek((8 << 20) - 100_000)
            f.write(b"end")
        disk = s.dir / "disk.img"
        with open(disk, "wb") as f:
            f.truncate(64 << 20)
            f.seek(446)
            f.write(struct.pack("<8BII", 0, 0, 0, 0, 0x83, 0, 0, 0, 2048, 100_000))
            f.seek(510)
            f.write(b"\x55\xaa")
        nothing_made("text.img", say="--force")
        assert text.read_bytes().startswith(b"precious")
        nothing_made("tail.img", say="--force")
        nothing_made("disk.img", say="dos")
        nothing_made("fault:disk.img", say="dos")
        nothing_made("new.pst", "text.img", "--size", "16m", say="text.img")
        nothing_made("small.pst", "--size", "1m", say="at least")
        nothing_made("new.pst", "--size", "15e", say="at most 64 PiB")
        nothing_made("new.pst", "--size", "16e", say="not a size below 16 EiB", status=2)
        nothing_made("new.pst", "--size", "64m", "--journal", "63m", say="journal")
        nothing_made("new.pst", "--size", "64m", "--shards", "1000", say="shards")
        nothing_made("new.pst", "--size", "64m", "--label", "l" * 64, say="label")
        nothing_made("new.pst", "./new.pst", "--size", "64m", say="twice")
        nothing_made("a,b.pst", "--size", "64m", say="comma")
        nothing_made("s.pst", "--force", "--size", "1g", say="not 1 GiB")
        s.ok("format", "--force", "text.img", store=False)
        # Holes get their space, too.
        with open(s.dir / "holes.pst", "wb") as f:
            f.truncate(64 << 20)
        s.ok("format", "holes.pst", "--label", "l" * 63, store=False)
        assert os.stat(s.dir / "holes.pst").st_blocks * 512 >= 64 << 20
        assert s.json("-s", "local:holes.pst", "status", store=False)["label"] == "l" * 63
        assert "gone" in s.run("format", "mem:64m", store=False).err


def test_open_refused():
    with Store() as s:
        write(s.dir / "random", os.urandom(8 << 20))
        s.fails("-s", "local:random", "status", say="random", store=False)
        s.fails("-s", "local:nothere", "status", say="nothere", store=False)
        s.fails("-s", "gopher:x", "status", say="gopher", store=False)
        s.fails("-s", "local:", "status", store=False)
        s.fails("-s", s.uri + "?nonsense=1", "status", say="nonsense", store=False)
        s.fails("-s", s.uri + "?csum_cache=x", "status", say="csum_cache", store=False)
        s.fails("-s", s.uri + "?shards=2", "status", say="formatted", store=False)
        s.ok("-s", s.uri + "?csum_cache=8m", "status", store=False)


def test_one_process_at_a_time():
    with Store() as s:
        s.ok("container", "create", "files")
        holder = subprocess.Popen(s.command("put", "-", "files:/f"), cwd=s.dir, stdin=subprocess.PIPE)
        try:
            # More than the pipe holds: it was read by one who has the store.
            holder.stdin.write(b"v" * (1 << 20))
            holder.stdin.flush()
            done = s.run("container", "create", "other")
            assert done.returncode == 1 and "s.pst" in done.err, done.err
        finally:
            holder.communicate()
        assert holder.returncode == 0
        assert s.ok("cat", "files:/f") == "v" * (1 << 20)


# --- containers, snapshots, keys ----------------------------------------------------------------


def test_containers():
    with Store(container=None) as s:
        s.ok("container", "create", "a")
        made = s.json("container", "create", "b", "--layout", "object", "--quota-objects", "5",
                      "--quota-bytes", "1m")
        assert made["layout"] == "object" and made["quota_bytes"] == 1 << 20
        s.fails("container", "create", "a", say="already")
        s.fails("container", "create", "x/y", say="name")
        assert [c["name"] for c in s.json("container", "list")] == ["a", "b"]
        s.ok("container", "set", "b", "--quota-bytes", "0")
        assert s.json("container", "show", "b")["quota_bytes"] == 0
        s.fails("container", "show", "c", say="c")
        s.ok("snapshot", "create", "a@one")
        s.fails("container", "destroy", "a", say="snapshots")
        s.fails("snapshot", "create", "a@one", say="already")
        s.fails("snapshot", "create", "c@one", say="c")
        assert [x["name"] for x in s.json("snapshot", "list", "a")] == ["one"]
        s.ok("snapshot", "destroy", "a@one")
        s.fails("snapshot", "destroy", "a@one")
        s.ok("container", "destroy", "a")
        assert [c["name"] for c in s.json("container", "list")] == ["b"]


def test_files_among_objects():
    """A container of objects has no files: what would make one says so, and makes nothing."""
    with Store(container=None) as s:
        s.ok("container", "create", "o", "--layout", "object")
        s.ok("kv", "put", "o:7", "key", "value")
        write(s.dir / "f", b"data")
        for args in (["put", "f", "o:/f"], ["put", "f", "o:/"], ["put", "-r", "f", "o:/d"], ["mkdir", "o:/d"],
                     ["mkdir", "-p", "o:/d/e"], ["ln", "-s", "x", "o:/l"]):
            s.fails(*args, say="the layout of container o is object")
        assert s.ok("ls", "o:/") == ""
        s.fails("rm", "o:/f")
        s.fails("get", "o:/f", "g", say="o:/f")
        assert s.json("container", "show", "o")["used_objects"] == 1


def test_keys():
    with Store(container=None) as s:
        s.ok("container", "create", "c", "--layout", "object")
        s.ok("kv", "put", "c:7", "greeting", "hello")
        assert s.ok("kv", "get", "c:7", "greeting") == "hello"
        s.fails("kv", "put", "c:7", "greeting", "x", "--new")
        s.ok("kv", "put", "c:0x10.3", "bin", "-", input=bytes(range(256)))
        assert s.run("kv", "get", "c:0x10.3", "bin").stdout == bytes(range(256))
        assert s.json("kv", "get", "c:0x10.3", "bin")["value"].startswith("hex:000102")
        for i in range(30):
            s.ok("kv", "put", "c:7", "k%02d" % i, "v%d" % i)
        assert s.ok("kv", "list", "c:7").split() == ["greeting"] + ["k%02d" % i for i in range(30)]
        assert len(s.json("kv", "list", "c:7", "--prefix", "k1", "--values")) == 10
        s.ok("snapshot", "create", "c@s")
        s.ok("kv", "del", "c:7", "greeting")
        s.fails("kv", "del", "c:7", "greeting", say="greeting")
        s.fails("kv", "get", "c:7", "greeting", say="greeting")
        assert s.ok("kv", "get", "c@s:7", "greeting") == "hello"
        s.fails("kv", "put", "c@s:7", "a", "b", say="read-only")
        s.fails("kv", "put", "c:7", "big", "-", input=b"x" * 65537)


# --- files ----------------------------------------------------------------------------------------


def test_round_trip():
    """Everything that a tree can hold comes back as it was; also over what is there already."""
    with Store() as s:
        make_tree(s.dir / "src")
        before = listing(s.dir / "src")
        s.ok("put", "-r", "src", "t:/", "--log", "log")
        logged = (s.dir / "log").read_bytes().split(b"\n")[:-1]
        others = [l for l in before if l[1] != stat.S_IFDIR]
        assert len(logged) == len(set(logged)) == len(others), (len(logged), len(others))
        assert b"t:/src/big" in logged and b"t:/src/sp ace/new\\nline" in logged
        s.ok("verify", "t:/")
        s.ok("verify", "src", "t:/src")
        s.ok("get", "-r", "t:/src", "out")
        assert listing(s.dir / "out") == before
        assert os.stat(s.dir / "out").st_mtime_ns == os.stat(s.dir / "src").st_mtime_ns
        for name in ("bighole", "allhole"):
            assert os.stat(s.dir / "out" / name).st_blocks <= os.stat(s.dir / "src" / name).st_blocks + 16
        s.ok("put", "-r", "-j", "1", "src", "t:/")
        s.ok("verify", "src", "t:/src", "-j", "1")
        s.ok("get", "-r", "t:/src", "out2", "-j", "1")
        assert listing(s.dir / "out2") == before
        s.ok("get", "-r", "t:/src/.", "out2")
        s.ok("put", "-r", "src/.", "t:/merged") if s.run("mkdir", "t:/merged").returncode == 0 else None
        s.ok("verify", "src", "t:/merged")


def test_differences_are_seen():
    with Store() as s:
        src = s.dir / "src"
        make_tree(src)
        s.ok("put", "-r", "src", "t:/")

        def flip(path, at):
            st = path.stat()
            with open(path, "r+b") as f:
                f.seek(at)
                byte = f.read(1)
                f.seek(at)
                f.write(bytes([byte[0] ^ 1]))
            os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))

        def undo_dir(path, change):
            st = path.stat()
            change()
            os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))

        changes = [
            (lambda: flip(src / "more", 1 << 20), "more: content differs at byte 1048576"),
            (lambda: flip(src / "many/f007", 0), "f007: content differs at byte 0"),
            (lambda: (src / "exactly").chmod(0o601), "exactly: mode differs"),
            (lambda: os.utime(src / "hole", ns=(1, 1)), "hole: modification time"),
            (lambda: undo_dir(src, lambda: write(src / "extra", b"")), "extra: not in the store"),
            (lambda: undo_dir(src / "deep/a/b", lambda: (src / "deep/a/b/c").rename(src / "deep/c")),
             "only in the store"),
        ]
        for change, say in changes:
            change()
            done = s.run("verify", "src", "t:/src")
            assert done.returncode == 1 and say in done.out, (say, done.out, done.err)
        report = s.run("verify", "src", "t:/src", "--json")
        assert report.returncode == 1 and json.loads(report.out)["differences"] >= 6


def test_tree_commands():
    with Store() as s:
        s.ok("mkdir", "-p", "t:/a/b/c")
        s.ok("mkdir", "-p", "t:/a/b/c")
        s.fails("mkdir", "t:/a", say="exists")
        s.fails("mkdir", "t:/x/y", say="No such")
        write(s.dir / "one", b"first\n")
        write(s.dir / "two", b"second\n")
        s.ok("put", "one", "two", "t:/a")
        s.ok("put", "one", "t:/a/named")
        s.fails("put", "one", "two", "t:/nodir")
        s.fails("put", "one", "t:/nodir/x")
        assert s.ok("ls", "t:/a").split() == ["b", "named", "one", "two"]
        assert s.ok("cat", "t:/a/one", "t:/a/two") == "first\nsecond\n"
        s.fails("cat", "t:/a")
        s.fails("cat", "t:/none", say="t:/none")
        s.ok("mv", "t:/a/two", "t:/a/b")
        s.ok("ln", "t:/a/one", "t:/hard")
        s.ok("ln", "-s", "a/one", "t:/soft")
        assert s.ok("cat", "t:/soft") == s.ok("cat", "t:/hard") == "first\n"
        assert s.json("stat", "t:/hard")["links"] == 2
        assert s.json("stat", "t:/soft")["target"] == "a/one"
        s.fails("mv", "-n", "t:/hard", "t:/soft")
        s.ok("mv", "--exchange", "t:/a/b/two", "t:/hard")
        assert s.ok("cat", "t:/hard") == "second\n"
        s.fails("mv", "t:/a", "t:/a/b/c", say="inside itself")
        s.fails("mv", "t:/", "t:/x", say="the root has its place")
        for bad in ("t@:/", "@x:/", "t@a@b:/"):
            s.fails("ls", bad, say="neither CONTAINER nor CONTAINER@SNAPSHOT")
        names = [e["name"] for e in s.json("ls", "-R", "t:/")]
        assert "a/b/two" in names and "a/named" in names, names
        long = s.ok("ls", "-l", "t:/")
        assert "soft -> a/one" in long and "drwxr-xr-x" in long, long
        assert s.ok("ls", "-d", "t:/a").strip() == "a"
        below = s.json("du", "--all", "t:/")
        assert {d["path"] for d in below} == {"t:/a/b/c", "t:/a/b", "t:/a", "t:/"}, below
        total = s.json("du", "t:/")[-1]
        assert total["files"] == 5 and total["size_bytes"] == 6 + 6 + 6 + 7 + 5, total
        s.ok("snapshot", "create", "t@v")
        s.fails("rm", "t:/a", say="t:/a: a directory; give -r")
        s.fails("rm", "t:/none")
        s.ok("rm", "-f", "t:/none")
        s.ok("rm", "-r", "t:/a", "t:/soft")
        assert s.ok("ls", "t:/").split() == ["hard"]
        assert s.ok("cat", "t@v:/a/one") == "first\n"
        for args in (["rm", "-r", "t@v:/a"], ["mkdir", "t@v:/q"], ["put", "one", "t@v:/"],
                     ["mv", "t@v:/a", "t@v:/b"]):
            s.fails(*args)
        s.ok("get", "-r", "t@v:/", "snap")
        assert (s.dir / "snap/a/b/two").read_text() == "first\n"
        s.ok("rm", "-r", "t:/")
        assert s.ok("ls", "t:/") == ""
        s.fails("put", "one", "t:/" + "n" * 256, say="too long")
        s.fails("ls", "nocont:/", say="nocont")


def test_remove_refuses():
    """What could take more than was meant is refused before anything is removed."""
    with Store() as s:
        write(s.dir / "d/sub/file", b"x")
        s.ok("put", "-r", "d", "t:/")
        for path in ("t:/d/sub/..", "t:/d/sub/.", "t:/..", "t:/.", "t:/d/../", "t:.."):
            s.fails("rm", "-r", path, status=2, say="not removed")
        s.ok("snapshot", "create", "t@v")
        for path in ("t@v:/", "t@v:/d"):
            done = s.fails("rm", "-r", path, say=path + ": read-only")
            assert done.err.count("\n") == 1, done.err
        assert s.ok("cat", "t:/d/sub/file") == "x"
        write(s.dir / "d/..x", b"")
        s.ok("put", "d/..x", "t:/")
        s.ok("rm", "t:/..x")


def test_get_destinations():
    """What is at the destination is replaced by a whole file or not at all; a device never."""
    with Store() as s:
        content = os.urandom(3_000_000)
        write(s.dir / "f", content)
        s.ok("put", "f", "t:/")
        os.mkfifo(s.dir / "pipe")
        s.fails("get", "t:/f", "pipe", say="not replaced")
        assert stat.S_ISFIFO((s.dir / "pipe").lstat().st_mode)
        os.symlink("/dev/zero", s.dir / "zero")
        s.fails("get", "t:/f", "zero", say="not replaced")
        assert os.readlink(s.dir / "zero") == "/dev/zero"
        s.fails("get", "t:/f", "-", status=2, say="cat")
        write(s.dir / "behind", b"old")
        os.symlink("behind", s.dir / "link")
        s.ok("get", "t:/f", "link")
        assert (s.dir / "link").is_symlink() and (s.dir / "behind").read_bytes() == content
        write(s.dir / "kept/f", b"old")
        for seed in range(12):
            bad = "local:fault:%s?read_error=0.3&seed=%d" % (s.dir / "s.pst", seed)
            done = s.run("-s", bad, "get", "t:/f", "kept", store=False)
            assert os.listdir(s.dir / "kept") == ["f"]
            if done.returncode == 1:
                assert (s.dir / "kept/f").read_bytes() == b"old"
            else:
                assert (s.dir / "kept/f").read_bytes() == content
                write(s.dir / "kept/f", b"old")
        s.ok("get", "t:/f", "kept")
        assert (s.dir / "kept/f").read_bytes() == content
        (s.dir / "dir").mkdir()
        os.symlink("dir", s.dir / "dirlink")
        s.ok("get", "-r", "t:/", "dirlink")
        assert (s.dir / "dir/f").read_bytes() == content
        write(s.dir / "isdir/f/x", b"")
        s.fails("get", "t:/f", "isdir", say="directory")
        # The host's file system is full: told once, and nothing half is left. (A limit on the size
        # of files is as near as an ordinary user comes to one; /dev/full is no place for a tree.)
        limit = "trap '' XFSZ; ulimit -f 1000; exec \"$@\""
        done = subprocess.run(["bash", "-c", limit, "-"] + s.command("get", "t:/f", "limited"),
                              cwd=s.dir, capture_output=True)
        assert done.returncode == 1 and b"limited: writing: File too large" in done.stderr, done
        assert not (s.dir / "limited").exists(), "half a file is no file"


def test_get_replaces_nothing_by_half():
    """What has a name stays until what replaces it is whole; a further name is never made of something old."""
    with Store() as s:
        os.mkdir(s.dir / "src")
        os.symlink("new", s.dir / "src/link")
        os.mkfifo(s.dir / "src/pipe")
        new = os.urandom(2_000_000)
        write(s.dir / "src/a", new)
        for name in "bc":
            os.link(s.dir / "src/a", s.dir / "src" / name)
        s.ok("put", "-r", "src", "t:/")

        def there():
            out = s.dir / "out/src"
            shutil.rmtree(s.dir / "out", ignore_errors=True)
            for name in ("link", "pipe", "a", "b", "c"):
                write(out / name, b"old " + name.encode())
            return out

        out = there()
        s.ok("get", "-r", "t:/src", "out")
        assert listing(out) == listing(s.dir / "src")
        s.ok("get", "-r", "t:/src", "out")
        assert listing(out) == listing(s.dir / "src"), "over itself, and nothing is left beside"
        failed = 0
        for seed in range(30):
            if failed > 2:
                break
            out = there()
            bad = "local:fault:%s?read_error=0.4&seed=%d" % (s.dir / "s.pst", seed)
            done = s.run("-s", bad, "get", "-r", "t:/src", "out", store=False)
            if "a: reading at byte" not in done.err:
                continue
            failed += 1
            for name in "abc":
                assert (out / name).read_bytes() == b"old " + name.encode(), (name, done.err)
            assert "another name of it, was not written" in done.err, done.err
        assert failed, "it never failed"
        if not ROOT:
            return
        # What may not be made does not cost what is there.
        os.mknod(s.dir / "src/char", stat.S_IFCHR | 0o640, os.makedev(1, 3))
        s.ok("put", "-r", "src", "t:/")
        out = there()
        write(out / "char", b"old char")
        for path in [s.dir, s.dir / "out", out, *out.iterdir()]:
            os.chmod(path, 0o777)
            os.chown(path, 65534, 65534)
        os.chmod(s.dir / "s.pst", 0o644)
        done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] +
                              s.command("get", "-r", "t:/src", "out"), cwd=s.dir, capture_output=True, timeout=60)
        assert done.returncode == 1 and b"char: Operation not permitted" in done.stderr, done
        assert (out / "char").read_bytes() == b"old char" and (out / "a").read_bytes() == new
        assert not [n for n in os.listdir(out) if n.startswith(".")]


def test_verify_sees_all():
    """What verify can't list is no match, and the store's own file is left out of itself."""
    with Store() as s:
        (s.dir / "deep").mkdir()
        fd = os.open(s.dir / "deep", os.O_DIRECTORY)
        for _ in range(20):  # deeper than a path is long
            os.mkdir("n" * 250, dir_fd=fd)
            inner = os.open("n" * 250, os.O_DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = inner
        os.close(fd)
        s.fails("verify", "misspelt", "t:/", say="misspelt: No such file")
        done = s.run("put", "-r", "deep", "t:/")
        assert done.returncode == 1 and "too long" in done.err
        done = s.run("verify", "deep", "t:/deep")
        assert done.returncode == 1, "not all of it is in the store: " + done.err[-200:]
        write(s.dir / "here/small", b"x")
        os.link(s.dir / "s.pst", s.dir / "here/again")
        done = s.run("put", "-r", "here", "t:/")
        assert done.returncode == 0 and "here/again: the store lies in it" in done.err, done.err
        assert s.ok("ls", "t:/here").split() == ["small"]


def test_standard_input():
    with Store() as s:
        for data in (b"", b"hello\n", os.urandom(5_000_003), os.urandom(2 << 20)):
            report = json.loads(s.run("put", "-", "t:/in", "--json", input=data).out)
            assert report["ok"] and report["files"] == 1 and report["bytes"] == len(data), report
            assert s.run("cat", "t:/in").stdout == data
        at = s.json("stat", "t:/in")
        assert at["type"] == "file" and abs(at["mtime_ns"] / 1e9 - time.time()) < 300, at
        s.ok("mkdir", "t:/d")
        for dest in ("t:/", "t:/d"):
            s.fails("put", "-", dest, say="needs a name", input=b"x")
        s.fails("put", "-", "t:/big", say="no space", input=bytes(range(256)) * 4096 * 220)
        assert s.ok("ls", "t:/").split() == ["d", "in"]
        done = subprocess.run(["bash", "-c", 'exec "$@" <&-', "-"] + s.command("put", "-", "t:/c"),
                              cwd=s.dir, capture_output=True)
        assert done.returncode == 1, done.stderr
        write(s.dir / "many/x", b"1")
        assert s.json("put", "-r", "many", "t:/")["files"] == 1
        assert s.json("get", "-r", "t:/many", "back")["files"] == 1


def test_times():
    """Before 1970, and a root that is as old as its container."""
    with Store() as s:
        for name, ns in (("before", -1_500_000_000_000_000_001), ("zero", 0), ("minus", -1),
                         ("late", 7_000_000_000_123_456_789)):
            os.utime(write(s.dir / "d" / name, b"x"), ns=(ns, ns))
        before = listing(s.dir / "d")
        s.ok("put", "-r", "d", "t:/")
        s.ok("get", "-r", "t:/d", "out")
        assert listing(s.dir / "out") == before
        s.ok("verify", "d", "t:/d")
        if os.stat(s.dir / "d/before").st_mtime < 0:  # the host's file system knows such times
            assert "1922-06-2" in s.ok("stat", "t:/d/before"), s.ok("stat", "t:/d/before")
            assert s.json("stat", "t:/d/minus")["mtime_ns"] == -1
        s.ok("container", "create", "new")
        assert abs(s.json("stat", "new:/")["mtime_ns"] / 1e9 - time.time()) < 300
        s.ok("snapshot", "create", "new@v")
        assert s.json("stat", "new@v:/")["mtime_ns"] == s.json("stat", "new:/")["mtime_ns"]


def test_names_that_are_no_text():
    """Any bytes are a name: JSON stays JSON, and a terminal is not written to by a name."""
    with Store(container=None) as s:
        name = "c\udcff"
        s.ok("container", "create", name)
        assert s.json("container", "list")[0]["name"] == "c\u00ff"
        s.ok("snapshot", "create", name + "@s")
        assert s.json("snapshot", "list", name)[0]["name"] == "s"
        s.ok("kv", "put", name + ":7", "k\udcfe", "v")
        assert s.json("kv", "get", name + ":7", "k\udcfe")["key"] == "hex:6bfe"
        s.fails("kv", "put", name + ":7", "k" * 321, "v", say="320 bytes")
        s.fails("snapshot", "create", name + "@a/b", say="not a good name")
        master, slave = pty.openpty()
        done = subprocess.run(s.command("ls", name + ":/\x1b[31mred\x07"), cwd=s.dir, stderr=slave,
                              stdout=slave)
        os.close(slave)
        said = os.read(master, 4096)
        os.close(master)
        assert done.returncode == 1 and b"?[31mred?" in said and b"\x1b" not in said, said


def test_json_of_any_bytes():
    """What is no UTF-8 is in JSON nevertheless, wherever there are names."""
    with Store(container=None) as s:
        name = "c\udcff"
        s.ok("container", "create", name)
        r = s.json("bench", "--container", name, "--rw", "read", "--size", "1m", "--iodepth", "4", "--runtime", "0.1")
        assert r["container"] == "c\u00ff" and r["container_latin1"] is True and r["rw"] == "read", r
        write(s.dir / "f", b"x")
        try:
            os.setxattr(s.dir / "f", b"user.a\xfe", b"123")
            os.setxattr(s.dir / "f", b"user.b", b"1")
        except OSError:
            print("# skip: no extended attributes here")
        else:
            s.ok("put", "f", name + ":/f")
            assert s.json("stat", name + ":/f")["xattrs"] == {"hex:757365722e61fe": 3, "user.b": 1}
        s.ok("put", "f", name + ":/e\udcfd")
        ino = s.json("stat", name + ":/")["inode"]
        s.ok("kv", "put", name + ":0x7073742e66732e31.%d" % ino, "de\udcfd", "rubbish")
        done = s.run("fsck", "s.pst", "--json", store=False)
        report = json.loads(done.out)
        assert done.returncode == 1 and report["found"] == len(report["findings"]) > 0, report
        assert all(f["text"].startswith("c\u00ff: ") and f["text_latin1"] for f in report["findings"]), report
        assert any("e\u00fd" in f["text"] for f in report["findings"]), report


def on_terminal(command, cwd):
    """What a command writes to its output when that is a terminal."""
    master, slave = pty.openpty()
    done = subprocess.run(command, cwd=cwd, stderr=subprocess.PIPE, stdout=slave, timeout=60)
    os.close(slave)
    said = b""
    try:
        while more := os.read(master, 65536):
            said += more
    except OSError:
        pass  # all was read
    os.close(master)
    return done.returncode, said


def test_terminal_is_not_written_to_by_names():
    evil = "\x1b]0;evil\x07"
    with Store() as s:
        write(s.dir / "src" / evil, b"x")
        try_xattr(s.dir / "src" / evil, "user." + evil, b"1")
        s.ok("put", "-r", "src", "t:/")
        s.ok("kv", "put", "t:7", evil, evil)
        ino = s.json("stat", "t:/src")["inode"]
        s.ok("snapshot", "create", "t@v")
        for args in (["ls", "t:/src"], ["ls", "-l", "-R", "t:/"], ["stat", "t:/src/" + evil], ["kv", "list", "t:7"],
                     ["kv", "list", "-l", "t:7"], ["du", "--all", "t:/"]):
            rc, said = on_terminal(s.command(*args), s.dir)
            assert rc == 0 and b"\x1b" not in said and b"\x07" not in said, (args, said)
        s.ok("kv", "put", "t:0x7073742e66732e31.%d" % ino, "d" + evil, "rubbish")
        rc, said = on_terminal(s.command("fsck", "s.pst", store=False), s.dir)
        assert rc == 1 and b"?]0;evil?" in said and b"\x1b" not in said, said


def test_interrupted():
    """SIGINT in the middle of a put: it says so, ends by the signal, and what is there is whole."""
    with Store() as s:
        write(s.dir / "d/large", os.urandom(1 << 20) * 100)
        for i in range(50):
            write(s.dir / "d" / ("f%02d" % i), b"%d" % i * 1000)
        for sig in (signal.SIGINT, signal.SIGTERM):
            slow = "local:fault:%s?delay_us=100000" % (s.dir / "s.pst")
            log = s.dir / ("log%d" % sig)
            put = subprocess.Popen([PENSTOCK, "-s", slow, "put", "-r", "--log", log, "d", "t:/"],
                                   cwd=s.dir, stderr=subprocess.PIPE)
            while put.poll() is None and not (log.exists() and log.stat().st_size):
                time.sleep(0.001)
            put.send_signal(sig)
            err = put.communicate()[1]
            assert (put.returncode, err) == (-sig, b"penstock: put: interrupted\n"), (put.returncode, err)
            s.ok("mkdir", "t:/recovers")  # opens for writing
            s.ok("rm", "-r", "t:/recovers")
            s.ok("verify", "t:/")
            there = s.ok("ls", "t:/d").split()
            for line in log.read_text().splitlines():
                assert line.rsplit("/", 1)[1] in there, line
            assert s.run("fsck", "s.pst", store=False).returncode == 0
            s.ok("rm", "-r", "t:/d")
        s.ok("put", "-r", "d", "t:/")
        s.ok("verify", "d", "t:/d")


def test_measurement_cut_short():
    """SIGINT in the middle of a measurement ends only that: what came out is told, and what it made removed."""
    with Store() as s:
        (s.dir / "scratch").write_bytes(bytes(8 << 20))
        bench = s.command("bench", "--container", "b", "--create", "--verify")
        perf = s.command("perf", "scratch", "--force", "--verify", store=False)
        for sig in (signal.SIGINT, signal.SIGTERM):
            for command, at_work, ops in ((bench, b"measuring", "ops"), (perf, b" IOPS", "ios")):
                p = subprocess.Popen([*command, "--rw", "randrw", "--size", "8m", "--runtime", "600", "--json", "--progress"],
                                     cwd=s.dir, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                said = b""
                while at_work not in said:
                    more = os.read(p.stderr.fileno(), 4096)
                    assert more, said
                    said += more
                p.send_signal(sig)
                out, err = p.communicate(timeout=60)
                assert p.returncode == -sig and b"cut short" in err, (p.returncode, said + err)
                r = json.loads(out)
                assert r["cut_short"] and 0 < r["seconds"] < 600 and r[ops] > 0, r
                (s.dir / "scratch").write_bytes(bytes(8 << 20))
            s.fails("ls", "b:/", say="there is no such container")


def test_sources_that_are_odd():
    with Store() as s:
        (s.dir / "d").mkdir()
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(os.path.relpath(s.dir / "d/sock"))
        write(s.dir / "d/file", b"x")
        done = s.run("put", "-r", "d", "t:/")
        assert done.returncode == 0 and "socket" in done.err
        assert s.ok("ls", "t:/d").split() == ["file"]
        s.ok("verify", "d", "t:/d")
        sock.close()
        s.fails("put", "d", "t:/", say="-r")
        s.fails("put", "nothere", "d/file", "t:/", say="nothere")
        assert s.ok("cat", "t:/file") == "x", "the others are stored"
        write(s.dir / "in/x", b"file")
        s.ok("put", "in/x", "t:/d/x")
        write(s.dir / "in2/x/y", b"dir")
        s.ok("rm", "-r", "t:/d")
        s.ok("put", "-r", "in", "t:/d")
        s.fails("put", "-r", "in2/x", "t:/d", say="t:/d/x")  # a directory over a file


class Mover:
    """Writes to a file all the time, until it is told to end."""

    def __init__(self, path):
        self.path, self.stop, self.writes = path, threading.Event(), 0
        self.thread = threading.Thread(target=self.run)

    def run(self):
        size = os.path.getsize(self.path)
        with open(self.path, "r+b", buffering=0) as f:
            while not self.stop.is_set():
                os.pwrite(f.fileno(), os.urandom(8), random.randrange(size))
                self.writes += 1

    def __enter__(self):
        self.thread.start()
        while not self.writes:
            time.sleep(0.001)
        return self

    def __exit__(self, *exc):
        self.stop.set()
        self.thread.join()


def test_file_that_changes():
    """A file that is written to all the time is reported and not stored; the others are."""
    with Store() as s:
        # More than put holds in memory, on a device that takes its time: reading it lasts longer
        # than any pause of the writer.
        path = write(s.dir / "d/moving", os.urandom(1 << 20) * 120)
        write(s.dir / "d/still", b"still")
        slow = "local:fault:%s?delay_us=150000" % (s.dir / "s.pst")
        with Mover(path):
            done = s.run("-s", slow, "put", "-r", "d", "t:/", store=False)
        assert done.returncode == 1 and "moving: it changed while it was read" in done.err, done.err
        assert s.ok("ls", "t:/d").split() == ["still"]


def test_full():
    with Store("64m") as s:
        for i in range(40):
            write(s.dir / "d" / ("f%02d" % i), os.urandom(4_000_000))
        done = s.fails("put", "-r", "d", "t:/", say="no space left in the store for data: ")
        assert done.err.count("no space left") < 40, "told once, not for each file"
        s.ok("verify", "t:/")
        names = s.ok("ls", "t:/d").split()
        assert 0 < len(names) < 40
        for n in names:
            assert s.run("cat", "t:/d/" + n).stdout == (s.dir / "d" / n).read_bytes()
        s.ok("rm", "-r", "t:/d")
        s.ok("put", s.dir / "d/f00", "t:/again")


def test_index_limit():
    """Memory for the index ends: told as that, and everything can still be read and deleted."""
    with Store() as s:
        small = "%s?index_limit=1m" % s.uri
        for i in range(9000):
            write(s.dir / "d" / ("a file with a long name %05d" % i), b"x")
        say = "no memory left for the store's index: "
        done = s.fails("-s", small, "put", "-r", "d", "t:/", say=say, store=False)
        assert done.err.count(say) < 40 and "its limit is 1 MiB" in done.err, done.err
        s.ok("-s", small, "verify", "t:/", store=False)
        stored = s.ok("-s", small, "ls", "t:/d", store=False).splitlines()
        assert 1000 < len(stored) < 9000, len(stored)
        s.ok("-s", small, "mv", "t:/d/" + stored[0], "t:/moved", store=False)
        s.ok("-s", small, "rm", "-r", "t:/d", store=False)
        assert s.ok("-s", small, "ls", "t:/", store=False).split() == ["moved"]
        s.ok("-s", small, "put", "d/" + stored[0], "t:/again", store=False)


def test_quota():
    with Store() as s:
        s.ok("container", "set", "t", "--quota-bytes", "1m")
        write(s.dir / "small", os.urandom(300_000))
        write(s.dir / "large", os.urandom(3_000_000))
        s.ok("put", "small", "t:/")
        s.fails("put", "large", "t:/", say="quota")
        assert s.ok("ls", "t:/").split() == ["small"], "no half file"
        s.ok("rm", "t:/small")
        s.ok("container", "set", "t", "--quota-objects", "10", "--quota-bytes", "0")
        for i in range(20):
            write(s.dir / "many" / str(i), b"x")
        s.fails("put", "-r", "many", "t:/", say="quota")
        s.ok("verify", "t:/")


def test_read_errors():
    with Store() as s:
        write(s.dir / "f", os.urandom(2_000_000))
        s.ok("put", "f", "t:/")
        failed = 0
        for seed in range(12):
            bad = "local:fault:%s?read_error=0.3&seed=%d" % (s.dir / "s.pst", seed)
            done = s.run("-s", bad, "get", "t:/f", "g", store=False)
            there = (s.dir / "g").exists()
            assert there == (done.returncode == 0), "half a file is no file"
            if there:
                assert (s.dir / "g").read_bytes() == (s.dir / "f").read_bytes()
                (s.dir / "g").unlink()
            else:
                assert done.err.startswith("penstock: "), done.err
                failed += 1
        assert failed > 0, "a third of all reads fail"
        s.fails("-s", "local:fault:%s?read_error=1" % (s.dir / "s.pst"), "cat", "t:/f", store=False)
        s.ok("verify", "f", "t:/f")


def digest(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha1").digest()


def test_device_fails():
    """A device that can't be written any more: told once, nothing acknowledged is lost, open again."""
    with Store() as s:
        for i in range(200):
            write(s.dir / "d" / ("f%03d" % i), os.urandom(3000))
        s.ok("put", "-r", "d", "t:/before")
        hit = 0
        for seed in range(8):
            bad = "local:fault:%s?write_error=0.15&seed=%d" % (s.dir / "s.pst", seed)
            done = s.run("-s", bad, "put", "-r", "-j", "4", "d", "t:/p%d" % seed, store=False)
            if done.returncode == 0:
                continue
            hit += "the store has stopped" in done.err
            told = [l for l in done.err.splitlines() if l.startswith("penstock: put: ")]
            assert len(told) <= 3, done.err  # what failed, giving up, closing
            assert sum("flushing" in l for l in told) <= 1, done.err
            s.ok("verify", "t:/")
            s.ok("verify", "d", "t:/before")
            assert s.ok("fsck", "s.pst", store=False).startswith("clean")
        assert hit, "it never failed"


def test_killed():
    """SIGKILL in the middle of an import: what was logged is there and whole, what is there is whole."""
    rnd = random.Random(3)
    with Store("384m") as s:
        src = s.dir / "src"
        for i in range(3000):
            write(src / ("d%02d" % (i % 30)) / ("f%04d" % i), rnd.randbytes(rnd.choice((100, 4096, 30000))))
        for i in range(6):
            write(src / "large" / str(i), rnd.randbytes(3_000_000))
        for attempt in range(4):
            log = s.dir / ("log%d" % attempt)
            log.touch()
            put = subprocess.Popen(s.command("put", "-q", "-r", "-j", "32", "--log", log, "src",
                                             "t:/k%d" % attempt), cwd=s.dir)
            goal = rnd.randrange(1, 2500)
            while put.poll() is None and log.read_bytes().count(b"\n") < goal:
                time.sleep(0.001)
            put.send_signal(signal.SIGKILL)
            put.wait()
            acked = [l.decode() for l in log.read_bytes().split(b"\n")[:-1]]
            if not acked:
                continue
            out = s.dir / "out"
            if attempt % 2:
                s.ok("mkdir", "t:/recovers%d" % attempt)  # opens for writing
                s.ok("get", "-r", "t:/k%d" % attempt, out)
            else:  # what only reads recovers in memory, and changes nothing
                before = digest(s.dir / "s.pst")
                first = "t:/" + acked[0].split("/", 1)[1]
                s.ok("get", "-r", "t:/k%d" % attempt, out)
                s.ok("ls", "-l", "t:/k%d" % attempt)
                s.ok("stat", first)
                s.ok("cat", first)
                s.ok("verify", src / acked[0].split("/", 2)[2], first)
                s.ok("du", "t:/")
                s.ok("status")
                s.ok("container", "list")
                s.ok("fsck", s.dir / "s.pst", store=False)
                assert digest(s.dir / "s.pst") == before, "read only"
            for line in acked:
                rest = line.split("/", 2)[2]
                assert (out / rest).exists(), "acknowledged and lost: " + line
            for path in out.rglob("*"):
                if path.is_file():
                    assert path.read_bytes() == (src / path.relative_to(out)).read_bytes(), path
            shutil.rmtree(out)
        s.ok("scrub")


# --- measuring, status ------------------------------------------------------------------------------


def test_get_killed():
    """SIGKILL in the middle of an export: what has a name is whole, and what was there stays."""
    with Store() as s:
        data = {"f%d" % i: os.urandom(3_000_000 + i) for i in range(6)}
        for name, body in data.items():
            write(s.dir / "src" / name, body)
        s.ok("put", "-r", "src", "t:/")
        slow = "local:fault:%s?delay_us=20000" % (s.dir / "s.pst")
        seen = set()
        for attempt in range(12):
            out = s.dir / ("out%d" % attempt)
            write(out / "src" / "f3", b"was here")
            get = subprocess.Popen([PENSTOCK, "-s", slow, "get", "-q", "-j", "2", "-r", "t:/src", out],
                                   cwd=s.dir)
            # From before the first file to behind the fifth, however fast this machine is; f3 is there from the start.
            while get.poll() is None and len(list((out / "src").iterdir())) < attempt / 2:
                time.sleep(0.002)
            time.sleep(0.01 * (attempt % 3))
            get.send_signal(signal.SIGKILL)
            get.wait()
            names = {p.name for p in (out / "src").iterdir()}
            assert names <= set(data), names
            for name in names:
                body = (out / "src" / name).read_bytes()
                assert body == data[name] or (name, body) == ("f3", b"was here"), name
            seen.add(len(names))
        assert len(seen) > 1, "always killed at the same place"
        s.ok("get", "-r", "t:/src", "out0")
        assert (s.dir / "out0/src/f3").read_bytes() == data["f3"]


def test_bench():
    with Store() as s:
        for rw in ("read", "write", "randread", "randwrite", "randrw"):
            r = s.json("bench", "--container", "t", "--rw", rw, "--bs", "8k", "--iodepth", "8", "--size",
                       "16m", "--runtime", "0.2", "--verify", "--objects", "4", "--jobs", "2")
            assert r["ops"] > 0 and r["iops"] > 0 and r["cpu_seconds"] > 0, r
            assert r["verified"]["before_bytes"] == 16 << 20 and r["verified"]["errors"] == 0, r
            lat = r["latency_us"]
            order = [lat[k] for k in ("min", "p50", "p90", "p99", "p999", "max")]
            assert order == sorted(order) and order[0] > 0, lat
            if "rand" in rw or rw == "write":
                assert rw == "randread" or r["verified"]["after_bytes"] == 16 << 20, r
        assert s.json("container", "show", "t")["used_objects"] <= 1, "its data is removed"
        s.json("bench", "--container", "t", "--rw", "randwrite", "--size", "4m", "--runtime", "0.1",
               "--durability", "volatile", "--verify", "--keep")
        again = s.json("bench", "--container", "t", "--rw", "randread", "--size", "4m", "--runtime",
                       "0.1", "--verify")
        assert again["verified"]["layout_bytes"] == 0, "what was kept is used again"
        s.fails("bench", "--container", "none", "--rw", "read", say="none")


def test_bench_sees_wrong_data():
    """Kept data that is not what bench laid out must not be measured."""
    with Store() as s:
        s.json("bench", "--container", "t", "--rw", "read", "--size", "1m", "--runtime", "0.1", "--keep",
               "--iodepth", "4", "--seed", "1")
        s.fails("bench", "--container", "t", "--rw", "read", "--size", "1m", "--runtime", "0.1",
                "--iodepth", "4", "--seed", "2", say="wrong data: none of this seed's")
        s.json("bench", "--container", "t", "--rw", "randwrite", "--size", "1m", "--ops", "100", "--keep",
               "--iodepth", "4", "--seed", "1")
        s.fails("bench", "--container", "t", "--rw", "read", "--bs", "256k", "--size", "1m", "--runtime", "0.1",
                "--iodepth", "1", "--seed", "1", say="with another --bs")


def perf_checks(r, devices, queues):
    assert r["ios"] > 0 and r["cpu_us_per_io"] > 0 and r["errors"] == 0, r
    assert len(r["devices"]) == devices and all(len(d["queues"]) == queues for d in r["devices"])
    total = sum(q["ios"] for d in r["devices"] for q in d["queues"])
    assert total == r["ios"], (total, r["ios"])
    for name in ("read_latency_us", "write_latency_us"):
        lat = r.get(name)
        if lat:
            order = [lat[k] for k in ("min", "p50", "p90", "p99", "p999", "max")]
            assert order == sorted(order) and order[0] > 0, lat
            assert sum(n for _, n in lat["histogram_ns"]) == lat["count"], lat


def test_perf():
    with Store() as s:
        write(s.dir / "dev", bytes(8 << 20))
        for device, path in (("mem:8m", "bdev"), ("nvme+loop:mem:8m?block=512", "nvme"),
                             ("nvme+loop:mem:8m?strict=1&sgl=0", "nvme"),
                             ("uring:dev?direct=0", "bdev"), ("nvme+loop:./dev?direct=0", "nvme")):
            for rw in ("read", "write", "randread", "randwrite", "randrw"):
                r = s.json("perf", device, "--rw", rw, "--iosize", "8k", "--qdepth", "16", "--queues",
                           "2", "--batch", "4", "--runtime", "0.1", "--verify", "--prepare", "--force",
                           store=False)
                perf_checks(r, 1, 2)
                assert r["devices"][0]["path"] == path, r
                v = r["verified"]
                assert v["wrong"] == 0 and v["prepared_bytes"] == 8 << 20, v
                assert v["read_again_bytes"] == 8 << 20, v
                assert (v["reads"] > 1024) == ("read" in rw or rw == "randrw"), v
        r = s.json("perf", "null:1t", "nvme+loop:null:16t", "--rw", "randrw", "--mix", "90", "--runtime",
                   "0.2", store=False)
        perf_checks(r, 2, 1)
        share = r["read_latency_us"]["count"] / r["ios"]
        assert 0.85 < share < 0.95, share
        r = s.json("perf", "null:1g", "--rw", "randread", "--rate", "2000", "--runtime", "0.5", store=False)
        assert 800 <= r["ios"] <= 1100, r["ios"]
        out = s.ok("perf", "nvme+loop:null:1g", "--rw", "randread", "--runtime", "0.1", "--queues", "3",
                   store=False)
        assert len([l for l in out.splitlines() if l.startswith("nvme+loop:null:1g")]) == 3, out


def test_perf_refuses():
    with Store() as s:
        write(s.dir / "dev", b"x" + bytes((4 << 20) - 1))
        before = (s.dir / "dev").read_bytes()
        s.fails("perf", "uring:dev?direct=0", "--rw", "randwrite", "--runtime", "0.1", say="--force",
                store=False)
        s.fails("perf", "uring:dev?direct=0", "--rw", "read", "--prepare", "--runtime", "0.1", say="--force",
                store=False)
        s.ok("perf", "uring:dev?direct=0", "--rw", "randread", "--runtime", "0.1", store=False)
        assert (s.dir / "dev").read_bytes() == before
        for args in (["--rw", "sideways"], [], ["--rw", "read", "--verify"], ["--rw", "read", "--iosize", "1000"],
                     ["--rw", "read", "--qdepth", "4", "--batch", "5"], ["--rw", "read", "--mix", "101"]):
            s.fails("perf", "mem:8m", *args, status=2, store=False)
        s.fails("perf", "--rw", "read", status=2, store=False)
        s.fails("perf", "nvme+loop:mem:8m?mdts=4k", "--rw", "read", "--iosize", "8k", say="4096", store=False)
        s.fails("perf", "mem:64k", "--rw", "read", say="too small", store=False)


def test_perf_cpus():
    with Store() as s:
        cpu = min(os.sched_getaffinity(0))
        for good in (str(cpu), "%d-%d,%d" % (cpu, cpu, cpu)):
            s.json("perf", "mem:8m", "--rw", "randread", "--runtime", "0.2", "--cpus", good, store=False)
        for bad in ("", "x", "1-", "-1", "2-1", "0,", "0;1", "0-1-2", "99999999999999999999", "0-1024"):
            s.fails("perf", "mem:8m", "--rw", "randread", "--cpus", bad, say="not a list", status=2, store=False)
        s.fails("perf", "mem:8m", "--rw", "randread", "--cpus", "1023", say="not all of them are there", status=2,
                store=False)


def test_perf_sees_what_is_wrong():
    """Bits that flip are found while it runs; a controller that drops, repeats and fails is survived; one
    that goes away is an error, soon."""
    with Store() as s:
        s.fails("perf", "fault:mem:8m?bit_flip=0.01", "--rw", "randrw", "--verify", "--runtime", "0.5",
                say="wrong data", store=False)
        s.fails("perf", "nvme+loop:fault:mem:8m?bit_flip=0.01", "--rw", "randrw", "--verify", "--runtime",
                "0.5", say="wrong data", store=False)
        r = s.json("perf", "nvme+loop:mem:8m?timeout=200&faults=drop:after=5000,count=2;dup:every=50;fatal:after=20000",
                   "--rw", "randrw", "--verify", "--runtime", "1.5", store=False)
        perf_checks(r, 1, 1)
        assert r["verified"]["wrong"] == 0 and r["devices"][0]["queues"][0]["retries"] > 0, r
        r = s.json("perf", "nvme+loop:mem:8m", "--rw", "randrw", "--verify", "--runtime", "3", "--reset-every", "50",
                   "--queues", "2", store=False)
        perf_checks(r, 1, 2)
        assert r["verified"]["wrong"] == 0 and r["verified"]["reads"] > 100 and r["resets"] >= 10, r
        start = time.monotonic()
        s.fails("perf", "nvme+loop:mem:8m?timeout=200&faults=remove:after=2000", "--rw", "randread",
                "--runtime", "30", say="No such device", store=False)
        assert time.monotonic() - start < 20


def test_store_on_nvme():
    """A store whose device is a controller in this process, over a file."""
    with Store() as s:
        with open(s.dir / "n.img", "wb") as f:
            f.truncate(192 << 20)
        device = "nvme+loop:%s?direct=0" % (s.dir / "n.img")
        s.ok("format", device, store=False)
        s.uri = "local:" + device
        s.ok("container", "create", "n")
        data = {("d/f%d" % i): random.Random(i).randbytes(i * 5000) for i in range(40)}
        (s.dir / "d").mkdir()
        for name, body in data.items():
            write(s.dir / name, body)
        s.ok("put", "-r", "d", "n:/")
        s.ok("verify", "n:/")
        s.ok("get", "-r", "n:/d", "back")
        for name, body in data.items():
            assert (s.dir / "back" / name[2:]).read_bytes() == body, name


def test_status_and_scrub():
    with Store() as s:
        write(s.dir / "f", os.urandom(1_000_000))
        s.ok("put", "f", "t:/")
        opened = []
        for name in ("one", "two"):
            s.ok("mkdir", "t:/" + name)
            opened += [int(s.ok("status").split("opened ")[1].split()[0]) for _ in range(2)]
        # Those that write count, those that read do not.
        assert opened == [3, 3, 4, 4], opened
        assert "opened 1 time, 1 shard\n" in s.run("-s", "local:mem:64m", "status", store=False).out
        st = s.json("status")
        assert st["used_bytes"] >= 1_000_000 and st["containers"] == 1 and not st["stopped"], st
        assert len(st["devices"]) == 1 and st["index_bytes"] > st["index_spare_bytes"] > 0, st
        # Spare pages are not the objects', and few objects say nothing of what one takes.
        assert "spare" in s.ok("status") and "per object" not in s.ok("status")
        for i in range(1100):
            write(s.dir / "few" / ("file-%04d" % i), b"x")
        s.ok("put", "-r", "few", "t:/")
        each = float(s.ok("status").split(" bytes per object")[0].split()[-1])
        assert 16 < each < 512, each
        assert s.json("status")["epoch"] > 0
        assert s.json("scrub")["errors"] == 0
        assert "0 errors" in s.ok("scrub", "--rate", "100m")


def test_reading_changes_nothing():
    """What only reads leaves every byte of the devices as it is, on a store that was closed in order.
    (test_kill has one that was not.)"""
    with Store(container=None) as s:
        s.uri = "local:%s,%s" % (s.dir / "a.pst", s.dir / "b.pst")
        s.ok("format", "a.pst", "b.pst", "--size", "64m", store=False)
        s.ok("container", "create", "t")
        s.ok("container", "create", "k", "--layout", "object")
        make_tree(s.dir / "src")
        s.ok("put", "-r", "src/many", "t:/")
        s.ok("snapshot", "create", "t@v")
        s.ok("kv", "put", "k:7", "key", "value")
        os.utime(s.dir / "a.pst", ns=(1, 1))
        before = [digest(s.dir / d) for d in ("a.pst", "b.pst")]
        for args in (["status"], ["status", "--json"], ["ls", "t:/"], ["ls", "-l", "t@v:/many"],
                     ["stat", "t:/many"], ["stat", "t:/many/f001"], ["cat", "t:/many/f001"],
                     ["get", "-r", "t:/", "out"], ["get", "t@v:/many/f002", "f2"], ["du", "t:/"],
                     ["verify", "t:/"], ["verify", "src/many", "t@v:/many"], ["container", "list"],
                     ["container", "show", "t"], ["snapshot", "list", "t"], ["kv", "list", "k:7"],
                     ["kv", "get", "k:7", "key"]):
            s.ok(*args)
            for d, was in zip(("a.pst", "b.pst"), before):
                assert digest(s.dir / d) == was, (args, d)
        assert s.ok("fsck", "a.pst", "b.pst", store=False).startswith("clean")
        assert digest(s.dir / "a.pst") == before[0]
        assert (s.dir / "a.pst").stat().st_mtime_ns == 1, "not even opened for writing"


def test_fsck():
    with Store() as s:
        make_tree(s.dir / "src")
        s.ok("put", "-r", "src", "t:/")
        s.ok("snapshot", "create", "t@v")
        s.ok("rm", "-r", "t:/src/many")
        report = s.json("fsck", "s.pst", store=False)
        assert report["clean"] and report["findings"] == [] and report["blocks"] > 0, report
        assert report["objects"] > 10 and report["snapshots"] == 1, report
        assert s.ok("fsck", "s.pst", "--metadata-only", store=False).startswith("clean")
        s.fails("fsck", "none.pst", say="none.pst", store=False)
        # A flipped bit in the data: found, not repaired, and told with its place by who reads it.
        content = (s.dir / "src/big").read_bytes()
        with open(s.dir / "s.pst", "r+b") as f:
            image = f.read()
            at = image.find(content[1_000_000:1_000_512])
            assert at > 0
            f.seek(at)
            f.write(bytes([content[1_000_000] ^ 4]))
        bad = s.run("fsck", "s.pst", "--json", store=False)
        assert bad.returncode == 1, bad.err
        report = json.loads(bad.out)
        assert report["checksum_errors"] == 1 and len(report["findings"]) >= 1, report
        done = s.run("verify", "t:/")
        assert done.returncode == 1 and "src/big" in done.err + done.out, done.err
        s.fails("get", "t:/src/big", "g", say="reading at byte")
        # Scrub names the file, in each view that has the block, and says what it is in one that is
        # no file.
        s.ok("rm", "t:/src/deep/big.again")
        s.ok("container", "create", "k", "--layout", "object")
        value = os.urandom(20_000)
        s.ok("kv", "put", "k:0x7.0x9", "key", "-", input=value)
        with open(s.dir / "s.pst", "r+b") as f:
            at = f.read().find(value[:4096])
            f.seek(at)
            f.write(bytes([value[0] ^ 4]))
        done = s.run("scrub")
        assert done.returncode == 1, done.out
        inode = s.json("stat", "t:/src/big")["inode"]
        for say in ("scrub: t:/src/big, byte 999424 (object 0x7073742e66732e31.0x%x): " % inode,
                    "scrub: t@v:/src/", ", byte 999424 ", "scrub: container k, object 0x7.0x9, byte 0: "):
            assert say in done.err, (say, done.err)
        assert done.err.count("penstock: scrub: ") == 3, done.err
        done = s.run("scrub", "--json")
        bad = sorted(json.loads(done.out)["bad"], key=lambda b: (b["container"], b.get("snapshot", "")))
        assert [b["container"] for b in bad] == ["k", "t", "t"] and len(bad) == 3, bad
        assert bad[0]["path"] is None and bad[0]["object"] == "0x7.0x9", bad
        assert bad[1]["path"] == "/src/big" and "snapshot" not in bad[1] and bad[1]["byte"] == 999424, bad
        assert bad[2]["snapshot"] == "v" and bad[2]["path"] in ("/src/big", "/src/deep/big.again"), bad


def test_put_over_links():
    """A symbolic link or device takes the place of what has its name, or leaves it as it is."""
    with Store() as s:
        src = s.dir / "src"
        src.mkdir()
        os.symlink("one", src / "link")
        os.mkfifo(src / "pipe")
        write(src / "was_file", b"content")
        s.ok("put", "-r", "src", "t:/")
        (src / "link").unlink()
        (src / "was_file").unlink()
        os.symlink("two", src / "link")
        os.symlink("three", src / "was_file")
        s.ok("put", "-r", "src", "t:/")
        names = sorted(s.ok("ls", "t:/src").split())
        assert names == ["link", "pipe", "was_file"], names
        s.ok("get", "-r", "t:/src", "out")
        assert os.readlink(s.dir / "out/link") == "two"
        assert os.readlink(s.dir / "out/was_file") == "three"
        assert stat.S_ISFIFO((s.dir / "out/pipe").lstat().st_mode)
        # Nothing new may be made: what is there stays.
        s.ok("container", "set", "t", "--quota-objects", "1")
        (src / "link").unlink()
        os.symlink("four", src / "link")
        s.fails("put", src / "link", "t:/src/link")
        names = sorted(s.ok("ls", "t:/src").split())
        assert names == ["link", "pipe", "was_file"], names
        s.ok("container", "set", "t", "--quota-objects", "0")
        # A directory is not replaced, and nothing is left beside it.
        s.ok("mkdir", "t:/src/dir")
        os.symlink("five", src / "dir")
        s.fails("put", "-r", "src", "t:/")
        names = sorted(s.ok("ls", "t:/src").split())
        assert names == ["dir", "link", "pipe", "was_file"], names
        assert s.run("fsck", "s.pst", store=False).out.startswith("clean")


def test_fsck_and_objects_beside_the_tree():
    """Objects of somebody's own in a container of files, such as a benchmark's, are no damage."""
    with Store() as s:
        write(s.dir / "f", b"x")
        s.ok("put", "f", "t:/")
        s.ok("kv", "put", "t:7", "key", "value")
        s.ok("bench", "--container", "t", "--rw", "randwrite", "--size", "1m", "--runtime", "0.1", "--keep")
        report = s.json("fsck", "s.pst", store=False)
        assert report["clean"] and report["other_objects"] == 2, report
        assert s.json("fsck", "s.pst", "--repair", store=False)["clean"]
        assert s.ok("kv", "get", "t:7", "key") == "value"


def test_fsck_names():
    """Damage to the tree that only an object-level write can do is found and repaired."""
    hi = "0x7073742e66732e31"
    with Store() as s:
        write(s.dir / "src/file", b"content")
        write(s.dir / "src/sub/inner", b"inner")
        write(s.dir / "src/typed", b"typed")
        os.mkfifo(s.dir / "src/pipe")
        s.ok("put", "-r", "src", "t:/")
        src = s.json("stat", "t:/src")["inode"]
        sub = s.json("stat", "t:/src/sub")["inode"]
        file = s.json("stat", "t:/src/file")["inode"]
        typed = s.json("stat", "t:/src/typed")["inode"]
        pipe = s.json("stat", "t:/src/pipe")["inode"]
        assert s.json("fsck", "s.pst", store=False)["names"] == 6
        obj = "t:%s.%d" % (hi, src)
        s.ok("kv", "del", obj, "dfile")
        s.ok("kv", "del", obj, "dsub")
        s.ok("kv", "put", obj, "ddangling", "-", input=(12345 << 2).to_bytes(8, "little") + b"\x08")
        s.ok("kv", "put", obj, "dagain", "-", input=typed.to_bytes(8, "little") + b"\x08")
        s.ok("kv", "put", obj, "dpipe", "-", input=pipe.to_bytes(8, "little") + b"\x02")
        s.ok("kv", "put", obj, "dgarbage", "xx")
        bad = s.run("fsck", "s.pst", store=False)
        assert bad.returncode == 1, bad.out
        for say in ("t: no entry leads to inode %d" % file, "t: no entry leads to inode %d" % sub,
                    "dangling", "garbage", "inode %d counts 1 links, and has 2" % typed,
                    "entry 'pipe' says type", "inode %d counts 3 links" % src):
            assert say in bad.out, (say, bad.out)
        again = s.run("fsck", "s.pst", "--json", store=False)
        assert again.returncode == 1 and json.loads(again.out)["repaired"] == 0
        fixed = s.run("fsck", "s.pst", "--repair", store=False)
        assert fixed.returncode == 0 and "(repaired)" in fixed.out, fixed.out + fixed.err
        clean = s.run("fsck", "s.pst", store=False)
        assert clean.returncode == 0 and clean.out.startswith("clean"), clean.out
        assert s.ok("cat", "t:/lost+found/#%d" % file) == "content"
        assert s.ok("cat", "t:/lost+found/#%d/inner" % sub) == "inner"
        assert s.ok("cat", "t:/src/again", "t:/src/typed") == "typedtyped"
        assert s.json("stat", "t:/src/typed")["links"] == 2
        s.ok("rm", "-r", "t:/")
        assert s.run("fsck", "s.pst", store=False).out.startswith("clean")


def test_memory_store():
    with Store(container=None) as s:
        assert s.json("-s", "local:mem:64m", "container", "list", store=False) == []
        assert s.json("-s", "local:mem:64m?shards=2", "status", store=False)["size_bytes"] > 0


def main():
    names = sys.argv[2:]
    tests = [(n[5:], f) for n, f in globals().items()
             if n.startswith("test_") and (not names or n[5:] in names)]
    print("1..%d" % len(tests), flush=True)
    failed = 0
    for i, (name, f) in enumerate(tests, 1):
        try:
            f()
            print("ok %d - %s" % (i, name), flush=True)
        except Exception:
            failed += 1
            print("not ok %d - %s" % (i, name), flush=True)
            for line in traceback.format_exc().splitlines():
                print("# " + line, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
