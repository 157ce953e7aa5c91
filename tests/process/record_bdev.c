/* SPDX-License-Identifier: BSD-3-Clause */
#include "record_bdev.h"

struct rec_io {
	struct bdev_io child;
	struct bdev_io *io;
	struct record *rec;
	uint64_t id;
};

struct record {
	struct bdev bdev;
	struct bdev *below;
	struct rec_journal *journal;
	unsigned dev;
};

static struct rec_event *event(struct rec_journal *j, enum rec_kind kind, unsigned dev, uint64_t id)
{
	struct rec_event *e;

	if (j->count == j->cap) {
		j->cap = j->cap ? 2 * j->cap : 1024;
		j->ev = realloc(j->ev, j->cap * sizeof(*j->ev));
		pst_assert(j->ev);
	}
	e = &j->ev[j->count++];
	*e = (struct rec_event){.kind = kind, .dev = dev, .id = id};
	return e;
}

void rec_journal_done(struct rec_journal *j)
{
	for (size_t i = 0; i < j->count; i++)
		free(j->ev[i].data);
	free(j->ev);
	*j = (struct rec_journal){0};
}

void rec_mark(struct rec_journal *j, uint64_t id, uint64_t mark)
{
	event(j, REC_MARK, 0, id)->mark = mark;
}

static void child_done(struct bdev_io *child)
{
	struct rec_io *q = container_of(child, struct rec_io, child);
	struct bdev_io *io = q->io;
	struct record *r = q->rec;
	int status = child->status;

	if (!status && io->op == BDEV_FLUSH)
		event(r->journal, REC_FLUSH_ENDED, r->dev, q->id);
	else if (!status && io->op != BDEV_READ)
		event(r->journal, REC_ENDED, r->dev, q->id);
	free(q);
	bdev_done(&r->bdev, io, status);
}

static uint8_t *copy_data(const struct bdev_io *io)
{
	uint8_t *data, *at;

	if (io->op != BDEV_WRITE)
		return NULL;
	data = at = malloc(io->len_bytes);
	pst_assert(data);
	for (uint32_t i = 0; i < io->iov_count; i++) {
		memcpy(at, io->iov[i].iov_base, io->iov[i].iov_len);
		at += io->iov[i].iov_len;
	}
	return data;
}

static void record_submit(struct bdev *b, struct bdev_io *io)
{
	struct record *r = container_of(b, struct record, bdev);
	struct rec_io *q = calloc(1, sizeof(*q));
	struct rec_event *e;

	pst_assert(q);
	q->io = io;
	q->rec = r;
	q->id = r->journal->next_id++;
	q->child = (struct bdev_io){.op = io->op,
	                            .flags = io->flags,
	                            .iov_count = io->iov_count,
	                            .off_bytes = io->off_bytes,
	                            .len_bytes = io->len_bytes,
	                            .iov = io->iov,
	                            .region = io->region,
	                            .done = child_done};
	if (io->op == BDEV_FLUSH) {
		event(r->journal, REC_FLUSH_SUBMIT, r->dev, q->id);
	} else if (io->op != BDEV_READ) {
		e = event(r->journal, REC_SUBMIT, r->dev, q->id);
		e->op = io->op;
		e->flags = io->flags;
		e->off = io->off_bytes;
		e->len = io->len_bytes;
		e->data = copy_data(io);
	}
	bdev_submit(r->below, &q->child);
}

static void record_close(struct bdev *b)
{
	struct record *r = container_of(b, struct record, bdev);

	bdev_close(r->below);
	free(r);
}

static const struct bdev_ops record_ops = {.submit = record_submit, .close = record_close};

struct bdev *record_wrap(struct bdev *below, struct rec_journal *j, unsigned dev)
{
	struct record *r = calloc(1, sizeof(*r));

	pst_assert(r);
	r->bdev.ops = &record_ops;
	r->bdev.loop = below->loop;
	r->bdev.info = below->info;
	r->below = below;
	r->journal = j;
	r->dev = dev;
	return &r->bdev;
}
