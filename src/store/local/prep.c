/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * prep - the part of a mutation that may wait: which blocks a batch's array changes write, the old
 * content of those that are only partly new, and large data written to new space.
 *
 * A write of up to JOURNAL_WRITE_BLOCKS goes through the journal (jblocks). A larger one goes to
 * new space directly, but for blocks at its ends that are only partly new. Punching and resizing
 * make a jblock of a block that they cut in two. The blocks that are being prepared are locked;
 * what an earlier entry of the same batch will have done to a block counts as its old content.
 */
#include "base/iov.h"
#include "store/local/engine.h"

struct old_read { /* the old content of one block on its way into a jblock */
	struct dio dio;
	struct csum_wait wait;
	struct wreq *q;
	struct jblock *j;
	struct pst_oid oid;
	uint64_t addr;
	uint32_t csum, epoch;
	uint8_t pending;
	bool verify;
};
_Static_assert(sizeof(struct old_read) <= REQ_BYTES, "a block's read fits in a request");

struct data_write {
	struct dio dio;
	struct wreq *q;
};
_Static_assert(sizeof(struct data_write) <= REQ_BYTES, "a data write fits in a request");

static bool same_oid(struct pst_oid a, struct pst_oid b)
{
	return a.lo == b.lo && a.hi == b.hi;
}

static bool is_array(const struct pst_mut *m)
{
	return m->kind >= PST_ARRAY_WRITE && m->kind <= PST_ARRAY_RESIZE;
}

static const struct btree *live_tree(const struct wreq *q)
{
	struct cont *c = cont_find(q->shard, q->op->cont);

	return c ? &c->tree : NULL;
}

/* --- locks --- */

static struct rlock lock_of(const struct wreq *q, uint32_t i)
{
	const struct pst_mut *m = &q->mut[i];
	struct rlock k = {.cont = q->op->cont, .oid = m->oid};

	switch (m->kind) {
	case PST_ARRAY_WRITE:
	case PST_ARRAY_PUNCH:
		k.first = m->off / BLOCK_BYTES;
		k.end = DIV_ROUND_UP(m->off + m->len, BLOCK_BYTES);
		if (q->birth_limit) { /* may copy its surroundings from a snapshot */
			k.first = ALIGN_DOWN(k.first, COW_GRAIN_BLOCKS);
			k.end = ALIGN_UP(k.end, COW_GRAIN_BLOCKS);
		}
		break;
	case PST_ARRAY_APPEND:
	case PST_ARRAY_RESIZE:
	case PST_OBJ_DELETE:
		k.end = UINT64_MAX; /* where it begins is not known before the lock is held */
		break;
	default: /* keys and labels need no I/O on what is there */
		break;
	}
	return k;
}

bool rlocks_conflict(struct wreq *q)
{
	struct cont *c = cont_find(q->shard, q->op->cont);
	struct rlock *held;

	/* How far the locks reach depends on it: a snapshot may have come since those that are
	 * held were taken. */
	q->birth_limit = c ? c->newest_snap : 0;
	if (list_empty(&q->shard->rlocks))
		return false;
	for (uint32_t i = 0; i < q->count; i++) {
		struct rlock k = lock_of(q, i);

		list_for_each (held, &q->shard->rlocks, link)
			if (held->cont == k.cont && same_oid(held->oid, k.oid) &&
			    held->first < k.end && k.first < held->end)
				return true;
	}
	return false;
}

void rlocks_take(struct wreq *q)
{
	for (uint32_t i = 0; i < q->count; i++) {
		struct rlock *k = &q->lock[i];

		if (k->on)
			continue;
		*k = lock_of(q, i);
		if (k->first < k->end) {
			k->on = true;
			list_push(&q->shard->rlocks, &k->link);
		}
	}
}

void rlocks_drop(struct wreq *q)
{
	for (uint32_t i = 0; i < q->count; i++) {
		if (!q->lock[i].on)
			continue;
		q->lock[i].on = false;
		list_del(&q->lock[i].link);
		shard_kick(q->shard);
	}
}

