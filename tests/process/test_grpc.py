#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""test_grpc.py PENSTOCK: the control plane of `penstock serve` with stock grpcio, its messages made out of what server reflection
says: sessions, containers, names with replay tokens, capabilities, tenants, TLS, unix sockets, and requests of
hostile bytes."""
import errno as errno_of
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time

try:
    import grpc
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
except ImportError as e:
    print("1..0 # skip: %s" % e)
    sys.exit(0)

PENSTOCK = sys.argv[1]
tmp = tempfile.mkdtemp(prefix="penstock-grpc-")


SOCK = tmp + "/sock.control"


class Server:
    alive = []

    def __init__(self, store="local:mem:64M", listen="127.0.0.1:0", data="127.0.0.1:0", sock=tmp + "/sock.sock", **opts):
        args = [PENSTOCK, "serve", store, "--json", "--listen", data, "--socket", sock]
        args += ["--control", listen] if listen else []
        for name, value in opts.items():
            args += ["--" + name.replace("_", "-")] + ([] if value is True else [value])
        self.p = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        Server.alive.append(self)
        text = ""
        for line in self.p.stdout:
            text += line
            if line == "}\n":
                break
        if not text:
            self.error = self.p.communicate()[1]
            self.port = None
            return
        self.doors = [(d["channel"], d["address"]) for d in json.loads(text)["listening"]]
        ports = [a.rsplit(":", 1)[1] for c, a in self.doors if c == "control" and a[0] != "/"]
        self.port = int(ports[0]) if ports else None

    def stop(self):
        self.p.terminate()
        _, err = self.p.communicate(timeout=60)
        assert self.p.returncode == 0, (self.p.returncode, err)


# --- messages, from reflection; its own are written by hand ---

def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def fields(data):
    at = 0

    def number():
        nonlocal at
        n = shift = 0
        while True:
            b = data[at]
            at += 1
            n |= (b & 127) << shift
            shift += 7
            if b < 128:
                return n
    while at < len(data):
        tag = number()
        if tag & 7 == 2:
            n = number()
            yield tag >> 3, data[at:at + n]
            at += n
        else:
            yield tag >> 3, number()


def reflect(channel, *questions):
    call = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    return [dict(fields(a)) for a in call(iter(questions), timeout=10)]


def question(field, text):
    return varint(field << 3 | 2) + varint(len(text)) + text.encode()


class Api:
    def __init__(self, channel):
        pool = descriptor_pool.DescriptorPool()
        answers = reflect(channel, question(7, "*"), question(4, "penstock.v1.Server"), question(3, "grpc/health.proto"),
                          question(4, "nothing.there"))
        self.services = [dict(fields(v))[1].decode() for k, v in fields(answers[0][6]) if k == 1]
        assert 7 in answers[3]
        for a in answers[1:3]:
            f = descriptor_pb2.FileDescriptorProto()
            f.ParseFromString(dict(fields(a[4]))[1])
            pool.Add(f)
        self.pool = pool
        self.calls = {}
        self.channel = channel
        for s in self.services:
            if s.startswith("grpc.reflection"):
                continue
            for m in pool.FindServiceByName(s).methods:
                if m.server_streaming:
                    continue
                self.calls[m.name] = (
                    channel.unary_unary("/%s/%s" % (s, m.name), request_serializer=lambda x: x.SerializeToString(),
                                        response_deserializer=self.type(m.output_type.full_name).FromString), m.input_type)

    def type(self, name):
        d = self.pool.FindMessageTypeByName(name)
        get = getattr(message_factory, "GetMessageClass", None)
        return get(d) if get else message_factory.MessageFactory(self.pool).GetPrototype(d)

    def make(self, name, **kw):
        return self.type("penstock.v1." + name)(**kw)

    def __call__(self, method, bearer=None, **kw):
        call, request = self.calls[method]
        meta = [("authorization", "Bearer " + bearer)] if bearer else None
        return call(self.type(request.full_name)(**kw), timeout=10, metadata=meta)

    def fails(self, code, errno, method, bearer=None, says="", **kw):
        try:
            r = self(method, bearer, **kw)
        except grpc.RpcError as e:
            assert e.code() == getattr(grpc.StatusCode, code), (method, e.code(), e.details())
            assert e.details().startswith(errno + ": "), (method, e.details())
            # A sentence, and never the bare word for the number.
            assert e.details() != "%s: %s" % (errno, os.strerror(getattr(errno_of, errno))), (method, e.details())
            assert says in e.details(), (method, e.details())
            return
        raise AssertionError("%s gave %s" % (method, r))

    def raw(self, method, data):
        """Bytes that no stock client would make."""
        service = next(s for s in self.services if not s.startswith("grpc.refl") and
                       method in [m.name for m in self.pool.FindServiceByName(s).methods])
        return self.channel.unary_unary("/%s/%s" % (service, method))(data, timeout=10)


def connect(target, creds=None):
    options = [("grpc.use_local_subchannel_pool", 1)]  # not the connection to a server that was there before
    return Api(grpc.secure_channel(target, creds, options) if creds else grpc.insecure_channel(target, options))


ALL = 0x1ff
READ, LIST = 1, 16


# --- tests ---

def test_everything():
    s = Server()
    api = connect("unix:" + SOCK)
    assert "penstock.v1.Names" in api.services and "grpc.health.v1.Health" in api.services
    assert api("Check", service="").status == 1
    assert api("Check", service="penstock.v1.Server").status == 1
    api.fails("NOT_FOUND", "ENOENT", "Check", service="other")
    o = api("OpenSession", slots=8)
    assert o.slots == 8 and len(o.session.secret) == 16 and o.endpoints[0].channel == "tcp"
    me = o.session
    c = api("CreateContainer", session=me, container=dict(name="a")).container
    assert c.name == "a" and c.id
    api.fails("ALREADY_EXISTS", "EEXIST", "CreateContainer", session=me, container=dict(name="a"))
    for bad in "", "a/b", ":x", "a@b", "\x01":
        api.fails("INVALID_ARGUMENT", "EINVAL", "CreateContainer", session=me, container=dict(name=bad))
    assert len(api("GetContainer", session=me, container=dict(name="a")).handle) == 64
    assert [x.name for x in api("ListContainers", session=me).containers] == ["a"]
    api.fails("NOT_FOUND", "ENOENT", "GetContainer", session=me, container=dict(name=":penstock"))
    # names; a repeat with its token is answered, and not executed
    n = dict(session=me, container=c.id)
    assert api("Mkdir", path=b"d", token=dict(slot=1, sequence=1), **n).attr.ino
    again = api("Mkdir", path=b"d", token=dict(slot=1, sequence=1), **n)
    assert again.attr.ino == api("Lookup", path=b"d", **n).attr.ino
    api.fails("ALREADY_EXISTS", "EEXIST", "Mkdir", path=b"d", token=dict(slot=1, sequence=2), **n)
    f = api("Create", path=b"d/f", data=b"x" * 5000, attr=dict(mode=0o600), attr_mask=1, **n)
    assert f.attr.size == 5000 and f.attr.mode & 0o777 == 0o600 and len(f.handle) == 64
    api("Symlink", path=b"l", path2=b"d/f", **n)
    assert api("ReadLink", path=b"l", **n).target == b"d/f"
    assert api("Lookup", path=b"l", **n).attr.ino == f.attr.ino
    api("Link", path=b"d/f", path2=b"g", **n)
    api("Rename", path=b"g", path2=b"h", **n)
    api("SetAttr", path=b"h", attr=dict(size=10), attr_mask=8, **n)
    assert api("Lookup", path=b"d/f", **n).attr.size == 10
    for i in range(1005):
        api("Mkdir", path=b"d/%04d" % i, **n)
    r = api("ReadDir", name=dict(path=b"d", **n))
    assert r.more and len(r.entries) == 1000
    r = api("ReadDir", name=dict(path=b"d", **n), after=r.entries[-1].name)
    assert not r.more and len(r.entries) == 6
    api("Unlink", path=b"h", **n)
    api("Rmdir", path=b"d/0000", **n)
    api.fails("NOT_FOUND", "ENOENT", "Lookup", path=b"h", **n)
    api.fails("INVALID_ARGUMENT", "EINVAL", "Create", data=b"x", **n)
    # snapshots
    snap = api("CreateSnapshot", session=me, container="a", name="v1").snapshot
    assert snap.name == "v1"
    api("Unlink", path=b"d/f", **n)
    assert api("Lookup", path=b"d/f", view=snap.view, **n).attr.size == 10
    api.fails("FAILED_PRECONDITION", "EROFS", "Unlink", path=b"d/f", view=snap.view, **n)
    assert api("GetSnapshot", session=me, container="a", name="v1").snapshot.view == snap.view
    assert [x.name for x in api("ListSnapshots", session=me, container="a").snapshots] == ["v1"]
    api.fails("FAILED_PRECONDITION", "EBUSY", "DestroyContainer", session=me, container=dict(name="a"))
    api("DestroySnapshot", session=me, container="a", name="v1")
    api("SetContainer", session=me, container=dict(name="a", quota_bytes=1 << 20), set=1)
    assert api("GetContainer", session=me, container=dict(name="a")).container.quota_bytes == 1 << 20
    # the server
    st = api("GetStatus")
    assert st.sessions == 1 and st.size_bytes and st.store_uuid == o.store_uuid
    assert [x.number for x in api("ListSessions").sessions] == [me.number]
    api("RotateHandleKey")
    api("SetTenant", tenant=dict(id=7, name="acme", weight=3))
    assert [(t.id, t.name, t.weight) for t in api("ListTenants").tenants if t.id] == [(7, "acme", 3)]
    api("KeepAlive", session=me)
    api("CloseSession", session=me)
    api.fails("FAILED_PRECONDITION", "ESTALE", "KeepAlive", session=me)
    s.stop()


SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3


class Watch:
    """What one watcher hears."""

    def __init__(self, api, service=""):
        answer = api.type("grpc.health.v1.HealthCheckResponse")
        self.call = api.channel.unary_stream("/grpc.health.v1.Health/Watch", request_serializer=lambda x: x.SerializeToString(),
                                             response_deserializer=answer.FromString)(
            api.type("grpc.health.v1.HealthCheckRequest")(service=service), timeout=60)

    def hears(self):
        return next(self.call).status

    def ends(self, code, text=""):
        try:
            heard = next(self.call)
        except grpc.RpcError as e:
            assert e.code() == getattr(grpc.StatusCode, code) and text in e.details(), (e.code(), e.details())
            return
        raise AssertionError("%s instead of the end" % heard)


def test_health():
    """Check and Watch, of services that are here and are not, and when the server ends."""
    s = Server()
    api = connect("unix:" + SOCK)
    services = [""] + list(api.services)
    for name in services:
        assert api("Check", service=name).status == SERVING, name
    for name in "other", "penstock.v1", "penstock.v1.Nothing", "penstock.v1.Server/GetStatus", "grpc.health.v1.Health/":
        api.fails("NOT_FOUND", "ENOENT", "Check", service=name)
    known = [Watch(api, name) for name in services]
    assert [w.hears() for w in known] == [SERVING] * len(known)
    unknown = Watch(api, "penstock.v1.Nothing")
    assert unknown.hears() == SERVICE_UNKNOWN
    # Far more than calls at a time: those who watch keep nobody out; and there is an end to them.
    room = 256 - len(known) - 1
    apis = [connect("127.0.0.1:%d" % s.port) for _ in range(3)]  # a connection takes 100 streams
    more = [Watch(apis[i % 3]) for i in range(room)]
    assert [w.hears() for w in more] == [SERVING] * room
    Watch(apis[0]).ends("RESOURCE_EXHAUSTED", "EAGAIN: as many watch")
    assert api("Check").status == SERVING
    for w in more[:100]:
        w.call.cancel()
    deadline = time.time() + 30
    while True:  # a place is free when the server has heard of the cancel
        again = Watch(apis[0])
        try:
            assert again.hears() == SERVING
            break
        except grpc.RpcError as e:
            assert e.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and time.time() < deadline, e
    began = time.time()
    s.stop()
    assert time.time() - began < 20
    for w in known + more[100:] + [again]:
        assert w.hears() == NOT_SERVING
        w.ends("UNAVAILABLE", "ESHUTDOWN: this server ends")
    unknown.ends("UNAVAILABLE", "ESHUTDOWN: this server ends")


def stopped_store():
    """A server whose device fails under it, who watched it before, and the client."""
    path = tmp + "/failing"
    subprocess.run([PENSTOCK, "format", "--force", "--size", "64M", path], check=True, stdout=subprocess.DEVNULL)
    s = Server(store="local:fault:%s?cut_after=200" % path)
    api = connect("unix:" + SOCK)
    w, other = Watch(api), Watch(api, "other")
    assert w.hears() == SERVING and other.hears() == SERVICE_UNKNOWN
    me = api("OpenSession").session
    c = api("CreateContainer", session=me, container=dict(name="a")).container
    written = 0
    while not api("GetStatus").stopped:  # a write that fails may be answered before
        assert written < 1000
        try:
            api("Create", session=me, container=c.id, path=b"f%d" % written, data=b"x")
        except grpc.RpcError as e:
            assert e.code() == grpc.StatusCode.DATA_LOSS, e
        written += 1
    return s, api, w, other


def test_health_of_the_store():
    """A store that stops serves no more; who watches hears it, and once."""
    s, api, w, other = stopped_store()
    assert w.hears() == NOT_SERVING  # though nobody asks
    assert api("Check").status == NOT_SERVING and api("GetStatus").stopped
    s.p.terminate()
    for watch in w, other:
        watch.ends("UNAVAILABLE", "ESHUTDOWN")
    s.p.communicate(timeout=60)


def test_health_at_first():
    """Who begins to watch hears first how it is now, and not how it was when somebody asked last."""
    s, api, w, other = stopped_store()
    late = Watch(api)
    assert late.hears() == NOT_SERVING and w.hears() == NOT_SERVING
    s.p.terminate()
    for watch in w, other, late:
        watch.ends("UNAVAILABLE", "ESHUTDOWN")
    s.p.communicate(timeout=60)


# --- HTTP/2 by hand: a client whose window of each stream is 0 bytes, so that no message ever fits ---

DATA, HEADERS, RESET, SETTINGS, PING = 0, 1, 3, 4, 6
END, LAST = 1, 4  # flags: of the stream, of its headers
ACK = 1


def frame(kind, flags, stream, body):
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


NO_WINDOW = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b"\0\4" + bytes(4))


def begin_call(stream, path):
    pairs = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"x"),
             (b"content-type", b"application/grpc"), (b"te", b"trailers"))
    return frame(HEADERS, LAST, stream, b"".join(b"\0" + bytes([len(k)]) + k + bytes([len(v)]) + v for k, v in pairs))


def empty_message(stream):
    return frame(DATA, END, stream, bytes(5))


def test_places():
    """Who sends no message, or takes no answer, loses the place, also while others ask all the time."""
    s = Server()
    api = connect("unix:" + SOCK)
    path = b"/grpc.health.v1.Health/Check"
    silent, deaf = range(1, 61, 2), range(61, 121, 2)
    with socket.create_connection(("127.0.0.1", s.port)) as raw:
        raw.sendall(NO_WINDOW + b"".join(begin_call(n, path) for n in silent) +
                    b"".join(begin_call(n, path) + empty_message(n) for n in deaf))
        raw.settimeout(0.2)
        over, data = set(), b""
        deadline = time.time() + 60
        while over != {*silent, *deaf}:
            assert time.time() < deadline, over
            assert api("Check").status == SERVING  # there are a few places left
            try:
                data += raw.recv(65536)
            except TimeoutError:
                continue
            while len(data) >= 9 and len(data) >= 9 + int.from_bytes(data[:3], "big"):
                size, kind, flags, stream = int.from_bytes(data[:3], "big"), data[3], data[4], int.from_bytes(data[5:9], "big")
                if kind == PING and not flags & ACK:
                    raw.sendall(frame(PING, ACK, 0, data[9:9 + size]))
                if kind == RESET or (kind == HEADERS and flags & END):
                    over.add(stream)
                data = data[9 + size:]
    s.stop()


def test_health_unheard():
    """Who watches and takes nothing does not keep a server from ending."""
    s = Server()
    with socket.create_connection(("127.0.0.1", s.port)) as raw:
        raw.sendall(NO_WINDOW + begin_call(1, b"/grpc.health.v1.Health/Watch") + empty_message(1))
        raw.settimeout(30)
        assert raw.recv(9)  # its settings: we are connected
        api = connect("unix:" + SOCK)
        w = Watch(api)
        assert w.hears() == SERVING
        s.stop()
        assert w.hears() == NOT_SERVING
        w.ends("UNAVAILABLE", "ESHUTDOWN")


def test_capabilities():
    audit = tmp + "/audit"
    s = Server(audit_log=audit)
    owner = connect("unix:" + SOCK)
    me = owner("OpenSession").session
    c = owner("CreateContainer", session=me, container=dict(name="a")).container
    owner("Mkdir", session=me, container=c.id, path=b"in")
    owner("Create", session=me, container=c.id, path=b"secret", data=b"s")
    g = owner("Grant", capability=dict(container="a", prefix="in", rights=READ | LIST, tenant=3))
    assert g.token.startswith("pst1") and g.capability.container_id == c.id
    # Over TCP nobody is anybody without a token.
    api = connect("127.0.0.1:%d" % s.port)
    for m in "GetStatus", "ListSessions", "ListCapabilities", "ListTenants", "RotateHandleKey", "Grant":
        api.fails("PERMISSION_DENIED", "EACCES", m)
        api.fails("PERMISSION_DENIED", "EACCES", m, g.token)
    api.fails("PERMISSION_DENIED", "EACCES", "OpenSession")
    api.fails("UNAUTHENTICATED", "EBADF", "OpenSession", "x" * 58)
    api.fails("UNAUTHENTICATED", "EBADF", "OpenSession", "x" * 500)
    api.fails("UNAUTHENTICATED", "EBADF", "OpenSession", g.token[:-1] + ("A" if g.token[-1] != "A" else "B"))
    t = api("OpenSession", g.token).session
    n = dict(session=t, container=c.id)
    assert not api("ReadDir", name=dict(**n)).entries
    api.fails("NOT_FOUND", "ENOENT", "Lookup", path=b"../secret", **n)
    api.fails("NOT_FOUND", "ENOENT", "Lookup", path=b"/secret", **n)
    api.fails("PERMISSION_DENIED", "EACCES", "Create", path=b"f", **n)
    api.fails("PERMISSION_DENIED", "EACCES", "CreateContainer", session=t, container=dict(name="b"))
    # Another one's session
    wrong = api.make("Session", number=me.number, secret=bytes(16))
    api.fails("PERMISSION_DENIED", "EACCES", "Lookup", session=wrong, container=c.id, path=b"secret")
    api.fails("INVALID_ARGUMENT", "EINVAL", "Lookup", session=api.make("Session", number=1), container=c.id)
    assert owner("Renew", capability=dict(id=g.capability.id, expiry_ns=int(time.time() + 60) * 10**9)).token == g.token
    assert [x.id for x in owner("ListCapabilities", after=1).capabilities] == [g.capability.id]
    owner("Revoke", capability=dict(id=g.capability.id))
    api.fails("PERMISSION_DENIED", "EKEYREVOKED", "Lookup", path=b"x", **n)
    api.fails("PERMISSION_DENIED", "EKEYREVOKED", "OpenSession", g.token)
    owner.fails("NOT_FOUND", "ENOENT", "Revoke", capability=dict(id=g.capability.id))
    owner.fails("PERMISSION_DENIED", "EPERM", "Revoke", capability=dict(id=1))
    owner.fails("INVALID_ARGUMENT", "EINVAL", "Grant", capability=dict(container="a"))
    owner.fails("NOT_FOUND", "ENOENT", "Grant", capability=dict(container="zzz", rights=1))
    s.stop()
    log = open(audit, encoding="ascii").read()
    for what in ('"event":"capability-grant","result":"granted"', '"event":"capability-revoke","result":"granted"',
                 '"event":"request","result":"refused","error":"EKEYREVOKED"',
                 '"event":"authenticate","result":"refused","error":"EBADF"',
                 '"event":"session-resume","result":"refused","error":"EACCES"'):
        assert what in log, what


def test_hoarder():
    """Who opens as many sessions as may be keeps nobody out, and loses nobody's but his own."""
    config = tmp + "/limits.yaml"
    with open(config, "w") as f:
        f.write("limits:\n  sessions: 8\n")
    s = Server(config=config)
    owner = connect("unix:" + SOCK)
    me = owner("OpenSession").session
    c = owner("CreateContainer", session=me, container=dict(name="a")).container
    token = owner("Grant", capability=dict(container="a", rights=READ)).token
    api = connect("127.0.0.1:%d" % s.port)
    for _ in range(30):
        last = api("OpenSession", token).session
    assert list(api("ListContainers", session=last).containers)
    store = "pst://%s?channel=tcp&token=%s" % (dict(s.doors)["tcp"], token)
    subprocess.run([PENSTOCK, "-s", store, "container", "list"], check=True, stdout=subprocess.DEVNULL, timeout=60)
    owner("Mkdir", session=me, container=c.id, path=b"still_here")
    assert len(owner("ListSessions").sessions) <= 8
    s.stop()


