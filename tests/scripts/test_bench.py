#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The benchmarks judged: a figure is worth what its measuring is. Prints TAP.

  test_bench.py ENGINE_BENCH FOLDER"""
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "bench/lib"))

import measure  # noqa: E402
import report  # noqa: E402

PROGRAM, FOLDER = sys.argv[1:3]


def instr():
    loader = importlib.machinery.SourceFileLoader("instr", str(ROOT / "bench/instr"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("instr", loader))
    loader.exec_module(module)
    return module


def bench(device, *args):
    return subprocess.run([PROGRAM, device] + list(args), capture_output=True, text=True)


def stages(done):
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_instructions_are_counted_and_left_out_by_name():
    m = instr()
    with tempfile.NamedTemporaryFile("w", suffix=".callgrind") as f:
        f.write("fl=(1) src/store/read.c\nob=(1) /x/engine\nfn=(1) read_try\n1 30\n"
                "cob=(2) /x/libc.so.6\ncfn=(2) __memcpy_avx_unaligned\ncalls=2 0\n2 400\n"
                "cfn=(3) ckpt_step\ncalls=1 0\n3 70\n"
                "ob=(2)\nfl=(2) ???\nfn=(2)\n1 400\n"
                "ob=(1)\nfl=(1)\nfn=(3)\n1 70\n"
                "ob=(3) /x/libisal.so.2\nfl=(2)\nfn=(4) crc32_iscsi_01\n1 99\n")
        f.flush()
        profile = m.Profile(f.name)
    own, out = m.split(profile, 10)
    assert dict(own) == {"read_try": 3.0, "ckpt_step": 7.0}, own
    assert out == {"memcpy, memset": 40.0, "CRC kernel": 9.9}, out
    assert m.background(profile, 10) == 7.0


def test_sides_take_turns():
    calls = []
    a, b = measure.interleave(3, lambda: calls.append("a") or 1, lambda: calls.append("b") or 2)
    assert "".join(calls) == "abbaab" and a == [1, 1, 1] and b == [2, 2, 2], calls


def test_windows_count_and_verify():
    got = stages(bench("mem:64m", "--format", "64m", "--journal", "8m", "--objects", "64",
                       "--object-size", "64k", "--layout", "--check", "--rw", "randwrite",
                       "--ops", "500", "--windows", "2", "--check-after"))
    windows = [s for s in got if s["stage"] == "window"]
    assert len(windows) == 2 and all(500 <= w["ops"] < 532 for w in windows), got
    assert all(w["user_write_bytes"] == w["ops"] * 4096 for w in windows)
    curve = windows[0]["curve_us"]
    assert curve == sorted(curve) and windows[0]["latency_us"]["max"] >= curve[-1]
    assert [s["bytes"] for s in got if s["stage"] == "check-after"] == [64 * 65536]


def test_wrong_data_is_noticed():
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        device = "uring:" + os.path.join(folder, "store") + "?direct=0"
        stages(bench(device, "--format", "32m", "--objects", "16", "--object-size", "64k",
                     "--layout", "--check"))
        done = bench(device, "--objects", "8", "--object-size", "128k", "--check")
        assert done.returncode == 1 and "instead of" in done.stderr, done.stderr


def test_a_stopped_engine_measures_when_told():
    command = [PROGRAM, "mem:64m", "--format", "64m", "--objects", "64", "--object-size", "4k",
               "--layout", "--rw", "randread", "--ops", "200", "--windows", "2"]
    with measure.Engine(command) as engine:
        first, second = engine.window(), engine.window()
        last = engine.finish()
    assert first["ops"] >= 200 and second["ops"] >= 200 and "close" in last
    assert engine.process.returncode == 0
    try:
        measure.Engine([PROGRAM, "mem:64m"])
        raise AssertionError("a store that is none was opened")
    except measure.Failed:
        pass


def test_the_report_says_what_was_missed():
    row = dict(key="read_warm", title="reads & <more>", against="fio", wanted=0.9, at_least=True,
               unit="ratio", met=False, median=0.5, min=0.4, max=0.7, values=[0.4, 0.5, 0.7])
    side = {"iops": 5.0, "bytes_per_s": 5.0, "cpu_us_per_op": 1.0,
            "curve": [[1.0, 10.0], [50.0, 20.0], [99.9, 400.0]]}
    row["ours"] = row["theirs"] = side
    broken = dict(key="x", title="x", against="", wanted=None, at_least=True, unit="", met=False,
                  error="it <broke>")
    text = report.page({"rows": [row, broken], "machine": {"kernel": "k"}, "when": "now",
                        "mode": "quick", "pairs": 3})
    assert "0 of 2 wanted figures are met" in text
    assert "reads &amp; &lt;more&gt;" in text and "it &lt;broke&gt;" in text
    assert "<script" not in text and "http" not in text


def main():
    tests = [(n, f) for n, f in sorted(globals().items()) if n.startswith("test_")]
    print("1..%d" % len(tests))
    bad = 0
    for number, (name, test) in enumerate(tests, 1):
        try:
            test()
            print("ok %d - %s" % (number, name))
        except (AssertionError, measure.Failed) as e:
            bad = 1
            print("not ok %d - %s" % (number, name))
            print("# " + str(e).replace("\n", "\n# "))
    return bad


if __name__ == "__main__":
    sys.exit(main())
