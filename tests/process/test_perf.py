#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""penstock perf on several processors, far out on devices, and what it shows meanwhile and at the end. See
nvme_bench.py for how it is called. (test_cli.py has the rest of it.)
"""
import json
import os
import re

from nvme_bench import Bench, main, stop, tcp_target


def test_perf_threads():
    """Threads of perf, each with controllers and queues of its own, verify each their part."""
    cpus = sorted(os.sched_getaffinity(0))[:2]
    many = ",".join(map(str, cpus))
    with Bench() as b:
        b.file("d.img", 64 << 20)
        t, dev = tcp_target(b, "d.img", "--loop", "one")
        for device in (dev, "nvme+loop:one", "mem:64m"):
            got = json.loads(b.ok("perf", device, "--rw", "randrw", "--mix", "30", "--verify", "--runtime", "1",
                                  "--force", "--queues", "2", "--qdepth", "8", "--cpus", many, "--json"))
            queues = got["devices"][0]["queues"]
            assert got["threads"] == len(cpus) and got["verified"]["wrong"] == 0, got
            assert got["verified"]["reads"] and got["verified"]["read_again_bytes"]
            assert [(q["cpu"], q["queue"]) for q in queues] == [(c, n) for c in cpus for n in (1, 2)]
            assert all(q["ios"] for q in queues) and sum(q["ios"] for q in queues) == got["ios"]
        got = json.loads(b.ok("perf", dev, "mem:16m", "--rw", "randread", "--rate", "400", "--runtime", "2",
                              "--cpus", many, "--json"))
        rows = [q["ios"] for d in got["devices"] for q in d["queues"]]
        most = 400 * max(got["seconds"], 2)
        assert got["ios"] <= most + 10 and max(rows) <= most / len(rows) + 2, got
        b.fails("perf", "d.img", dev, "--rw", "randread", "--cpus", many, say="d.img")  # the target has it
        b.fails("perf", "mem:16m", "--rw", "randread", "--cpus", "0-1000", say="--cpus", status=2)
        b.fails("perf", "mem:16m", "--rw", "randread", "--mix", "30", say="--mix", status=2)
        if len(cpus) > 1:
            b.file("e.img", 16 << 20)
            b.fails("perf", "e.img", "--rw", "randwrite", "--cpus", many, say="each thread of --cpus")
            b.ok("perf", "e.img", "--rw", "randread", "--cpus", many, "--runtime", "0.2")
        stop(t)


def data_by_eighth(path, size):
    """How many pieces of data each eighth of a sparse file has."""
    eighths, at = [0] * 8, 0
    with open(path, "rb") as f:
        while True:
            try:
                at = os.lseek(f.fileno(), at, os.SEEK_DATA)
            except OSError:
                return eighths
            eighths[at * 8 // size] += 1
            at = os.lseek(f.fileno(), at, os.SEEK_HOLE)


def test_far():
    """Places are anywhere on a device, beyond 2^31 blocks, too: where data lies in a sparse file tells."""
    size = 8 << 40
    with Bench() as b:
        for args in (["far.img"], ["nvme+loop:./far.img"]):
            for seconds in ("1", "10", "60"):  # a machine that is short of time writes few
                path = b.file("far.img", size)
                b.ok("perf", *args, "--rw", "randwrite", "--iosize", "4k", "--qdepth", "4", "--rate", "1000", "--runtime",
                     seconds, "--seed", "7")
                eighths = data_by_eighth(path, size)
                path.unlink()
                if sum(eighths) > 100:
                    break
            assert sum(eighths) > 100 and min(eighths) * 24 > sum(eighths), eighths


def test_live_line():
    """While it runs it says how it goes; nothing of that in what it prints at the end."""
    with Bench() as b:
        done = b.run("perf", "nvme+loop:null:1g", "--rw", "randread", "--runtime", "2", "--progress")
        lines = [l for l in done.stderr.splitlines() if re.fullmatch(r"\d+ s of 2  \d+ IOPS  \S+( \S+)?/s", l)]
        assert done.returncode == 0 and len(lines) >= 2, done.stderr
        assert all(int(l.split()[4]) > 0 for l in lines), lines
        assert " s of 2" not in done.stdout
        done = b.run("perf", "nvme+loop:null:1g", "--rw", "randread", "--runtime", "0.6")
        assert done.returncode == 0 and not done.stderr, done.stderr


def test_histogram():
    """All commands are in the histogram, in order, and its words say the same as its JSON."""
    with Bench() as b:
        args = ["perf", "nvme+loop:mem:16m", "--rw", "randrw", "--mix", "50", "--runtime", "0.3", "--histogram"]
        got = json.loads(b.ok(*args, "--json"))
        for what in ("read", "write"):
            lat = got[what + "_latency_us"]
            tops = [top for top, _ in lat["histogram_ns"]]
            assert sum(n for _, n in lat["histogram_ns"]) == lat["count"] and tops == sorted(tops), lat
            assert tops[-1] >= lat["max"] * 1000 * 0.999 and tops[0] >= lat["min"] * 1000 * 0.999
        out = b.ok(*args)
        total = int(re.search(r": (\d+) in ", out).group(1))
        rows = re.findall(r"^ +<= +[\d.]+ [mu]?s +(\d+) +([\d.]+) %", out, re.M)
        assert sum(int(n) for n, _ in rows) == total and rows, out
        assert abs(sum(float(p) for _, p in rows) - 200) < 2, out  # of the reads, and of the writes


def test_several():
    """Several devices of different kinds at once: rows for each queue of each."""
    with Bench() as b:
        b.file("d.img", 16 << 20)
        t, dev = tcp_target(b, "mem:16m")
        devices = ["mem:16m", "./d.img", "nvme+loop:mem:16m?block=512", dev]
        args = ["perf", *devices, "--rw", "randrw", "--runtime", "1", "--verify", "--queues", "2", "--batch", "8",
                "--qdepth", "16", "--force"]
        got = json.loads(b.ok(*args, "--json"))
        assert [d["device"] for d in got["devices"]] == devices and got["batch"] == 8
        assert [d["path"] for d in got["devices"]] == ["bdev", "bdev", "nvme", "nvme"]
        rows = [q for d in got["devices"] for q in d["queues"]]
        assert len(rows) == 8 and sum(q["ios"] for q in rows) == got["ios"] and all(q["ios"] for q in rows)
        assert got["verified"]["wrong"] == 0 and got["cpu_us_per_io"] > 0
        out = b.ok(*args)
        assert [sum(l.startswith(d + " ") for l in out.splitlines()) for d in devices] == [2] * 4, out
        b.fails("perf", "mem:16m", dev, "--rw", "read", "--reset-every", "10", say="mem:16m: has no controller to reset")
        stop(t)


main(globals())
