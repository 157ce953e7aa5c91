# SPDX-License-Identifier: BSD-3-Clause
"""Rows of a served store: `penstock serve` and `penstock bench`, two processes, against the disk, the
kernel's sockets and UCX.

The client lays its data out once and keeps it; each window verifies it again before it measures. What
is verified beyond that, each row says."""
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request

from measure import Failed, fio, interleave, run, say

MIB = 1 << 20
CHANNELS = ("pipe", "tcp")
JOURNAL = 244 * MIB  # of the store that takes bursts, as in the rows of the engine alone
# What a 4 KiB read is on the wire beside its data: docs/wire-format.md, sections 3 and 6.
REQUEST, REPLY = 96, 64
# From memory, for rows about the way: as much as stays in the processor's caches, as what iperf3, UCX and the
# other baselines send again and again does. FAR is what no cache holds.
NEAR = ["--rw", "randread", "--bs", "4k", "--size", str(MIB)]
FAR = ["--rw", "randread", "--bs", "4k", "--size", str(256 * MIB)]
LARGE = ["--rw", "read", "--bs", "1m", "--iodepth", "8", "--size", str(32 * MIB)]


class Served:
    """A server with a store, and the commands that use it. @doors: who may come; without, anybody."""

    def __init__(self, setup, device, *args, doors=("--insecure",), name="served"):
        self.setup = setup
        self.socket = setup.path(name + ".sock")
        self.more, self.env = "", None
        self.process = subprocess.Popen(
            [setup.penstock, "serve", device, "--listen", "127.0.0.1:0", *doors, "--socket",
             self.socket, "--json", *args],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        text = ""
        for line in iter(self.process.stdout.readline, ""):
            text += line
            if line == "}\n":
                break
        else:
            raise Failed("penstock serve: " + self.process.stderr.read())
        said = json.loads(text)
        self.address = next(d["address"] for d in said["listening"] if d["channel"] == "tcp")
        self.metrics = said.get("metrics")

    def store(self, channel):
        return "pst://%s?channel=%s&socket=%s%s" % (self.address, channel, self.socket, self.more)

    def penstock(self, channel, *args):
        return run([self.setup.penstock, "-s", self.store(channel), *args], env=self.env)

    def bench(self, channel, *args):
        r = json.loads(self.penstock(channel, "bench", "--container", "bench", "--runtime",
                                     str(self.setup.seconds), "--keep", "--json", *args))
        if r["verified"]["errors"] or not r["verified"]["before_bytes"]:
            raise Failed("penstock bench verified nothing, or found errors")
        return r

    def __enter__(self):
        try:
            if "bench" not in self.penstock("pipe", "container", "list"):
                self.penstock("pipe", "container", "create", "bench", "--layout", "object")
        except Failed:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


def on_file(setup, name, *options, serve=()):
    path = setup.path(name)
    run([setup.penstock, "format", path, "--size", "3g", "--force", *options])
    return Served(setup, path, *serve)


def pairs(setup, key, title, against, wanted, ours, theirs, what, at_least=True, more=None):
    from rows import ratios, side
    mine, other = interleave(setup.pairs, ours, theirs)
    setup.add(key, title, against, wanted, at_least, ratios(mine, other, what), ours=side(mine),
              theirs=side(other), **(more or {}))


# --- a store in a file ---

def disk(setup):
    size = 512 * MIB
    say("served, on a file: pipe and tcp against fio")
    with on_file(setup, "served.pst") as s:
        for channel, wanted in (("pipe", 0.9), ("tcp", 0.75)):
            pairs(setup, "served_read_" + channel,
                  "served over %s: 4 KiB random read, depth 32" % channel,
                  "fio io_uring O_DIRECT, depth 32", wanted,
                  lambda c=channel: s.bench(c, "--rw", "randread", "--size", str(size)),
                  lambda: fio(setup.raw, "randread", "4k", 32, setup.seconds, size), "iops")
        s.penstock("pipe", "container", "destroy", "bench")
        s.penstock("pipe", "container", "create", "bench", "--layout", "object")
        for channel in CHANNELS:
            for rw in ("read", "write"):
                pairs(setup, "served_seq_%s_%s" % (rw, channel),
                      "served over %s: 1 MiB sequential %s, depth 8, verified" % (channel, rw),
                      "fio io_uring O_DIRECT, depth 8", 0.9,
                      lambda c=channel, rw=rw: s.bench(c, "--rw", rw, "--bs", "1m", "--iodepth",
                                                       "8", "--size", str(size), "--verify"),
                      lambda rw=rw: fio(setup.raw, rw, "1m", 8, setup.seconds, size),
                      "bytes_per_s")
    os.unlink(setup.path("served.pst"))


def burst(setup):
    size, ops = 512 * MIB, 14000
    say("served, on a file: durable overwrites in bursts that fit the journal")
    # All shards have a journal of their own, and a container has one of them: by default 24 MiB here.
    with on_file(setup, "served.pst", "--journal", str(JOURNAL), "--shards", "1") as s:
        s.bench("pipe", "--rw", "randwrite", "--size", str(size), "--ops", "1000")

    def ours():
        """A server that has just been started has an empty journal."""
        with Served(setup, setup.path("served.pst")) as s:
            return s.bench("pipe", "--rw", "randwrite", "--size", str(size), "--ops", str(ops))

    pairs(setup, "served_burst", "served over pipe: 4 KiB durable overwrite, depth 32, burst",
          "fio io_uring O_DIRECT O_DSYNC, depth 32", 1.4, ours,
          lambda: fio(setup.raw, "randwrite", "4k", 32, setup.seconds, size, dsync=True),
          "iops", more={"burst_bytes": ops * 4096})
    os.unlink(setup.path("served.pst"))


# --- a store in memory: what the way costs ---

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def listens(port):
    """Asked of the kernel: a connection to try would be taken for the real one."""
    with open("/proc/net/tcp") as four, open("/proc/net/tcp6") as six:
        lines = four.readlines()[1:] + six.readlines()[1:]
    return any(f[1].endswith(":%04X" % int(port)) and f[3] == "0A" for f in map(str.split, lines))


class Peer:
    """The serving half of a baseline, on a port of its own."""

    def __init__(self, command, port, **kw):
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        **kw)
        end = time.monotonic() + 30
        while not listens(port):
            if self.process.poll() is not None or time.monotonic() > end:
                self.__exit__()
                raise Failed("%s does not listen" % " ".join(command))
            time.sleep(0.01)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


