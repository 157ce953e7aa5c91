/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * record_bdev - a bdev that wraps another and keeps a journal of all that changes it: what was
 * written, when that completed, and when flushes began and ended. From it a checker makes every
 * state that the device could be in after a power cut at any moment.
 *
 * Several recording devices share one journal, so that moments are the same on all.
 */
#ifndef TESTS_PROCESS_RECORD_BDEV_H
#define TESTS_PROCESS_RECORD_BDEV_H

#include "bdev/bdev.h"

enum rec_kind {
	REC_SUBMIT, /* a write, write-zeroes or discard was submitted */
	REC_ENDED,  /* ... and completed with 0 */
	REC_FLUSH_SUBMIT,
	REC_FLUSH_ENDED, /* with 0 */
	REC_MARK,        /* the user's */
};

struct rec_event {
	enum rec_kind kind;
	unsigned dev;
	uint64_t id; /* pairs a beginning with its end; REC_MARK: the user's two numbers */
	uint64_t mark;
	uint8_t op; /* enum bdev_op */
	uint32_t flags;
	uint64_t off, len;
	uint8_t *data; /* NULL: zeros (BDEV_DISCARD: anything) */
};

struct rec_journal {
	struct rec_event *ev;
	size_t count, cap;
	uint64_t next_id;
};

void rec_journal_done(struct rec_journal *j);
void rec_mark(struct rec_journal *j, uint64_t id, uint64_t mark);
/* Takes over @below. @dev: its number in the journal. */
struct bdev *record_wrap(struct bdev *below, struct rec_journal *j, unsigned dev);

#endif
