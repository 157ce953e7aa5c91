/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * import - files and trees of the host into a container: the work of `put`.
 *
 * Workers scan directories and read files (import_host.c); the main thread makes what they found
 * (import.c, import_make.c, import_big.c). What makes a file appear whole, and only whole:
 *
 *  - up to IMPORT_SMALL bytes, without extended attributes and holes: one op, pst_fs_create() with
 *    attributes and content, PST_F_EXCL: one atomic step;
 *  - else, or if the name is there already: a file without a name is made, filled, given its
 *    attributes, made durable, and linked at the name, which replaces what was there. A kill leaves
 *    nothing behind: a file without a name goes at the next open.
 *
 * Durability. All ops are volatile, and one flush after the other runs beside them. A file is
 * counted and logged when a flush has ended that began after the file was made. So the number of
 * files under way and the time of a flush don't limit each other: each flush covers all that came
 * before it.
 *
 * Memory is bounded: workers wait for the budget before they read.
 */
#ifndef CLI_IMPORT_H
#define CLI_IMPORT_H

#include <pthread.h>

#include "cli/hostfile.h"
#include "cli/pump.h"

#define IMPORT_SMALL     (1u << 20)    /* also the size of a chunk of larger files */
#define IMPORT_CHUNKS    48            /* that many chunks at a time */
#define IMPORT_MALLOC    (128u << 10)  /* up to that size content is malloc'ed instead */
#define IMPORT_BUDGET    (48ull << 20) /* of malloc'ed content at a time */
#define IMPORT_BATCH     64            /* names that one job looks at */
#define IMPORT_ITEMS_MAX 8192          /* found and not made yet */

struct import;

/* A directory on both sides. */
struct import_dir {
	struct import_dir *parent; /* NULL: the destination */
	char *host, *path;         /* its path there, and from the root of the store */
	uint64_t ino;
	uint64_t pending; /* what keeps it open: its scan, its entries */
	bool finish;      /* gets its attributes when all is in it */
	struct pst_attr attr;
	struct host_xattrs xattrs;
	struct pump_task task;
	struct import *import;
	unsigned xattr_at;
};

/* The first of several names of one file. Claimed by workers, filled by the main thread. */
struct import_inode {
	dev_t dev;
	ino_t host_ino;
	uint64_t ino; /* in the store; 0: not made (yet) */
	bool ended;   /* made, or failed */
	struct list waiting;
	struct import_inode *next;
};

enum import_kind {
	IMPORT_FILE, /* content in data */
	IMPORT_BIG,  /* content is streamed */
	IMPORT_DIR,
	IMPORT_SYMLINK, /* target in data */
	IMPORT_SPECIAL,
	IMPORT_LINK, /* a further name of what inode says */
	IMPORT_ERROR,
};

enum import_step {
	STEP_CREATE,
	STEP_STAT,   /* a directory that is there already */
	STEP_RENAME, /* a symbolic link or device, made beside the name that it takes */
	STEP_UNLINK, /* or dropped again */
	STEP_NAMELESS,
	STEP_STREAM,
	STEP_XATTRS,
	STEP_ATTRS,
	STEP_SYNC,
	STEP_LINK,
	STEP_RELEASE,
};

/* Something that was found, on its way into the store. */
struct import_item {
	struct job job; /* emitted by the worker that found it; later: the streaming job */
	struct pump_task task;
	struct import *import;
	struct import_dir *dir;
	char *host; /* its path; NULL: dir->host and name */
	char *name;
	enum import_kind kind;
	enum import_step step;
	int status;       /* IMPORT_ERROR, or what went wrong since */
	const char *what; /* the words to status: static; NULL: the errno value says it */
	bool host_error;  /* status is about the host's side */
	struct pst_attr attr, found; /* found: STEP_STAT's */
	struct host_xattrs xattrs;
	struct import_inode *inode; /* of a file with several names */
	bool first;                 /* this is the name that makes it */
	bool input;                 /* the content is the standard input's */
	unsigned replaces;          /* a name was in the way: it is made as `beside` first */
	char beside[48];
	bool chunked; /* data is a chunk, not malloc'ed */
	void *data;
	size_t len;
	uint64_t ino; /* made, in the store */
	unsigned xattr_at;
	uint64_t chunks_out; /* streaming: chunks that are being written */
	int stream_status;   /* the worker's, for the main thread to see when streamed */
	const char *stream_what;
	bool streamed;    /* the worker has read it all */
	char *path;       /* for the log, when it is made */
	struct list link; /* in inode->waiting, then in import->made or flushing */
};