def iperf(setup):
    """One stream, loopback: what the kernel's sockets carry between two processes."""
    port = str(free_port())
    with Peer(["iperf3", "-s", "-1", "-p", port, "--forceflush"], port):
        r = json.loads(run(["iperf3", "-c", "127.0.0.1", "-p", port, "-t", "%d" % setup.seconds,
                            "-l", "1M", "-J"]))
    rate = r["end"]["sum_received"]["bits_per_second"] / 8
    return {"bytes_per_s": rate, "iops": rate / MIB, "cpu_us_per_op": 0}


def ucx(setup, transports):
    """ucx_perftest's tag_lat: 4 KiB there and 4 KiB back, half of which it prints."""
    port = str(free_port())
    env = dict(os.environ, UCX_TLS=transports, UCX_WARN_UNUSED_ENV_VARS="n", UCX_LOG_LEVEL="error")
    rounds = 20000 if setup.quick else 100000
    with Peer(["ucx_perftest", "-p", port, "-f"], port, env=env):
        out = run(["ucx_perftest", "127.0.0.1", "-p", port, "-t", "tag_lat", "-s", "4096", "-n",
                   str(rounds), "-w", "2000", "-f", "-v"], env=env)
    # CSV: iterations, median, average, overall latency in microseconds, ...
    rows = [line.split(",") for line in out.splitlines() if re.match(r"^\d+,", line)]
    if not rows:
        raise Failed("ucx_perftest printed no result: " + out)
    one_way = float(rows[-1][1])
    return {"latency_us": 2 * one_way, "iops": 1e6 / (2 * one_way), "bytes_per_s": 0,
            "cpu_us_per_op": 0}


def bare(setup, depth):
    r = json.loads(run([os.path.join(setup.build, "bench/nvme_bare"), "tcp", "--depth", str(depth),
                        "--request", str(REQUEST), "--reply", str(REPLY), "--runtime",
                        str(setup.seconds)]))
    return dict(r, cpu_us_per_op=0)


