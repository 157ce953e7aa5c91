#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The scripts that judge others, judged: each must see what it is there to see. Prints TAP."""
import importlib.machinery
import importlib.util
import io
import json
import pathlib
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SCRIPTS = ROOT / "scripts"


def load(name):
    loader = importlib.machinery.SourceFileLoader(name.replace("-", "_"), str(SCRIPTS / name))
    sys.dont_write_bytecode = True
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def tree(folder, files):
    for name, text in files.items():
        path = pathlib.Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_tap_is_counted():
    tap, plan = load("test-summary").tap_results(
        "1..4\nok 1 - a\nnoise\nnot ok 2 - b\n# skip: no device\nok 3 - c # SKIP\n")
    assert plan == 4
    assert [t[0] for t in tap] == ["pass", "fail", "skip"], tap
    assert tap[2][2] == "no device"


def collected(result, returncode, stdout):
    """The rows of a test of which meson says that, and how many failed in its opinion."""
    module = load("test-summary")
    module.suites_of = lambda builddir: {"t": "unit"}
    with tempfile.TemporaryDirectory() as folder:
        tree(folder, {"meson-logs/testlog.json": json.dumps(
            {"name": "p:unit / t", "result": result, "returncode": returncode, "duration": 1, "stdout": stdout}) + "\n"})
        out, count = io.StringIO(), io.StringIO()
        with redirect_stdout(out):
            module.collect("s", folder)
        with redirect_stdout(count):
            module.failed(folder)
        return [line.split("\t")[0] for line in out.getvalue().splitlines()], int(count.getvalue())


def test_what_is_skipped_has_not_failed():
    """cmocka's way to say it, which meson takes for a failure."""
    text = "1..2\nok 1 - a\nnot ok 2 # SKIP b\n"
    assert collected("FAIL", 0, text) == (["pass", "skip"], 1)
    assert collected("FAIL", 1, text) == (["pass", "skip", "fail"], 1)
    assert collected("FAIL", 0, "1..1\nok 1 - a\n") == (["pass", "fail"], 1)
    assert collected("TIMEOUT", -9, "1..2\nok 1 - a\n") == (["pass", "fail"], 1)
    assert collected("FAIL", 1, "1..1\nnot ok 1 - a\n") == (["fail"], 1)
    assert collected("OK", 0, "1..1\nok 1 - a\n") == (["pass"], 0)


def summary_of(lines):
    with tempfile.TemporaryDirectory() as folder:
        tree(folder, {"x.tsv": "".join(line + "\n" for line in lines)})
        out = io.StringIO()
        with redirect_stdout(out):
            rc = load("test-summary").table(folder)
        return rc, out.getvalue().strip().splitlines()


def test_table_ends_with_the_count():
    rc, out = summary_of(["pass\ts\ta\t1\t", "fail\ts\tb\t1\twhy", "skip\ts\tc\t0\tno root"])
    assert rc == 1 and out[-1] == "1 passed, 1 failed", out
    assert any("no root" in line for line in out)


def test_nothing_passed_is_a_failure():
    assert summary_of(["skip\ts\tc\t0\tno root"])[0] == 1


def test_a_broken_result_is_a_failure():
    rc, out = summary_of(["pass\ts\ta\t1\t", "garbage"])
    assert rc == 1 and out[-1] == "1 passed, 1 failed", out


def rooms(files):
    with tempfile.TemporaryDirectory() as folder:
        tree(folder, files)
        done = subprocess.run([str(SCRIPTS / "lint-rooms"), folder], capture_output=True, text=True)
        return done.returncode, done.stdout


BASE = {"src/base/base.h": "", "src/loop/loop.h": '#include "base/base.h"\n',
        "include/penstock/a.h": ""}


def test_rooms_accept_the_order():
    rc, out = rooms(BASE)
    assert rc == 0, out


def test_rooms_refuse_the_reverse():
    rc, out = rooms({**BASE, "src/base/x.c": '#include "loop/loop.h"\n'})
    assert rc == 1 and "room base must not include room loop" in out, out


def test_rooms_refuse_private_in_public():
    rc, out = rooms({**BASE, "include/penstock/a.h": '#include "base/base.h"\n'})
    assert rc == 1 and "private" in out, out


def test_rooms_refuse_circles():
    rc, out = rooms({**BASE, "src/base/base.h": '#include "base/b.h"\n',
                     "src/base/b.h": '#include "base/base.h"\n'})
    assert rc == 1 and "circle" in out, out


def test_man_pages_come_from_headers():
    man = load("man-from-headers")
    with tempfile.TemporaryDirectory() as folder:
        tree(folder, {"t.h": "/* SPDX */\n/*\n * penstock/t.h - a subject.\n *\n * Text.\n */\n"
                             "#ifndef T\n#define T\n/*\n * pst_t_do - do it to @x.\n *\n"
                             " * @x: what.\n */\nint pst_t_do(int x);\n#endif\n"})
        page = man.Header(pathlib.Path(folder, "t.h"))
        assert page.pages() == ["penstock_t.3", "pst_t_do.3"], page.pages()
        text = page.main_page()
        assert "Do it to x." in text and ".I x" in text, text


def main():
    tests = [(n, f) for n, f in sorted(globals().items()) if n.startswith("test_")]
    print("1..%d" % len(tests))
    bad = 0
    for number, (name, test) in enumerate(tests, 1):
        try:
            test()
            print("ok %d - %s" % (number, name))
        except AssertionError as e:
            bad = 1
            print("not ok %d - %s" % (number, name))
            print("# " + str(e).replace("\n", "\n# "))
    return bad


if __name__ == "__main__":
    sys.exit(main())