def test_refusals():
    """What was wrong, where, and what is allowed: in a sentence, of each method."""
    s = Server()
    api = connect("unix:" + SOCK)
    me = api("OpenSession", slots=4).session
    api("CreateContainer", session=me, container=dict(name="obj", layout=1))
    cont = api("CreateContainer", session=me, container=dict(name="a")).container
    api("Mkdir", session=me, container=cont.id, path=b"d")
    api("Create", session=me, container=cont.id, path=b"d/f", data=b"x")
    n = dict(session=me, container=cont.id)
    gone = api.make("Session", number=77, secret=bytes(16))
    wrong = api.make("Session", number=me.number, secret=bytes(16))
    invalid, missing = ("INVALID_ARGUMENT", "EINVAL"), ("NOT_FOUND", "ENOENT")
    long_name, state = ("INVALID_ARGUMENT", "ENAMETOOLONG"), "FAILED_PRECONDITION"
    for how, method, says, kw in (
            (invalid, "OpenSession", "slots: 5000: a session has at most 1024", dict(slots=5000)),
            (invalid, "KeepAlive", "session: KeepAlive takes one", dict()),
            (invalid, "KeepAlive", "session.secret: 3 bytes: it has 16", dict(session=dict(number=1, secret=b"123"))),
            ((state, "ESTALE"), "KeepAlive", "session.number: there is no session 000000000000004d", dict(session=gone)),
            ((state, "ESTALE"), "CloseSession", "there is no session 000000000000004d", dict(session=gone)),
            (("PERMISSION_DENIED", "EACCES"), "ListContainers", "session.secret: not that of", dict(session=wrong)),
            # containers
            (invalid, "CreateContainer", "container: CreateContainer takes its name", dict(session=me)),
            (invalid, "CreateContainer", "container.name: it needs a name", dict(session=me, container=dict(id=3))),
            (invalid, "CreateContainer", 'container.name: "x/y": no \'/\', \':\' or \'@\'', dict(session=me, container=dict(name="x/y"))),
            (long_name, "CreateContainer", "container.name: 256 bytes: a name has at most 255", dict(session=me, container=dict(name="n" * 256))),
            (invalid, "CreateContainer", "container.layout: 2: it is 0 (files) or 1", dict(session=me, container=dict(name="b", layout=2))),
            (invalid, "CreateContainer", "container.properties: 0x8", dict(session=me, container=dict(name="b", properties=8))),
            (("ALREADY_EXISTS", "EEXIST"), "CreateContainer", 'container "a": it is there already', dict(session=me, container=dict(name="a"))),
            (missing, "GetContainer", 'container "nope": there is none', dict(session=me, container=dict(name="nope"))),
            (missing, "GetContainer", "container 999: there is none", dict(session=me, container=dict(id=999))),
            (invalid, "GetContainer", "container: GetContainer takes its name or id", dict(session=me)),
            (invalid, "SetContainer", "set: 0: it is a sum of 1 (quota_bytes)", dict(session=me, container=dict(name="a"))),
            (invalid, "SetContainer", "set: 0x10: it is", dict(session=me, container=dict(name="a"), set=16)),
            (missing, "SetContainer", 'container "nope"', dict(session=me, container=dict(name="nope"), set=1)),
            (missing, "DestroyContainer", 'container "nope"', dict(session=me, container=dict(name="nope"))),
            (long_name, "ListContainers", "after: 300 bytes", dict(session=me, after="n" * 300)),
            # snapshots
            (invalid, "CreateSnapshot", "container: CreateSnapshot takes its name", dict(session=me, name="v")),
            (invalid, "CreateSnapshot", "name: CreateSnapshot takes its name", dict(session=me, container="a")),
            (invalid, "CreateSnapshot", 'name: "v@1": no', dict(session=me, container="a", name="v@1")),
            (long_name, "CreateSnapshot", "name: 256 bytes", dict(session=me, container="a", name="v" * 256)),
            (missing, "CreateSnapshot", 'snapshot "v" of container "nope"', dict(session=me, container="nope", name="v")),
            (missing, "GetSnapshot", 'snapshot "v" of container "a": there is no such', dict(session=me, container="a", name="v")),
            (missing, "DestroySnapshot", 'snapshot "v" of container "a"', dict(session=me, container="a", name="v")),
            (invalid, "ListSnapshots", "container: ListSnapshots takes its name", dict(session=me)),
            (missing, "ListSnapshots", 'container "nope"', dict(session=me, container="nope")),
            # names
            (missing, "Lookup", '"x\x3f" in container %d: nothing is there' % cont.id, dict(path=b"x\x1b", **n)),
            (missing, "Lookup", '"d" from directory 12345 in container', dict(path=b"d", dir=12345, **n)),
            (missing, "Lookup", '"d" in container 999', dict(session=me, container=999, path=b"d")),
            (missing, "Lookup", '"d" in container %d, snapshot view 99' % cont.id, dict(path=b"d", view=99, **n)),
            (long_name, "Lookup", "path: 5000 bytes: a path has at most 4096", dict(path=b"p" * 5000, **n)),
            (long_name, "Lookup", "a name has at most 255 bytes", dict(path=b"p" * 300, **n)),
            (invalid, "Lookup", "path: there is a NUL in it", dict(path=b"d\0x", **n)),
            (invalid, "Lookup", "handle: 5 bytes: it has 64", dict(path=b"d", handle=b"12345", **n)),
            (invalid, "Lookup", "flags: 0x10000", dict(path=b"d", flags=0x10000, **n)),
            (invalid, "Create", "path: a file that is made here has a name", dict(**n)),
            ((state, "EISDIR"), "Create", '"d" in container %d: it is a directory' % cont.id, dict(path=b"d", data=b"x", **n)),
            (("ALREADY_EXISTS", "EEXIST"), "Mkdir", '"d" in container %d: something is there already' % cont.id, dict(path=b"d", **n)),
            ((state, "ENOTDIR"), "Mkdir", '"d/f/g" in container %d: a part of the path' % cont.id, dict(path=b"d/f/g", **n)),
            (("UNIMPLEMENTED", "EOPNOTSUPP"), "Mkdir", "a container of objects has no names",
             dict(session=me, container=api("GetContainer", session=me, container=dict(name="obj")).container.id, path=b"x")),
            ((state, "ENOTEMPTY"), "Rmdir", '"d" in container %d: it is not empty' % cont.id, dict(path=b"d", **n)),
            ((state, "EISDIR"), "Unlink", "it is a directory", dict(path=b"d", **n)),
            (missing, "Unlink", '"none" in', dict(path=b"none", **n)),
            (missing, "Rename", '"none", "other" in', dict(path=b"none", path2=b"other", **n)),
            (missing, "Link", '"none", "other" in', dict(path=b"none", path2=b"other", **n)),
            (("ALREADY_EXISTS", "EEXIST"), "Symlink", '"d", "t" in', dict(path=b"d", path2=b"t", **n)),
            (missing, "SetAttr", '"none" in', dict(path=b"none", attr_mask=1, **n)),
            (invalid, "ReadLink", '"d/f" in', dict(path=b"d/f", **n)),
            (invalid, "ReadDir", "name: ReadDir takes", dict()),
            (missing, "ReadDir", '"none" in', dict(name=dict(path=b"none", **n))),
            (invalid, "ReadDir", "name.session: ReadDir takes one", dict(name=dict(path=b"d"))),
            (invalid, "ReadDir", "name.session.secret: 1 bytes", dict(name=dict(session=dict(secret=b"1")))),
            (invalid, "ReadDir", "name.path: there is a NUL", dict(name=dict(path=b"d\0", **n))),
            (invalid, "ReadDir", "name.flags: 0x10000", dict(name=dict(path=b"d", flags=0x10000, **n))),
            (long_name, "ReadDir", "after: 256 bytes", dict(name=dict(path=b"d", **n), after=b"x" * 256)),
            # capabilities
            (invalid, "Grant", "capability: Grant takes one", dict()),
            (invalid, "Grant", "capability.rights: 0: a sum of rights, 1 to 0x1ff", dict(capability=dict(container="a"))),
            (invalid, "Grant", "capability.rights: 0x200", dict(capability=dict(rights=512))),
            (invalid, "Grant", 'capability.subject: "root": it is uid:N', dict(capability=dict(rights=1, subject="root"))),
            *((invalid, "Grant", "it is uid:N", dict(capability=dict(rights=1, subject=x)))
              for x in ("uid:-1", "uid:99999999999", "gid:", "gid:007", "uid:1 ")),
            (invalid, "Grant", "capability.tenant: 4294967295: at most 4294967294",
             dict(capability=dict(rights=1, tenant=2**32 - 1))),
            (invalid, "Grant", "capability.bytes_per_s: 1: it is 0 (none of its own), or 4096 to",
             dict(capability=dict(rights=1, bytes_per_s=1))),
            (invalid, "Grant", "capability.ops_per_s: ", dict(capability=dict(rights=1, ops_per_s=2**40))),
            (invalid, "Grant", "capability.gid: it goes with map 1", dict(capability=dict(rights=1, gid=5))),
            (invalid, "SetTenant", "tenant.id: 4294967295: at most 4294967294", dict(tenant=dict(id=2**32 - 1, weight=7))),
            *((invalid, "SetTenant", "tenant.%s: %d: it is 0 (none of its own), or " % (field, n), dict(tenant={"id": 1, field: n}))
              for field, n in (("bytes_max", 1), ("bytes_per_s", 1), ("depth_max", 2**21), ("ops_per_s", 2**40),
                               ("sessions_max", 2**21))),
            (long_name, "Grant", "capability.subject: 70 bytes: it has at most 63", dict(capability=dict(rights=1, subject="cert:" + "x" * 65))),
            (long_name, "Grant", "capability.prefix: 300 bytes", dict(capability=dict(rights=1, container="a", prefix="x" * 300))),
            (long_name, "Grant", "capability.container: 300 bytes", dict(capability=dict(rights=1, container="x" * 300))),
            (invalid, "Grant", "capability.expiry_ns: 1 has passed", dict(capability=dict(rights=1, expiry_ns=1))),
            (invalid, "Grant", "capability.prefix: it goes with one container", dict(capability=dict(rights=1, prefix="d"))),
            (invalid, "Grant", 'capability.prefix: "d": a container of objects', dict(capability=dict(rights=1, container="obj", prefix="d"))),
            (missing, "Grant", 'capability.container: there is no "zzz"', dict(capability=dict(rights=1, container="zzz"))),
            (missing, "Grant", "capability.container_id: there is no 99", dict(capability=dict(rights=1, container_id=99))),
            (missing, "Grant", 'capability.prefix: there is no "x" in "a"', dict(capability=dict(rights=1, container="a", prefix="x"))),
            ((state, "ENOTDIR"), "Grant", 'capability.prefix: "d/f" is no directory in "a"', dict(capability=dict(rights=1, container="a", prefix="d/f"))),
            (invalid, "Grant", "capability.map: 3: it is 0", dict(capability=dict(rights=1, map=3))),
            (invalid, "Grant", "capability.ranges: they go with map 2", dict(capability=dict(rights=1, map=2))),
            (invalid, "Grant", "capability.ranges[1]: 5 is above 4",
             dict(capability=dict(rights=1, map=2, ranges=[dict(first=1, last=1), dict(first=5, last=4)]))),
            (invalid, "Grant", "capability.ranges: 17 of them", dict(capability=dict(rights=1, map=2, ranges=[dict()] * 17))),
            (missing, "Renew", "capability.id: there is no capability 55", dict(capability=dict(id=55))),
            (missing, "Revoke", "capability.id: there is no capability 55", dict(capability=dict(id=55))),
            (("PERMISSION_DENIED", "EPERM"), "Revoke", "capability.id: 1 is the owner's", dict(capability=dict(id=1))),
            (invalid, "Revoke", "capability: Revoke takes one", dict()),
            # tenants, health
            (invalid, "SetTenant", "tenant: SetTenant takes one", dict()),
            (long_name, "SetTenant", "tenant.name: 64 bytes: it has at most 63", dict(tenant=dict(id=1, name="t" * 64))),
            (invalid, "SetTenant", "tenant.weight: 1001: at most 1000", dict(tenant=dict(id=1, weight=1001))),
            (missing, "Check", 'service: no "other" is served here', dict(service="other"))):
        api.fails(*how, method, says=says, **kw)
    # Content goes with Create, and what would be ignored elsewhere is not.
    for method in [m.name for m in api.pool.FindServiceByName("penstock.v1.Names").methods]:
        kw = dict(path=b"new", path2=b"other", data=b"xyz", **n)
        if method == "Create":
            continue
        if method == "ReadDir":
            api.fails(*invalid, method, says="name.data: 3 bytes: Create takes them, and ReadDir does not", name=kw)
        else:
            api.fails(*invalid, method, says="data: 3 bytes: Create takes them, and %s does not" % method, **kw)
    assert [e.name for e in api("ReadDir", name=dict(**n)).entries] == [b"d"]
    # Tokens of changes: an older sequence, and one that cuts the session off.
    api("Mkdir", path=b"t1", token=dict(slot=1, sequence=1), **n)
    api("Mkdir", path=b"t2", token=dict(slot=1, sequence=2), **n)
    api.fails(state, "ESTALE", "Mkdir", says="a later sequence was seen", path=b"t3", token=dict(slot=1, sequence=1), **n)
    for slot, sequence in (1, 9), (5000, 1):
        other = api("OpenSession").session
        api.fails("INVALID_ARGUMENT", "EPROTO", "Mkdir", says="sequences go on by one; the session is closed", session=other,
                  container=cont.id, path=b"t4", token=dict(slot=slot, sequence=sequence))
        api.fails(state, "ESTALE", "Lookup", says="there is no session", session=other, container=cont.id, path=b"t1")
    # Who asks, and what they may.
    stranger = connect("127.0.0.1:%d" % s.port)
    denied = "PERMISSION_DENIED", "EACCES"
    g = api("Grant", capability=dict(container="a", rights=READ))
    for m in "GetStatus", "ListSessions", "ListCapabilities", "ListTenants", "RotateHandleKey", "Grant":
        stranger.fails(*denied, m, says=m + ": this call does not show who asks")
        stranger.fails(*denied, m, g.token, says="%s: it takes the right admin on all containers, which token:%d has not" % (m, g.capability.id))
    stranger.fails("UNAUTHENTICATED", "EBADF", "OpenSession", "x" * 58, says="authorization: that token is none of this server's")
    # What is no token is not as none: the socket's owner would be the owner.
    good = "Bearer " + g.token
    for shown in ((x,) for x in ("Bearer", "Bearer ", g.token, " " + good, "Basic x", "BearerX" + g.token)), ((good, good),):
        for words in shown:
            try:
                api.calls["GetStatus"][0](api.make("Empty"), timeout=10, metadata=[("authorization", w) for w in words])
                raise AssertionError(words)
            except grpc.RpcError as e:
                assert e.code() == grpc.StatusCode.UNAUTHENTICATED and "authorization: it is " in e.details(), (words, e.details())
    t = stranger("OpenSession", g.token).session
    stranger.fails(*denied, "Create", says='"new" in container %d: no capability of this session allows it' % cont.id,
                   session=t, container=cont.id, path=b"new")
    api("Revoke", capability=dict(id=g.capability.id))
    stranger.fails("PERMISSION_DENIED", "EKEYREVOKED", "Lookup", says="the capability that allowed it was revoked",
                   session=t, container=cont.id, path=b"d")
    stranger.fails("PERMISSION_DENIED", "EKEYREVOKED", "OpenSession", g.token, says="the capability of that token was revoked")
    s.stop()


