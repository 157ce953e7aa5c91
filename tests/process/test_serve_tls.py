#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""test_serve_tls.py PENSTOCK: who is let in over TLS, who is not, and that both sides say why: plaintext to a TLS port
and TLS to a plain one, certificates of nobody, of the wrong authority, expired, for another name; and which addresses
a server takes at all."""
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from tls_files import Certs  # noqa: E402

P = os.path.abspath(sys.argv[1])
LIMIT_S = 60  # for anything at all; every deadline under test is far below


class Server:
    alive = []

    def __init__(self, *args, store="local:mem:64M", listen="127.0.0.1:0"):
        self.p = subprocess.Popen([P, "serve", store, "--listen", listen, "--socket", tmp + "/sock", *args],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENV)
        self.hello = self.p.stdout.readline()
        Server.alive.append(self)
        self.log = []
        self.reader = threading.Thread(target=lambda: self.log.extend(iter(self.p.stderr.readline, "")))
        self.reader.start()
        self.port = None
        if self.hello:
            self.port = int(self.hello.split(" (tcp")[0].rsplit(":", 1)[1])

    def logs(self, text):
        """Waits until a line of the log has @text."""
        until = time.monotonic() + LIMIT_S
        while not any(text in line for line in self.log):
            assert time.monotonic() < until and self.p.poll() is None, (text, self.log)
            time.sleep(0.01)

    def end(self):
        Server.alive.remove(self)
        self.p.terminate()
        status = self.p.wait(LIMIT_S)
        self.reader.join()
        self.p.stdout.close()
        self.p.stderr.close()
        return status, "".join(self.log)


def pst(uri, *args):
    return subprocess.run([P, "-s", uri, *args], capture_output=True, text=True, timeout=LIMIT_S, env=ENV)


def says(done, *texts):
    assert done.returncode != 0, done.stdout
    for text in texts:
        assert text in done.stderr, (text, done.stderr)
    assert done.stderr.count("\n") <= 2, done.stderr  # a sentence, and no more


def tls(server, **options):
    options = dict({"tls-ca": certs("ca.pem")}, **options)
    return "pst://localhost:%d?channel=tcp&%s" % (server.port, "&".join("%s=%s" % kv for kv in options.items() if kv[1]))


def me(name):
    return {"tls-cert": certs(name + ".pem"), "tls-key": certs(name + ".key")}


def files(name="server", ca="ca"):
    more = ("--tls-ca", certs(ca + ".pem")) if ca else ()
    return ("--tls-cert", certs(name + ".pem"), "--tls-key", certs(name + ".key")) + more


def test_certificates():
    s = Server(*files())
    assert "(tcp+tls)" in s.hello, s.hello
    # Known, but nothing was granted to it: it is told under which name.
    says(pst(tls(s, **me("node1")), "status"), "refused", "cert:node1")
    says(pst(tls(s), "status"), "wants a certificate of ours")
    s.logs("has shown no certificate")
    says(pst(tls(s, **me("stranger")), "status"), "refuses our certificate", "unknown CA")
    s.logs("is of no authority in " + certs("ca.pem"))
    # Of our own certificate it is known before anybody is asked.
    says(pst(tls(s, **me("late")), "status"), "expired at")
    says(pst(tls(s, **dict(me("node1"), **{"tls-key": certs("node2.key")})), "status"), "is not that of the certificate")
    says(pst(tls(s, **{"tls-cert": certs("node1.pem")}), "status"), "needs its key")
    says(pst(tls(s, **{"tls-ca": certs("none.pem")}), "status"), "cannot read the authority")
    # The server's is of nobody whom the client knows.
    says(pst(tls(s, **dict(me("node1"), **{"tls-ca": certs("other.pem")})), "status"), "is of no authority in")
    s.logs("unknown CA")
    says(pst(tls(s, **dict(me("node1"), **{"tls-ca": None, "tls": "yes"})), "status"), "is of no authority in the system's list")
    says(pst(tls(s, **dict(me("node1"), **{"tls-ca": certs("old.pem")})), "status"), "has expired")
    s.logs("certificate expired")
    says(pst(tls(s, **dict(me("node1"), **{"tls-name": "other.example"})), "status"), "is not for the name 'other.example'")
    # A user of this host needs no certificate.
    done = pst("pst://localhost:%d?tls-ca=%s&socket=%s" % (s.port, certs("ca.pem"), tmp + "/sock"), "status")
    assert done.returncode == 0 and "channel     pipe " in done.stdout, (done.stdout, done.stderr)
    assert s.end()[0] == 0


def test_wrong_name():
    s = Server(*files("elsewhere"))
    says(pst(tls(s, **me("node1")), "status"), "is not for the name 'localhost'")
    done = pst(tls(s, **dict(me("node1"), **{"tls-name": "elsewhere.example"})), "status")
    says(done, "cert:node1")
    s.end()


def test_expired_client():
    s = Server(*files(ca="old"))
    says(pst(tls(s, **me("node1")), "status"), "refuses our certificate", "certificate expired")
    s.logs("has expired")
    s.end()


def test_without_client_certificates():
    """TLS for the server alone: clients are known by their tokens."""
    s = Server(*files(ca=None))
    says(pst(tls(s), "status"), "nobody knows who this client is", "PENSTOCK_TOKEN")
    says(pst(tls(s, token="pst1" + "x" * 54), "status"), "not one of this store's")
    s.end()


def test_final():
    """What time does not heal is not waited for, also when a server that isn't there yet is."""
    s = Server(*files())
    start = time.monotonic()
    says(pst(tls(s, connect=LIMIT_S, **me("stranger")), "status"), "refuses our certificate")
    assert time.monotonic() - start < LIMIT_S / 2
    s.end()


