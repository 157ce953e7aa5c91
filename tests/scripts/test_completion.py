#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What shells complete of penstock's command lines: every command, and every option that its --help has; values, files.
Prints TAP; a shell that is not here is skipped.

  test_completion.py PENSTOCK FOLDER-OF-THE-SCRIPTS
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

PENSTOCK = os.path.abspath(sys.argv[1])
SCRIPTS = os.path.abspath(sys.argv[2])
ENV = dict(os.environ, PATH=os.path.dirname(PENSTOCK) + ":" + os.environ["PATH"])

# Readline's cuts of the line, which bash hands to the function, are not looked at: the line is.
BASH = r'''
source "$1/penstock.bash-completion"
COMP_LINE=$2 COMP_POINT=${#2}
COMP_WORDS=(penstock) COMP_CWORD=1
_penstock
printf '%s\n' "${COMPREPLY[@]}"
'''

# In the place of zsh's own functions, which want a terminal.
ZSH = r'''
compset() { [[ $PREFIX == ${~2}* ]] && IPREFIX+=${(M)PREFIX#${~2}} PREFIX=${PREFIX#${~2}} }
_files() { local f; for f in $PREFIX*(N); do [[ -d $f ]] && f+=/; print -r -- "$IPREFIX$f"; done }
_describe() { local o; for o in ${(P)2}; do print -r -- "${${o%%[^\\]:*}}${${(M)o#*[^\\]:}[-2]}"; done }
_penstock() { source "$1/penstock.zsh-completion" }
words=(${=2}) PREFIX=
[[ $2 == *' ' ]] && words+=('')
CURRENT=$#words PREFIX=$words[-1]
_penstock "$1"
'''

FISH = r'''
source $argv[1]/penstock.fish
complete -C $argv[2]
'''


def offers(shell, line, folder):
    args = {"bash": ["bash", "-c", BASH, "bash", SCRIPTS, line],
            "zsh": ["zsh", "-f", "-c", ZSH, "zsh", SCRIPTS, line],
            "fish": ["fish", "--no-config", "-c", FISH, SCRIPTS, line]}[shell]
    done = subprocess.run(args, cwd=folder, env=dict(ENV, HOME=str(folder)), text=True, capture_output=True, timeout=60)
    assert not done.stderr, (line, done.stderr)
    return [o.split("\t")[0].replace("\\", "") for o in done.stdout.splitlines() if o]


# A line, and what must be among the offers, or all of them if the list begins with "=".
CASES = (
    ("penstock ", ["format", "scrub", "--help"]),
    ("penstock sn", ["=", "snapshot"]),
    ("penstock -s ", ["=", "local:", "pst://"]),
    ("penstock -s local:da", ["=", "local:data.pst"]),
    ("penstock -s local:data.pst,mo", ["=", "local:data.pst,more.pst"]),
    ("penstock -s local:data.pst sn", ["=", "snapshot"]),
    ("penstock -s local:data.pst ls --lo", ["=", "--long"]),
    ("penstock ls -s local:da", ["=", "local:data.pst"]),
    ("penstock -s local:data.pst container cr", ["=", "create"]),
    ("penstock container ", ["=", "create", "list", "show", "set", "destroy"]),
    ("penstock container create x --layout ", ["=", "posix", "object"]),
    ("penstock bench --rw rand", ["=", "randread", "randwrite", "randrw"]),
    ("penstock serve --log-level ", ["=", "error", "warning", "info", "debug"]),
    ("penstock nvme target --allow", ["=", "--allow-host"]),
    ("penstock serve --tls-key da", ["=", "data.pst"]),
    ("penstock put -r fo", ["=", "folder/"]),
    ("penstock put folder/", ["=", "folder/inner"]),
    ("penstock help de", ["=", "devices"]),
    ("penstock nosuch ", ["="]),
)


def cut(shell, line, want):
    """Readline replaces only what follows the last ':' or '='."""
    word = line.rsplit(" ", 1)[1]
    keep = word[:max(word.rfind(":"), word.rfind("=")) + 1] if shell == "bash" else ""
    return [w if w == "=" else w[len(keep):] for w in want]


def say(*args):
    return subprocess.run([PENSTOCK, *args], capture_output=True, text=True, check=True).stdout


def named(text, pattern):
    return sorted(re.findall(pattern, text, flags=re.M))


def whole_cases():
    """Every command, every verb of nvme, and every option, as help has them."""
    commands = named(say("help").split("\nOptions")[0], r"^  ([a-z]+) +[A-Z]")
    yield "penstock ", ["=", *commands, *named(say("help"), r"^  .{4}(--[a-z-]+)"), "--version"]
    verbs = named(say("nvme", "--help").split("Examples:")[0], r"^  ([a-z]+) +[a-z]")
    for name in commands + ["nvme " + v for v in verbs]:
        yield "penstock %s --" % name, ["=", *named(say("help", *name.split()).split("\nOptions:\n")[1], r"^  .{4}(--[a-z-]+)")]


def main():
    failed = 0
    count = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "folder").mkdir()
        for file in ("data.pst", "more.pst", "folder/inner"):
            (folder / file).touch()
        whole = list(whole_cases())
        assert len(whole) > 30, whole
        for shell in "bash", "zsh", "fish":
            if not shutil.which(shell):
                count += 1
                print("ok %d - %s # skip: it is not here" % (count, shell))
                continue
            for line, want in (*CASES, *whole):
                got, want = offers(shell, line, folder), cut(shell, line, want)
                good = sorted(want[1:]) == sorted(got) if want[0] == "=" else set(want) <= set(got)
                count += 1
                print("%sok %d - %s: %s" % ("" if good else "not ", count, shell, line))
                if not good:
                    print("# offers: %s\n# wanted: %s" % (sorted(got), sorted(want)))
                    failed += 1
    print("1..%d" % count)
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
