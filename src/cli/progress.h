/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * progress - a line on stderr for long work: how far, how fast, how long still. Only on a terminal
 * or with --progress, and never with --quiet.
 */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "cli/cli.h"

struct progress {
	const char *verb; /* "importing" */
	bool on, tty, shown;
	uint64_t start_ns, last_ns;
	uint64_t done_bytes, done_items;
	_Atomic uint64_t total_bytes, total_items; /* 0: not known (yet) */
};

void progress_start(struct progress *p, struct cli *cli, const char *verb);
/* Shows it if it is time to. */
void progress_tick(struct progress *p);
/* Takes the line away, so that others can be printed. */
void progress_clear(struct progress *p);
void progress_end(struct progress *p);

#endif
