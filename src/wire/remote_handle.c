/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * remote_handle - what a client knows of inodes beyond their numbers: their handles, which the server
 * gives where a number is not enough, and how often each was opened.
 *
 * Ops name inodes by number, here as everywhere. An answer that tells a number may bring the
 * inode's handle: it is kept, and shown with each request that names the inode from then on. Handles of
 * inodes that aren't open are kept as long as there is room.
 *
 * A session holds an inode open or it doesn't (src/session/held.c), so opens are counted here. Rules:
 *  1. Only the last FILE_CLOSE of an inode is sent. count is 0 from then on.
 *  2. A FILE_OPEN by name may be executed before or after a FILE_CLOSE of what it names that is under
 *     way, too. Where that could have been, it is confirmed: the inode is opened once more, by
 *     number, after the answer to the FILE_CLOSE. closed_at[] remembers when FILE_CLOSEs were sent, by
 *     a hash of the inode: a false alarm costs one request.
 *  3. A server that was restarted, or that has heard nothing for a while, has let go of what was
 *     open: all of it is opened again, by number and with its handle (tasks), before the server
 *     collects what has no name (fs.h). What is gone then is lost: its ops end with ESTALE.
 *  4. A handle that has expired is renewed by a task; requests that need it wait for that.
 *
 * Tasks have requests of their own, so that what waits for them can't keep them from running.
 */
#include "fs/fs.h"
#include "wire/remote_int.h"

#define BUCKETS     8192u
#define IDLE_MAX    65536u /* handles of inodes that are not open */
#define REOPENS_MAX 16     /* of one FILE_OPEN: more is not chance */
#define FAILED_NS   NSEC_PER_SEC

struct rhandle {
	struct list hash, link; /* bucket; held or idle */
	struct list due;        /* rm->h.due */
	uint64_t ino, view;
	uint32_t cont;
	uint32_t count; /* FILE_OPENs answered, and not closed */
	bool is_held;   /* in the list of those */
	bool has;       /* bytes are its handle */
	bool closing;   /* its FILE_CLOSE is under way */
	bool reopen;    /* 3. */
	bool stale;     /* 4. */
	bool busy;      /* a task has it */
	int lost;       /* why it can't be had any more, or for now */
	uint64_t lost_until_ns;
	uint8_t bytes[WIRE_HANDLE_BYTES];
};

static struct list *bucket_of(const struct remote *rm, uint32_t cont, uint64_t view, uint64_t ino)
{
	return &rm->h.buckets[hash_u64(ino ^ (uint64_t)cont << 40 ^ view * 31) % BUCKETS];
}

static struct rhandle *find(const struct remote *rm, uint32_t cont, uint64_t view, uint64_t ino)
{
	struct list *b;
	struct rhandle *h;

	if (!rm->h.buckets || !ino)
		return NULL;
	b = bucket_of(rm, cont, view, ino);
	list_for_each (h, b, hash)
		if (h->ino == ino && h->cont == cont && h->view == view)
			return h;
	return NULL;
}

static struct rhandle *of_op(const struct rreq *r)
{
	const struct pst_op *op = r->op;

	return find(r->rm, op->cont, op->view, r->confirm ? r->confirm : op->ino);
}

/* --- the table --- */

int handles_alloc(struct remote *rm)
{
	list_init(&rm->h.held);
	list_init(&rm->h.idle);
	list_init(&rm->h.due);
	rm->h.buckets = mem_calloc(BUCKETS, sizeof(*rm->h.buckets));
	if (!rm->h.buckets)
		return -ENOMEM;
	for (unsigned i = 0; i < BUCKETS; i++)
		list_init(&rm->h.buckets[i]);
	return 0;
}

static void forget(struct remote *rm, struct rhandle *h)
{
	pst_assert_slow(!h->busy);
	rm->h.known -= h->has;
	rm->h.stale -= h->stale;
	rm->h.idle_count -= !h->is_held;
	list_del(&h->hash);
	list_del(&h->link);
	list_del(&h->due);
	mem_free(h);
}

