/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_layout - lays the data out, verifies all of it, removes it. Everything here goes through
 * the objects in order, in chunks, with a fixed number of calls under way.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/base.h"
#include "cli/bench.h"

#define CHUNK_MAX (1u << 20)
#define DEPTH     16

struct slot {
	char *buf;
	uint64_t object, off;
	size_t len;
	struct slot *next_free;
};

/* One pass over all data. */
struct pass {
	struct bench *b;
	struct slot slots[DEPTH], *free;
	uint64_t object, off, object_bytes;
	size_t chunk;
	uint64_t bytes;
	int rc;
	uint64_t bad_object, bad_off;
	const char *wrong; /* what is, of data that is not what it should be */
	int (*start)(struct pass *p, struct slot *s);
	int (*check)(struct pass *p, struct slot *s, const struct pst_event *e); /* may be NULL */
	bool (*skip)(struct pass *p); /* is p->object to be left out? may be NULL */
};

static void pass_fail(struct pass *p, const struct slot *s, int rc)
{
	if (p->rc < 0)
		return;
	p->rc = rc;
	p->bad_object = s->object;
	p->bad_off = s->off;
}

/* The next chunk into @s; false at the end. */
static bool pass_next(struct pass *p, struct slot *s)
{
	if (p->off == p->object_bytes) {
		p->off = 0;
		p->object++;
	}
	while (p->off == 0 && p->object < p->b->p.objects && p->skip && p->skip(p))
		p->object++;
	if (p->object >= p->b->p.objects)
		return false;
	s->object = p->object;
	s->off = p->off;
	s->len = (size_t)MIN(p->chunk, p->object_bytes - p->off);
	p->off += s->len;
	return true;
}

static int pass_take(struct pass *p)
{
	struct pst_event e[DEPTH];
	int n = pst_cq_poll(p->b->cq, e, DEPTH, UINT64_MAX);

	for (int i = 0; i < n; i++) {
		struct slot *s = e[i].user_data;
		int rc = e[i].status;

		if (rc == 0 && p->check)
			rc = p->check(p, s, &e[i]);
		if (rc < 0)
			pass_fail(p, s, rc);
		p->bytes += s->len;
		p->b->progress.done_bytes += s->len;
		s->next_free = p->free;
		p->free = s;
	}
	return n;
}

static int pass_run(struct pass *p, const char *verb)
{
	struct bench *b = p->b;
	bool more = true;

	b->progress = (struct progress){0};
	b->progress.total_bytes = b->p.objects * p->object_bytes;
	progress_start(&b->progress, b->cli, verb);
	while (more || pst_cq_pending(b->cq) > 0) {
		while (more && p->free && p->rc == 0) {
			struct slot *s = p->free;
			int rc;

			more = pass_next(p, s);
			if (!more)
				break;
			p->free = s->next_free;
			rc = p->start(p, s);
			if (rc < 0) {
				pass_fail(p, s, rc);
				s->next_free = p->free;
				p->free = s;
			}
		}
		more = more && p->rc == 0;
		if (pst_cq_pending(b->cq) > 0 && pass_take(p) < 0)
			return cli_fail(b->cli, -EIO, "waiting for completions");
		progress_tick(&b->progress);
	}
	progress_end(&b->progress);
	if (p->rc == -EILSEQ && p->wrong)
		return cli_fail(b->cli, 0, "object %" PRIu64 ", byte %" PRIu64 ": wrong data: %s",
		                p->bad_object, p->bad_off, p->wrong);
	if (p->rc < 0)
		return cli_fail(b->cli, p->rc, "%s: object %" PRIu64 ", byte %" PRIu64, verb,
		                p->bad_object, p->bad_off);
	return CLI_OK;
}

static void pass_init(struct pass *p, struct bench *b)
{
	*p = (struct pass){.b = b, .object_bytes = b->blocks_per_object * b->p.bs};
	p->chunk = (size_t)(b->p.bs >= CHUNK_MAX ? b->p.bs : CHUNK_MAX / b->p.bs * b->p.bs);
	for (unsigned i = 0; i < DEPTH; i++) {
		p->slots[i].buf = b->memory + i * p->chunk;
		p->slots[i].next_free = p->free;
		p->free = &p->slots[i];
	}
	pst_assert(DEPTH * p->chunk <= b->memory_bytes);
}

/* --- laying out --- */

static int write_start(struct pass *p, struct slot *s)
{
	bench_fill(s->buf, s->len, s->object, s->off, 0);
	return pst_obj_write_async(p->b->cont, bench_oid(s->object), s->buf, s->len, s->off,
	                           PST_F_VOLATILE, p->b->cq, s);
}

/* What an earlier run with --keep left has the right size; what it holds is verified anyway. */
static bool is_there(struct pass *p)
{
	struct pst_obj_stat st;

	return pst_obj_stat(p->b->cont, bench_oid(p->object), &st) == 0 && st.exists &&
	       st.size_bytes == p->object_bytes;
}

int bench_layout(struct bench *b)
{
	struct pass p;
	int status, rc;

	pass_init(&p, b);
	p.start = write_start;
	p.skip = is_there;
	status = pass_run(&p, "laying out");
	b->r->layout_bytes = p.bytes;
	if (status != CLI_OK)
		return status;
	rc = pst_cont_flush(b->cont);
	return rc < 0 ? cli_fail(b->cli, rc, "flushing") : CLI_OK;
}

/* --- verifying --- */

static int read_start(struct pass *p, struct slot *s)
{
	return pst_obj_read_async(p->b->cont, bench_oid(s->object), s->buf, s->len, s->off, 0,
	                          p->b->cq, s);
}

/* Block by block: one write made each. In the first pass generations are learned, then compared. */
static int read_check(struct pass *p, struct slot *s, const struct pst_event *e)
{
	struct bench *b = p->b;
	bool learn = b->r->verified_before_bytes == 0;

	if (e->len != s->len) {
		p->wrong = "too little of it";
		return -EILSEQ;
	}
	for (size_t at = 0; at < s->len; at += b->p.bs) {
		uint64_t off = s->off + at;
		uint64_t block = s->object * b->blocks_per_object + off / b->p.bs;
		uint32_t generation;

		if (!bench_check(s->buf + at, b->p.bs, s->object, off, &generation) ||
		    (!learn && generation != b->generation[block])) {
			s->off = off;
			p->wrong = p->wrong ? p->wrong
			                    : bench_wrong(s->buf + at, b->p.bs, s->object, off);
			return -EILSEQ;
		}
		b->generation[block] = generation;
	}
	return 0;
}

int bench_verify_all(struct bench *b, const char *verb, uint64_t *ret_bytes)
{
	struct pass p;
	int status;

	pass_init(&p, b);
	p.start = read_start;
	p.check = read_check;
	status = pass_run(&p, verb);
	*ret_bytes = p.bytes;
	return status;
}

/* --- removing --- */

int bench_remove(struct bench *b)
{
	struct pst_mut muts[PST_BATCH_MAX];
	uint64_t object = 0;
	int rc = 0;

	while (rc == 0 && object < b->p.objects) {
		unsigned n = 0;

		for (; n < PST_BATCH_MAX && object < b->p.objects; n++, object++)
			muts[n] =
			        (struct pst_mut){.kind = PST_OBJ_DELETE, .oid = bench_oid(object)};
		rc = pst_batch(b->cont, muts, n, PST_F_VOLATILE, NULL);
	}
	if (rc == 0)
		rc = pst_cont_flush(b->cont);
	return rc < 0 ? cli_fail(b->cli, rc, "removing the data") : CLI_OK;
}