def string(field, data):
    return varint(field << 3 | 2) + varint(len(data)) + data


def test_names_are_text():
    """Control characters, a NUL, what is no UTF-8: refused wherever there is a string, and nothing of it is shown."""
    audit = tmp + "/audit-text"
    s = Server(audit_log=audit, metrics="127.0.0.1:0")
    api = connect("unix:" + SOCK)
    me = api("OpenSession").session
    api("CreateContainer", session=me, container=dict(name="good"))
    session = string(1, me.SerializeToString())
    ways = [("CreateContainer", "container.name", lambda x: session + string(3, string(1, x))),
            ("GetContainer", "container.name", lambda x: session + string(3, string(1, x))),
            ("DestroyContainer", "container.name", lambda x: session + string(3, string(1, x))),
            ("ListContainers", "after", lambda x: session + string(3, x)),
            ("CreateSnapshot", "name", lambda x: session + string(3, b"good") + string(4, x)),
            ("CreateSnapshot", "container", lambda x: session + string(3, x) + string(4, b"v")),
            ("Grant", "capability.container", lambda x: string(1, string(4, x) + b"\x38\x01")),
            ("Grant", "capability.prefix", lambda x: string(1, string(4, b"good") + string(6, x) + b"\x38\x01")),
            ("Grant", "capability.subject", lambda x: string(1, string(8, b"cert:" + x) + b"\x38\x01")),
            ("SetTenant", "tenant.name", lambda x: string(1, b"\x08\x05" + string(2, x))),
            # The last one counts, and the first one is looked at all the same.
            ("SetTenant", "tenant.name", lambda x: string(1, b"\x08\x05" + string(2, x) + string(2, b"good"))),
            ("Check", "service", lambda x: string(1, x))]
    for bad, why in ((b"good\0", "control"), (b"\0", "control"), (b"a\nb", "control"), (b"\x1b[2J", "control"), (b"a\x7f", "control"),
                     (b"a\xc2\x9b31m", "control"), (b"\xff", "no UTF-8"), (b"a\xc3", "no UTF-8"), (b"\xed\xa0\x80", "no UTF-8")):
        for method, field, make in ways:
            try:
                api.raw(method, make(bad))
            except grpc.RpcError as e:
                said = e.details()
                assert e.code() == grpc.StatusCode.INVALID_ARGUMENT, (method, bad, e.code(), said)
                assert said.startswith('EINVAL: %s: "' % field) and why in said, (method, bad, said)
                assert said.isprintable(), (method, bad, said)
            else:
                raise AssertionError((method, bad))
    api.raw("SetTenant", string(1, b"\x08\x05" + string(2, "acmé".encode())))  # letters of others are text
    assert [c.name for c in api("ListContainers", session=me).containers] == ["good"]
    assert [t.name for t in api("ListTenants").tenants if t.id == 5] == ["acmé"]
    # A path is bytes; in a sentence and in the audit it is shown as text.
    token = api("Grant", capability=dict(container="good", rights=READ)).token
    other = connect("127.0.0.1:%d" % s.port)
    t = other("OpenSession", token).session
    cont = other("GetContainer", session=t, container=dict(name="good")).container.id
    other.fails("PERMISSION_DENIED", "EACCES", "Mkdir", says='"a?b?[2J?" in container', session=t, container=cont, path=b"a\nb\x1b[2J\xff")
    s.stop()
    log = open(audit, "rb").read()
    assert all(32 <= b < 127 or b == 10 for b in log), log
    assert b"a\\u000ab\\u001b[2J\\u00ff" in log and all(json.loads(l) for l in log.splitlines()), log