/* --- what a block holds before entry @i --- */

enum source {
	SRC_ZERO,
	SRC_BASE, /* a jblock of an earlier entry */
	SRC_TREE,
};

static struct jblock *wmut_find(const struct wmut *w, uint64_t lblk)
{
	for (uint32_t k = 0; k < w->j_count; k++)
		if (w->j[k]->lblk == lblk)
			return w->j[k];
	return NULL;
}

static enum source source_of(const struct wreq *q, uint32_t i, uint64_t lblk,
                             struct jblock **ret_base)
{
	struct pst_oid oid = q->mut[i].oid;

	while (i--) {
		const struct pst_mut *m = &q->mut[i];
		const struct wmut *w = &q->w[i];

		if (!same_oid(m->oid, oid))
			continue;
		if (m->kind == PST_OBJ_DELETE)
			return SRC_ZERO;
		if (!is_array(m))
			continue;
		*ret_base = wmut_find(w, lblk);
		if (*ret_base)
			return SRC_BASE;
		/* A block that they cut in two has a jblock, or was a hole before and still is. */
		if (m->kind == PST_ARRAY_PUNCH && lblk >= DIV_ROUND_UP(w->off, BLOCK_BYTES) &&
		    lblk < (w->off + w->len) / BLOCK_BYTES)
			return SRC_ZERO;
		if (m->kind == PST_ARRAY_RESIZE && lblk >= DIV_ROUND_UP(w->off, BLOCK_BYTES))
			return SRC_ZERO;
	}
	return SRC_TREE;
}

/* The array's size before entry @i. */
static uint64_t size_before(const struct wreq *q, uint32_t i, struct pst_oid oid)
{
	const struct btree *t = live_tree(q);
	struct head h = {0};
	uint64_t size;

	if (t)
		head_get(t, oid, &h);
	size = h.size;
	for (uint32_t k = 0; k < i; k++) {
		const struct pst_mut *m = &q->mut[k];
		const struct wmut *w = &q->w[k];

		if (!same_oid(m->oid, oid))
			continue;
		if (m->kind == PST_OBJ_DELETE)
			size = 0;
		else if (m->kind == PST_ARRAY_RESIZE)
			size = w->off;
		else if ((m->kind == PST_ARRAY_WRITE || m->kind == PST_ARRAY_APPEND) && w->len)
			size = MAX(size, w->off + w->len);
	}
	return size;
}

/* --- reading old blocks --- */

static void io_put(struct wreq *q)
{
	if (--q->pending == 0)
		write_prepared(q);
}

static void old_put(struct old_read *o, int status)
{
	struct wreq *q = o->q;

	if (status && !q->status)
		q->status = status;
	if (--o->pending)
		return;
	if (!q->status && o->verify && crc32c(0, o->j->data, BLOCK_BYTES) != o->csum) {
		q->shard->l->stat.csum_errors++;
		q->op->ret_off = o->j->lblk * BLOCK_BYTES;
		q->status = -EIO;
		log_error("container %s object %016llx%016llx byte %llu (block %llu): the checksum "
		          "of "
		          "the block to be changed does not match",
		          cont_text(q->shard->l, q->op->cont), (unsigned long long)o->oid.hi,
		          (unsigned long long)o->oid.lo, (unsigned long long)q->op->ret_off,
		          (unsigned long long)o->addr);
	}
	reader_exit(q->shard, o->epoch);
	req_put(q->shard->l, o);
	io_put(q);
}

static void old_read_done(struct dio *d)
{
	old_put(container_of(d, struct old_read, dio), d->status);
}

static void old_csum_ready(struct csum_wait *w, int status, const struct csum_page *page,
                           const struct media_csums *base)
{
	struct old_read *o = container_of(w, struct old_read, wait);
	unsigned slot;

	geo_csum_page(&o->q->shard->l->geo, o->addr, &slot);
	if (!status)
		o->csum = le32_get(base->csum[slot]);
	old_put(o, status ? -EIO : 0);
}

