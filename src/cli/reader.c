/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reader - see reader.h.
 */
#include "cli/reader.h"

#include <errno.h>

static void feed(struct reader *r);

int reader_open(struct reader *r, struct pump *pump, struct pst_cont *cont, unsigned chunks)
{
	struct pst_client *client = pump->cli->client;
	int rc;

	*r = (struct reader){.pump = pump, .cont = cont};
	list_init(&r->free);
	list_init(&r->files);
	r->chunks = mem_calloc(chunks, sizeof(*r->chunks));
	if (!r->chunks)
		return -ENOMEM;
	rc = pst_mem_alloc(client, (size_t)chunks * READER_CHUNK, &r->base);
	if (rc < 0) {
		mem_free(r->chunks);
		return rc;
	}
	for (unsigned i = 0; i < chunks; i++) {
		r->chunks[i].reader = r;
		r->chunks[i].buf = (char *)r->base + (size_t)i * READER_CHUNK;
		list_push(&r->free, &r->chunks[i].link);
	}
	return 0;
}

void reader_close(struct reader *r)
{
	if (!r->chunks)
		return;
	pst_assert(list_empty(&r->files));
	pst_mem_free(r->pump->cli->client, r->base);
	mem_free(r->chunks);
}

/* --- one file --- */

static void file_fail(struct reader_file *f, int status, uint64_t at)
{
	if (f->status < 0)
		return;
	f->status = status;
	f->at_err = at;
}

/* Is there more to read? Skips holes. */
static bool file_more(struct reader *r, struct reader_file *f)
{
	uint64_t off, len;
	int rc;

	if (f->status < 0 || f->next >= f->size_bytes)
		return false;
	if (!f->sparse || f->next < f->data_end)
		return true;
	rc = pst_fs_next_data(r->cont, f->ino, NULL, f->next, &off, &len);
	if (rc == -ENXIO || (rc == 0 && off >= f->size_bytes))
		return false;
	if (rc < 0) {
		file_fail(f, rc, f->next);
		return false;
	}
	f->next = MAX(off, f->next);
	f->data_end = MIN(off + len, f->size_bytes);
	return f->next < f->data_end;
}

static void file_check_end(struct reader *r, struct reader_file *f)
{
	if (!f->queued && f->chunks_out == 0)
		f->end(f);
}

/* --- chunks --- */

static int chunk_start(struct pump_task *t, struct pst_cq *cq)
{
	struct reader_chunk *c = container_of(t, struct reader_chunk, task);

	return pst_fs_read_async(c->reader->cont, c->file->ino, NULL, c->buf, c->len, c->off, 0, cq,
	                         t);
}

static void chunk_done(struct pump_task *t, const struct pst_event *e)
{
	struct reader_chunk *c = container_of(t, struct reader_chunk, task);

	if (e->status == 0 && e->len != c->len)
		file_fail(c->file, -ESTALE, c->off + e->len); /* it was cut meanwhile */
	if (e->status < 0)
		file_fail(c->file, e->status, c->off);
	if (c->file->status < 0)
		reader_chunk_put(c);
	else
		c->file->chunk(c->file, c);
}

void reader_chunk_put(struct reader_chunk *c)
{
	struct reader_file *f = c->file;
	struct reader *r = c->reader;

	list_push_front(&r->free, &c->link);
	f->chunks_out--;
	file_check_end(r, f); /* if it waits for buffers still, feed() ends it */
	feed(r);
}

static void chunk_go(struct reader *r, struct reader_file *f)
{
	struct reader_chunk *c = list_first(&r->free, struct reader_chunk, link);
	uint64_t end = f->sparse ? f->data_end : f->size_bytes;

	list_del(&c->link);
	c->file = f;
	c->off = f->next;
	c->len = (size_t)MIN(end - f->next, READER_CHUNK - f->next % READER_CHUNK);
	f->next += c->len;
	f->chunks_out++;
	c->task.start = chunk_start;
	c->task.done = chunk_done;
	pump_add(r->pump, &c->task);
}

/* Gives free buffers to the files that wait, the oldest first. */
static void feed(struct reader *r)
{
	while (!list_empty(&r->files) && !list_empty(&r->free)) {
		struct reader_file *f = list_first(&r->files, struct reader_file, link);

		/* Looking for holes turns the loop, but takes no events: f stays what it is. */
		if (file_more(r, f)) {
			chunk_go(r, f);
			continue;
		}
		list_del(&f->link);
		f->queued = false;
		r->files_queued--;
		file_check_end(r, f);
	}
}

void reader_add(struct reader *r, struct reader_file *f)
{
	f->next = f->data_end = 0;
	f->chunks_out = 0;
	f->status = 0;
	f->queued = true;
	list_push(&r->files, &f->link);
	r->files_queued++;
	feed(r);
}
