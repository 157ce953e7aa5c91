#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes the seeds of fuzz_wire for version 2 of the protocol: corpus/wire/*2-*.

Run it after a change to the format or to what the halves of the fuzzer ask of their input (wire_ends.h,
wire_to_client.c, wire_to_server.c); the test fuzz_wire says what the corpus does not reach any more.
"""
import os
import struct

VERSION = 2
TOKEN, WINDOW, PULL, CRC, VALUES, RESENT, MARKED, HANDLE = (1 << k for k in range(8))
KEY, START, NAME, NAME2, DIRS, ATTR, MASKS = range(1, 8)
STATUS, MUTS, RANGE, F_HANDLE = 11, 13, 14, 16
(SNAP_OPEN, READ, WRITE, FLUSH, EXTENTS) = (8, 16, 17, 23, 24)
(LOOKUP, CREATE, MKDIR, SYMLINK, LINK, UNLINK, RMDIR, RENAME, READDIR, READLINK, GETATTR, SETATTR, GETXATTR,
 SETXATTR, LISTXATTR, REMOVEXATTR, FILE_OPEN, FILE_CLOSE, FILE_READ, FILE_WRITE, FSYNC, STATFS) = range(32, 54)
(OP_STATUS, SCRUB, WATCH) = (64, 65, 66)
LATER, RETURN, REVOKE, ROTATE, ASK_OP, ASK_CANCEL = range(0xf0, 0xf6)
CONT, VIEW, LAST, INO = 0xffffffff, (1 << 64) - 1, (1 << 64) - 1, (1 << 64) - 256
NOFOLLOW, MADE_UP = 1 << 3, 0xff
ESTALE, EKEYEXPIRED = 116, 127


def pad(b):
    return b + bytes(-len(b) % 8)


def field(tag, content):
    return struct.pack("<HHI", tag, 0, len(content)) + pad(content)


def attr(ino=0, mode=0o100644, nlink=1, size=0):
    return struct.pack("<QIIIIQQQqqqq", ino, mode, 0, 0, nlink, size, size, 0, 1, 2, 3, 4)


def handle(k=0, place=0, flip=0, keep_ino=False, keep_view=False):
    return bytes([k, place, flip, keep_ino | keep_view << 1]) + bytes(60)


class Server:
    """What is said to a server: messages, whose ids count up, as do the numbers of slot 0."""

    def __init__(self, how):
        self.out, self.id, self.seq = bytes([2 | 4 | how]), 0, 0

    def say(self, message):
        self.out += struct.pack("<H", len(message)) + message

    def req(self, op, body=b"", data=b"", shown=None, token=False, ino=0, length=None, flags=0, view=0, off=0, what=0,
            window=None, again=False):
        self.id += 1
        what |= (HANDLE if shown else 0) | (TOKEN if token else 0) | (WINDOW if window else 0)
        if token and not again:
            self.seq += 1
        head = struct.pack("<BBBBIQIIQIHHIIIIQQQQII", 3, VERSION, op, what, flags, self.id, 0, 0,
                           self.seq if token else 0, 0, 0, 0, 0, 0, CONT, len(data) if length is None else length,
                           view, 0, ino, off, 0, len(body))
        self.say(head + (window or b"") + (shown or b"") + (b"" if what & PULL else body + data))

    def note(self, kind, arg=0, number=0):
        self.say(struct.pack("<BBHIQ", kind, VERSION, 0, arg, number))

    def ask(self, what, arg=0):
        self.say(bytes([what, arg]))

    def lookup(self, name="f", flags=0, view=0):
        self.req(LOOKUP, field(NAME, name.encode()), flags=flags, view=view)


def server_handles():
    s = Server(8)
    s.lookup()
    s.lookup("l", NOFOLLOW)
    s.req(FILE_READ, length=6, shown=handle(), what=CRC)
    s.req(FILE_WRITE, data=b"INSIDE", shown=handle(), token=True)
    s.req(GETATTR, shown=handle())
    s.req(SETATTR, field(ATTR, attr(mode=0o600)) + field(MASKS, struct.pack("<II", 1, 0)), shown=handle(), token=True)
    s.req(FSYNC, shown=handle())
    s.req(SETXATTR, field(KEY, b"user.k"), b"value", shown=handle(), token=True)
    s.req(GETXATTR, field(KEY, b"user.k"), shown=handle(), length=64)
    s.req(LISTXATTR, shown=handle(), length=4096)
    s.req(REMOVEXATTR, field(KEY, b"user.k"), shown=handle(), token=True)
    s.req(EXTENTS, field(RANGE, struct.pack("<QQ", 1 << 20, INO)), shown=handle())
    s.req(EXTENTS, shown=handle())
    s.req(LINK, field(NAME2, b"g"), shown=handle(), token=True)
    s.req(READLINK, shown=handle(1), length=100)
    s.req(GETATTR, shown=handle(1))
    return s.out


def server_open():
    s = Server(8)
    s.req(FILE_OPEN, field(NAME, b"f"), token=True)
    s.req(FILE_OPEN, shown=handle(), token=True)
    s.req(UNLINK, field(NAME, b"f"), token=True)
    s.req(FILE_READ, length=6, shown=handle())
    s.req(FILE_CLOSE, ino=INO, token=True)
    s.req(FILE_READ, length=6, shown=handle())
    s.req(FILE_OPEN, shown=handle(), token=True)
    return s.out


def server_nameless():
    s = Server(8)
    s.req(CREATE, field(ATTR, attr()) + field(MASKS, struct.pack("<II", 1, 0)), b"first", token=True)
    s.req(FILE_WRITE, data=b"nameless", off=5, shown=handle(), token=True)
    s.req(LINK, field(NAME2, b"named"), shown=handle(), token=True)
    s.req(FILE_CLOSE, ino=INO, token=True)
    s.lookup("named")
    s.req(CREATE, field(ATTR, attr()), token=True)
    s.req(FILE_CLOSE, ino=INO + 2, token=True)
    s.req(RENAME, field(NAME, b"named") + field(NAME2, b"f"), token=True)
    return s.out


def server_lists():
    s = Server(8)
    s.req(READDIR, length=4096, what=VALUES)
    for k in range(3):
        s.req(FILE_READ, length=16, shown=handle(k))
    s.req(READDIR, field(START, b"f"), length=512, what=VALUES)
    s.req(READDIR, length=100)
    s.req(READDIR)  # no room for anything
    s.req(MKDIR, field(NAME, b"d") + field(ATTR, attr(mode=0o755)), token=True)
    s.req(READDIR, field(NAME, b"d"), length=4096)
    return s.out


def server_view():
    s = Server(8)
    s.req(SNAP_OPEN, field(NAME2, b"s"))
    s.lookup(view=VIEW)
    s.req(FILE_READ, length=6, shown=handle())
    s.req(GETATTR, shown=handle())
    s.req(FILE_READ, length=6, shown=handle(keep_view=True))  # of what is now
    s.req(FILE_WRITE, data=b"x", shown=handle(), token=True)
    s.lookup()
    s.req(FILE_READ, length=6, shown=handle(1, keep_view=True), view=VIEW)
    return s.out


def server_refused():
    s = Server(8)
    s.lookup()
    s.lookup("l", NOFOLLOW)
    for op in FILE_READ, GETATTR:
        for place, flip in (63, 1), (0, 2), (1, 255), (2, 1), (4, 1), (8, 1), (12, 1), (16, 1), (20, 1), (32, 4), (44, 1):
            s.req(op, length=6 if op == FILE_READ else 0, shown=handle(0, place, flip))
        s.req(op, length=6 if op == FILE_READ else 0, shown=handle(MADE_UP))
        s.req(op, length=6 if op == FILE_READ else 0, shown=handle(0, keep_ino=True), ino=INO + 1)
        s.req(op, length=6 if op == FILE_READ else 0, ino=INO)
    s.req(LOOKUP, field(NAME, b"../secret"), shown=handle(0, keep_ino=True))
    s.req(FLUSH, shown=handle(keep_ino=True))
    return s.out


def server_expired():
    s = Server(8)
    s.lookup()
    s.req(FILE_OPEN, shown=handle(), token=True)
    s.ask(LATER, 6)
    s.req(FILE_READ, length=6, shown=handle())
    s.req(GETATTR, shown=handle())
    s.req(FILE_READ, length=6, shown=handle(2))
    for _ in range(13):
        s.ask(LATER, 11)
    s.req(GETATTR, shown=handle())
    s.lookup()
    s.req(FILE_CLOSE, ino=INO + 3, token=True)
    return s.out


def server_revoked():
    s = Server(8)
    s.lookup()
    s.req(WATCH, off=LAST)
    s.ask(REVOKE)
    s.req(FILE_READ, length=6, shown=handle())
    s.req(GETATTR, shown=handle())
    s.lookup()
    s.ask(RETURN)
    s.req(FILE_READ, length=6, shown=handle())
    return s.out


def server_rotated():
    s = Server(8)
    for _ in range(3):
        s.lookup()
        s.req(FILE_READ, length=6, shown=handle())
        s.ask(ROTATE)
    s.req(FILE_READ, length=6, shown=handle())
    s.req(FILE_READ, length=6, shown=handle(2))
    return s.out


def server_return():
    s = Server(8)
    s.lookup()
    s.req(FILE_OPEN, shown=handle(), token=True)
    s.req(FILE_WRITE, data=b"once", shown=handle(), token=True)
    s.ask(RETURN)
    s.req(FILE_WRITE, data=b"once", shown=handle(), token=True, again=True, what=RESENT)
    s.req(FILE_OPEN, shown=handle(), token=True)
    s.req(FILE_READ, length=6, shown=handle())
    s.req(FILE_CLOSE, ino=INO, token=True)
    s.note(10)  # BYE
    s.ask(RETURN)
    s.lookup()
    return s.out


def server_windows():
    s = Server(8)
    desc = struct.pack("<QQQHHI", 0x1001, 0, 60000, 0, 0, 7)
    s.lookup()
    s.req(FILE_WRITE, shown=handle(), length=40000, token=True, window=desc, what=PULL)
    s.req(FILE_READ, length=40000, shown=handle(), window=desc, what=CRC)
    s.req(SETXATTR, field(KEY, b"user.k"), shown=handle(), length=3000, token=True, window=desc, what=PULL)
    s.req(FILE_READ, length=40000, shown=handle(), window=desc[:16] + struct.pack("<Q", 100) + desc[24:])
    return s.out


def server_watch():
    s = Server(0)
    s.req(WATCH)
    s.req(WATCH, off=LAST)
    s.req(WATCH, off=LAST, ino=9)
    s.req(WRITE, data=b"x" * 16, ino=9, token=True)
    s.req(WATCH, off=LAST)
    s.req(WATCH, off=LAST)
    s.note(9, 2, s.id)  # CREDIT
    s.note(5, 0, s.id)  # CANCEL
    s.req(FILE_OPEN, field(NAME, b"in/f"), token=True)
    s.req(CREATE, field(ATTR, attr()), b"none", token=True)
    s.req(OP_STATUS, what=VALUES)
    s.note(6, 0, 7)  # PING
    s.req(FILE_CLOSE, ino=4, token=True)
    return s.out


def server_hello():
    hello = struct.pack("<BBHIQB7x16sQ16s16sQIIHHI", 1, 2, 0, 0x31545350, 0, 1, b"who", 0, b"", b"", 0, 4, 16, 0, 4, 0)
    s = Server(0)
    s.out = bytes([1 | 4])
    s.say(hello + b"seed")
    s.lookup("in/f")
    s.note(10)
    return s.out


class Client:
    """What is said to a client; each answer to the last request with its opcode."""

    def __init__(self):
        self.out = bytes([4])

    def say(self, message):
        self.out += struct.pack("<H", len(message)) + message

    def resp(self, op, body=b"", data=b"", status=0, word=0, ret_len=0, ret_off=0, what=0, push=False):
        self.say(struct.pack("<BBBBiBB6xQQQIIIIII", 4, VERSION, op, what, status, 0xff, push, ret_len, ret_off, word,
                             0xffffffff, len(data), 0, len(body), 0, 0) + body + data)

    def inode(self, op, ino, handle_byte=None, **more):
        body = field(ATTR, attr(ino=ino))
        if handle_byte is not None:
            body += field(F_HANDLE, bytes([handle_byte]) * 64)
        self.resp(op, body, word=ino, **more)

    def op(self, opcode, ino):
        self.say(bytes([ASK_OP, opcode, 0, 0]) + struct.pack("<Q", ino))

    def ask(self, what, arg=0):
        self.say(bytes([what, arg]))

    def read(self, data=b"data"):
        self.resp(FILE_READ, data=data, ret_len=len(data))


FILE = 0x1000  # the number of a file: its low two bits say so


def client_open():
    c = Client()
    c.inode(FILE_OPEN, FILE, 1)
    c.op(FILE_READ, FILE)
    c.read()
    c.op(FILE_WRITE, FILE)
    c.resp(FILE_WRITE, ret_len=8192)
    c.op(GETXATTR, FILE)
    c.resp(GETXATTR, data=b"val", ret_len=3)
    c.op(FILE_OPEN, FILE)
    c.inode(FILE_OPEN, FILE, 2)
    c.op(FILE_CLOSE, FILE)  # the first of two: ends here
    c.op(FILE_CLOSE, FILE)
    c.resp(FILE_CLOSE)
    c.op(FILE_CLOSE, FILE)
    c.resp(FILE_CLOSE, status=-9)
    return c.out


def client_expired():
    c = Client()
    c.inode(LOOKUP, FILE, 1)
    c.op(FILE_READ, FILE)
    c.resp(FILE_READ, status=-EKEYEXPIRED)
    c.inode(GETATTR, FILE, 2)  # of the task, which asked for it
    c.read()
    c.op(FILE_READ, FILE)
    c.resp(FILE_READ, status=-EKEYEXPIRED)
    c.resp(GETATTR, status=-EKEYEXPIRED)
    c.op(FILE_READ, FILE)
    c.resp(FILE_READ, status=-128)
    return c.out


def client_restart(known):
    c = Client()
    c.inode(CREATE, FILE, 1)
    c.inode(FILE_OPEN, FILE + 4, 2)
    c.ask(RETURN, 2 | known)
    c.op(FILE_READ, FILE)
    c.inode(FILE_OPEN, FILE, 3)
    c.resp(FILE_OPEN, status=-ESTALE)
    c.read()
    c.op(FILE_READ, FILE + 4)
    c.read()
    c.op(FILE_WRITE, FILE)
    c.ask(ASK_CANCEL, 46)
    c.ask(RETURN, known)
    c.ask(LATER, 0)
    c.inode(FILE_OPEN, FILE, 4)
    c.inode(FILE_OPEN, FILE + 4)
    return c.out


def client_lost():
    c = Client()
    c.inode(FILE_OPEN, FILE, 1)
    c.ask(RETURN, 2)
    c.resp(FILE_OPEN, status=-ESTALE)
    for op in FILE_READ, GETATTR, FILE_CLOSE:
        c.op(op, FILE)
    return c.out


def client_older_copy():
    c = Client()
    c.inode(FILE_OPEN, FILE, 1)
    c.op(FILE_READ, FILE)
    c.ask(RETURN, 4 | 1)
    c.op(FILE_READ, FILE)
    c.ask(LATER, 0)
    return c.out


def client_crossed():
    """A FILE_CLOSE of what a FILE_OPEN by name turns out to be: it is opened once more, by its number."""
    c = Client()
    c.inode(CREATE, FILE, 1)
    c.op(FILE_CLOSE, FILE)
    c.inode(FILE_OPEN, FILE, 2)
    c.resp(FILE_CLOSE)
    c.inode(FILE_OPEN, FILE, 3)
    c.op(FILE_READ, FILE)
    c.read()
    return c.out


def entry(name, ino, kind, handle_byte=None):
    has = 1 | (8 if handle_byte is not None else 0)
    e = struct.pack("<HBBIQQQ", len(name), kind, has, 0, ino, 0, 0) + name + attr(ino=ino)
    return pad(e + (bytes([handle_byte]) * 64 if handle_byte is not None else b""))


def client_lists():
    c = Client()
    c.resp(READDIR, data=entry(b"f", FILE, 8, 1) + entry(b"d", FILE + 1, 4), what=16)
    c.resp(READDIR, data=entry(b"g", FILE + 4, 8, 2))
    c.op(FILE_READ, FILE + 4)
    c.read()
    c.op(LISTXATTR, FILE)
    c.resp(LISTXATTR, data=pad(struct.pack("<HBBIQQQ", 6, 0, 0, 0, 0, 0, 0) + b"user.k"))
    c.op(READDIR, FILE + 1)
    c.resp(READDIR, data=entry(b"f", FILE, 8, 1)[:-8])
    return c.out


def client_watch():
    c = Client()
    c.resp(WATCH, ret_off=77)
    c.resp(OP_STATUS, field(STATUS, b"U" * 16 + struct.pack("<QIIB", 9, 4, 1, 0) + bytes(31 * 8) + bytes(2) + bytes(2) +
                            struct.pack("<QH", 1 << 20, 3) + b"dev" + struct.pack("<II", 1, 2) + bytes(16) +
                            struct.pack("<IIQQQ", 1, 0, 9, 5, 7)))
    bad = struct.pack("<QQQQQQ", 0, 5, 4, 0, 1, 0) + struct.pack("<IiQQQQ", 5, -5, 1, 2, 3, 4)
    c.say(struct.pack("<BBHIQ", 8, VERSION, 0, len(bad), 42) + bad)
    c.op(WATCH, 0)
    c.resp(WATCH, ret_off=78)
    c.say(struct.pack("<BBHIQ", 6, VERSION, 0, 0, 3))
    c.say(struct.pack("<BBHIQ", 10, VERSION, 0, 0, 0))
    return c.out


def client_pushed():
    c = Client()
    c.inode(LOOKUP, FILE, 1)
    c.op(FILE_READ, FILE)
    c.say(struct.pack("<BBBBiBB6xQQQIIIIII", 4, VERSION, FILE_READ, 0, 0, 0xff, 1, 8192, 0, 0, 0, 8192, 0, 0, 0, 0))
    c.op(FILE_READ, FILE)
    c.resp(FILE_READ, what=32, status=-11)  # AGAIN
    return c.out


SEEDS = {"server2-handles": server_handles, "server2-open": server_open, "server2-nameless": server_nameless,
         "server2-lists": server_lists, "server2-view": server_view, "server2-refused": server_refused,
         "server2-expired": server_expired, "server2-revoked": server_revoked, "server2-rotated": server_rotated,
         "server2-return": server_return, "server2-windows": server_windows, "server2-watch": server_watch,
         "server2-hello": server_hello, "client2-open": client_open, "client2-expired": client_expired,
         "client2-restart": lambda: client_restart(1), "client2-session-lost": lambda: client_restart(0),
         "client2-lost": client_lost, "client2-crossed": client_crossed, "client2-lists": client_lists,
         "client2-watch": client_watch, "client2-pushed": client_pushed, "client2-older-copy": client_older_copy}

folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus/wire")
for name, make in SEEDS.items():
    with open(os.path.join(folder, name), "wb") as f:
        f.write(make())