/* @csum: what it should be; NULL: see its page. */
static int old_read_start(struct wreq *q, struct jblock *j, struct pst_oid oid, uint64_t addr,
                          bool nocsum, const uint32_t *csum)
{
	struct shard *s = q->shard;
	struct old_read *o = req_get_part(s->l);

	if (!o)
		return -ENOMEM;
	memset(o, 0, sizeof(*o));
	o->q = q;
	o->j = j;
	o->oid = oid;
	o->addr = addr;
	o->pending = 1;
	o->verify = !nocsum && !PLANTED(s->l, PLANT_SKIP_CHECKSUM);
	o->dio.done = old_read_done;
	o->wait.ready = old_csum_ready;
	if (csum)
		o->csum = *csum;
	if (o->verify && !csum && !csum_get(s, addr, &o->csum)) {
		int err = csum_load(s, addr, &o->wait);

		if (err) {
			req_put(s->l, o);
			return err;
		}
		o->pending++;
	}
	o->epoch = reader_enter(s);
	q->pending++;
	dio_data(s->l, &o->dio, BDEV_READ, addr, 1, j->data, NULL);
	return 0;
}

/* Brings what lies under a partly new block into its jblock: at once, or by a read. */
static int old_content(struct wreq *q, uint32_t i, struct jblock *j, bool *ret_mapped)
{
	const struct btree *t = live_tree(q);
	struct pst_oid oid = q->mut[i].oid;
	struct jblock *newest;
	struct extent e;
	struct head h = {0};

	*ret_mapped = true;
	switch (source_of(q, i, j->lblk, &j->base)) {
	case SRC_BASE:
		return 0; /* copied when that one is filled */
	case SRC_ZERO:
		break;
	case SRC_TREE:
		if (t)
			head_get(t, oid, &h);
		if (!h.exists || !extent_find(t, oid, &h, j->lblk, &e) || e.lblk > j->lblk)
			break;
		e.addr += j->lblk - e.lblk;
		newest = jrnl_find(q->shard, e.addr);
		if (!newest)
			return old_read_start(q, j, oid, e.addr, e.nocsum,
			                      h.has_csum && !j->lblk ? &h.csum : NULL);
		memcpy(j->data, newest->data, BLOCK_BYTES);
		return 0;
	}
	*ret_mapped = false;
	memset(j->data, 0, BLOCK_BYTES);
	return 0;
}

/* --- jblocks of an entry --- */

static int j_room(struct wmut *w, uint32_t more)
{
	struct jblock **j;
	uint32_t cap;

	if (w->j_count + more <= w->j_cap)
		return 0;
	cap = MAX(MAX(w->j_cap * 2, w->j_count + more), JBLOCKS_INLINE + 1);
	j = mem_alloc(cap * sizeof(*j));
	if (!j)
		return -ENOMEM;
	if (w->j_count)
		memcpy(j, w->j, w->j_count * sizeof(*j));
	if (w->j_cap > JBLOCKS_INLINE)
		mem_free(w->j);
	w->j = j;
	w->j_cap = cap;
	return 0;
}

/* No jblock: for want of memory, because there are too many, or because the op itself has too many
 * for them ever to be enough. */
static int j_refused(const struct wreq *q)
{
	uint64_t own = 0;

	if (q->shard->jrnl.allocated < q->shard->jrnl.limit)
		return -ENOMEM;
	for (uint32_t i = 0; i < q->count; i++)
		own += q->w[i].j_count;
	return own >= q->shard->jrnl.limit ? -E2BIG : -EAGAIN;
}

/* Adds block @lblk, of which [from, to) is new. */
static int j_add(struct wreq *q, uint32_t i, uint64_t lblk, uint32_t from, uint32_t to,
                 struct jblock **ret_j)
{
	struct wmut *w = &q->w[i];
	struct jblock *j;
	int err = j_room(w, 1);