def openssl(*args):
    subprocess.run(["openssl", *args], cwd=tmp, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def certificate(name, ca):
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", name + ".key", "-out", name + ".csr", "-subj", "/CN=" + name)
    with open(tmp + "/ext", "w", encoding="ascii") as f:
        f.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", name + ".csr", "-CA", ca + ".pem", "-CAkey", ca + ".key", "-CAcreateserial", "-days", "2",
            "-extfile", "ext", "-out", name + ".pem")


def pem(name):
    with open(tmp + "/" + name, "rb") as f:
        return f.read()


def certificates():
    """Two authorities, and who they vouch for."""
    for ca in "ca", "other":
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", ca + ".key", "-out", ca + ".pem", "-days", "2",
                "-subj", "/CN=" + ca)
    certificate("localhost", "ca")
    certificate("node1", "ca")
    certificate("stranger", "other")


def test_tls():
    certificates()
    s = Server(listen="localhost:0", tls_cert=tmp + "/localhost.pem",
               tls_key=tmp + "/localhost.key", tls_ca=tmp + "/ca.pem")
    owner = connect("unix:" + SOCK)
    me = owner("OpenSession").session
    owner("CreateContainer", session=me, container=dict(name="a"))
    owner("Grant", capability=dict(container="a", rights=READ | LIST, subject="cert:node1"))

    def creds(who):
        return grpc.ssl_channel_credentials(pem("ca.pem"), pem(who + ".key"), pem(who + ".pem"))

    target = "localhost:%d" % s.port
    api = connect(target, creds("node1"))
    t = api("OpenSession").session
    assert [x.name for x in api("ListContainers", session=t).containers] == ["a"]
    api = connect(target, creds("localhost"))
    api.fails("PERMISSION_DENIED", "EACCES", "OpenSession")
    for bad in creds("stranger"), grpc.ssl_channel_credentials(pem("ca.pem")), None:
        try:
            connect(target, bad)
        except grpc.RpcError as e:
            assert e.code() == grpc.StatusCode.UNAVAILABLE, e.code()
        else:
            raise AssertionError("let in")
    s.stop()


