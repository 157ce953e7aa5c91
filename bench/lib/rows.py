# SPDX-License-Identifier: BSD-3-Clause
"""The rows that are measured. Each function takes the set-up and adds rows to it.

Both sides of a row use the same file system, the same amount of data, and files that were fully
written before (no unwritten extents)."""
import json
import os
import random
import shutil
import subprocess
import time

import served
from measure import Engine, Failed, fio, interleave, run, say, spread, timed

MIB = 1 << 20
GIB = 1 << 30
JOURNAL = 244 * MIB  # the full data set is 16 times as large


class Setup:
    def __init__(self, root, build, data, quick):
        self.quick = quick
        self.pairs = 3 if quick else 10
        self.seconds = 2 if quick else 3
        self.objects = 250000 if quick else 1000000
        self.size = self.objects * 4096
        self.files = 20000
        self.root, self.build, self.data = root, build, data
        self.engine = os.path.join(build, "bench/engine_bench")
        self.bare = os.path.join(build, "bench/uring_bare")
        self.penstock = os.path.join(build, "src/cli/penstock")
        self.raw = os.path.join(data, "raw.dat")
        self.rows = []

    def path(self, name):
        return os.path.join(self.data, name)

    def add(self, key, title, against, wanted, at_least, values, unit="ratio", **more):
        """@values: of the pairs. at_least: larger is better."""
        figure = spread(values)
        met = None
        if wanted is not None:
            met = figure["median"] >= wanted if at_least else figure["median"] <= wanted
        row = dict(key=key, title=title, against=against, wanted=wanted, at_least=at_least,
                   unit=unit, met=met, **figure, **more)
        self.rows.append(row)
        say("  %-44s %s %.3g (%.3g..%.3g)%s" % (
            title, unit, figure["median"], figure["min"], figure["max"],
            "" if wanted is None else ", wanted %s %g: %s" % (
                ">=" if at_least else "<=", wanted, "met" if met else "MISSED")))

    def failed(self, key, title, against, wanted, at_least, why):
        self.rows.append(dict(key=key, title=title, against=against, wanted=wanted,
                              at_least=at_least, unit="", met=False, error=str(why)))
        say("  %-44s FAILED: %s" % (title, why))