	if (err)
		return err;
	j = jblock_new(q->shard);
	if (!j)
		return j_refused(q);
	j->lblk = lblk;
	j->from = (uint16_t)from;
	j->to = (uint16_t)to;
	j->full = from == 0 && to == BLOCK_BYTES;
	w->j[w->j_count++] = j;
	*ret_j = j;
	return 0;
}

static int j_add_partial(struct wreq *q, uint32_t i, uint64_t lblk, uint32_t from, uint32_t to,
                         bool only_mapped)
{
	struct wmut *w = &q->w[i];
	struct jblock *j;
	bool mapped;
	int err = j_add(q, i, lblk, from, to, &j);

	if (!err && !j->full)
		err = old_content(q, i, j, &mapped);
	else
		mapped = true;
	if (!err && only_mapped && !mapped) { /* a hole stays a hole */
		w->j_count--;
		jblock_unref(q->shard, j);
	}
	return err;
}

/* Block @lblk under the write [off, end): which bytes of it are new. */
static void new_range(uint64_t lblk, uint64_t off, uint64_t end, uint32_t *from, uint32_t *to)
{
	uint64_t start = lblk * BLOCK_BYTES;

	*from = off > start ? (uint32_t)MIN(off - start, BLOCK_BYTES) : 0;
	*to = end > start ? (uint32_t)MIN(end - start, BLOCK_BYTES) : 0;
	if (*from > *to)
		*from = *to = 0;
}

/* Is @lblk mapped to blocks that a snapshot shares? */
static bool shared_by_snapshot(const struct wreq *q, struct pst_oid oid, uint64_t lblk)
{
	const struct btree *t;
	struct extent e;
	struct head h;

	if (likely(!q->birth_limit))
		return false;
	t = live_tree(q);
	if (!t)
		return false;
	head_get(t, oid, &h);
	return h.exists && extent_find(t, oid, &h, lblk, &e) && e.lblk <= lblk &&
	       e.birth <= q->birth_limit;
}

/* [off, end) through the journal; [lo, hi): blocks that may be copied along. */
static int prep_journaled(struct wreq *q, uint32_t i, uint64_t off, uint64_t end, uint64_t lo,
                          uint64_t hi)
{
	uint64_t first = off / BLOCK_BYTES, last = DIV_ROUND_UP(end, BLOCK_BYTES);
	uint64_t from_blk = first, to_blk = last;
	int err = 0;

	/* What a snapshot shares is copied in larger units, so that it does not shatter the index.
	 */
	if (shared_by_snapshot(q, q->mut[i].oid, first))
		from_blk = ALIGN_DOWN(first, COW_GRAIN_BLOCKS);
	if (shared_by_snapshot(q, q->mut[i].oid, last - 1))
		to_blk = ALIGN_UP(last, COW_GRAIN_BLOCKS);
	if (to_blk - from_blk > q->shard->log.data_max) { /* on a small log, only what must be */
		from_blk = first;
		to_blk = last;
	}
	from_blk = MAX(from_blk, lo);
	to_blk = MIN(to_blk, hi);
	for (uint64_t b = from_blk; b < to_blk && !err; b++) {
		uint32_t from, to;
		bool around = b < first || b >= last;

		if (around && !shared_by_snapshot(q, q->mut[i].oid, b))
			continue;
		new_range(b, off, end, &from, &to);
		err = j_add_partial(q, i, b, from, to, around);
	}
	return err;
}

/* --- large data to new space --- */

static void data_written(struct dio *d)
{
	struct data_write *dw = container_of(d, struct data_write, dio);
	struct wreq *q = dw->q;

	if (d->status && !q->status)
		q->status = d->status;
	req_put(q->shard->l, dw);
	io_put(q);
}