struct import {
	struct pump pump;
	struct cli *cli;
	struct pst_cont *cont;
	const char *cont_name;
	struct progress progress;
	bool recursive;
	int log_fd; /* -1: none */
	char *log_buf;
	size_t log_len;
	int status;
	_Atomic bool stop; /* nothing more can be stored: workers come to an end */
	struct import_dir dest;
	uint64_t beside; /* names of that kind that were made up */
	uint64_t files, dirs, others, bytes, skipped;

	struct list made, flushing; /* items that a flush is to cover, or is covering */
	struct pump_task flush;
	bool flush_runs;
	uint64_t items;   /* arrived and not finished */
	struct list held; /* batches that wait until there are fewer */

	pthread_mutex_t lock; /* for what follows */
	pthread_cond_t room;
	uint64_t malloced;
	char *chunk_base;
	void *chunk[IMPORT_CHUNKS];
	unsigned chunks_free;
	struct import_inode **inodes;          /* hash table */
	struct host_file own[PST_DEVICES_MAX]; /* the store lies in them: left out */
	unsigned own_count;
	size_t inode_mask;
};

/* --- import.c --- */

struct import_opts {
	unsigned jobs; /* calls under way */
	bool recursive;
	const char *log_path;
};

/* Source "-": the standard input. */
bool import_is_input(const char *source);

/*
 * Puts each of @sources at @dest; into it, when it is a directory. CLI_OK, CLI_FAILED with
 * messages.
 */
int import_run(struct cli *cli, char **sources, unsigned count, const struct cli_path *dest,
               const struct import_opts *opts);
/* An item arrived: makes it as soon as its directory is there. */
void import_arrived(struct import_item *it);
/* The item is made, or not: it is told, or counted as soon as it is durable. */
void import_item_end(struct import_item *it);
void import_dir_put(struct import_dir *d); /* one thing less that keeps it open */
struct import_dir *import_dir_new(struct import *im, struct import_dir *parent, char *host,
                                  const char *name);
char *import_item_path(const struct import_item *it); /* in the store; to be freed */
char *import_item_host(const struct import_item *it);
/* A message about something of the host, and the status it leads to. */
void import_complain(struct import *im, const char *host, const char *what, int rc);

/* --- import_make.c --- */

void import_make(struct import_item *it);

/* --- import_host.c: worker side, but for what is marked --- */

void import_scan(struct import_dir *d); /* main: starts it */
void import_look(struct import *im, struct import_dir *dest, char *host, char *name); /* main */
void import_stream(struct import_item *it);                       /* main: starts it */
void import_count(struct import *im, char **sources, unsigned n); /* main: starts it */

void import_held(struct import *im); /* main: gives workers more to look at, if it is time */

/* Content memory. */
void *import_chunk_get(struct import *im); /* waits for one */
void import_chunk_put(struct import *im, void *chunk);
void import_data_put(struct import_item *it);

/* A chunk of a streamed file, or its end. */
struct import_chunk {
	struct job job;
	struct pump_task task;
	struct import_item *item;
	void *data; /* NULL: the end; item->status says how */
	size_t len;
	uint64_t off;
};
void import_chunk_arrived(struct job *j); /* in import_make.c */

#endif
