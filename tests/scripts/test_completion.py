#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What a shell completes of penstock's command lines. Prints TAP.

  test_completion.py PENSTOCK COMPLETION-FILE
"""
import os
import pathlib
import subprocess
import sys
import tempfile

# Readline's cuts of the line, which bash hands to the function, are not looked at: the line is.
SCRIPT = r'''
source "$1"
COMP_LINE=$2 COMP_POINT=${#2}
COMP_WORDS=(penstock) COMP_CWORD=1
_penstock
printf '%s\n' "${COMPREPLY[@]}"
'''


def complete(line, folder):
    env = dict(os.environ, PATH=os.path.dirname(os.path.abspath(sys.argv[1])) + ":" + os.environ["PATH"])
    done = subprocess.run(["bash", "-c", SCRIPT, "bash", os.path.abspath(sys.argv[2]), line], cwd=folder, env=env, text=True,
                          capture_output=True, timeout=60)
    assert not done.stderr, (line, done.stderr)
    return done.stdout.split()


# A line, and what must be among the offers, or all of them if the list begins with "=".
CASES = (
    ("penstock ", ["format", "scrub", "--help"]),
    ("penstock sn", ["=", "snapshot"]),
    ("penstock -s ", ["=", "local:"]),
    ("penstock -s local:da", ["=", "data.pst"]),
    ("penstock -s local:data.pst,mo", ["=", "data.pst,more.pst"]),
    ("penstock -s local:data.pst sn", ["=", "snapshot"]),
    ("penstock -s local:data.pst ls --lo", ["=", "--long"]),
    ("penstock -s local:data.pst container cr", ["=", "create"]),
    ("penstock container ", ["create", "list", "show", "set", "destroy"]),
    ("penstock container create x --layout ", ["=", "posix", "object"]),
    ("penstock bench --rw rand", ["=", "randread", "randwrite", "randrw"]),
    ("penstock put -r fo", ["=", "folder/"]),
    ("penstock put folder/", ["=", "folder/inner"]),
    ("penstock help de", ["=", "devices"]),
    ("penstock nosuch ", ["="]),
)


def main():
    failed = 0
    print("1..%d" % len(CASES))
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "folder").mkdir()
        for file in ("data.pst", "more.pst", "folder/inner"):
            (folder / file).touch()
        for n, (line, want) in enumerate(CASES, 1):
            got = complete(line, folder)
            good = sorted(want[1:]) == sorted(got) if want[0] == "=" else set(want) <= set(got)
            print("%sok %d - %s" % ("" if good else "not ", n, line))
            if not good:
                print("# offers: %s" % got)
                failed += 1
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