def test_refused_to_start():
    none = dict(tls_cert=tmp + "/none", tls_key=tmp + "/none", tls_ca=tmp + "/none")
    for opts, text in ((dict(listen="0.0.0.0:0"), "others can reach"), (dict(tls_cert="x"), "and its key"),
                       (dict(listen="nothing"), "write HOST:PORT"), (dict(listen="127.0.0.1:99999"), "no port"),
                       (dict(sock=(tmp + "/").ljust(103, "x")), "too long"), (none, "No such file"),
                       (dict(listen=None, data="127.0.0.1:65535"), "no port after")):
        s = Server(**opts)
        assert s.port is None and text in s.error, (opts, s.error)
    one = Server()
    for opts in dict(listen="127.0.0.1:%d" % one.port, sock=tmp + "/other"), dict():
        s = Server(**opts)
        assert s.port is None and "in use" in s.error, s.error
        assert s.error.count("\n") == 1, s.error  # a sentence, and nothing of gRPC's
    one.stop()
    assert not os.path.exists(SOCK)
    open_one = Server(listen="0.0.0.0:0", insecure=True)
    assert connect("127.0.0.1:%d" % open_one.port)("GetStatus").size_bytes
    open_one.stop()


def two_ports():
    """A free port before a free port."""
    while True:
        with socket.socket() as a, socket.socket() as b:
            a.bind(("127.0.0.1", 0))
            port = a.getsockname()[1]
            try:
                b.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port


