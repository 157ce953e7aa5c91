/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reader - reads many files of the store, chunk by chunk, with as many reads under way as there are
 * buffers. A file's chunks are handed out as they come, in any order.
 */
#ifndef CLI_READER_H
#define CLI_READER_H

#include "cli/pump.h"

#define READER_CHUNK (1u << 20)

struct reader_chunk;

struct reader_file {
	/* The caller's: */
	uint64_t ino, size_bytes;
	bool sparse; /* look for holes first: nothing is read where there is no data */
	/* A chunk was read; reader_chunk_put() ends it, now or later. */
	void (*chunk)(struct reader_file *f, struct reader_chunk *c);
	/* All chunks were put back; status says whether all was read. */
	void (*end)(struct reader_file *f);
	int status;      /* 0, or the first error; may be set by chunk() to give up */
	uint64_t at_err; /* where */
	/* The reader's: */
	uint64_t next, data_end;
	unsigned chunks_out;
	bool queued;
	struct list link;
};

struct reader_chunk {
	struct reader *reader;
	struct reader_file *file;
	void *buf;
	uint64_t off;
	size_t len;
	struct pump_task task;
	struct job job; /* the caller's, between chunk() and reader_chunk_put() */
	struct list link;
};

struct reader {
	struct pump *pump;
	struct pst_cont *cont;
	void *base;
	struct reader_chunk *chunks;
	struct list free, files;
	unsigned files_queued;
};

/* @chunks buffers of READER_CHUNK bytes. 0 or a negative errno value. */
int reader_open(struct reader *r, struct pump *pump, struct pst_cont *cont, unsigned chunks);
void reader_close(struct reader *r);
/* Reads all of @f; end() may be called before this returns (an empty file). */
void reader_add(struct reader *r, struct reader_file *f);
/* Main thread. */
void reader_chunk_put(struct reader_chunk *c);

#endif
