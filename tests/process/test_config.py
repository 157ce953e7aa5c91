#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""test_config.py PENSTOCK: a server out of a configuration file, and the check of one."""
import json
import os
import socket
import subprocess
import sys
import tempfile

from ops import Server, Tap
from tls_files import Certs

P = os.path.abspath(sys.argv[1])
tap = Tap()


def check_config(text, *args):
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
        f.write(text)
        f.flush()
        r = subprocess.run([P, "serve", "--check", "--config", f.name, *args], capture_output=True, text=True)
        return r.returncode, r.stderr.replace(f.name, "F")


def serve(*args):
    """Of a server that must not start."""
    r = subprocess.run([P, "serve", *args], capture_output=True, text=True, timeout=60)
    return r.returncode, r.stderr


def own_files(d):
    """Nothing that a server lives on is appended to or removed as its audit log, or as the lock of its socket."""
    dev, other = (os.path.join(d, name) for name in ("a.pst", "b.pst"))
    link, sym, sock, fifo = (os.path.join(d, name) for name in ("link", "sym", "s.sock", "fifo"))
    for path in (dev, other):
        subprocess.run([P, "-q", "format", path, "--size", "64m"], check=True)
    os.link(dev, link)
    os.symlink(dev, sym)
    os.mkfifo(fifo)
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(fifo + ".sock")
    certs = Certs(os.path.join(d, "certs"))
    tls = ["--tls-cert", certs("server.pem"), "--tls-key", certs("server.key"), "--tls-ca", certs("ca.pem")]
    with open(dev, "rb") as f:
        before = f.read()
    there = sorted(os.listdir(d))
    place = ["--socket", sock, "--listen", "127.0.0.1:0", "--control", "none"]
    is_device = "it is a device of the store"
    for name, args, want in (
            ("by its name", [dev, "--audit-log", dev], is_device),
            ("by another way to it", [dev, "--audit-log", os.path.join(d, "..", os.path.basename(d), "a.pst")], is_device),
            ("by a link to it", [dev, "--audit-log", link], is_device),
            ("by a symbolic link", [dev, "--audit-log", sym], is_device),
            ("when the device is named by one", [sym, "--audit-log", dev], is_device),
            ("when it is the second device", [other, dev, "--audit-log", dev], is_device),
            ("in a list of devices", ["%s,%s" % (other, dev), "--audit-log", dev], is_device),
            ("under uring: with options", ["uring:%s?direct=0" % dev, "--audit-log", dev], is_device),
            ("under fault:", ["fault:fault:%s?seed=1" % dev, "--audit-log", dev], is_device),
            ("under nvme+loop:", ["nvme+loop:%s?lba=4096" % dev, "--audit-log", dev], is_device),
            ("under multipath:", ["multipath:round-robin:nvme+loop:%s|nvme+loop:%s" % (other, dev), "--audit-log", dev],
             is_device),
            ("the certificate", [dev, *tls, "--audit-log", certs("server.pem")], "it is a file of TLS"),
            ("its key", [dev, *tls, "--audit-log", certs("server.key")], "it is a file of TLS"),
            ("the authority", [dev, *tls, "--audit-log", certs("ca.pem")], "it is a file of TLS"),
            ("a pipe", [dev, "--audit-log", fifo], "it is a pipe"),
            ("a socket", [dev, "--audit-log", fifo + ".sock"], "it is a socket"),
            ("the socket's lock", [dev, "--audit-log", sock + ".lock"], "has files of that name"),
            ("the lock of the control plane's", [dev, "--audit-log", sock[:-5] + ".control.lock"], "has files of that name"),
            ("the socket itself", [dev, "--audit-log", os.path.join(d, ".", "s.sock")], "has files of that name"),
            ("one named twice", [dev, dev], "named twice"),
            ("one named twice, otherwise", [dev, os.path.join(d, ".", "a.pst")], "named twice"),
            ("one named twice in a list", [other, "%s,uring:%s" % (dev, link)], "named twice")):
        code, said = serve(*place, *args, "--check")
        tap.check("audit log, socket, devices: " + name, code == 1 and want in said, said)
        code, said = serve(*place, *args)
        tap.check("the server does not start, either: " + name, code == 1 and want in said, said)
    lock = os.path.join(d, "a.pst.lock")
    os.rename(dev, lock)
    for check in (["--check"], []):
        code, said = serve(*place, other, "--socket", lock[:-5], *check)
        tap.check("what is called like the socket's lock, and is none", code == 1 and "its lock, would be removed" in said, said)
    os.rename(lock, dev)
    with open(dev, "rb") as f:
        tap.check("and nothing was written, made or removed", f.read() == before and sorted(os.listdir(d)) == there, os.listdir(d))
    code, said = check_config("devices: [%s]\naudit-log: %s\n" % (dev, link))
    tap.check("the configuration's line", code == 1 and "F:2: --audit-log " in said and is_device in said, said)
    code, said = check_config("devices:\n  - %s\n  - %s\n" % (dev, link))
    tap.check("the line of what is named twice", code == 1 and "F:3: " in said and "named twice" in said, said)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
        f.write("devices: [mem:64m]\naudit-log: %s\n" % f.name)
        f.flush()
        code, said = serve("--check", "--config", f.name)
        tap.check("the configuration itself", code == 1 and "it is the configuration" in said, said)