static int data_write(struct wreq *q, uint64_t addr, uint32_t blocks, void *buf,
                      struct mem_region *region)
{
	struct data_write *dw = req_get_part(q->shard->l);

	if (!dw)
		return -ENOMEM;
	memset(&dw->dio, 0, offsetof(struct dio, first));
	dw->q = q;
	dw->dio.done = data_written;
	dw->dio.commits = true;
	q->pending++;
	dio_data(q->shard->l, &dw->dio, BDEV_WRITE, addr, blocks, buf, region);
	return 0;
}

/* No space now: is some on its way? */
static int no_space(struct shard *s)
{
	if (s->space.data.count) {
		log_want_mark(s);
		return -EAGAIN;
	}
	if (s->space.meta_next.blocks > s->l->geo.region_blocks / 4 || s->ckpt.state != CKPT_IDLE) {
		ckpt_want(s);
		return -EAGAIN;
	}
	return refuse(s->l, PST_SCARCE_DATA);
}

static int runs_alloc(struct wreq *q, struct wmut *w, uint32_t blocks, uint32_t runs_max)
{
	struct shard *s = q->shard;
	uint32_t cap = RUNS_INLINE;

	w->run = w->run_inline;
	while (blocks) {
		uint64_t addr;
		uint32_t n;

		if (w->run_count == runs_max)
			return refuse(s->l, PST_SCARCE_DATA);
		if (w->run_count == cap) {
			struct run *more = mem_alloc(cap * 2 * sizeof(*more));

			if (!more)
				return -ENOMEM;
			memcpy(more, w->run, cap * sizeof(*more));
			if (w->run != w->run_inline)
				mem_free(w->run);
			w->run = more;
			cap *= 2;
		}
		n = space_alloc(s, SPACE_DATA, blocks, &addr);
		if (!n)
			return no_space(s);
		w->run[w->run_count++] = (struct run){addr, n};
		blocks -= n;
	}
	return 0;
}

static void gather(const struct pst_mut *m, uint64_t skip, uint8_t *to, uint64_t len)
{
	const struct iovec one = {(void *)m->val, m->val_len};

	iov_gather(to, m->iov ? m->iov : &one, m->iov ? m->iov_count : 1, skip, len);
}

/* The caller's memory, when the device can take the blocks from it as they lie there. */
static uint8_t *direct_source(const struct wreq *q, const struct pst_mut *m, uint64_t skip)
{
	const uint8_t *base = m->iov ? (m->iov_count == 1 ? m->iov[0].iov_base : NULL) : m->val;

	if (!base || !IS_ALIGNED((uintptr_t)(base + skip), q->shard->l->mem_align))
		return NULL;
	return (uint8_t *)base + skip;
}

static int prep_direct(struct wreq *q, uint32_t i, uint64_t first, uint32_t blocks)
{
	const struct pst_mut *m = &q->mut[i];
	struct wmut *w = &q->w[i];
	uint64_t skip = first * BLOCK_BYTES - w->off, len = (uint64_t)blocks * BLOCK_BYTES;
	struct mem_region *region = q->op->opcode == PST_OP_WRITE ? q->op->region : NULL;
	uint8_t *src = direct_source(q, m, skip);
	int err;

	w->csum = mem_alloc(blocks * sizeof(*w->csum));
	if (!w->csum)
		return -ENOMEM;
	if (!src) {
		src = w->bounce = mem_alloc_aligned(BLOCK_BYTES, len);
		region = NULL;
		if (!src)
			return -ENOMEM;
		gather(m, skip, src, len);
	}
	err = runs_alloc(q, w, blocks, UINT32_MAX);
	if (err)
		return err;
	w->direct_first = first;
	w->direct_blocks = blocks;
	for (uint32_t k = 0; k < w->run_count && !err; k++) {
		err = data_write(q, w->run[k].addr, w->run[k].blocks, src, region);
		src += (size_t)w->run[k].blocks * BLOCK_BYTES;
	}
	/* While the device works. */
	src -= len;
	if (q->op->opcode == PST_OP_WRITE && q->op->csum && !skip)
		memcpy(w->csum, q->op->csum, blocks * sizeof(*w->csum));
	else
		for (uint32_t k = 0; k < blocks && !err; k++)
			w->csum[k] =
			        crc32c_piece(src + (size_t)k * BLOCK_BYTES, k == 0, k + 1 < blocks);
	return err;
}