def test_plain_and_tls():
    s = Server(*files())
    says(pst("pst://localhost:%d?channel=tcp" % s.port, "status"), "if it wants TLS", "tls-ca=FILE")
    s.logs("doesn't speak TLS")
    with socket.create_connection(("127.0.0.1", s.port)) as c:
        c.sendall(b"GET / HTTP/1.0\r\n\r\n" + bytes(64))
        c.settimeout(LIMIT_S)
        while c.recv(4096):
            pass
    says(pst(tls(s, **me("node1")), "status"), "cert:node1")  # it still serves
    assert s.end()[0] == 0
    s = Server()
    says(pst(tls(s, **me("node1")), "status"), "is it for TLS?")
    s.logs("speaks TLS, and this door does not")
    with socket.create_connection(("127.0.0.1", s.port)) as c:
        c.sendall(b"GET / HTTP/1.0\r\n\r\n" + bytes(64))
        c.settimeout(LIMIT_S)
        try:
            while c.recv(4096):
                pass
        except ConnectionResetError:
            pass
    s.logs("does not speak Penstock's protocol")
    says(pst("pst://localhost:%d?channel=tcp" % s.port, "status"), "nobody knows who this client is", "channel=pipe")
    says(pst("pst://localhost:%d?channel=pipe&tls=yes" % s.port, "status"), "has no TLS")
    assert s.end()[0] == 0


def test_silence():
    """Whoever connects and says nothing is let go within the deadline; others don't wait for it."""
    s = Server(*files())
    with socket.create_connection(("127.0.0.1", s.port)) as c:
        says(pst(tls(s, **me("node1")), "status"), "cert:node1")
        c.settimeout(LIMIT_S)
        assert c.recv(1) == b""
    s.logs("no TLS handshake within")
    s.end()
    # And a server that says nothing is given up within the client's.
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for more in "", "&tls-ca=" + certs("ca.pem"):
            start = time.monotonic()
            says(pst("pst://127.0.0.1:%d?channel=tcp&connect=1%s" % (silent.getsockname()[1], more), "status"), "127.0.0.1")
            assert time.monotonic() - start < LIMIT_S / 2


def test_addresses():
    for host in "0.0.0.0", "[::]", "127.example.org":
        s = Server("--seal", "off", listen=host + ":0")
        assert not s.hello
        status, log = s.end()
        assert status == 1 and "others can reach that address" in log and "--insecure" in log, log
    for args, text in ((files() + ("--insecure",), "one of them"), (files()[:2], "and its key"), (files()[4:], "takes a certificate"),
                       (files("late"), "expired at"), (files("none"), "cannot read"),
                       (("--tls-cert", certs("server.pem"), "--tls-key", certs("node1.key")), "is not that of")):
        s = Server(*args)
        status, log = s.end()
        assert not s.hello and status == 1 and text in log, (args, log)
    for args in files(), files(ca=None), ("--insecure",):
        s = Server(*args, listen="0.0.0.0:0")
        assert s.hello, s.log
        assert s.end()[0] == 0


