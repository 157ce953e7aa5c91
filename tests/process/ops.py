# SPDX-License-Identifier: BSD-3-Clause
"""What the tests of a served store's operation share: TAP, and a server on free ports with a folder of its own."""
import os
import shutil
import subprocess
import sys
import tempfile


class Tap:
    def __init__(self):
        self.count = self.failed = 0

    def check(self, name, good, why=""):
        self.count += 1
        print("%sok %d - %s" % ("" if good else "not ", self.count, name))
        if not good:
            self.failed += 1
            print("# " + str(why).replace("\n", "\n# "))
        sys.stdout.flush()

    def end(self):
        print("1..%d" % self.count)
        return 1 if self.failed else 0


class Server:
    """A server of a new store. `config`: YAML text; else everything is on the command line."""

    def __init__(self, penstock, *args, config=None, size="256m", env=None, shards=1):
        self.p = penstock
        self.dir = tempfile.mkdtemp(prefix="pst-ops-")
        self.store, self.sock = os.path.join(self.dir, "s.pst"), os.path.join(self.dir, "s.sock")
        subprocess.run([penstock, "-q", "format", self.store, "--size", size, "--shards", str(shards)],
                       check=True,
                       stderr=subprocess.DEVNULL)
        self.args = [penstock, "serve", "--listen", "127.0.0.1:0", "--socket", self.sock, *args]
        if config is None:
            self.args.insert(2, self.store)
        else:
            path = os.path.join(self.dir, "serve.yaml")
            with open(path, "w") as f:
                f.write("devices: [%s]\n%s" % (self.store, config))
            self.args += ["--config", path]
        self.log = open(os.path.join(self.dir, "log"), "w+")
        self.process = subprocess.Popen(self.args, stdout=subprocess.PIPE, stderr=self.log, text=True,
                                        env=dict(os.environ, **(env or {})))
        line = self.process.stdout.readline()
        if not line.startswith("serving at "):
            raise RuntimeError("the server did not start: " + self.logged())
        self.line = line
        self.port = line.split(" (tcp")[0].rsplit(":", 1)[1]
        self.uri = "pst://127.0.0.1:%s?channel=pipe&socket=%s" % (self.port, self.sock)
        self.tcp = "pst://127.0.0.1:%s?channel=tcp" % self.port

    def logged(self):
        with open(self.log.name) as f:
            return f.read()

    def run(self, *args, check=True, uri=None, **kw):
        return subprocess.run([self.p, "-s", uri or self.uri, *args], capture_output=True, text=True, check=check,
                              **kw)

    def end(self):
        self.process.terminate()
        status = self.process.wait(30)
        self.process.stdout.close()
        self.log.close()
        shutil.rmtree(self.dir)
        return status

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind:
            print("# the server (%s) said:\n# %s" % (self.process.poll(), self.logged()[-4000:].replace("\n", "\n# ")))
        if self.process.poll() is None:
            self.end()