void handles_free(struct remote *rm)
{
	struct list *lists[] = {&rm->h.held, &rm->h.idle};

	for (unsigned i = 0; rm->h.buckets && i < ARRAY_LEN(lists); i++)
		while (!list_empty(lists[i]))
			forget(rm, list_first(lists[i], struct rhandle, link));
	mem_free(rm->h.buckets);
}

static struct rhandle *enter(struct remote *rm, struct rhandle *h, uint32_t cont, uint64_t view,
                             uint64_t ino)
{
	if (!h)
		h = mem_calloc(1, sizeof(*h));
	if (!h)
		return NULL;
	h->cont = cont;
	h->view = view;
	h->ino = ino;
	list_init(&h->due);
	list_push_front(bucket_of(rm, cont, view, ino), &h->hash);
	list_push(&rm->h.idle, &h->link);
	rm->h.idle_count++;
	return h;
}

static void set_stale(struct remote *rm, struct rhandle *h, bool stale)
{
	rm->h.stale += stale - h->stale;
	h->stale = stale;
}

static void set_bytes(struct remote *rm, struct rhandle *h, const uint8_t *bytes)
{
	rm->h.known += !h->has;
	h->has = true;
	h->lost = 0;
	memcpy(h->bytes, bytes, sizeof(h->bytes));
}

/* It is open, or not any more; what there is no room for is forgotten. */
static void settle(struct remote *rm, struct rhandle *h)
{
	bool held = h->count || h->closing || h->busy;

	if (!held && !h->has) {
		forget(rm, h);
		return;
	}
	if (held != h->is_held) {
		h->is_held = held;
		list_del(&h->link);
		list_push(held ? &rm->h.held : &rm->h.idle, &h->link);
		rm->h.idle_count += held ? -1u : 1u;
	}
	if (rm->h.idle_count > IDLE_MAX)
		forget(rm, list_first(&rm->h.idle, struct rhandle, link));
}

static void remember(struct remote *rm, uint32_t cont, uint64_t view, uint64_t ino,
                     const uint8_t *bytes)
{
	struct rhandle *h = find(rm, cont, view, ino);

	h = h ? h : enter(rm, NULL, cont, view, ino);
	if (!h)
		return; /* its number will not be enough, then */
	set_bytes(rm, h, bytes);
	settle(rm, h);
}

void handles_entry(struct rreq *r, const struct wire_entry *e)
{
	remember(r->rm, r->op->cont, r->op->view, e->e.id, e->handle);
}

/* --- tasks: what has to be opened or renewed --- */

static void want_task(struct remote *rm, struct rhandle *h)
{
	if (!h->busy && list_empty(&h->due))
		list_push(&rm->h.due, &h->due);
}

/* May it be tried again a little later? */
static bool for_now(int status)
{
	return status == -EAGAIN || status == -ENOMEM || status == -ENFILE || status == -EIO ||
	       status == -ETIMEDOUT || status == -ECANCELED || status == -ECONNRESET ||
	       status == -ECONNREFUSED;
}

static void task_failed(struct remote *rm, struct rhandle *h, int status, bool answered)
{
	if ((for_now(status) || !answered) && !rm->closing) {
		want_task(rm, h);
		return;
	}
	if (h->reopen)
		log_warn("inode %llu, which was open, is lost: %s", (unsigned long long)h->ino,
		         strerror(-status));
	h->lost = h->reopen && status != -EKEYREVOKED && status != -EKEYEXPIRED ? -ESTALE : status;
	h->lost_until_ns = h->reopen ? UINT64_MAX : loop_now(rm->loop) + FAILED_NS;
	rm->h.any_lost |= h->reopen;
	h->reopen = false;
	set_stale(rm, h, false);
}

static void task_done(struct pst_op *op)
{
	struct rtask *t = container_of(op, struct rtask, op);
	struct rhandle *h = t->h;
	struct remote *rm = t->r->rm;

	t->h = NULL;
	h->busy = false;
	if (op->status < 0) {
		task_failed(rm, h, op->status, t->r->answered); /* the next tick tries again */
		settle(rm, h);
		return;
	}
	h->reopen = false;
	h->lost = 0;
	set_stale(rm, h, false);
	settle(rm, h);
	handles_pump(rm);
}

