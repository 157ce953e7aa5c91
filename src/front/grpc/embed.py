#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""embed.py IN OUT.h NAME: the bytes of IN as an array in C."""
import sys

data = open(sys.argv[1], "rb").read()
name = sys.argv[3]
with open(sys.argv[2], "w", encoding="ascii") as out:
    out.write("/* SPDX-License-Identifier: BSD-3-Clause */\n/* Made by embed.py. */\n")
    out.write("static const unsigned char %s_bytes[] = {\n" % name)
    for i in range(0, len(data), 16):
        out.write("\t%s,\n" % ", ".join("%d" % b for b in data[i:i + 16]))
    out.write("};\nstatic const unsigned long %s_len = %d;\n" % (name, len(data)))