/* --- entries --- */

/* Does another array entry of the batch touch the same object? Then all of them are journaled,
 * since the later ones need the earlier ones' content. */
static bool shares_object(const struct wreq *q, uint32_t i)
{
	for (uint32_t k = 0; k < q->count; k++)
		if (k != i && is_array(&q->mut[k]) && same_oid(q->mut[k].oid, q->mut[i].oid))
			return true;
	return false;
}

static int prep_write(struct wreq *q, uint32_t i)
{
	const struct pst_mut *m = &q->mut[i];
	struct wmut *w = &q->w[i];
	uint64_t end, first, last;
	int err = 0;

	w->len = m->len;
	w->off = m->kind == PST_ARRAY_APPEND ? size_before(q, i, m->oid) : m->off;
	if (w->off > PST_OBJECT_MAX - w->len)
		return -EFBIG;
	if (!w->len)
		return 0;
	end = w->off + w->len;
	first = DIV_ROUND_UP(w->off, BLOCK_BYTES);
	last = end / BLOCK_BYTES;
	if (last <= first + JOURNAL_WRITE_BLOCKS || (q->count > 1 && shares_object(q, i)))
		return prep_journaled(q, i, w->off, end, 0, UINT64_MAX);
	if (w->off % BLOCK_BYTES)
		err = prep_journaled(q, i, w->off, first * BLOCK_BYTES, 0, first);
	if (!err)
		err = prep_direct(q, i, first, (uint32_t)(last - first));
	if (!err && end % BLOCK_BYTES)
		err = prep_journaled(q, i, last * BLOCK_BYTES, end, last, UINT64_MAX);
	return err;
}

/* A block that is cut at @from..@to becomes zero there; holes stay. */
static int prep_cut(struct wreq *q, uint32_t i, uint64_t off, uint64_t end)
{
	uint32_t from, to;

	new_range(off / BLOCK_BYTES, off, end, &from, &to);
	return from == to ? 0 : j_add_partial(q, i, off / BLOCK_BYTES, from, to, true);
}

static int prep_punch(struct wreq *q, uint32_t i)
{
	const struct pst_mut *m = &q->mut[i];
	struct wmut *w = &q->w[i];
	uint64_t end = m->off + m->len, cut = ALIGN_UP(m->off, BLOCK_BYTES);
	int err = 0;

	w->off = m->off;
	w->len = m->len;
	if (m->off % BLOCK_BYTES)
		err = prep_cut(q, i, m->off, MIN(end, cut));
	if (!err && end % BLOCK_BYTES && (end > cut || m->off % BLOCK_BYTES == 0))
		err = prep_cut(q, i, MAX(ALIGN_DOWN(end, BLOCK_BYTES), m->off), end);
	return err;
}

static int prep_resize(struct wreq *q, uint32_t i)
{
	const struct pst_mut *m = &q->mut[i];

	q->w[i].off = m->off;
	if (m->off % BLOCK_BYTES && m->off < size_before(q, i, m->oid))
		return prep_cut(q, i, m->off, ALIGN_UP(m->off, BLOCK_BYTES));
	return 0;
}

