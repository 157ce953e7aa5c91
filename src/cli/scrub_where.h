/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * scrub_where - bad blocks by the names that people know: container, snapshot, path.
 */
#ifndef CLI_SCRUB_WHERE_H
#define CLI_SCRUB_WHERE_H

#include "cli/cli.h"

struct scrub_bad {
	uint32_t cont;
	uint64_t view; /* 0: live */
	struct pst_oid oid;
	uint64_t off;
	int status;
	char *name; /* "CONTAINER" or "CONTAINER@SNAPSHOT"; NULL: it is gone */
	char *path; /* one of the names of the file, "/a/b"; NULL: it is none, or has none any more */
};

/*
 * Finds names and paths of @bad[0..count), which it sorts by container and view. A view of a
 * container is walked once for all of its files. What can't be found stays NULL. 0 or -ENOMEM.
 */
int scrub_where(struct cli *cli, struct scrub_bad *bad, size_t count);
void scrub_bad_free(struct scrub_bad *bad, size_t count);

#endif
