#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""test_users.py PENSTOCK: several users of one host. Who comes to the server's socket is who the kernel says, and gets what
was granted to that user; and a socket that somebody else put where a client's own server would be is not trusted.
Takes root, who can be others."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

from ops import Server, Tap

LIMIT_S = 60
FRIEND, STRANGER = 65533, 65534

try:
    for other in FRIEND, STRANGER:
        subprocess.run(["true"], check=True, user=other, group=other, extra_groups=[])
except (OSError, subprocess.SubprocessError) as e:
    print("1..0 # skip: only root can be other users: %s" % e)
    sys.exit(0)

folder = tempfile.mkdtemp(prefix="pst-users-")
os.chmod(folder, 0o755)
P = os.path.join(folder, "penstock")  # where they may all go
shutil.copy(os.path.abspath(sys.argv[1]), P)
os.chmod(P, 0o755)


def pst(uri, *args, uid=0, runtime=None, data=None):
    env = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK") and k != "XDG_RUNTIME_DIR"}
    if runtime:
        env["XDG_RUNTIME_DIR"] = runtime
    return subprocess.run([P, "-s", uri, *args], capture_output=True, text=True, timeout=LIMIT_S, env=env, input=data,
                          user=uid, group=uid, extra_groups=[])


def good(done):
    assert done.returncode == 0, (done.args, done.stdout, done.stderr)
    return done.stdout


def says(done, *texts):
    assert done.returncode != 0, (done.args, done.stdout)
    for text in texts:
        assert text in done.stderr, (text, done.stderr)


class Open(Server):
    """A server to whose socket the way is open."""

    def __init__(self, *args):
        super().__init__(P, *args, device="mem:64M")
        os.chmod(self.dir, 0o755)
        good(pst(self.uri, "container", "create", "train"))
        good(pst(self.uri, "put", "-", "train:/file", data="theirs"))


def test_granted_to_a_user():
    audit = os.path.join(folder, "audit")
    with Open("--audit-log", audit) as s:
        good(pst(s.uri, "capability", "grant", "train", "-r", "ro", "--subject", "uid:%d" % FRIEND))
        assert good(pst(s.uri, "cat", "train:/file", uid=FRIEND)) == "theirs"
        says(pst(s.uri, "put", "-", "train:/new", uid=FRIEND, data="x"), "denied")
        says(pst(s.uri, "cat", "train:/file", uid=STRANGER), "refused")
        with open(audit, encoding="utf-8") as f:
            events = [json.loads(line) for line in f]
        who = [e["who"] for e in events if e["result"] == "refused"]
        assert "uid:%d" % FRIEND in who and "uid:%d" % STRANGER in who, events
        # Without a word about the channel, too: it is the best that both can use.
        assert good(pst("pst://127.0.0.1:%s?socket=%s" % (s.port, s.sock), "cat", "train:/file", uid=FRIEND)) == "theirs"
        assert "new" not in good(pst(s.uri, "ls", "train:/"))


def test_a_socket_of_somebody_else():
    """The folder decides: what lies in one's own is one's own server, or root's."""
    with Open() as s:
        runtime = os.path.join(folder, "runtime")
        place = os.path.join(runtime, "penstock")
        os.makedirs(place)
        for kind in "sock", "control":
            os.symlink(s.sock[:-4] + kind, os.path.join(place, "%s.%s" % (s.port, kind)))
        there = "pst://127.0.0.1:" + s.port
        status = json.loads(good(pst(there, "status", "--json", runtime=runtime)))
        assert status["channel"].startswith("pipe") and not status["fallbacks"], status
        good(pst(there, "capability", "list", runtime=runtime))
        for owner, mode in (STRANGER, 0o755), (0, 0o777):
            os.chown(place, owner, owner)
            os.chmod(place, mode)
            says(pst(there + "?channel=pipe", "status", runtime=runtime), "is not trusted")
            says(pst(there + "?channel=pipe", "capability", "list", runtime=runtime), "nobody listens")
            # Over tcp the server does not know who comes; that it is tcp, and why, is said.
            done = pst(there, "status", runtime=runtime)
            says(done, "nobody knows who this client is")


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
    shutil.rmtree(folder)
    return tap.end()


sys.exit(main())
