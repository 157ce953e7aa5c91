# SPDX-License-Identifier: BSD-3-Clause
"""Certificates for tests, by the openssl command: authorities, and names that they vouch for."""
import os
import subprocess

CONF = """
[ca]
default_ca = one
[one]
dir = .
new_certs_dir = .
database = index
serial = serial
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
[authority]
basicConstraints = critical,CA:true
[host]
subjectAltName = DNS:localhost,IP:127.0.0.1
[elsewhere]
subjectAltName = DNS:elsewhere.example
"""


class Certs:
    """In folder @path: authorities ca, other and (expired, with ca's key and name) old; of ca: server, node1, node2,
    late (expired), elsewhere (for another host); of other: stranger."""

    def __init__(self, path):
        self.path = path
        os.makedirs(path, exist_ok=True)
        self.write("conf", CONF)
        self.write("index", "")
        self.write("serial", "01")
        for ca in "ca", "other":
            self.request(ca, ca)
            self.sign(ca, None, "authority")
        self.run("cp", "ca.key", "old.key")
        self.run("cp", "ca.csr", "old.csr")
        self.sign("old", None, "authority", late=True)
        for name in "server", "node1", "node2", "late", "elsewhere", "stranger":
            self.request(name, name)
            self.sign(name, "other" if name == "stranger" else "ca", "elsewhere" if name == "elsewhere" else "host",
                      late=name == "late")

    def __call__(self, name):
        return os.path.join(self.path, name)

    def write(self, name, text):
        with open(self(name), "w", encoding="ascii") as f:
            f.write(text)

    def run(self, *args):
        done = subprocess.run(args, cwd=self.path, capture_output=True, text=True)
        assert done.returncode == 0, (args, done.stderr)

    def request(self, name, common_name):
        self.run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", name + ".key",
                 "-out", name + ".csr", "-subj", "/CN=" + common_name)

    def sign(self, name, ca, extensions, late=False):
        by = ["-cert", ca + ".pem", "-keyfile", ca + ".key"] if ca else ["-selfsign", "-keyfile", name + ".key"]
        dates = ["-startdate", "20200101000000Z", "-enddate", "20200201000000Z"] if late else ["-days", "2"]
        self.run("openssl", "ca", "-batch", "-notext", "-config", "conf", "-extensions", extensions, "-in", name + ".csr",
                 "-out", name + ".pem", *by, *dates)