def side(windows):
    """What the report shows of one side: medians, and the window with the median rate's curve."""
    ordered = sorted(windows, key=lambda w: w["iops"])
    middle = ordered[len(ordered) // 2]
    return {"iops": middle["iops"], "bytes_per_s": middle["bytes_per_s"],
            "cpu_us_per_op": spread([w["cpu_us_per_op"] for w in windows])["median"],
            "curve": middle.get("curve"), "all_iops": [w["iops"] for w in windows]}


def ratios(ours, theirs, key="iops"):
    return [a[key] / b[key] for a, b in zip(ours, theirs)]


# --- what is read and written ---

def write_raw(setup):
    """The file that fio and the bare loop use: random bytes, written through."""
    say("writing %s (%.1f GiB)" % (setup.raw, setup.size / GIB))
    run(["fio", "--name=fill", "--filename=" + setup.raw, "--ioengine=io_uring", "--direct=1",
         "--rw=write", "--bs=1m", "--iodepth=16", "--size=%d" % setup.size, "--end_fsync=1"])


def lay_out(setup, name, objects, object_size):
    """A store of @objects: made, filled, closed (so that all is in a checkpoint), reopened, and
    verified block by block."""
    store_bytes = objects * object_size * 5 // 4 + JOURNAL + 512 * MIB
    say("laying out %s: %d objects of %d KiB, then verifying them" %
        (name, objects, object_size // 1024))
    out = run([setup.engine, setup.path(name), "--format", str(store_bytes // MIB * MIB),
               "--journal", str(JOURNAL), "--objects", str(objects),
               "--object-size", str(object_size), "--layout", "--settle", "--check"])
    return [json.loads(line) for line in out.splitlines()]


def engine_command(setup, name, objects, object_size, rw, depth, *more):
    return [setup.engine, setup.path(name), "--objects", str(objects), "--object-size",
            str(object_size), "--rw", rw, "--iodepth", str(depth)] + [str(m) for m in more]


# --- rows ---

def random_read(setup):
    say("4 KiB random read, depth 32, %d objects" % setup.objects)
    against = "fio io_uring O_DIRECT, depth 32"

    def theirs():
        return fio(setup.raw, "randread", "4k", 32, setup.seconds, setup.size)

    def bare():
        r = json.loads(run([setup.bare, setup.raw, "--iodepth", "32", "--runtime",
                            str(setup.seconds), "--json"]))
        r["cpu_us_per_op"] = r["cpu_s_per_op"] * 1e6
        return r

    command = engine_command(setup, "million.pst", setup.objects, 4096, "randread", 32,
                             "--runtime", setup.seconds, "--windows", setup.pairs)
    with Engine(command + ["--warm"]) as engine:
        ours, other, loop = interleave(setup.pairs, engine.window, theirs, bare)
        engine.finish()
    setup.add("read_warm", "4 KiB random read, depth 32, checksum pages warm", against, 0.95,
              True, ratios(ours, other), ours=side(ours), theirs=side(other),
              index_bytes=ours[-1]["index_bytes"], hits=sum(w["csum_hits"] for w in ours),
              misses=sum(w["csum_misses"] for w in ours))
    setup.add("read_cpu", "CPU per 4 KiB random read, warm", "bare io_uring loop", 1.4, False,
              ratios(ours, loop, "cpu_us_per_op"),
              ours={"cpu_us_per_op": side(ours)["cpu_us_per_op"]},
              theirs={"cpu_us_per_op": side([dict(w, bytes_per_s=0) for w in loop])
                      ["cpu_us_per_op"]})
    with Engine(command + ["--csum-cache", "64k"]) as engine:
        ours, other = interleave(setup.pairs, engine.window, theirs)
        engine.finish()
    setup.add("read_cold", "4 KiB random read, depth 32, checksum pages cold", against, 0.6,
              True, ratios(ours, other), ours=side(ours), theirs=side(other),
              hits=sum(w["csum_hits"] for w in ours), misses=sum(w["csum_misses"] for w in ours))


def sequential(setup):
    say("1 MiB sequential, depth 8")
    objects = setup.size // (64 * MIB)
    for rw, name in (("read", "read"), ("write", "write")):
        command = engine_command(setup, "big.pst", objects, 64 * MIB, rw, 8, "--bs", "1m",
                                 "--runtime", setup.seconds, "--windows", setup.pairs)
        if rw == "write":
            command.append("--check-after")
        with Engine(command) as engine:
            ours, other = interleave(
                setup.pairs, engine.window,
                lambda rw=rw: fio(setup.raw, rw, "1m", 8, setup.seconds, setup.size))
            engine.finish()
        setup.add("seq_" + rw, "1 MiB sequential %s, depth 8, verified" % name,
                  "fio io_uring O_DIRECT, depth 8", 0.9, True,
                  ratios(ours, other, "bytes_per_s"), ours=side(ours), theirs=side(other))


def overwrite_burst(setup):
    say("4 KiB durable random overwrite, depth 32: bursts that fit the journal")
    objects = setup.size // MIB
    ops = 28000

    def ours():
        with Engine(engine_command(setup, "big.pst", setup.size // (64 * MIB), 64 * MIB,
                                   "randwrite", 32, "--ops", ops, "--windows", 1)) as engine:
            window = engine.window()
            window["drain_s"] = engine.finish()["close"]["drain_s"]
        return window

    mine, other = interleave(
        setup.pairs, ours,
        lambda: fio(setup.raw, "randwrite", "4k", 32, setup.seconds, setup.size, dsync=True))
    setup.add("overwrite_burst", "4 KiB durable random overwrite, depth 32, burst",
              "fio io_uring O_DIRECT O_DSYNC, depth 32", 1.5, True, ratios(mine, other),
              ours=side(mine), theirs=side(other), burst_bytes=ops * 4096, objects=objects)


def overwrite_long(setup):
    seconds = 10 if setup.quick else 12
    windows = setup.pairs
    say("the same for %d s over %.1f times the journal" %
        (seconds * windows, setup.size / JOURNAL))
    with Engine(engine_command(setup, "big.pst", setup.size // (64 * MIB), 64 * MIB, "randwrite",
                               32, "--runtime", seconds, "--windows", windows)) as engine:
        ours, other = interleave(
            windows, engine.window,
            lambda: fio(setup.raw, "randwrite", "4k", 32, seconds, setup.size, dsync=True))
        close = engine.finish()["close"]
    wall = sum(w["wall_s"] for w in ours)
    user = sum(w["ops"] for w in ours) * 4096
    # The drain's time is shared out to the windows, so that each pair carries its part of it.
    tax = wall / (wall + close["drain_s"])
    written = close["proc_write_bytes"]
    setup.add("overwrite_long", "4 KiB durable random overwrite, depth 32, %d s, drained" %
              (seconds * windows), "fio io_uring O_DIRECT O_DSYNC, depth 32", 0.6, True,
              [r * tax for r in ratios(ours, other)], ours=side(ours), theirs=side(other),
              drain_s=close["drain_s"], write_amplification=written / user if user else None,
              device_bytes=written, user_bytes=user,
              journals=setup.size / JOURNAL)


def overwrite_one(setup):
    say("4 KiB durable overwrite, depth 1")
    with Engine(engine_command(setup, "big.pst", setup.size // (64 * MIB), 64 * MIB, "randwrite",
                               1, "--runtime", setup.seconds, "--windows",
                               setup.pairs)) as engine:
        ours, other = interleave(
            setup.pairs, engine.window,
            lambda: fio(setup.raw, "randwrite", "4k", 1, setup.seconds, setup.size, dsync=True))
        engine.finish()
    setup.add("overwrite_one", "4 KiB durable random overwrite, depth 1",
              "fio io_uring O_DIRECT O_DSYNC, depth 1", 0.9, True, ratios(ours, other),
              ours=side(ours), theirs=side(other))


# --- the whole stack, as a user has it ---

def whole_stack(setup):
    """`penstock bench`: the command, libpenstock, names layer and engine."""
    size = 512 * MIB
    say("penstock bench: 4 KiB random read, depth 32, %d MiB" % (size // MIB))
    store = "local:" + setup.path("stack.pst")
    run([setup.penstock, "format", setup.path("stack.pst"), "--size", "2g"])
    run([setup.penstock, "-s", store, "container", "create", "bench", "--layout", "object"])

    def ours():
        r = json.loads(run([setup.penstock, "-s", store, "bench", "--container", "bench", "--rw",
                            "randread", "--bs", "4k", "--iodepth", "32", "--size", str(size),
                            "--runtime", str(setup.seconds), "--verify", "--keep", "--json"]))
        if r["verified"]["errors"] or not r["verified"]["before_bytes"]:
            raise Failed("penstock bench verified nothing, or found errors")
        return r

    mine, other = interleave(
        setup.pairs, ours,
        lambda: fio(setup.raw, "randread", "4k", 32, setup.seconds, size))
    setup.add("stack_read", "the same by `penstock bench`, one object of 512 MiB",
              "fio io_uring O_DIRECT, depth 32", None, True, ratios(mine, other),
              ours=side(mine), theirs=side(other))
    os.unlink(setup.path("stack.pst"))


# --- import ---

def make_tree(path, files):
    """Small files, 1 byte to 64 KiB (median about 4 KiB), 100 to a folder; the same each time."""
    rng = random.Random(20000)
    total = 0
    for i in range(files):
        folder = os.path.join(path, "d%03d" % (i // 100))
        if i % 100 == 0:
            os.makedirs(folder)
        size = max(1, min(65536, int(rng.lognormvariate(8.3, 1.0))))
        total += size
        with open(os.path.join(folder, "sample-%05d.bin" % i), "wb") as f:
            f.write(rng.randbytes(size))
    return total


def small_import(setup):
    tree, store = setup.path("tree"), "local:" + setup.path("import.pst")
    say("import of %d small files" % setup.files)
    total = make_tree(tree, setup.files)
    run(["sync", "-f", tree])
    run([setup.penstock, "format", setup.path("import.pst"), "--size", "3g"])
    count = [0, 0]

    def ours():
        name = "import%d" % count[0]
        count[0] += 1
        run([setup.penstock, "-s", store, "container", "create", name])
        r = timed([setup.penstock, "-s", store, "put", "-r", "-j", "32", tree, name + ":/"])
        if count[0] == setup.pairs:  # all of it is there, and right
            back = setup.path("back")
            run([setup.penstock, "-s", store, "get", "-r", name + ":/tree", back])
            where = back if not os.path.isdir(back + "/tree") else back + "/tree"
            run(["diff", "-rq", tree, where])
            shutil.rmtree(back)
        run([setup.penstock, "-s", store, "container", "destroy", name])
        return r

    def theirs():
        target = setup.path("copy%d" % count[1])
        count[1] += 1
        r = timed(["sh", "-c", 'cp -a "$1" "$2" && sync -f "$2"', "sh", tree, target])
        shutil.rmtree(target)
        run(["sync", "-f", setup.data])
        return r

    mine, other = interleave(setup.pairs, ours, theirs)
    for r in mine + other:
        del r["output"]
        r["iops"] = setup.files / r["wall_s"]
        r["bytes_per_s"] = total / r["wall_s"]
        r["cpu_us_per_op"] = r["cpu_s"] / setup.files * 1e6
    setup.add("import", "import of %d small files, put -r -j 32, durable" % setup.files,
              "cp -a and sync -f onto ext4", 0.8, True, ratios(mine, other),
              ours=side(mine), theirs=side(other), bytes=total)
    shutil.rmtree(tree)
    os.unlink(setup.path("import.pst"))


# --- instructions, recovery ---

def instructions(setup):
    say("instructions per op (callgrind)")
    ops = 6000 if setup.quick else 20000
    small = "4096" if setup.quick else "16384"
    for key, what, objects, size in (("", "of large objects", "16", "4m"),
                                     ("_small", "of %s small ones" % small, small, "4k")):
        out = run([os.path.join(setup.root, "bench/instr"), "--json", "--program", setup.engine,
                   "--ops", str(ops), "--objects", objects, "--object-size", size])
        for r in json.loads(out):
            read = r["rw"] == "randread"
            setup.add(("instr_read" if read else "instr_write") + key,
                      "instructions, 4 KiB %s %s, submit to completion" %
                      ("read" if read else "overwrite", what),
                      "callgrind, mem device", 700 if read else 1500, False,
                      [r["instructions"] - r["background"]], unit="instructions",
                      background=r["background"], left_out=r["left_out"], top=r["top"],
                      ops=r["ops"])


def wire_instructions(setup):
    say("instructions per read over a channel, client and server (callgrind)")
    out = run([os.path.join(setup.root, "bench/wire-instr"), "--json", "--program",
               os.path.join(setup.build, "bench/wire_instr")])
    r = json.loads(out)
    setup.add("wire_instructions", "instructions, 4 KiB read over pipe, client and server",
              "callgrind, mem device", 1800, False, [r["instructions"]], unit="instructions",
              left_out=r["left_out"], top=r["top"])


def nvme_hot_path(setup):
    say("instructions per NVMe read in the host driver (callgrind)")
    out = run([os.path.join(setup.root, "bench/nvme-instr"), "--json", "--program",
               os.path.join(setup.build, "bench/nvme_instr")])
    for r in json.loads(out):
        setup.add("nvme_" + r["case"],
                  "instructions, NVMe host, %s read, batch %d, submit and complete" %
                  ("128 KiB" if r["bytes"] > 4096 else "512 byte", r["batch"]),
                  "callgrind, null controller", r["wanted"], False, [r["instructions"]],
                  unit="instructions")


def nvme_controller(setup):
    say("instructions per NVMe read in the controller model (callgrind)")
    out = run([os.path.join(setup.root, "bench/nvme-ctrlr-instr"), "--json", "--program",
               os.path.join(setup.build, "bench/nvme_ctrlr"), "read-512", "write-512"])
    for r in json.loads(out):
        what = r["case"].split("-")[0]
        setup.add("nvme_ctrlr_" + what, "instructions, NVMe controller, 512 byte %s, batch 32" % what,
                  "callgrind, null device", 150 if what == "read" else None, False, [r["instructions"]],
                  unit="instructions", left_out=r["left_out"])


class Target:
    """penstock nvme target in a process of its own, with a run directory of its own."""

    def __init__(self, setup, *args):
        self.env = dict(os.environ, PENSTOCK_RUN_DIR=setup.path("run"))
        self.process = subprocess.Popen([setup.penstock, "nvme", "target", *args], env=self.env, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.devices = []
        for line in iter(self.process.stdout.readline, ""):
            if line == "ready\n":
                return
            self.devices.append(line.split(": ", 1)[1].strip())
        raise Failed("penstock nvme target: " + self.process.stderr.read())

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.process.terminate()
        self.process.wait(30)


def perf(setup, target, device, *more):
    r = json.loads(run([setup.penstock, "perf", device, "--runtime", str(setup.seconds), "--json", *more],
                       env=target.env))
    return dict(r, cpu_us_per_op=r["cpu_us_per_io"])


def bare(setup, *args):
    r = json.loads(run([os.path.join(setup.build, "bench/nvme_bare"), *args, "--runtime",
                        str(setup.seconds)]))
    return dict(r, cpu_us_per_op=0)


def nvme_processes(setup):
    say("NVMe between processes: through shared memory, and over TCP")
    with Target(setup, "null:1t", "--loop", "bench", "--listen", "tcp://127.0.0.1:0") as target:
        loop, tcp = target.devices
        for key, title, against, wanted, ours, theirs, what in (
                ("nvme_loop", "nvme+loop: to another process, null device, 4 KiB, depth 128",
                 "a bare ring, 64 bytes there and 16 back", 0.35,
                 [loop, "--rw", "randread", "--qdepth", "128", "--batch", "16"], ["ring", "--depth", "128"],
                 "iops"),
                ("nvme_tcp", "nvme+tcp: null device, 4 KiB random read, depth 32",
                 "blocking sockets, same sizes, pipelined", 0.9,
                 [tcp, "--rw", "randread", "--qdepth", "32"], ["tcp", "--depth", "32"], "iops"),
                ("nvme_tcp_batch", "the same",
                 "blocking sockets that answer a whole window with one call", None,
                 [tcp, "--rw", "randread", "--qdepth", "32"], ["batch", "--depth", "32"], "iops"),
                ("nvme_tcp_1m", "nvme+tcp: null device, 1 MiB read, depth 8",
                 "iperf3, one stream, loopback", 0.85,
                 [tcp, "--rw", "read", "--iosize", "1m", "--qdepth", "8"], None, "bytes_per_s"),
                ("nvme_tcp_1m_bare", "the same",
                 "one way on blocking sockets", None,
                 [tcp, "--rw", "read", "--iosize", "1m", "--qdepth", "8"], ["bulk", "--size", "1048576"],
                 "bytes_per_s")):
            a, b = interleave(setup.pairs, lambda: perf(setup, target, *ours),
                              lambda: bare(setup, *theirs) if theirs else served.iperf(setup))
            setup.add(key, title, against, wanted, True, ratios(a, b, what), ours=side(a), theirs=side(b))


def nvme_store(setup):
    """The store on our host and controller over a file, against the store on the file."""
    say("a store on nvme+loop: over a file")
    objects = setup.objects // 4
    lay_out(setup, "nvme.pst", objects, 4096)
    more = ["--warm", "--runtime", setup.seconds, "--windows", setup.pairs]
    command = engine_command(setup, "nvme.pst", objects, 4096, "randread", 32, *more)
    through = [command[0], "nvme+loop:" + setup.path("nvme.pst")] + command[2:]
    theirs, ours = [], []
    for _ in range(2):  # one process at a time has the file open
        for which, result in ((command, theirs), (through, ours)):
            with Engine(which) as engine:
                result += [engine.window() for _ in range(setup.pairs)]
                engine.finish()
    setup.add("nvme_store", "store on nvme+loop: over a file, 4 KiB random read, depth 32",
              "the store on the file", 0.85, True, ratios(ours, theirs), ours=side(ours),
              theirs=side(theirs))
    os.unlink(setup.path("nvme.pst"))


def recovery(setup):
    sizes = [50000, 200000] if setup.quick else [250000, 1000000]
    points = []
    for files in sizes:
        say("recovery of %d files after a kill" % files)
        crash = 20000
        store = setup.path("recovery.pst")
        out = run([setup.engine, store, "--format", str(files * 8192 * 5 // 4 // MIB * MIB
                                                        + JOURNAL + 512 * MIB),
                   "--journal", str(JOURNAL), "--files", str(files), "--crash-files", str(crash)])
        points += [json.loads(line) for line in out.splitlines() if '"recovery"' in line]
        os.unlink(store)
    a, b = points[0], points[-1]
    million = (b["files"] - a["files"]) / 1e6
    slope = {"seconds_per_million": (b["recovery_s"] - a["recovery_s"]) / million,
             "index_bytes_per_million": (b["index_bytes"] - a["index_bytes"]) / million,
             "rss_bytes_per_million": (b["rss_bytes"] - a["rss_bytes"]) / million}
    setup.add("recovery", "recovery after a kill, %d files" % b["files"],
              "reported", None, False, [b["recovery_s"]], unit="seconds", points=points,
              slope=slope)


def cores(setup):
    """The engine alone, on one core and on two; each reactor submits its own work, so that no client takes
    a core."""
    if (os.cpu_count() or 1) < 2:
        raise Failed("one processor: there is nothing to part the engine among")
    program = os.path.join(setup.build, "bench/cores_bench")
    for rw, what in [("randread", "random reads"), ("randwrite", "durable random overwrites")]:
        say("4 KiB %s of 8 containers in memory, on one reactor and on two" % what)

        def on(reactors):
            return json.loads(run([program, "--reactors", str(reactors), "--rw", rw, "--runtime",
                                   str(setup.seconds)]))

        two, one = interleave(setup.pairs, lambda: on(2), lambda: on(1))
        setup.add("cores_" + rw, "4 KiB %s in memory, engine on 2 reactors" % what,
                  "the engine on 1 reactor", None, True, ratios(two, one),
                  ours={"iops": spread([w["iops"] for w in two])["median"]},
                  theirs={"iops": spread([w["iops"] for w in one])["median"]})


ROWS = [("instructions", instructions, []),
        ("wire_instructions", wire_instructions, []),
        ("nvme_hot_path", nvme_hot_path, []),
        ("nvme_controller", nvme_controller, []),
        ("nvme_processes", nvme_processes, []),
        ("nvme_store", nvme_store, []),
        ("read", random_read, ["million"]),
        ("stack", whole_stack, ["raw"]),
        ("sequential", sequential, ["big"]),
        ("burst", overwrite_burst, ["big"]),
        ("one", overwrite_one, ["big"]),
        ("long", overwrite_long, ["big"]),
        ("import", small_import, []),
        ("recovery", recovery, []),
        ("cores", cores, [])] + served.ROWS


def measure(setup, names, done):
    """Runs the rows; what fails becomes a row that says so. Calls done() after each."""
    made = set()
    if any(needs for name, _, needs in ROWS if not names or name in names):
        write_raw(setup)
    for name, function, needs in ROWS:
        if names and name not in names:
            continue
        start = time.monotonic()
        before = len(setup.rows)
        try:
            for data in needs:
                if data not in made:
                    made.add(data)
                    if data == "million":
                        lay_out(setup, "million.pst", setup.objects, 4096)
                    elif data == "big":
                        lay_out(setup, "big.pst", setup.size // (64 * MIB), 64 * MIB)
            function(setup)
        except Failed as e:
            setup.failed(name, name, "", None, True, e)
        for row in setup.rows[before:]:
            row["took_s"] = time.monotonic() - start
        done()
        if name == "read" and os.path.exists(setup.path("million.pst")):
            os.unlink(setup.path("million.pst"))
