/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ofi, transfers; see ofi_int.h, whose rules O1 to O5 are cited here.
 *
 * A transfer has one operation posted at a time, of OFI_CHUNK_BYTES at most, so that messages don't
 * wait for long and closing a window doesn't either. One to a window of several pieces reads the table
 * first:
 *
 *   start -> [JOB_TABLE ->] JOB_DATA -> JOB_DATA ... -> done()
 */
#include "fabric/ofi_int.h"

/* --- local memory --- */

/* The region's registration with this channel. */
static int region_mr(struct ofi *o, struct mem_region *r, struct fid_mr **ret_mr)
{
	struct ofi_local *l;
	int rc;

	list_for_each (l, &o->locals, link) {
		if (l->region == r) {
			*ret_mr = l->mr;
			return 0;
		}
	}
	l = mem_calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	rc = ofi_mr_open(&l->mr, &o->ep, r->addr, r->len_bytes, FI_READ | FI_WRITE);
	if (rc == 0)
		rc = mem_region_register(r, &o->part->domain);
	if (rc < 0) {
		ofi_mr_close(l->mr);
		mem_free(l);
		return rc;
	}
	l->region = r;
	list_push_front(&o->locals, &l->link);
	*ret_mr = l->mr;
	return 0;
}

static void pieces_close(struct ofi_job *j)
{
	for (uint32_t i = 0; j->mr && i < j->x->iov_count; i++)
		ofi_mr_close(j->mr[i]);
	mem_free(j->mr);
	j->mr = NULL;
}

/* Registrations of this transfer's own: memory of no region. */
static int pieces_open(struct ofi_job *j)
{
	const struct chan_xfer *x = j->x;
	int rc = 0;

	j->mr = mem_calloc(x->iov_count, sizeof(*j->mr));
	if (!j->mr)
		return -ENOMEM;
	for (uint32_t i = 0; rc == 0 && i < x->iov_count; i++) {
		if (x->iov[i].iov_len)
			rc = ofi_mr_open(&j->mr[i], &j->o->ep, x->iov[i].iov_base,
			                 x->iov[i].iov_len, FI_READ | FI_WRITE);
	}
	return rc;
}

static int local_open(struct ofi_job *j)
{
	struct ofi *o = j->o;

	if (!o->ep.local_keys || !j->x->len)
		return 0;
	return j->x->region ? region_mr(o, j->x->region, &j->region_mr) : pieces_open(j);
}

/* --- jobs --- */

static struct ofi_job *job_get(struct ofi *o)
{
	struct list *n = list_pop(&o->jobs_spare);
	struct ofi_job *j = n ? list_entry(n, struct ofi_job, link) : mem_alloc(sizeof(*j));

	if (!j)
		return NULL;
	*j = (struct ofi_job){.ctx.kind = OFI_JOB, .o = o};
	list_init(&j->waiting);
	list_push(&o->jobs, &j->link);
	o->jobs_count++;
	return j;
}

static void job_put(struct ofi_job *j)
{
	struct ofi *o = j->o;

	pst_assert(!j->flying);
	pieces_close(j);
	ofi_mr_close(j->table_mr);
	mem_free(j->table);
	list_del(&j->waiting);
	list_del(&j->link);
	list_push_front(&o->jobs_spare, &j->link);
	o->jobs_count--;
	o->place_came = true;
}

/* A window that is being closed has nothing under way any more: the peer is told. */
static void revoked_end(struct ofi *o, uint32_t id)
{
	const struct ofi_job *j;

	list_for_each (j, &o->jobs, link)
		if (j->x->desc.region == id)
			return;
	if (ofi_answer(o, id) < 0)
		ofi_broken(o, -EPROTO);
}

static void job_end(struct ofi_job *j, int status)
{
	struct ofi *o = j->o;
	struct chan_xfer *x = j->x;
	uint32_t id = x->desc.region;
	bool revoked = j->revoked;

	job_put(j);
	if (revoked && o->ep.ep)
		revoked_end(o, id);
	x->done(x, status);
}