/* A value too large for the index. */
static int prep_value(struct wreq *q, uint32_t i)
{
	const struct pst_mut *m = &q->mut[i];
	struct wmut *w = &q->w[i];
	uint32_t blocks = (uint32_t)DIV_ROUND_UP(m->val_len, BLOCK_BYTES);
	uint8_t *at;
	int err;

	if (m->val_len < BT_VALUE_MAX)
		return 0;
	w->bounce = mem_alloc_aligned(BLOCK_BYTES, (size_t)blocks * BLOCK_BYTES);
	if (!w->bounce)
		return -ENOMEM;
	memcpy(w->bounce, m->val, m->val_len);
	err = runs_alloc(q, w, blocks, OUTVAL_EXTENTS_MAX);
	if (err)
		return err;
	w->out.len = le32_make(m->val_len);
	w->out.extents = le16_make((uint16_t)w->run_count);
	w->out.crc = le32_make(crc32c(0, m->val, m->val_len));
	at = w->bounce;
	for (uint32_t k = 0; k < w->run_count && !err; k++) {
		put48(w->out.extent[k].addr, w->run[k].addr);
		w->out.extent[k].blocks = le16_make((uint16_t)w->run[k].blocks);
		err = data_write(q, w->run[k].addr, w->run[k].blocks, at, NULL);
		at += (size_t)w->run[k].blocks * BLOCK_BYTES;
	}
	w->has_out = true;
	return err;
}

static int prep_one(struct wreq *q, uint32_t i)
{
	switch (q->mut[i].kind) {
	case PST_ARRAY_WRITE:
	case PST_ARRAY_APPEND:
		return prep_write(q, i);
	case PST_ARRAY_PUNCH:
		return prep_punch(q, i);
	case PST_ARRAY_RESIZE:
		return prep_resize(q, i);
	case PST_KV_PUT:
		return prep_value(q, i);
	default:
		return 0;
	}
}

int prep_start(struct wreq *q)
{
	int err = 0;

	q->pending = 1; /* ours */
	for (uint32_t i = 0; i < q->count && !err; i++)
		err = prep_one(q, i);
	if (q->pending == 1) {
		q->pending = 0;
		return err;
	}
	/* What is under way must end before anything can be given back. */
	if (err && !q->status)
		q->status = err;
	rlocks_take(q);
	q->pending--;
	return -EINPROGRESS;
}

void prep_undo(struct wreq *q)
{
	for (uint32_t i = 0; i < q->count; i++) {
		struct wmut *w = &q->w[i];

		for (uint32_t k = 0; k < w->j_count; k++)
			jblock_unref(q->shard, w->j[k]);
		for (uint32_t k = 0; k < w->run_count; k++)
			space_give_back(q->shard, SPACE_DATA, w->run[k].addr, w->run[k].blocks);
		if (w->run && w->run != w->run_inline)
			mem_free(w->run);
		if (w->j_cap > JBLOCKS_INLINE)
			mem_free(w->j);
		mem_free(w->csum);
		mem_free(w->bounce);
	}
}

void prep_reset(struct wreq *q)
{
	prep_undo(q);
	memset(q->w, 0, q->count * sizeof(*q->w));
	if (q->w == &q->one_w) {
		q->one_w.j = q->one_j;
		q->one_w.j_cap = JBLOCKS_INLINE;
	}
}

/* All old content is here: the new bytes go over it, in the order of the batch. */
void prep_fill(struct wreq *q)
{
	for (uint32_t i = 0; i < q->count; i++) {
		const struct pst_mut *m = &q->mut[i];
		struct wmut *w = &q->w[i];
		bool zero = m->kind == PST_ARRAY_PUNCH || m->kind == PST_ARRAY_RESIZE;

		for (uint32_t k = 0; k < w->j_count; k++) {
			struct jblock *j = w->j[k];

			if (j->base)
				memcpy(j->data, j->base->data, BLOCK_BYTES);
			if (zero)
				memset(j->data + j->from, 0, j->to - j->from);
			else if (j->from < j->to)
				gather(m, j->lblk * BLOCK_BYTES + j->from - w->off,
				       j->data + j->from, j->to - j->from);
			j->csum = crc32c(0, j->data, BLOCK_BYTES);
		}
	}
}