static void task_start(struct remote *rm, struct rtask *t, struct rhandle *h)
{
	list_del(&h->due);
	h->busy = true;
	t->h = h;
	t->op = (struct pst_op){.opcode = h->count && !h->view ? PST_OP_FILE_OPEN : PST_OP_GETATTR,
	                        .cont = h->cont,
	                        .view = h->view,
	                        .ino = h->ino,
	                        .done = task_done};
	settle(rm, h);
	rreq_take(t->r, &t->op);
	list_push_front(&rm->wait, &t->r->wait);
}

void handles_pump(struct remote *rm)
{
	if (likely(list_empty(&rm->h.due)) || rm->closing || rm->state != REMOTE_UP)
		return;
	for (unsigned i = 0; i < REMOTE_TASKS && !list_empty(&rm->h.due); i++) {
		struct rtask *t = &rm->h.task[i];

		/* Its request may wait for the answer to one that was given up. */
		if (!t->h && t->r->state == RREQ_FREE)
			task_start(rm, t, list_first(&rm->h.due, struct rhandle, due));
	}
	remote_pump(rm);
}

bool handles_is_task(const struct remote *rm, const struct pst_op *op)
{
	uintptr_t at = (uintptr_t)op, from = (uintptr_t)rm->h.task;

	return at >= from && at < from + sizeof(rm->h.task);
}

void handles_resumed(struct remote *rm, bool same_session, bool let_go)
{
	struct rhandle *h, *tmp;

	if (!same_session) {
		/* Handles are good for their session only. */
		list_for_each_safe (h, tmp, &rm->h.idle, link)
			forget(rm, h);
		list_for_each (h, &rm->h.held, link) {
			rm->h.known -= h->has;
			h->has = false;
		}
	}
	list_for_each (h, &rm->h.held, link) {
		if (!h->count || h->view || h->lost || !(let_go || !same_session))
			continue;
		h->reopen = true;
		want_task(rm, h);
	}
	handles_pump(rm);
}

/* --- requests, on their way --- */

/* FILE_OPEN, and CREATE without a name: the session holds what it is about. */
static bool holds(const struct pst_op *op)
{
	return op->opcode == PST_OP_FILE_OPEN || (op->opcode == PST_OP_CREATE && !op->name_len);
}

bool handles_close_here(struct remote *rm, const struct pst_op *op)
{
	struct rhandle *h = find(rm, op->cont, op->view, op->ino);

	if (!h || h->count < 2)
		return false;
	h->count--; /* 1. */
	return true;
}

int handles_submit(struct rreq *r)
{
	struct rhandle *h;

	if (holds(r->op)) {
		r->fresh = mem_calloc(1, sizeof(*r->fresh));
		return r->fresh ? 0 : -ENOMEM;
	}
	h = r->op->opcode == PST_OP_FILE_CLOSE ? of_op(r) : NULL;
	if (h && h->count) {
		h->count = 0;
		h->closing = r->closes = true;
		list_del(&h->due);
	}
	return 0;
}

bool handles_must_wait(const struct rreq *r)
{
	const struct rhandle *h;

	if (likely(!r->closes && !r->confirm && !r->rm->h.stale))
		return false;
	if (handles_is_task(r->rm, r->op))
		return false;
	if (r->closes) {
		h = of_op(r);
		return h && h->busy;
	}
	if (r->confirm) {
		h = of_op(r);
		return h && (h->closing || h->stale);
	}
	if (!(wire_op_of(r->op->opcode)->is & WIRE_OP_INODE) || !r->op->ino)
		return false;
	h = of_op(r);
	return h && h->stale;
}

/* What is shown with it: r->shown and rm->handle. 0, -EAGAIN (it waits), or how it ends. */
int handles_show(struct rreq *r)
{
	struct remote *rm = r->rm;
	struct rhandle *h = of_op(r);

	if (!h || fs_ino_kind(h->ino) == FS_KIND_DIR)
		return 0;
	if (!handles_is_task(rm, r->op)) {
		if (h->lost && loop_now(rm->loop) < h->lost_until_ns)
			return h->lost;
		if (h->stale)
			return -EAGAIN;
	}
	r->shown = h->has;
	if (h->has)
		memcpy(rm->handle, h->bytes, sizeof(rm->handle));
	return 0;
}