void ofi_jobs_end(struct ofi *o, int status)
{
	pst_assert(!o->ep.ep);
	while (!list_empty(&o->jobs)) {
		struct ofi_job *j = list_first(&o->jobs, struct ofi_job, link);

		j->flying = false;
		job_end(j, status);
	}
}

/* --- one operation --- */

/* What of the peer's window lies at @off: its key, address, and how much there is of it. */
static int remote_at(const struct ofi_job *j, uint64_t off, struct fi_rma_iov *ret_rma)
{
	const struct fabric_desc *d = &j->x->desc;

	if (!j->table) {
		*ret_rma = (struct fi_rma_iov){
		        .addr = d->addr + off, .len = d->len - off, .key = d->key};
		return 0;
	}
	for (unsigned i = 0; i < OFI_PIECES_MAX; i++) {
		const struct ofi_piece *p = &j->table->at[i];
		uint64_t len = le64_get(p->len);

		if (off < len) {
			*ret_rma = (struct fi_rma_iov){.addr = le64_get(p->addr) + off,
			                               .len = len - off,
			                               .key = le64_get(p->key)};
			return 0;
		}
		off -= len;
	}
	return -EACCES; /* it is shorter than it was said to be */
}

/* The next bytes of the local list: at most @max of them, in few enough entries. */
static uint64_t local_at(const struct ofi_job *j, uint64_t off, uint64_t max, struct iovec *iov,
                         void **desc, size_t *ret_count)
{
	const struct chan_xfer *x = j->x;
	uint64_t bytes = 0;
	size_t n = 0;

	for (uint32_t i = 0; i < x->iov_count && bytes < max && n < j->o->ep.iov_max; i++) {
		uint64_t part = x->iov[i].iov_len;
		struct fid_mr *mr = j->mr ? j->mr[i] : j->region_mr;

		if (off >= part) {
			off -= part;
			continue;
		}
		part = MIN(part - off, max - bytes);
		desc[n] = mr ? fi_mr_desc(mr) : NULL;
		iov[n++] = (struct iovec){(char *)x->iov[i].iov_base + off, part};
		bytes += part;
		off = 0;
	}
	*ret_count = n;
	return bytes;
}

static ssize_t data_post(struct ofi_job *j)
{
	struct ofi *o = j->o;
	const struct chan_xfer *x = j->x;
	struct iovec iov[OFI_IOV_MAX];
	void *desc[OFI_IOV_MAX];
	struct fi_rma_iov rma;
	struct fi_msg_rma msg = {.msg_iov = iov,
	                         .desc = desc,
	                         .addr = o->ep.peer,
	                         .rma_iov = &rma,
	                         .rma_iov_count = 1,
	                         .context = &j->ctx};
	int rc = remote_at(j, x->off + j->at, &rma);

	if (rc < 0)
		return rc;
	rma.len = local_at(j, j->at, MIN(MIN(x->len - j->at, OFI_CHUNK_BYTES), rma.len), iov, desc,
	                   &msg.iov_count);
	j->chunk = (uint32_t)rma.len;
	return j->write ? fi_writemsg(o->ep.ep, &msg, FI_COMPLETION | o->ep.done_flag)
	                : fi_readmsg(o->ep.ep, &msg, FI_COMPLETION);
}

static ssize_t table_post(struct ofi_job *j)
{
	struct ofi *o = j->o;
	const struct fabric_desc *d = &j->x->desc;
	struct iovec iov = {j->table, sizeof(*j->table)};
	void *desc = j->table_mr ? fi_mr_desc(j->table_mr) : NULL;
	struct fi_rma_iov rma = {.addr = d->addr, .len = sizeof(*j->table), .key = d->key};
	struct fi_msg_rma msg = {.msg_iov = &iov,
	                         .desc = &desc,
	                         .iov_count = 1,
	                         .addr = o->ep.peer,
	                         .rma_iov = &rma,
	                         .rma_iov_count = 1,
	                         .context = &j->ctx};

	return fi_readmsg(o->ep.ep, &msg, FI_COMPLETION);
}