def ofi_bare(setup, depth):
    """Request and response on bare libfabric, of the same sizes as ours."""
    r = json.loads(run([os.path.join(setup.build, "bench/ofi_bare"), "tcp;ofi_rxm", "--depth",
                        str(depth), "--request", str(REQUEST), "--size", str(REPLY + 4096),
                        "--runtime", str(setup.seconds), "--json"]))
    return dict(r, iops=r["ops_s"], bytes_per_s=r["ops_s"] * 4096, cpu_us_per_op=0)


def ofi(setup):
    if not os.path.exists(os.path.join(setup.build, "bench/ofi_bare")):
        say("  this build has no libfabric: the channel ofi is not measured")
        return
    with Served(setup, "mem:1g", "--channels", "pipe,tcp,ofi:tcp") as s:
        for key, where, data, wanted in (("", "in memory", NEAR, 0.8),
                                         ("_far", "in memory, 256 MiB", FAR, None)):
            pairs(setup, "served_deep_ofi" + key,
                  "served over ofi (tcp;ofi_rxm): 4 KiB read, %s, depth 32" % where,
                  "bare libfabric, same sizes, depth 32", wanted,
                  lambda data=data: s.bench("ofi:tcp", *data, "--iodepth", "32"), lambda: ofi_bare(setup, 32),
                  "iops")


def memory(setup):
    say("served, in memory: what the way costs")

    def median(channel, data=NEAR):
        r = s.bench(channel, *data, "--iodepth", "1", "--poll")
        return dict(r, latency_us=r["latency_us"]["p50"])

    with Served(setup, "mem:1g") as s:
        pairs(setup, "served_1m_tcp", "served over tcp: 1 MiB read, in memory, depth 8",
              "iperf3, one stream, loopback", 0.75, lambda: s.bench("tcp", *LARGE),
              lambda: iperf(setup), "bytes_per_s")
        pairs(setup, "served_1m_tcp_plain", "the same without checksums",
              "iperf3, one stream, loopback", 0.9,
              lambda: s.bench("tcp", *LARGE, "--no-checksum"), lambda: iperf(setup), "bytes_per_s")
        pairs(setup, "served_deep_tcp", "served over tcp: 4 KiB read, in memory, depth 32",
              "blocking sockets, same sizes, pipelined", 1.0,
              lambda: s.bench("tcp", *NEAR, "--iodepth", "32"), lambda: bare(setup, 32), "iops")
    with Served(setup, "mem:1g", "--poll") as s:
        pairs(setup, "served_one_pipe", "served over pipe: 4 KiB read, in memory, depth 1, median latency",
              "ucx_perftest tag_lat 4 KiB, posix and cma, both ways", 1.2, lambda: median("pipe"),
              lambda: ucx(setup, "posix,cma,self"), "latency_us", at_least=False)
        pairs(setup, "served_one_pipe_far", "the same from 256 MiB, which no cache holds",
              "ucx_perftest tag_lat 4 KiB, posix and cma, both ways", None, lambda: median("pipe", FAR),
              lambda: ucx(setup, "posix,cma,self"), "latency_us", at_least=False)
        pairs(setup, "served_one_tcp", "served over tcp: 4 KiB read, in memory, depth 1, median latency",
              "ucx_perftest tag_lat 4 KiB, tcp, both ways", 1.3, lambda: median("tcp"),
              lambda: ucx(setup, "tcp,self"), "latency_us", at_least=False)


# --- what it costs that nobody on the way can read or change it ---

def authority(setup):
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    cert, key = setup.path("bench.pem"), setup.path("bench.key")
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
         "-out", cert, "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"])
    return cert, key


def over(server, token, options, sealed):
    """bench() over tcp by that token, and with these options; the status has to say that it is so."""
    def go(*args):
        server.more, server.env = options, dict(os.environ, PENSTOCK_TOKEN=token)
        try:
            status = json.loads(server.penstock("tcp", "status", "--json"))
            if bool(status.get("sealed")) != sealed:
                raise Failed("%s: sealed is %r" % (server.store("tcp"), status.get("sealed")))
            return server.bench("tcp", *args)
        finally:
            server.more, server.env = "", None
    return go


