/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * export - files and trees of a container onto the host: the work of `get`.
 *
 * The main thread walks the tree and reads; workers write. A file is opened by the worker that
 * writes its first chunk, and gets its attributes from the one that writes its last. Further names
 * of a file are linked, and directories get their attributes, when all files are written.
 */
#ifndef CLI_EXPORT_H
#define CLI_EXPORT_H

#include "cli/cli.h"

struct export_opts {
	unsigned jobs;
	bool recursive;
};

/* CLI_OK, or CLI_FAILED with messages. @dest: a directory to put it into, or the name it gets. */
int export_run(struct cli *cli, const struct cli_path *source, const char *dest,
               const struct export_opts *opts);

#endif