/* Posts the next operation. 0; -EAGAIN: it waits for flush (O5); else the transfer has to end. */
static int job_post(struct ofi_job *j)
{
	ssize_t rc = j->phase == JOB_TABLE ? table_post(j) : data_post(j);

	j->flying = rc == 0;
	return rc == -FI_EAGAIN ? -EAGAIN : ofi_errno(rc);
}

static void job_next(struct ofi_job *j)
{
	struct ofi *o = j->o;
	int rc;

	if (j->at == j->x->len || j->revoked) {
		job_end(j, j->at == j->x->len ? 0 : -EACCES);
		return;
	}
	rc = job_post(j);
	if (rc == -EAGAIN) {
		list_push(&o->blocked, &j->waiting);
	} else if (rc < 0) {
		if (rc != -EACCES)
			ofi_broken(o, -ECONNRESET);
		job_end(j, rc == -EACCES ? rc : -ECONNRESET);
	}
}

void ofi_job_done(struct ofi_job *j, int status)
{
	struct ofi *o = j->o;

	j->flying = false;
	if (status < 0) {
		job_end(j, status);
		return;
	}
	if (j->phase == JOB_DATA)
		j->at += j->chunk;
	j->phase = JOB_DATA;
	if (o->state == OFI_CLOSING && j->at < j->x->len) {
		job_end(j, -ECANCELED);
		return;
	}
	job_next(j);
}

void ofi_jobs_flush(struct ofi *o)
{
	struct list all;

	list_init(&all);
	list_splice(&all, &o->blocked);
	while (!list_empty(&all)) {
		struct ofi_job *j = list_first(&all, struct ofi_job, waiting);

		list_del(&j->waiting);
		job_next(j);
		if (!list_empty(&j->waiting)) { /* still no room: nor for the others */
			list_splice(&o->blocked, &all);
			break;
		}
	}
}

/* --- starting --- */

static int job_table(struct ofi_job *j)
{
	struct ofi *o = j->o;

	if (!(j->x->desc.region & OFI_WINDOW_LIST))
		return 0;
	j->phase = JOB_TABLE;
	j->table = mem_calloc(1, sizeof(*j->table));
	if (!j->table)
		return -ENOMEM;
	return o->ep.local_keys
	               ? ofi_mr_open(&j->table_mr, &o->ep, j->table, sizeof(*j->table), FI_READ)
	               : 0;
}

static int job_start(struct chan *c, struct chan_xfer *x, bool write)
{
	struct ofi *o = container_of(c, struct ofi, c);
	struct ofi_job *j;
	int rc;

	loop_assert(c->loop);
	if (unlikely(!ofi_live(o)))
		return o->state == OFI_CONNECTING ? -ENOTCONN : o->status;
	rc = fabric_xfer_check(x);
	if (unlikely(rc < 0))
		return rc;
	if (unlikely(o->jobs_count == c->xfers_max)) {
		o->want_ready = true;
		return -EAGAIN;
	}
	j = job_get(o);
	if (!j)
		return -ENOMEM;
	j->x = x;
	j->write = write;
	j->revoked = ofi_revoked(o, x->desc.region);
	rc = local_open(j);
	if (rc == 0)
		rc = job_table(j);
	/* From a later turn: an empty one, and one that must fail. */
	if (rc == 0 && x->len && !j->revoked && list_empty(&o->blocked))
		rc = job_post(j);
	else if (rc == 0)
		rc = -EAGAIN;
	if (rc == -EAGAIN) {
		list_push(&o->blocked, &j->waiting);
		return 0;
	}
	if (rc < 0)
		job_put(j);
	return rc;
}

int ofi_write(struct chan *c, struct chan_xfer *x)
{
	return job_start(c, x, true);
}

int ofi_read(struct chan *c, struct chan_xfer *x)
{
	return job_start(c, x, false);
}
