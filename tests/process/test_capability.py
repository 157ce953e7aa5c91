#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""test_capability.py PENSTOCK: capabilities by the command: granted, used over tcp and TLS, renewed, revoked while they
are in use; what each refusal says, that it is in the audit log, and that it leaves nothing in the store."""
import json
import os
import select
import subprocess
import sys
import tempfile
import time

from ops import Server, Tap
from tls_files import Certs

P = os.path.abspath(sys.argv[1])
LIMIT_S = 60


class Audited(Server):
    count = 0

    def __init__(self, *args):
        Audited.count += 1
        self.audit = "%s/audit%d" % (tmp, Audited.count)
        super().__init__(P, "--audit-log", self.audit, *args, device="mem:64M")

    def audited(self, *texts):
        with open(self.audit, encoding="utf-8") as f:
            lines = [line for line in f if all(t in line for t in texts)]
        for line in lines:
            json.loads(line)
        return lines


def pst(uri, *args, token=None, data=None):
    env = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK")}
    if token:
        env["PENSTOCK_TOKEN"] = token
    return subprocess.run([P, "-s", uri, *args], capture_output=True, text=True, timeout=LIMIT_S, env=env, input=data)


def good(done):
    assert done.returncode == 0, (done.args, done.stdout, done.stderr)
    return done.stdout


def says(done, *texts):
    assert done.returncode != 0, (done.args, done.stdout)
    for text in texts:
        assert text in done.stderr, (text, done.stderr)


def content(s):
    """All that clients could have left: names with their attributes, containers with what they hold."""
    out = ""
    for c in "train", "other":
        out += good(pst(s.uri, "ls", "-lR", c + ":/")) + good(pst(s.uri, "container", "show", c, "--json"))
    return out


def fill(s):
    for c in "train", "other":
        good(pst(s.uri, "container", "create", c))
    good(pst(s.uri, "mkdir", "train:/in", "train:/in/sub"))
    for name in "train:/in/file", "train:/secret", "other:/theirs":
        good(pst(s.uri, "put", "-", name, data="content of " + name))


def grant(s, *args):
    done = json.loads(good(pst(s.uri, "capability", "grant", "--json", *args)))
    return done["capability"]["id"], done["token"]


def test_scope():
    """A token of one directory, read-only, over tcp."""
    with Audited() as s:
        fill(s)
        number, token = grant(s, "train:/in")
        before = content(s)
        says(pst(s.tcp, "ls", "train:/"), "nobody knows who this client is")
        # The directory is the root, and there is nothing above it.
        assert good(pst(s.tcp, "ls", "train:/", token=token)).split() == ["file", "sub"]
        assert good(pst(s.tcp, "cat", "train:/file", token=token)) == "content of train:/in/file"
        assert good(pst(s.tcp + "&token=" + token, "cat", "train:/file")) == "content of train:/in/file"
        says(pst(s.tcp, "cat", "train:/secret", token=token), "secret")
        says(pst(s.tcp, "cat", "train:/../secret", token=token), "secret")
        says(pst(s.tcp, "ls", "train:/in", token=token), "in")
        for name in "other:/theirs", ":penstock:/":
            says(pst(s.tcp, "cat", name, token=token))
        assert "other" not in good(pst(s.tcp, "container", "list", token=token))
        # Read-only is.
        refusals = len(s.audited('"request"', '"refused"', '"EACCES"'))
        for args in (("put", "-", "train:/new"), ("mkdir", "train:/d"), ("rm", "train:/file"), ("mv", "train:/file", "train:/g"),
                     ("snapshot", "create", "train@v"), ("container", "destroy", "train"), ("container", "create", "mine"),
                     ("kv", "put", "train", "k", "v")):
            says(pst(s.tcp, *args, token=token, data="x"))
            now = len(s.audited('"request"', '"refused"'))
            assert now > refusals or args[0] == "kv", args  # (files have no keys that a client could set)
            refusals = now
        assert content(s) == before
        # Who shows a token acts by it alone, the server's own user over the pipe too; and it may be another tenant's.
        refusals = len(s.audited('"request"', '"refused"'))
        assert good(pst(s.uri, "ls", "train:/", token=token)).split() == ["file", "sub"]
        says(pst(s.uri, "put", "-", "train:/new", token=token, data="x"))
        assert len(s.audited('"request"', '"refused"')) > refusals
        _, theirs = grant(s, "train:/in", "--tenant", "7")
        for uri in s.uri, s.tcp:
            assert good(pst(uri, "ls", "train:/", token=theirs)).split() == ["file", "sub"]
            says(pst(uri, "mkdir", "train:/d", token=theirs))
        says(pst(s.uri, "capability", "list", token=token), "the right admin")
        # Forged: another last character but one, of another capability, nonsense.
        for bad in token[:-2] + ("A" if token[-2] != "A" else "B") + token[-1], "pst1" + "A" * 54, "nonsense":
            says(pst(s.tcp, "ls", "train:/", token=bad), "not one of this store's")
        assert s.audited('"authenticate"', '"refused"', '"EBADF"')
        # It manages nothing, and says so by name.
        for args in (("list",), ("grant", "train", "-r", "all"), ("revoke", str(number)), ("renew", str(number), "-e", "1d")):
            says(pst(s.tcp, "capability", *args, "--control", s.control, token=token), "the right admin")
        for method in "ListCapabilities", "Grant", "Revoke", "Renew":
            assert s.audited('"control-call"', '"refused"', '"token:%d"' % number, "penstock.v1.Capabilities/" + method), method
        assert content(s) == before
        assert len(s.audited('"capability-grant"', '"granted"', '"uid:%d"' % os.getuid())) == 2


def test_audit():
    """Who was granted and refused what, from where: each call of the command has a line that says all of it."""
    with Audited() as s:
        fill(s)
        number, token = grant(s, "train:/in", "-r", "ro", "-e", "2d", "--subject", "cert:bob", "--ops-per-second", "5", "--ids", "7:8")
        (line,) = s.audited('"capability-grant"')
        e = json.loads(line)
        want = {"result": "granted", "who": "uid:%d" % os.getuid(), "peer": "unix", "capability": number,
                "rights": ["read", "list"], "container_name": "train", "prefix": "/in", "subject": "cert:bob", "ids": "7:8",
                "ops_per_s": 5}
        assert {k: e.get(k) for k in want} == want, e
        assert abs(e["expires"] - e["time"] - 2 * 86400) < 600, e
        good(pst(s.uri, "capability", "list"))
        assert s.audited('"control-call"', '"granted"', "Capabilities/ListCapabilities", '"uid:%d"' % os.getuid())
        good(pst(s.uri, "capability", "renew", str(number), "-e", "3d"))
        e = json.loads(s.audited('"capability-renew"')[0])
        assert abs(e["expires"] - e["time"] - 3 * 86400) < 600 and e["prefix"] == "/in", e
        says(pst(s.tcp, "mkdir", "train:/d", token=token))
        assert s.audited('"request"', '"op_name":"mkdir"', '"name":"d"', '"peer":"tcp:127.0.0.1:', '"token:%d"' % number)
        says(pst(s.tcp, "ls", "train:/", token="pst1" + "A" * 54))
        assert s.audited('"authenticate"', '"EBADF"', '"token:?"', '"peer":"tcp:127.0.0.1:')
        # The log that everybody has says it, too.
        assert "refused: the capability token is not one of this store's" in s.logged(), s.logged()


def make_tree(top):
    """Files small and large, sparse, with attributes, several names, links."""
    os.makedirs(top + "/sub/deeper")
    for i in range(40):
        with open("%s/sub/%d" % (top, i), "w", encoding="utf-8") as f:
            f.write("file %d\n" % i * i)
    with open(top + "/large", "wb") as f:
        f.write(os.urandom(5 << 20))
    with open(top + "/sparse", "wb") as f:
        f.seek(9 << 20)
        f.write(b"end")
    os.link(top + "/large", top + "/sub/deeper/same")
    os.symlink("sub/1", top + "/link")
    try:
        os.setxattr(top + "/sub/1", "user.color", b"red")
        os.setxattr(top + "/large", "user.color", b"blue")
    except OSError:
        pass  # a file system without them


def test_directory():
    """Every command that works on files, under a token of one directory: files by number, too."""
    with Audited() as s:
        fill(s)
        tree = tmp + "/tree"
        make_tree(tree)
        _, rw = grant(s, "train:/in", "--rights", "rw")
        _, ro = grant(s, "train:/in", "--rights", "ro")
        good(pst(s.tcp, "put", "-r", tree, "train:/t", token=rw))
        good(pst(s.tcp, "put", "-", "train:/stdin", token=rw, data="y" * (3 << 20)))
        good(pst(s.tcp, "put", tree + "/large", "train:/again", token=rw))
        good(pst(s.tcp, "put", tree + "/large", "train:/again", token=rw))  # in its place
        good(pst(s.uri, "verify", tree + "/large", "train:/in/again"))
        good(pst(s.tcp, "rm", "train:/stdin", token=rw))
        for token in rw, ro:
            good(pst(s.tcp, "verify", tree, "train:/t", token=token))
            good(pst(s.tcp, "verify", "train:/t", token=token))
            out = "%s/out-%s" % (tmp, token[-4:])
            good(pst(s.tcp, "get", "-r", "train:/t", out, token=token))
            good(subprocess.run(["diff", "-r", "--no-dereference", tree, out], capture_output=True, text=True))
            with open(tree + "/large", "rb") as f:
                got = subprocess.run([P, "-s", s.tcp, "cat", "train:/t/large"], capture_output=True, timeout=LIMIT_S,
                                     env=dict(os.environ, PENSTOCK_TOKEN=token))
                assert got.returncode == 0 and got.stdout == f.read(), got.stderr
            assert "deeper" in good(pst(s.tcp, "ls", "-lR", "train:/t", token=token))
            assert "large" in good(pst(s.tcp, "stat", "train:/t/large", token=token))
            good(pst(s.tcp, "du", "train:/t", token=token))
        good(pst(s.tcp, "mv", "train:/t/large", "train:/t/big", token=rw))
        good(pst(s.tcp, "mkdir", "train:/t/new", token=rw))
        # Without the right.
        before = content(s)
        refusals = len(s.audited('"request"', '"refused"', '"EACCES"'))
        for args in (("put", "-", "train:/t/x"), ("put", "-r", tree, "train:/u"), ("mv", "train:/t/big", "train:/t/c"),
                     ("rm", "-r", "train:/t"), ("rm", "train:/t/big"), ("mkdir", "train:/t/y")):
            says(pst(s.tcp, *args, token=ro, data="x"))
            now = len(s.audited('"request"', '"refused"', '"EACCES"'))
            assert now > refusals, args
            refusals = now
        assert content(s) == before
        _, names = grant(s, "train:/in", "--rights", "list")
        good(pst(s.tcp, "ls", "-lR", "train:/t", token=names))
        for args in ("cat", "train:/t/big"), ("get", "-r", "train:/t", tmp + "/none"), ("verify", tree, "train:/t"):
            says(pst(s.tcp, *args, token=names))
        _, blind = grant(s, "train:/in", "--rights", "read")
        assert good(pst(s.tcp, "cat", "train:/file", token=blind)) == "content of train:/in/file"
        says(pst(s.tcp, "ls", "train:/t", token=blind))
        # What was moved out is not there any more; what is outside never was.
        good(pst(s.uri, "mv", "train:/in/t/sub/3", "train:/3"))
        for path in "train:/t/sub/3", "train:/3", "train:/../3":
            says(pst(s.tcp, "cat", path, token=rw), "3")
        good(pst(s.tcp, "rm", "-r", "train:/t", token=rw))


def test_part():
    """Who has a directory works in it, and hears nothing of what is beside it; who does not manage the server, not of
    its devices."""
    with Audited() as s:
        fill(s)
        good(pst(s.uri, "snapshot", "create", "train@v"))
        _, part = grant(s, "train:/in", "-r", "read")
        _, whole = grant(s, "train", "-r", "read")
        for args in ("container", "show", "train"), ("container", "list"):
            seen = [json.loads(good(pst(uri, *args, "--json", token=token)))
                    for uri, token in ((s.tcp, part), (s.tcp, whole), (s.uri, None))]
            seen = [next(c for c in x if c["name"] == "train") if isinstance(x, list) else x for x in seen]
            assert seen[1] == seen[2] and seen[1]["used_objects"] and seen[1]["logical_bytes"] and seen[1]["snapshots"] == 1, seen
            assert not any(seen[0][k] for k in ("used_objects", "used_bytes", "logical_bytes", "snapshots")), seen
            assert (seen[0]["name"], seen[0]["layout"]) == (seen[1]["name"], seen[1]["layout"]), seen
        refusals = len(s.audited('"snapshot-list"', '"EACCES"'))
        says(pst(s.tcp, "snapshot", "list", "train", token=part))
        assert len(s.audited('"snapshot-list"', '"EACCES"')) == refusals + 1
        assert "v" in good(pst(s.tcp, "snapshot", "list", "train", token=whole))
        assert good(pst(s.tcp, "cat", "train@v:/file", token=part)) == "content of train:/in/file"
        for token in part, whole:
            assert json.loads(good(pst(s.tcp, "status", "--json", token=token)))["devices"] == []
        status = json.loads(good(pst(s.uri, "status", "--json")))
        assert len(status["devices"]) == 1, status
        # What the server keeps for itself is not counted: lists do not have it either.
        assert status["containers"] == len(json.loads(good(pst(s.uri, "container", "list", "--json")))) == 2, status


def test_anyone():
    """What anyone has, who shows nothing has; and nothing more."""
    with Audited() as s:
        fill(s)
        number, _ = grant(s, "train:/in", "--subject", "anyone")
        assert good(pst(s.tcp, "cat", "train:/file")) == "content of train:/in/file"
        for args in ("put", "-", "train:/new"), ("cat", "train:/secret"), ("ls", "other:/"):
            says(pst(s.tcp, *args, data="x"))
        assert s.audited('"session-open"', '"granted"', '"who":"anyone"', '"peer":"tcp:127.0.0.1:')
        assert s.audited('"request"', '"refused"', '"who":"anyone"', '"op_name":"create"')
        says(pst(s.tcp, "capability", "list", "--control", s.control), "the right admin")
        good(pst(s.uri, "capability", "revoke", str(number)))
        says(pst(s.tcp, "ls", "train:/"), "nobody knows who this client is")


def test_life():
    """Expiry, renewal, revocation."""
    with Audited() as s:
        fill(s)
        number, token = grant(s, "train", "--rights", "rw", "--expires", "1s")
        short = json.loads(good(pst(s.uri, "capability", "list", "--json")))
        short = next(c for c in short if c["id"] == number)
        assert short["container"] == "train" and short["rights"] == ["read", "write", "append", "setattr", "list", "remove", "create"]
        while time.time_ns() <= short["expires_ns"]:
            time.sleep(0.05)
        before = content(s)
        says(pst(s.tcp, "put", "-", "train:/late", token=token, data="x"), "has expired")
        assert s.audited('"authenticate"', '"refused"', '"EKEYEXPIRED"')
        assert content(s) == before
        assert good(pst(s.uri, "-q", "capability", "renew", str(number), "--expires", "7d")).strip() == token
        good(pst(s.tcp, "put", "-", "train:/late", token=token, data="x"))
        assert "never expires" in (good(pst(s.uri, "capability", "renew", str(number), "-e", "never")) and
                                   good(pst(s.uri, "capability", "list")))
        good(pst(s.uri, "capability", "revoke", str(number)))
        before = content(s)
        says(pst(s.tcp, "put", "-", "train:/later", token=token, data="x"), "was revoked")
        assert s.audited('"authenticate"', '"refused"', '"EKEYREVOKED"') and s.audited('"capability-revoke"', '"granted"')
        assert content(s) == before
        says(pst(s.uri, "capability", "revoke", str(number)), "no such capability")


def test_moved():
    """A grant goes with its directory, and not to another one of that name; lists say what it was called when granted."""
    with Audited() as s:
        fill(s)
        _, token = grant(s, "train:/in")
        good(pst(s.uri, "mv", "train:/in", "train:/away"))
        good(pst(s.uri, "mkdir", "train:/in"))
        good(pst(s.uri, "put", "-", "train:/in/new", data="x"))
        assert good(pst(s.tcp, "ls", "train:/", token=token)).split() == ["file", "sub"]
        assert [c["prefix"] for c in json.loads(good(pst(s.uri, "capability", "list", "--json"))) if c["prefix"]] == ["/in"]


def test_watch():
    """A change is heard of by whoever may read all of the container; nothing that came after a number is missed."""
    with Audited() as s:
        fill(s)
        number, token = grant(s, "train")
        env = dict(os.environ, PENSTOCK_TOKEN=token)
        watch = subprocess.Popen([P, "-s", s.tcp, "watch", "train", "--json", "-n", "2"], stdout=subprocess.PIPE, text=True, env=env)
        seen, changes = [], 0
        while len(seen) < 2:  # it may not be there yet when the first ones are made
            good(pst(s.uri, "put", "-", "train:/w%d" % changes, data="x"))
            changes += 1
            assert watch.poll() in (None, 0) and changes < 1000
            if select.select([watch.stdout], [], [], 0.05)[0]:
                text = ""
                while not text.endswith("}\n"):
                    text += watch.stdout.readline()
                number_text = json.loads(text)["change"]
                assert isinstance(number_text, str), "a number would be rounded by who reads it as a double"
                seen.append(int(number_text))
        assert watch.wait(LIMIT_S) == 0 and seen[0] < seen[1]
        watch.stdout.close()
        # Again from the first: at once.
        again = good(pst(s.tcp, "watch", "train", "--json", "-n", "1", "--since", str(seen[0]), token=token))
        assert int(json.loads(again)["change"]) >= seen[1]
        says(pst(s.tcp, "watch", "other", token=token), "other")
        last = json.loads(good(pst(s.uri, "watch", "train", "--json", "-n", "1", "--since", "1")))["change"]
        says(pst(s.tcp, "watch", "train", "--timeout", "1", "--since", str(last), token=token), "train: no change within 1 s")
        good(pst(s.uri, "put", "-", "other:/w", data="x"))  # of no concern
        says(pst(s.tcp, "watch", "train", "--timeout", "1", "--since", str(last), token=token), "train: no change within 1 s")
        _, part = grant(s, "train:/in")
        says(pst(s.tcp, "watch", "train", token=part), "train")
        # Revoked while it waits.
        watch = subprocess.Popen([P, "-s", s.tcp, "watch", "train"], stderr=subprocess.PIPE, text=True, env=env)
        until = time.monotonic() + LIMIT_S
        while len(s.audited('"session-open"', '"token:%d"' % number)) < 6:
            assert time.monotonic() < until and watch.poll() is None
            time.sleep(0.01)
        good(pst(s.uri, "capability", "revoke", str(number)))
        assert watch.wait(LIMIT_S) == 1 and watch.stderr.read()
        watch.stderr.close()


def test_revoked_in_flight():
    """A file is being stored when its capability goes: the client is told, and no part of the file is there."""
    with Audited() as s:
        fill(s)
        before = content(s)
        number, token = grant(s, "train", "-r", "rw")
        env = dict(os.environ, PENSTOCK_TOKEN=token)
        put = subprocess.Popen([P, "-s", s.tcp, "put", "-", "train:/half"], stdin=subprocess.PIPE,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env)
        put.stdin.write(b"x" * (8 << 20))
        put.stdin.flush()
        until = time.monotonic() + LIMIT_S
        while not s.audited('"session-open"', '"token:%d"' % number):
            assert time.monotonic() < until and put.poll() is None
            time.sleep(0.02)
        good(pst(s.uri, "capability", "revoke", str(number)))
        try:
            put.stdin.write(b"x" * (8 << 20))
        except BrokenPipeError:
            pass
        error = put.communicate(timeout=LIMIT_S)[1].decode()
        assert put.returncode == 1 and "revoked" in error, (put.returncode, error)
        assert s.audited('"EKEYREVOKED"')
        until = time.monotonic() + LIMIT_S
        while content(s) != before:  # what was stored of it without a name is cleaned up behind
            assert time.monotonic() < until, (before, content(s))
            time.sleep(0.1)


def test_certificates():
    certs = Certs(tmp + "/certs")
    with Audited("--tls-cert", certs("server.pem"), "--tls-key", certs("server.key"), "--tls-ca", certs("ca.pem")) as s:
        fill(s)

        def uri(name):
            return "pst://localhost:%s?channel=tcp&tls-ca=%s&tls-cert=%s&tls-key=%s" % (
                s.port, certs("ca.pem"), certs(name + ".pem"), certs(name + ".key"))
        says(pst(uri("node1"), "ls", "train:/"), "cert:node1")
        number, token = grant(s, "train:in", "--subject", "cert:node1")
        assert good(pst(uri("node1"), "ls", "train:/")).split() == ["file", "sub"]
        assert "channel     tcp+tls localhost" in good(pst(uri("node1"), "status"))
        says(pst(uri("node2"), "ls", "train:/"), "cert:node2")
        assert good(pst(uri("node2"), "ls", "train:/", token=token)).split() == ["file", "sub"]
        # An administrator from afar: over TLS with its certificate.
        control = "localhost:" + s.control.rsplit(":", 1)[1]
        says(pst(uri("node1"), "capability", "list", "--control", control), "the right admin")
        admin, _ = grant(s, "*", "--rights", "all", "--subject", "cert:node2")
        assert "cert:node1" in good(pst(uri("node2"), "capability", "list", "--control", control))
        good(pst(uri("node2"), "capability", "revoke", str(number), "--control", control))
        assert s.audited('"capability-revoke"', '"granted"', '"cert:node2"')
        says(pst(uri("node1"), "ls", "train:/"), "cert:node1")
        # Strangers meet TLS, not the control plane.
        for bad in uri("stranger"), uri("node2").replace("ca.pem", "other.pem"), "pst://localhost:%s?channel=tcp" % s.port:
            says(pst(bad, "capability", "list", "--control", control), "no control plane at")


def test_words():
    with Audited() as s:
        fill(s)
        for args, text in ((("grant", "nothing"), "no such container"), (("grant", "train:/nowhere"), "no such container or dir"),
                           (("grant", "train", "-r", "fly"), "--rights fly"), (("grant", "train", "-e", "soon"), "--expires soon"),
                           (("grant", "train", "--ids", "5"), "--ids 5"), (("grant",), "grant takes"), (("renew", "x", "-e", "1d"), "number"),
                           (("revoke", "1"), "the owner's"), (("renew", "1", "-e", "1d"), "the owner's"), (("list", "x"), "no operands"), (("steal",), "grant, renew"),
                           (("revoke", "5", "-r", "ro"), "option is grant's"), (("renew", "5"), "until when?"),
                           (("grant", "train", "--ids", "0:0$xyz"), "--ids 0:0$xyz"), (("grant", "train", "--ids", "1-2$3-4"), "--ids 1-2$"),
                           (("grant", "train", "--ids", "1$2-3"), "--ids 1$"), (("grant", "train", "--ids", "1-2,"), "--ids 1-2,")):
            says(pst(s.uri, "capability", *args), text)
        for who in "bob", "uid:-1", "uid:007", "gid:x", "cert:", "uid:4294967296":
            says(pst(s.uri, "capability", "grant", "train", "--subject", who), "--subject " + who)
        _, token = grant(s, "train", "--ids", "7:8", "-r", "rw")
        good(pst(s.tcp, "put", "-", "train:/squashed", token=token, data="x"))
        attr = json.loads(good(pst(s.uri, "stat", "--json", "train:/squashed")))
        attr = attr[0] if isinstance(attr, list) else attr
        assert (attr["uid"], attr["gid"]) == (7, 8), attr
        number, _ = grant(s, "train", "--ids", "5-7,100-200", "--tenant", "3", "--bytes-per-second", "10m", "--ops-per-second", "50")
        c = next(c for c in json.loads(good(pst(s.uri, "capability", "list", "--json"))) if c["id"] == number)
        assert c["tenant"] == 3 and c["bytes_per_s"] == 10 << 20 and c["ops_per_s"] == 50 and c["rights"] == ["read", "list"], c
    says(pst(s.uri, "capability", "list"), "nobody listens")
    says(pst(s.tcp, "capability", "list"), "no control plane at")
    says(pst("local:mem:64M", "capability", "list"), "a served store")
    says(pst("pst://192.0.2.1?channel=tcp", "capability", "list", token="pst1"), "others can read")


tmp = tempfile.mkdtemp(prefix="pst-cap-")


def test_control_address():
    """No port is guessed, neither 443 nor another one."""
    for at in ("", "127.0.0.1", "127.0.0.1:", "[::1]"):
        says(pst("pst://127.0.0.1:1", "capability", "list", "--control", at), "write HOST:PORT or unix:PATH")


def main():
    tap = Tap()
    for name, f in sorted(globals().items()):
        if not name.startswith("test_"):
            continue
        try:
            f()
            tap.check(name[5:], True)
        except Exception as e:  # told, and the next one goes on
            tap.check(name[5:], False, "%r at line %d" % (e, e.__traceback__.tb_next.tb_lineno))
    subprocess.run(["rm", "-rf", tmp], check=True)
    return tap.end()


sys.exit(main())