def sealed(setup):
    """The same reads of the same sizes from memory, in the same minute: in the clear, sealed, and over TLS."""
    from rows import ratios, side
    work = [("1m", "1 MiB read, in memory, depth 8", "bytes_per_s", LARGE),
            ("4k", "4 KiB read, in memory, depth 32", "iops",
             ["--rw", "randread", "--bs", "4k", "--iodepth", "32", "--size", str(32 * MIB)])]
    say("served over tcp, in memory: in the clear, sealed, and over TLS")
    cert, key = authority(setup)
    tls_args = ("--tls-cert", cert, "--tls-key", key)
    with Served(setup, "mem:256m", doors=("--seal", "auto")) as clear, \
            Served(setup, "mem:256m", doors=tls_args, name="tls") as tls:
        tokens = [s.penstock("pipe", "-q", "capability", "grant", "bench", "--rights", "all").strip()
                  for s in (clear, tls)]
        ways = [over(clear, tokens[0], "&seal=off", False), over(clear, tokens[0], "&seal=required", True),
                over(tls, tokens[1], "&tls-ca=" + cert, False)]
        for size, title, what, args in work:
            plain, seal, by_tls = interleave(setup.pairs, *[lambda way=way: way(*args) for way in ways])
            for name, how, ours in (("sealed", "sealed", seal), ("tls", "TLS 1.3", by_tls)):
                setup.add("served_%s_%s" % (name, size), "served over tcp, %s: %s" % (how, title), "the same in the clear",
                          None, True, ratios(ours, plain, what), ours=side(ours), theirs=side(plain))


# --- a neighbour that floods ---

TENANTS = "tenants:\n  - {id: 1, name: crowd, weight: 64}\n  - {id: 2, name: flood, weight: 1}\n"


def waited(server):
    """Of the crowd's tenant: seconds that requests waited for their turn, and requests."""
    with urllib.request.urlopen("http://%s/metrics" % server.metrics, timeout=30) as r:
        text = r.read().decode()
    return [float(re.search(r'^penstock_tenant_%s\{tenant="1",.*\} (\S+)$' % name, text, re.M).group(1))
            for name in ("queue_seconds_total", "requests_total")]


def crowd(setup):
    """More than the store works on at a time, so that who waits is the server's choice."""
    clients, depth = 64, 16
    program = os.path.join(setup.build, "bench/crowd_bench")
    say("served, on a file: 64 clients beside one that floods")
    config = setup.path("crowd.yaml")
    with open(config, "w") as f:
        f.write(TENANTS)
    with on_file(setup, "crowd.pst", serve=("--config", config, "--metrics", "127.0.0.1:0")) as s:
        tokens = [s.penstock("pipe", "-q", "capability", "grant", "bench", "--rights", "all", "--tenant",
                             tenant).strip() for tenant in "12"]
        envs = [dict(os.environ, PENSTOCK_TOKEN=t) for t in tokens]
        run([program, "lay", s.store("pipe"), "bench"], env=envs[0])

        def alone():
            before = waited(s)
            r = json.loads(run([program, "read", s.store("pipe"), "bench", str(clients), str(depth),
                                "%d" % setup.seconds], env=envs[0]))
            after = waited(s)
            return dict(r, latency_us=(after[0] - before[0]) / (after[1] - before[1]) * 1e6,
                        bytes_per_s=r["iops"] * 4096, cpu_us_per_op=0)

        def flooded():
            neighbour = subprocess.Popen([program, "read", s.store("pipe"), "bench", "1", "256", "600"],
                                         env=envs[1], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            try:
                if neighbour.stderr.readline() != "reading\n":
                    raise Failed("the flooding neighbour does not start")
                return alone()
            finally:
                neighbour.terminate()
                neighbour.communicate(timeout=30)

        from rows import ratios, side
        mine, other = interleave(setup.pairs, flooded, alone)
        against = "the same without it"
        setup.add("served_crowd_wait", "served over pipe: 64 clients beside one that floods: their wait in the server",
                  against, 1.2, False, ratios(mine, other, "latency_us"), ours=side(mine), theirs=side(other))
        setup.add("served_crowd_rate", "the same: what they read together", against, 0.8, True,
                  ratios(mine, other, "iops"), ours=side(mine), theirs=side(other))
        setup.add("served_crowd_least", "the same: the least that one of them gets, of its fair share",
                  "a 64th", 0.8, True, [r["least"] for r in mine])
    os.unlink(setup.path("crowd.pst"))


ROWS = [("served_disk", disk, ["raw"]),
        ("served_burst", burst, ["raw"]),
        ("served_memory", memory, []),
        ("served_sealed", sealed, []),
        ("served_crowd", crowd, []),
        ("served_ofi", ofi, [])]