def test_addresses():
    """Beside the data plane's, unless said otherwise."""
    port = two_ports()
    s = Server(listen=None, data="127.0.0.1:%d" % port)
    assert s.port == port + 1 and ("control", SOCK) in s.doors, s.doors
    endpoints = connect("unix:" + SOCK)("GetStatus").endpoints
    assert [(e.channel, e.address) for e in endpoints] == [("tcp", "127.0.0.1:%d" % port), ("pipe", tmp + "/sock.sock")]
    s.stop()
    s = Server(listen="none")
    assert [c for c, _ in s.doors] == ["tcp", "pipe"] and not os.path.exists(SOCK), s.doors
    s.stop()
    s = Server(listen=None, channels="pipe")  # no tcp there, none here
    assert s.doors == [("pipe", tmp + "/sock.sock"), ("control", SOCK)], s.doors
    s.stop()


def status_by(endpoint, **own):
    """`penstock status` by a name that is made of what the endpoint says, and of what the client has itself."""
    host = "localhost" if endpoint.channel == "pipe" else endpoint.address.rsplit(":", 1)[0].replace("0.0.0.0", "127.0.0.1")
    name = "pst://%s%s?%s" % (host, ":%d" % endpoint.port if endpoint.port else "", endpoint.options)
    name += "".join("&%s=%s" % (k.replace("_", "-"), v) for k, v in own.items())
    done = subprocess.run([PENSTOCK, "-s", name, "status", "--json"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, (name, done.stderr)
    return json.loads(done.stdout)


def test_endpoints():
    """What the control plane says of the data plane is all that it takes to go there, over each channel."""
    ofi = subprocess.run([PENSTOCK, "serve", "--check", "--channels", "ofi:tcp", "mem:64m"], capture_output=True).returncode == 0
    names = ["pipe", "tcp"] + ["ofi:tcp"] * ofi
    for seal, sealing in ("off", 0), ("auto", 1), ("required", 2):
        s = Server(channels=",".join(names), seal=seal)
        api = connect("unix:" + SOCK)
        token = api("Grant", capability=dict(rights=ALL)).token
        found = {e.channel.split("+")[0]: e for e in api("OpenSession").endpoints}
        assert sorted(found) == sorted(n.split(":")[0] for n in names), found
        assert list(api("GetStatus").endpoints) == list(api("OpenSession").endpoints)
        for kind, e in found.items():
            assert not e.tls and not e.client_certificate and e.version >= e.version_min > 0, e
            assert e.provider == ("tcp" if kind == "ofi" else ""), e
            assert e.sealing == (min(sealing, 1) if kind == "pipe" else sealing), e
            st = status_by(e, token=token)
            assert st["channel"].split(" ")[0] == ("ofi:tcp" if kind == "ofi" else kind), (e, st["channel"])
            assert bool(st["sealed"]) == (e.sealing == 2), (e, st["sealed"])
        s.stop()
    certificates()
    s = Server(channels="tcp", data="0.0.0.0:0", tls_cert=tmp + "/localhost.pem", tls_key=tmp + "/localhost.key",
               tls_ca=tmp + "/ca.pem")
    api = connect("unix:" + SOCK)
    api("Grant", capability=dict(rights=ALL, subject="cert:node1"))
    e, = api("OpenSession").endpoints
    assert e.channel == "tcp+tls" and e.tls and e.client_certificate and e.address.startswith("0.0.0.0:"), e
    st = status_by(e, tls_ca=tmp + "/ca.pem", tls_cert=tmp + "/node1.pem", tls_key=tmp + "/node1.key")
    assert st["channel"].startswith("tcp+tls "), st
    s.stop()


def test_end_under_way():
    """A server that is told to end does so with clients that hold connections, sessions and calls."""
    s = Server()
    apis = [connect("unix:" + SOCK) for _ in range(4)] + [connect("127.0.0.1:%d" % s.port)]
    for api in apis[:4]:
        me = api("OpenSession").session
        c = api("CreateContainer", session=me, container=dict(name="c%d" % me.number)).container
        request = api.make("NameRequest", session=me, container=c.id, path=b"d").SerializeToString()
        for _ in range(50):
            api.channel.unary_unary("/penstock.v1.Names/Mkdir").future(request, timeout=30)
    with socket.create_connection(("127.0.0.1", s.port)):
        s.stop()


def test_hostile():
    """Random bytes as messages, as HTTP/2, and unknown methods; then all is as before."""
    rng = random.Random(8)
    s = Server(listen="127.0.0.1:0", insecure=True)
    target = "127.0.0.1:%d" % s.port
    api = connect(target)
    me = api("OpenSession").session
    channel = grpc.insecure_channel(target)
    good = api.make("NameRequest", session=me, path=b"x", container=3).SerializeToString()
    paths = ["/%s/%s" % (svc, m.name) for svc in api.services if not svc.startswith("grpc.refl")
             for m in api.pool.FindServiceByName(svc).methods]
    streams = ["/grpc.health.v1.Health/Watch"]
    for i in range(1500):
        if i % 3:
            data = bytearray(good)
            for _ in range(rng.randrange(1, 6)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            data = bytes(data) + bytes(rng.randrange(256) for _ in range(rng.randrange(8)))
        else:
            data = bytes(rng.randrange(256) for _ in range(rng.randrange(200)))
        path = rng.choice(paths)
        try:
            if path in streams:  # it has no end by itself
                answers = channel.unary_stream(path)(data, timeout=10)
                assert next(answers) in (b"\x08\1", b"\x08\3"), data
                answers.cancel()
            else:
                channel.unary_unary(path)(data, timeout=10)
        except grpc.RpcError as e:
            assert e.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED), e
    for path in "/penstock.v1.Server/Nothing", "/x", "/penstock.v1.Server/":
        try:
            channel.unary_unary(path)(b"", timeout=10)
        except grpc.RpcError as e:
            assert e.code() == grpc.StatusCode.UNIMPLEMENTED, e
        else:
            raise AssertionError(path)
    for i in range(60):
        with socket.create_connection(("127.0.0.1", s.port)) as raw:
            if i % 2:
                raw.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            raw.sendall(bytes(rng.randrange(256) for _ in range(rng.randrange(2000))))
    try:
        channel.unary_unary("/penstock.v1.Names/Create")(bytes(6 << 20), timeout=10)
    except grpc.RpcError as e:
        assert e.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, e
    # Calls that are given up at once
    for i in range(300):
        f = channel.unary_unary(rng.choice(paths)).future(good, timeout=10)
        f.cancel()
    api = connect(target)
    me = api("OpenSession").session
    c = api("CreateContainer", session=me, container=dict(name="still")).container
    assert api("Mkdir", session=me, container=c.id, path=b"d").attr.ino
    s.stop()


def test_restart():
    """The session, its answers and its capability are there after a restart on the same file."""
    path = tmp + "/store"
    subprocess.run([PENSTOCK, "format", "--size", "64M", path], check=True, stdout=subprocess.DEVNULL)
    opts = dict(store="local:" + path)
    s = Server(**opts)
    api = connect("unix:" + SOCK)
    me = api("OpenSession").session
    c = api("CreateContainer", session=me, container=dict(name="a"), token=dict(slot=0, sequence=1)).container
    d = api("Mkdir", session=me, container=c.id, path=b"d", token=dict(slot=1, sequence=1)).attr.ino
    token = api("Grant", capability=dict(container="a", rights=ALL)).token
    me = dict(number=me.number, secret=me.secret)
    s.p.kill()
    s.p.wait()
    s = Server(**opts)
    api = connect("unix:" + SOCK)
    assert api("Mkdir", session=me, container=c.id, path=b"d", token=dict(slot=1, sequence=1)).attr.ino == d
    api.fails("ALREADY_EXISTS", "EEXIST", "Mkdir", session=me, container=c.id, path=b"d", token=dict(slot=1, sequence=2))
    t = api("OpenSession", token).session
    assert [x.name for x in api("ListContainers", session=t).containers] == ["a"]
    s.stop()


tests = [v for k, v in list(globals().items()) if k.startswith("test_")]
only = sys.argv[2:]
tests = [t for t in tests if not only or t.__name__ in only]
print("1..%d" % len(tests))
failed = 0
for number, t in enumerate(tests, 1):
    try:
        t()
        print("ok %d - %s" % (number, t.__name__))
    except Exception as e:  # each of them is a failed test
        import traceback
        traceback.print_exc(file=sys.stdout)
        for s in Server.alive:
            s.p.kill()
        failed = 1
        print("not ok %d - %s: %s" % (number, t.__name__, e))
    sys.stdout.flush()
shutil.rmtree(tmp, ignore_errors=True)
sys.exit(failed)