/* It goes out for the first time. */
void handles_sent(struct rreq *r)
{
	const struct pst_op *op = r->op;

	if (op->opcode == PST_OP_FILE_OPEN)
		r->open_mark = r->rm->h.closes;
	else if (op->opcode == PST_OP_FILE_CLOSE)
		r->rm->h.closed_at[hash_u64(op->ino) % REMOTE_CLOSES] = ++r->rm->h.closes;
}

/* --- requests, on their way back --- */

static void closed(struct rreq *r, int status)
{
	struct rhandle *h = of_op(r);

	r->closes = false;
	if (!h)
		return;
	h->closing = false;
	/* It stays open: whoever closes it may try again. */
	if (status && status != -ESTALE && status != -ENOENT && status != -EBADF)
		h->count++;
	settle(r->rm, h);
}

/* A FILE_CLOSE may have come between: 2. */
static bool may_be_closed(const struct rreq *r, const struct rhandle *h)
{
	return h->closing || (r->op->opcode == PST_OP_FILE_OPEN && !h->view &&
	                      r->rm->h.closed_at[hash_u64(h->ino) % REMOTE_CLOSES] > r->open_mark);
}

/* True: it goes on. */
static bool opened(struct rreq *r)
{
	struct remote *rm = r->rm;
	struct rhandle *h = find(rm, r->op->cont, r->op->view, r->resp.word);

	if (r->confirm) { /* it was counted before */
		r->confirm = 0;
		if (h && r->got)
			set_bytes(rm, h, r->handle);
		return false;
	}
	if (!h) {
		h = enter(rm, r->fresh, r->op->cont, r->op->view, r->resp.word);
		r->fresh = NULL;
	}
	h->count++;
	h->lost = 0;
	if (r->got)
		set_bytes(rm, h, r->handle);
	settle(rm, h);
	if (!may_be_closed(r, h))
		return false;
	r->confirm = h->ino;
	rreq_anew(r);
	return true;
}

static void uncount(struct rreq *r)
{
	struct rhandle *h = of_op(r);

	r->confirm = 0;
	if (!h || !h->count)
		return;
	h->count--;
	settle(r->rm, h);
}

/* The file was closed for good, and gone, before it was opened again: what has its name now? */
static bool open_failed(struct rreq *r, int status)
{
	uncount(r);
	if (status != -ESTALE || !r->op->name_len || ++r->reopens > REOPENS_MAX)
		return false;
	r->fresh = r->fresh ? r->fresh : mem_calloc(1, sizeof(*r->fresh));
	if (!r->fresh)
		return false;
	rreq_anew(r);
	return true;
}

static bool expired(struct rreq *r)
{
	struct rhandle *h = of_op(r);

	if (!h || ++r->reopens > REOPENS_MAX)
		return false;
	set_stale(r->rm, h, true);
	want_task(r->rm, h);
	rreq_anew(r);
	handles_pump(r->rm);
	return true;
}

bool handles_answered(struct rreq *r)
{
	struct remote *rm = r->rm;
	const struct pst_op *op = r->op;
	int status = r->resp.status;

	if (handles_is_task(rm, op)) {
		if (!status && r->got)
			set_bytes(rm, container_of(op, struct rtask, op)->h, r->handle);
		return false;
	}
	if (r->closes) {
		closed(r, status);
		return false;
	}
	if (status == -EKEYEXPIRED && r->shown)
		return expired(r);
	if (status)
		return r->confirm && open_failed(r, status);
	if (holds(op))
		return opened(r);
	if (r->got)
		remember(rm, op->cont, op->view, r->resp.word, r->handle);
	return false;
}

void handles_left(struct rreq *r)
{
	if (r->op && r->closes)
		closed(r, -ETIMEDOUT);
	if (r->op && r->confirm)
		uncount(r);
	mem_free(r->fresh);
	r->fresh = NULL;
}
