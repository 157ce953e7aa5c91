/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * compare - reads a tree of the store, so that every checksum is verified, and compares it with a
 * tree of the host if there is one: the work of `verify`.
 */
#ifndef CLI_COMPARE_H
#define CLI_COMPARE_H

#include "cli/cli.h"

struct compare_result {
	uint64_t files, dirs, others, bytes, differences, errors;
	double seconds;
};

/* @host: NULL: only read. CLI_OK when there is no difference and no error. */
int compare_run(struct cli *cli, const char *host, const struct cli_path *source, unsigned jobs,
                struct compare_result *ret_result);

#endif
