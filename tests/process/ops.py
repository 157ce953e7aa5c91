# SPDX-License-Identifier: BSD-3-Clause
"""What the tests of a served store's operation share: TAP, and a server on free ports with a folder of its own."""
import os
import re
import shutil
import signal
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
    """A server of a new store, in a file of `size` or on `device`. `config`: YAML text; else everything is on the command
    line. It can be killed, and started again where it was."""

    def __init__(self, penstock, *args, config=None, size="256m", env=None, shards=1, device=None):
        self.p = penstock
        self.dir = tempfile.mkdtemp(prefix="pst-ops-")
        self.store, self.sock = os.path.join(self.dir, "s.pst"), os.path.join(self.dir, "s.sock")
        if not device:
            subprocess.run([penstock, "-q", "format", self.store, "--size", size, "--shards", str(shards)],
                           check=True,
                           stderr=subprocess.DEVNULL)
        self.args = [penstock, "serve", "--socket", self.sock, *args]
        if config is None:
            self.args.insert(2, device or self.store)
        else:
            path = os.path.join(self.dir, "serve.yaml")
            with open(path, "w") as f:
                f.write("devices: [%s]\n%s" % (device or self.store, config))
            self.args += ["--config", path]
        self.env = dict(os.environ, **(env or {}))
        self.log = open(os.path.join(self.dir, "log"), "w+")
        self.port = "0"
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.args + ["--listen", "127.0.0.1:" + self.port], stdout=subprocess.PIPE,
                                        stderr=self.log, text=True, env=self.env)
        self.line = self.process.stdout.readline()
        if not self.line.startswith("serving at "):
            raise RuntimeError("the server did not start: " + self.logged())
        doors = [(channel, addr) for addr, channel in re.findall(r"(\S+) \((\w+)", self.line)]
        self.port = next(a for c, a in doors if c == "tcp").rsplit(":", 1)[1]
        self.control = next((a for c, a in doors if c == "control" and a[0] != "/"), None)
        self.uri = "pst://127.0.0.1:%s?channel=pipe&socket=%s" % (self.port, self.sock)
        self.tcp = "pst://127.0.0.1:%s?channel=tcp" % self.port

    def logged(self):
        with open(self.log.name) as f:
            return f.read()

    def run(self, *args, check=True, uri=None, **kw):
        return subprocess.run([self.p, "-s", uri or self.uri, *args], capture_output=True, text=True, check=check,
                              **kw)

    def _ended(self, number):
        self.process.send_signal(number)
        status = self.process.wait(60)
        self.process.stdout.close()
        return status

    def kill(self):
        self._ended(signal.SIGKILL)

    def stop(self):
        """Its store is still there. The server's exit status."""
        return self._ended(signal.SIGTERM)

    def end(self):
        status = self.stop()
        self.log.close()
        shutil.rmtree(self.dir)
        return status

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind and not self.log.closed:
            print("# the server (%s) said:\n# %s" % (self.process.poll(), self.logged()[-4000:].replace("\n", "\n# ")))
        status = self.stop() if self.process.poll() is None else 0
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)  # it may have ended before
        assert kind or status == 0, status
