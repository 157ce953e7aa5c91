# SPDX-License-Identifier: BSD-3-Clause
"""Running the two sides of a comparison: fio, programs that print JSON, and an engine_bench that
stops itself between its windows so that the sides take turns on the same machine."""
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import time

PERCENTILES = [1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 99.5, 99.9, 99.99]


class Failed(Exception):
    """A program of either side failed: the row has no figure."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def run(command, **kw):
    done = subprocess.run(command, text=True, capture_output=True, **kw)
    if done.returncode:
        raise Failed("%s: exit status %d\n%s%s" % (" ".join(command), done.returncode,
                                                   done.stdout[-2000:], done.stderr[-2000:]))
    return done.stdout


def timed(command, **kw):
    """Wall and CPU seconds of a command and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    out = run(command, **kw)
    wall = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"wall_s": wall, "output": out,
            "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def fio(path, rw, bs, depth, seconds, size, dsync=False):
    """One window of fio on a file that is fully written."""
    command = ["fio", "--name=raw", "--filename=" + path, "--ioengine=io_uring", "--direct=1",
               "--rw=" + rw, "--bs=" + bs, "--iodepth=%d" % depth, "--size=%d" % size,
               "--time_based", "--runtime=%g" % seconds, "--thread", "--norandommap",
               "--randrepeat=0", "--allow_file_create=0", "--output-format=json",
               "--percentile_list=" + ":".join("%g" % p for p in PERCENTILES)]
    if dsync:
        command.append("--sync=dsync")
    job = json.loads(run(command))["jobs"][0]
    side = job["read" if "read" in rw else "write"]
    table = side["clat_ns"].get("percentile", {})
    return {"iops": side["iops"], "bytes_per_s": side["bw_bytes"], "ops": side["total_ios"],
            "cpu_us_per_op": (job["usr_cpu"] + job["sys_cpu"]) / 100 * side["runtime"] * 1000
            / max(side["total_ios"], 1),
            "curve": [[float(p), ns / 1000] for p, ns in sorted(table.items(),
                                                               key=lambda kv: float(kv[0]))]}


def our_curve(window):
    """An engine_bench window's latencies at PERCENTILES, as fio() gives them."""
    lat, curve = window["latency_us"], window["curve_us"]
    special = {99.5: None, 99.9: lat["p999"], 99.99: lat["p9999"]}
    points = []
    for p in PERCENTILES:
        value = special.get(p) if p in special else curve[int(p) - 1]
        if value is not None:
            points.append([p, value])
    return points


class Engine:
    """engine_bench with --pause: stopped but for the windows that it is told to measure."""

    def __init__(self, command):
        self.command = command
        self.process = subprocess.Popen(command + ["--pause"], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        self.stages = []
        self.wait()

    def wait(self):
        """Until it stops itself, or ends: False."""
        _, status = os.waitpid(self.process.pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            return True
        self.process.returncode = os.waitstatus_to_exitcode(status)
        if self.process.returncode:
            raise Failed("%s: exit status %d\n%s" % (" ".join(self.command),
                                                     self.process.returncode,
                                                     self.process.stderr.read()[-2000:]))
        return False

    def window(self):
        os.kill(self.process.pid, signal.SIGCONT)
        stopped = self.wait()
        while True:
            line = self.process.stdout.readline()
            if not line:
                raise Failed("%s printed no window" % " ".join(self.command))
            stage = json.loads(line)
            if stage["stage"] == "window":
                if not stopped:
                    raise Failed("%s did not stop" % " ".join(self.command))
                stage["curve"] = our_curve(stage)
                return stage
            self.stages.append(stage)

    def finish(self):
        """Lets it close the store; its last stages."""
        os.kill(self.process.pid, signal.SIGCONT)
        while self.wait():
            os.kill(self.process.pid, signal.SIGCONT)
        self.stages += [json.loads(line) for line in self.process.stdout]
        return {s["stage"]: s for s in self.stages}

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process.returncode is None:
            self.process.kill()
            os.kill(self.process.pid, signal.SIGCONT)
            os.waitpid(self.process.pid, 0)
            self.process.returncode = -9
        self.process.stdout.close()
        self.process.stderr.close()


def interleave(count, *sides):
    """Calls the sides in turn, in one order and then in the other (A B B A ...), so that what
    drifts meanwhile hits both. A list of results for each side."""
    results = [[] for _ in sides]
    for i in range(count):
        order = range(len(sides)) if i % 2 == 0 else reversed(range(len(sides)))
        for k in order:
            results[k].append(sides[k]())
    return results


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values),
            "values": values}