def own_address():
    """One of this host's that is not loopback, or None. (Nothing is sent.)"""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))
        except OSError:
            return None
        return s.getsockname()[0]


def test_token_is_kept():
    """A token is not shown where others can read it: not even to a server that would do without."""
    host = own_address()
    if not host or host.startswith("127."):
        print("# skip: this host has no address but loopback")
        return
    s = Server("--insecure", listen="0.0.0.0:0")
    uri = "pst://%s:%d?channel=tcp" % (host, s.port)
    assert pst(uri, "status").returncode == 0
    says(pst(uri + "&token=pst1secret", "status"), "the token is none")
    says(pst(uri + "&token=pst1secret&seal=off", "status"), "others can read this channel", "insecure=yes")
    says(pst(uri + "&token=pst1secret&insecure=yes", "status"), "not one of this store's")
    assert s.end()[0] == 0


def test_sealed():
    """Where others can read, a server without TLS takes sealed channels and nothing else; so does a client with a token."""
    host = own_address()
    if not host or host.startswith("127."):
        print("# skip: this host has no address but loopback")
        return
    audit = tmp + "/sealed.audit"
    s = Server("--audit-log", audit, listen="0.0.0.0:0")
    uri = "pst://%s:%d?channel=tcp" % (host, s.port)
    assert "(tcp+sealed)" in s.hello, s.hello
    owner = "pst://localhost:%d?channel=pipe&socket=%s" % (s.port, tmp + "/sock")
    done = pst(owner, "-q", "capability", "grant", "*", "--rights", "all")
    assert done.returncode == 0, done.stderr
    token = done.stdout.split("pst1", 1)[1].split()[0]
    good = uri + "&token=pst1" + token
    done = pst(good, "status")
    assert done.returncode == 0 and "sealed      aes-256-gcm" in done.stdout, (done.stdout, done.stderr)
    with open(tmp + "/data", "wb") as f:
        f.write(os.urandom(3 << 20))
    for args in ("container", "create", "c"), ("put", tmp + "/data", "c:/data"), ("get", "c:/data", tmp + "/back"):
        done = pst(good, *args)
        assert done.returncode == 0, (args, done.stderr)
    with open(tmp + "/data", "rb") as f, open(tmp + "/back", "rb") as g:
        assert f.read() == g.read()
    # Without a token, with a wrong one, in clear, and with one that is revoked.
    says(pst(uri, "status"), "has to be sealed", "token")
    wrong = "pst1" + token[:40] + ("A" if token[40] != "A" else "B") + token[41:]
    says(pst(uri + "&token=" + wrong, "status"), "not one of this store's")
    says(pst(good + "&insecure=yes", "status"), "has to be sealed")
    assert pst(owner, "capability", "revoke", "2").returncode == 0
    says(pst(good, "status"), "was revoked")
    status, log = s.end()
    assert status == 0 and "not one of this store's" in log, log
    refused = [e for e in map(json.loads, open(audit)) if e["event"] == "channel"]
    assert refused and all(e["error"] == "EPERM" and "sealed" in e["why"] and e["peer"].startswith("tcp:%s:" % host)
                           for e in refused), refused
    assert "refused: others can read this channel" in log, log
    assert any('"claims":2' in line and "EBADF" in line and "token:?" in line for line in open(audit)), open(audit).read()
    # To a server that does not seal, or that nobody can be sure of.
    s = Server("--insecure", "--seal", "off", listen="0.0.0.0:0")
    says(pst("pst://%s:%d?channel=tcp&token=pst1%s" % (host, s.port, token), "status"), "does not seal")
    assert s.end()[0] == 0
    s = Server("--seal", "required")
    done = pst("pst://127.0.0.1:%d?channel=tcp&token=pst1%s" % (s.port, token), "status")
    says(done, "takes sealed channels only: name it with seal=required")
    assert s.end()[0] == 0
    s = Server("--seal", "required", "--insecure")
    assert not s.hello and "one of them" in s.end()[1]