def main():
    code, said = check_config("devices: [mem:64m]\nslow-op: 250ms\n")
    tap.check("a good configuration", code == 0, said)
    code, said = check_config("devices: [mem:64m]\nslow-op: 250\n")
    tap.check("a bad value has its line", code == 1 and "F:2: slow-op: " in said, said)
    code, said = check_config("devices: [/nonexistent/d]\n")
    tap.check("a device that is not there", code == 1 and "/nonexistent/d: No such file" in said, said)
    code, said = check_config("devices: [/nonexistent/d]\n", "mem:64m")
    tap.check("devices of the command line go first", code == 0, said)
    code, said = check_config("devices: [mem:64m]\nseal: off\nlisten: [\"0.0.0.0:0\"]\n")
    tap.check("an open address wants sealing, TLS or insecure", code == 1 and "--insecure" in said, said)
    code, said = check_config("devices: [mem:64m]\nseal: off\nlisten: [\"0.0.0.0:0\"]\n", "--insecure")
    tap.check("which the command line gives", code == 0, said)
    for line, want in (("listen: [nobody.invalid]", "host 'nobody.invalid'"), ("metrics: 1.2.3.4.5:99", "host '1.2.3.4.5'"),
                       ('listen: ["127.0.0.1:7440", "127.0.0.1:7440"]', "listens there already"),
                       ('listen: ["127.0.0.1:7440"]\nmetrics: localhost:7440', "--listen 127.0.0.1:7440 listens there"),
                       ("channels: [pipe, ofi]", "which ofi"), ("audit-log: /nonexistent/dir/x", "No such file"),
                       ("audit-log: /tmp", "directory")):
        code, said = check_config("devices: [mem:64m]\n%s\n" % line)
        tap.check("with which no server starts: " + line.replace("\n", ", "), code == 1 and want in said, said)
    for line, want in (("seal: maybe", "F:2: --seal maybe: "), ("channels: [tcp, smoke]", "F:2: --channels: there is no channel"),
                       ("channels: []", "F:2: channels: "), ('listen: ["127.0.0.1:70000"]', "F:2: --listen 127.0.0.1:70000: "),
                       ("listen: []", "F:2: listen: "), ("cores: 8190", "F:2: "), ("metrics: nowhere", "F:2: --metrics nowhere: "),
                       ("control: 127.0.0.1", "F:2: --control 127.0.0.1: write HOST:PORT"),
                       ("tls:\n  cert: /nonexistent\n  key: /dev/null", "F:3: "),
                       ("tls:\n  cert: /dev/null", "F:3: TLS takes"), ("socket: /nonexistent/s", "F:2: --socket "),
                       ("limits:\n  lease: 2h\n  expiry: 1s", "F:4: limits.expiry: a session ends after 1000 ms"),
                       ("limits:\n  lease: 2h", "F:3: limits.lease: "),
                       ('listen: ["127.0.0.1:18440"]\nmetrics: 127.0.0.1:18440', "F:3: --metrics ")):
        code, said = check_config("devices: [mem:64m]\n%s\n" % line)
        tap.check("it says where: " + line.replace("\n", ", "), code == 1 and want in said, said)
    code, said = check_config("devices:\n  - mem:64m\n  - mem:banana\n")
    tap.check("a device has its line", code == 1 and "F:3: mem: 'banana'" in said, said)
    code, said = check_config("devices: [mem:64m]\nseal: off\n", "--seal", "maybe")
    tap.check("what the command line says has none", code == 1 and "serve: --seal maybe" in said, said)
    code, said = check_config("devices: [mem:64m]\nchannels: [tcp, \"ofi:tcp\"]\n")
    if "no channel" not in said:
        tap.check("a provider that libfabric has", code == 0, said)
        code, said = check_config("devices: [mem:64m]\nchannels: [tcp, \"ofi:nosuch\"]\n")
        tap.check("one that it has not", code == 1 and "F:2: --channels: ofi:nosuch: " in said and "(it has " in said and
                  "tcp" in said.split("(it has ")[1], said)
        code, said = check_config('devices: [mem:64m]\nchannels: ["ofi:verbs"]\n')
        if os.path.isdir("/sys/class/infiniband") and os.listdir("/sys/class/infiniband"):
            tap.check("RDMA where there is a device for it", code == 0, said)
        else:
            tap.check("and where there is none", code == 1 and "F:2: --channels: ofi:verbs: this host has no device" in said, said)
        code, said = check_config('devices: [mem:64m]\nchannels: ["ofi:tcp", "ofi:verbs"]\n')
        tap.check("a second one", code == 1 and "ofi is named twice" in said, said)
        code, said = check_config('devices: [mem:64m]\nchannels: [tcp, "ofi:tcp"]\nlisten: ["127.0.0.1:65534"]\n')
        tap.check("no port for ofi", code == 1 and "F:3: " in said and "ofi is two ports above" in said, said)
        code, said = check_config('devices: [mem:64m]\nchannels: [tcp, "ofi:tcp"]\nlisten: ["127.0.0.1:18440"]\n'
                                  'metrics: 127.0.0.1:18442\n')
        tap.check("ofi's port is taken", code == 1 and "ofi (two ports above --listen 127.0.0.1:18440) listens" in said, said)
    code, said = check_config('devices: [mem:64m]\nlisten: ["127.0.0.1:0", "127.0.0.1:0"]\naudit-log: new.log\n')
    tap.check("two ports of the kernel's choice", code == 0, said)
    code, said = check_config("devices: [mem:64m]\ncores: 0,0\n")
    tap.check("a core twice", code == 1 and "F:2: cores: " in said, said)
    code, said = check_config("devices: [mem:64m]\n", "--cores", "8190")
    tap.check("a core that is not there", code == 1 and "core 8190" in said, said)
    first = min(os.sched_getaffinity(0))
    code, said = check_config("devices: [mem:64m]\ncores: 8190\n", "--cores", str(first))
    tap.check("cores of the command line go first", code == 0, said)
    if len(os.sched_getaffinity(0)) > 1:
        two = ",".join(str(c) for c in sorted(os.sched_getaffinity(0))[:2])
        r = subprocess.run([P, "serve", "--cores", two, "mem:64m", "--listen", "127.0.0.1:0"],
                           capture_output=True, text=True, timeout=60)
        tap.check("more reactors than shards", r.returncode == 1 and "1 shard" in r.stderr, r.stderr)
    r = subprocess.run([P, "serve", "--check", "--json", "mem:64m"], capture_output=True, text=True)
    tap.check("a good configuration, in JSON", r.returncode == 0 and json.loads(r.stdout) == {"ok": True}, r.stdout + r.stderr)
    r = subprocess.run([P, "serve", "--check", "--json", "mem:999999t"], capture_output=True, text=True)
    said = json.loads(r.stdout or "{}")
    tap.check("a bad one, in JSON", r.returncode == 1 and said.get("ok") is False and
              said["error"] == "mem: '999999t' is more than 64 TiB" and said["error"] in r.stderr, r.stdout + r.stderr)
    r = subprocess.run([P, "serve", "--check", "--json", "--config", "/nonexistent"], capture_output=True, text=True)
    tap.check("one that is not there, in JSON", r.returncode == 1 and json.loads(r.stdout or "{}").get("ok") is False and
              "/nonexistent: " in json.loads(r.stdout)["error"], r.stdout + r.stderr)
    r = subprocess.run([P, "serve", "--check"], capture_output=True, text=True)
    tap.check("no device at all", r.returncode == 2, r.stderr)

    with tempfile.TemporaryDirectory() as d:
        own_files(d)
    with tempfile.TemporaryDirectory() as d:
        audit = os.path.join(d, "audit")
        config = ("listen: [\"127.0.0.1:1\"]\nlog-level: debug\naudit-log: %s\n"
                  "tenants:\n  - {id: 0, name: everybody, ops-per-second: 50}\n" % audit)
        # --listen is on the command line: port 1 is never asked for.
        with Server(P, config=config) as s:
            s.run("container", "create", "c")
            tap.check("it serves", s.run("ls", "c:/").returncode == 0)
            with open(audit) as f:
                events = [json.loads(line) for line in f]
            tap.check("the audit log", any(e.get("who", "").startswith("uid:") for e in events), events)
            tap.check("the log's level", "penstock: debug: " in s.logged(), s.logged())
            status = s.end()
            tap.check("it ends", status == 0, status)
    return tap.end()


sys.exit(main())
