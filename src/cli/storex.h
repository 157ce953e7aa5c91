/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * storex - extended attributes of a file on the store, all at once.
 */
#ifndef CLI_STOREX_H
#define CLI_STOREX_H

#include "cli/hostfile.h"

struct pst_cont;

/* Of the inode @ino. Main thread; blocks. */
int store_xattrs_read(struct pst_cont *cont, uint64_t ino, struct host_xattrs *ret_xattrs);

#endif