def test_open_rides_through():
    """A client without a token, at a server that asks for none, where others can read: the server is killed, and it goes on."""
    host = own_address()
    if not host or host.startswith("127."):
        print("# skip: this host has no address but loopback")
        return
    dev = tmp + "/rides"
    with open(dev, "wb") as f:
        f.truncate(64 << 20)
    subprocess.run([P, "-q", "format", dev], check=True, env=ENV, timeout=LIMIT_S)
    s = Server("--insecure", "--control", "none", store="local:" + dev, listen=host + ":0")
    port = s.port
    uri = "pst://%s:%d?channel=tcp" % (host, port)
    assert pst(uri, "container", "create", "c").returncode == 0
    put = subprocess.Popen([P, "-v", "-s", uri, "put", "-", "c:/long"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=ENV)
    while b"connected over tcp" not in put.stderr.readline():
        assert put.poll() is None
    s.p.kill()
    s.end()
    s = Server("--insecure", "--control", "none", store="local:" + dev, listen="%s:%d" % (host, port))
    data = os.urandom(3 << 20)
    said = put.communicate(data, LIMIT_S)[1].decode()
    assert put.returncode == 0 and "connecting again" in said, said
    done = subprocess.run([P, "-s", uri, "cat", "c:/long"], stdout=subprocess.PIPE, env=ENV, timeout=LIMIT_S)
    assert done.returncode == 0 and done.stdout == data
    assert s.end()[0] == 0


def test_first_choice():
    """The socket of a server beside a port that the kernel chose is the best channel, whoever's server it is."""
    s = subprocess.Popen([P, "serve", "local:mem:64M", "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True, env=ENV)
    port = s.stdout.readline().split(" (tcp")[0].rsplit(":", 1)[1]
    done = pst("pst://127.0.0.1:" + port, "status")
    s.terminate()
    assert s.wait(LIMIT_S) == 0
    s.stdout.close()
    assert "channel     pipe " in done.stdout and "FIRST CHOICE" not in done.stdout, (done.stdout, done.stderr)


def test_second_choice():
    """A slower channel is never taken without a word, and says why; asked for by name it is the first."""
    s = Server("--insecure")
    name = "pst://127.0.0.1:%d?socket=/nonexistent/pipe.sock" % s.port
    done = pst(name, "status")
    assert "NOT THE FIRST CHOICE\n            /nonexistent/pipe.sock: " in done.stdout, done.stdout
    assert "warning: 127.0.0.1:%d: connected over tcp and not over pipe" % s.port in done.stderr, done.stderr
    status = json.loads(pst(name, "status", "--json").stdout)
    assert status["fallbacks"] == 1 and "No such file" in status["fallback_why"], status
    done = pst(name + "&channel=tcp", "status")
    assert "FIRST CHOICE" not in done.stdout and not done.stderr, (done.stdout, done.stderr)
    assert s.end()[0] == 0


def own_address():
    """An address of this host that is not the loopback's; None: it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("203.0.113.1", 9))  # sends nothing
            return s.getsockname()[0]
        except OSError:
            return None


def test_own_address():
    """This host by another address than the loopback's is this host: the pipe is the first choice, for both ends."""
    own = own_address()
    if not own or own.startswith("127."):
        print("# no address but the loopback's: not tried")
        return
    s = subprocess.Popen([P, "serve", "local:mem:64M", "--listen", own + ":0", "--insecure", "--control", "none"],
                         stdout=subprocess.PIPE, text=True, env=ENV)
    hello = s.stdout.readline()
    port = hello.split(" (tcp")[0].rsplit(":", 1)[1]
    done = pst("pst://%s:%s" % (own, port), "status")
    assert "channel     pipe " in done.stdout and "FIRST CHOICE" not in done.stdout, (done.stdout, done.stderr)
    done = pst("pst://%s:%s?channel=tcp" % (own, port), "status")
    assert "channel     tcp " in done.stdout, (done.stdout, done.stderr)
    figures = pst("pst://%s:%s" % (own, port), "top", "--json", "-n", "1")
    assert '"second_choice": 1' in figures.stdout, (figures.stdout, figures.stderr)
    sock = json.loads(pst("pst://%s:%s" % (own, port), "status", "--json").stdout)["channel"].split(" ")[1]
    os.rename(sock, sock + ".away")
    done = pst("pst://%s:%s" % (own, port), "status")
    os.rename(sock + ".away", sock)
    assert "NOT THE FIRST CHOICE" in done.stdout and "and not over pipe" in done.stderr, (done.stdout, done.stderr)
    s.terminate()
    assert s.wait(LIMIT_S) == 0
    s.stdout.close()


def with_rdma(*command):
    """Run where /sys says that there is a device for RDMA; None: this user can't have that."""
    fake = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /sys/class && mkdir -p /sys/class/infiniband/rdma0 && exec \"$@\"", "sh"]
    if subprocess.run(fake + ["true"], capture_output=True).returncode:
        return None
    return subprocess.run(fake + list(command), capture_output=True, text=True, timeout=LIMIT_S, env=ENV)


def test_rdma_at_one_end():
    """A client that could, and a server that does not offer it: nothing else is chosen than without."""
    own = own_address() or "127.0.0.1"
    for host in {own, "127.0.0.1"}:
        for channels, used, warned in (("pipe,tcp", "pipe", ""), ("tcp", "tcp", "connected over tcp and not over pipe")):
            s = subprocess.Popen([P, "serve", "local:mem:64M", "--listen", host + ":0", "--insecure", "--control", "none",
                                  "--channels", channels], stdout=subprocess.PIPE, text=True, env=ENV)
            port = s.stdout.readline().split(" (tcp")[0].rsplit(":", 1)[1]
            done = with_rdma(P, "-s", "pst://%s:%s" % (host, port), "status")
            s.terminate()
            assert s.wait(LIMIT_S) == 0
            s.stdout.close()
            if done is None:
                print("# skip: /sys can't be changed for a process here")
                return
            assert "channel     %s " % used in done.stdout, (host, channels, done.stdout, done.stderr)
            assert warned in done.stderr and (warned or not done.stderr), (host, channels, done.stderr)


def test_gone_while_waiting():
    """A command whose server is gone ends by its own deadline, and says why in one line."""
    s = Server("--insecure", "--log-level", "debug")
    uri = "pst://127.0.0.1:%d?channel=tcp" % s.port
    assert pst(uri, "container", "create", "train").returncode == 0
    watch = subprocess.Popen([P, "-s", uri, "watch", "train", "--since", "1", "--timeout", "4"], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True, env=ENV)
    first = watch.stdout.readline()  # that it was made
    assert first, watch.stderr.read()
    begun = time.monotonic()
    s.p.kill()
    said = watch.communicate(timeout=LIMIT_S)[1]
    assert watch.returncode == 1 and time.monotonic() - begun < 30, (time.monotonic() - begun, said)
    lines = said.split("\n")
    assert lines[-2].startswith("penstock: watch: train: ") and sum("watch:" in line for line in lines) == 1, said
    s.end()


def test_not_again():
    """reconnect=0: the server is not waited for at all."""
    s = Server("--insecure")
    uri = "pst://127.0.0.1:%d?channel=tcp" % s.port
    assert pst(uri, "container", "create", "train").returncode == 0
    watch = subprocess.Popen([P, "-s", uri + "&reconnect=0", "watch", "train", "--since", "1"], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True, env=ENV)
    assert watch.stdout.readline()  # it is there
    s.p.kill()
    said = watch.communicate(timeout=LIMIT_S)[1]  # LIMIT_S is half of what it would wait else
    assert watch.returncode == 1 and "connecting again" not in said, said
    s.end()


def test_long_token():
    s = Server("--insecure")
    says(pst("pst://127.0.0.1:%d?channel=tcp&token=%s" % (s.port, "x" * 60000), "status"), "the token is none", "58 characters")
    assert s.end()[0] == 0


def test_names_provider():
    """Which of libfabric's providers it is, is part of the channel's name. It is two ports above tcp's, whoever chose that."""
    s = Server("--insecure", "--control", "none", "--channels", "tcp,ofi:tcp")
    if not s.port:
        s.p.wait(LIMIT_S)
        assert "this build has no RDMA" in s.end()[1] or "address" in "".join(s.log), s.log
        print("# no ofi, or no port: not tried")
        return
    done = pst("pst://127.0.0.1:%d?channel=ofi:tcp" % s.port, "status")
    assert "channel     ofi:tcp 127.0.0.1:%d," % (s.port + 2) in done.stdout, (done.stdout, done.stderr)
    assert s.end()[0] == 0


def test_quiet():
    """-q, before the command or behind it: errors only."""
    s = Server("--insecure")
    name = "pst://127.0.0.1:%d?socket=/nonexistent/pipe.sock" % s.port
    assert "warning" in pst(name, "status").stderr
    assert not pst(name, "-q", "status").stderr and not pst(name, "status", "-q").stderr
    says(pst(name, "-q", "watch", "nosuch"), "watch: nosuch: there is no such container")
    assert s.end()[0] == 0


def test_devices_only():
    """What takes devices says so of a store's name; the help has the options of a served store."""
    for command in "fsck", "format":
        done = subprocess.run([P, command, "pst://localhost"], capture_output=True, text=True, timeout=LIMIT_S, env=ENV)
        assert done.returncode == 2
        says(done, "pst://localhost: that names a store, and this takes its devices")
    text = subprocess.run([P, "help", "devices"], capture_output=True, text=True, timeout=LIMIT_S, env=ENV).stdout
    for option in ("channel", "socket", "connect", "reconnect", "token", "ops", "slots", "volatile", "tls", "tls-ca", "tls-cert",
                   "tls-key", "tls-name", "seal", "insecure"):
        assert "%s=" % option in text.split("The schemes of devices")[0], option
    page = subprocess.run([P, "help", "--man", "status"], capture_output=True, text=True, timeout=LIMIT_S, env=ENV).stdout
    assert ".PP\nOptions for all commands" in page, page


def test_says_nothing():
    """Who is there and says nothing is told of as such, and not as what was tried before."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        says(pst("pst://127.0.0.1:%d?connect=1" % port, "status"), "127.0.0.1:%d: the server does not answer" % port)


def test_control_plane():
    """Who does not get through its TLS is a line of the log, at the level that everybody has."""
    s = Server(*files(), "--control", "127.0.0.1:0")
    port = int(re.search(r":(\d+) \(control", s.hello).group(1))
    with socket.create_connection(("127.0.0.1", port)) as c:
        c.sendall(b"GET / HTTP/1.0\r\n\r\n")
        s.logs("control plane: refused: ")
    assert s.end()[0] == 0


def test_audit_of_the_owner():
    """Who is let in was refused nothing; a stranger is refused once."""
    audit = tmp + "/owner.log"
    s = Server("--audit-log", audit)
    owner = "pst://127.0.0.1:%d?socket=%s/sock" % (s.port, tmp)
    assert pst(owner, "status").returncode == 0
    events = [json.loads(line) for line in open(audit)]
    assert [(e["event"], e["result"]) for e in events[:2]] == [("authenticate", "granted"), ("session-open", "granted")], events
    assert pst("pst://127.0.0.1:%d?channel=tcp" % s.port, "status").returncode == 1
    refused = [e for e in map(json.loads, open(audit)) if e["result"] == "refused"]
    assert [e["event"] for e in refused if e["event"] == "authenticate"] == ["authenticate"], refused
    assert s.end()[0] == 0


tmp = tempfile.mkdtemp(prefix="pst-tls-")
ENV = dict(os.environ, XDG_RUNTIME_DIR=tmp)
ENV.pop("PENSTOCK_TOKEN", None)
certs = Certs(tmp + "/certs")


def main():
    failed = 0
    tests = [(n, f) for n, f in sorted(globals().items()) if n.startswith("test_")]
    for i, (name, f) in enumerate(tests):
        try:
            f()
            print("ok %d - %s" % (i + 1, name[5:]))
        except Exception as e:  # told, and the next one goes on
            failed += 1
            print("not ok %d - %s" % (i + 1, name[5:]))
            print("# %r at line %d" % (e, e.__traceback__.tb_next.tb_lineno))
            for s in list(Server.alive):
                s.end()
    print("1..%d" % len(tests))
    subprocess.run(["rm", "-rf", tmp], check=True)
    return 1 if failed else 0


sys.exit(main())
