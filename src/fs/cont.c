/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cont - what the layer has to see to in a container before names ops run there: the root exists,
 * orphans of the run before are gone, and there are inode numbers to give out.
 *
 * A container of layout object gets no root: ops that change names end with -ENOTSUP, those that read
 * find nothing. (Where there is a tree all the same, which earlier versions made, it can be used.)
 *
 * The first op in a container gets it ready, others wait for it. If that fails (a store that is
 * full or stopped), an op that changes something fails with it, and one that reads goes on: it
 * finds what is there. In the time of grace (fs.h) orphans stay; the first op after it deletes them.
 */
#include "fs_int.h"

#define RETRY_NS NSEC_PER_SEC

static struct fs_cont *cont_find(struct fs *fs, uint32_t id)
{
	struct fs_cont *c;

	if (fs->last_cont && fs->last_cont->id == id)
		return fs->last_cont;
	list_for_each (c, &fs->conts, link) {
		if (c->id == id) {
			list_del(&c->link);
			list_push_front(&fs->conts, &c->link);
			fs->last_cont = c;
			return c;
		}
	}
	return NULL;
}

static struct fs_cont *cont_get(struct fs *fs, uint32_t id)
{
	struct fs_cont *c = cont_find(fs, id);

	if (c)
		return c;
	c = mem_calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->id = id;
	list_init(&c->prepare_waiters);
	list_init(&c->ino_waiters);
	list_init(&c->move_waiters);
	list_init(&c->turn_waiters);
	list_push_front(&fs->conts, &c->link);
	fs->last_cont = c;
	return c;
}

void fs_cont_leave(struct fs_req *r)
{
	struct fs_cont *c = r->cont;

	r->cont = NULL;
	if (--c->users || !c->missing)
		return;
	list_del(&c->link);
	if (r->fs->last_cont == c)
		r->fs->last_cont = NULL;
	mem_free(c);
}

void fs_conts_free(struct fs *fs)
{
	struct list *l;

	while ((l = list_pop(&fs->conts)))
		mem_free(list_entry(l, struct fs_cont, link));
}

/* --- the root --- */

static fs_step prepare_root, prepare_layout, prepare_make, prepare_made, prepare_list, prepare_reap,
        prepare_reaped, enter_again;

static enum fs_act prepare_end(struct fs_req *r, int status)
{
	struct fs_cont *c = r->cont;
	bool late = c->ready; /* it is about orphans only */

	c->preparing = false;
	c->ready |= !status;
	c->reap_due |= late && status;
	c->missing = status == -ENOENT;
	fs_wake_all(r->fs, &c->prepare_waiters);
	if (!status)
		return fs_goto(r, r->cont_then);
	/* Its own end, which says nothing of the container: others try at once. */
	if (status == -ECANCELED || status == -ETIMEDOUT)
		return fs_end(r, status);
	c->retry_at_ns = loop_now(r->fs->store.loop) + RETRY_NS;
	if ((r->mutates && !late) || c->missing)
		return fs_end(r, status);
	/* A store opened read-only after a crash keeps its orphans: nothing to worry anyone with.
	 */
	log_line(status == -EROFS ? PST_LOG_DEBUG : PST_LOG_WARN,
	         "fs: container %u could not be made ready (%s): reading goes on", c->id,
	         strerror(-status));
	return fs_goto(r, r->cont_then);
}

static enum fs_act prepare(struct fs_req *r)
{
	r->cont->preparing = true;
	r->tries = 0;
	fs_sub(r, PST_OP_STAT, PST_INO_ROOT)->stat = &r->node[FS_N_MAIN].st;
	r->next = prepare_root;
	return FS_SUB;
}

static struct pst_cont_info *cont_info(struct fs_req *r)
{
	_Static_assert(sizeof(struct pst_cont_info) <= sizeof(r->buf[0]), "it fits");
	return (struct pst_cont_info *)(void *)r->buf[0];
}

static enum fs_act prepare_root(struct fs_req *r)
{
	if (r->sub.status)
		return prepare_end(r, r->sub.status);
	if (r->node[FS_N_MAIN].st.exists)
		return prepare_list(r);
	fs_sub(r, PST_OP_CONT_GET, FS_INO_BOOK)->cont_info = cont_info(r);
	r->next = prepare_layout;
	return FS_SUB;
}

/* A tree beside somebody's objects would be in their way, and they in its. */
static enum fs_act prepare_layout(struct fs_req *r)
{
	struct fs_cont *c = r->cont;

	if (r->sub.status)
		return prepare_end(r, r->sub.status);
	if (cont_info(r)->layout != PST_LAYOUT_OBJECT)
		return prepare_make(r);
	c->objects = true;
	c->preparing = false;
	fs_wake_all(r->fs, &c->prepare_waiters);
	return enter_again(r);
}

static enum fs_act prepare_make(struct fs_req *r)
{
	struct fs_node *n = &r->node[FS_N_MAIN];
	struct fs_label *l = &n->label;
	uint64_t now = loop_real_now(r->fs->store.loop);

	n->ino = PST_INO_ROOT;
	*l = (struct fs_label){.mode = S_IFDIR | 0755, .nlink = 2, .parent = PST_INO_ROOT};
	l->atime_ns = l->ctime_ns = l->btime_ns = now;
	fs_batch(r);
	fs_if_key(r, PST_IF_OBJ_ABSENT, n->ino, NULL, 0, -FS_CHANGED);
	fs_set_label(r, n);
	fs_set_mtime(r, n->ino, now);
	return fs_commit_own(r, prepare_made);
}

static enum fs_act prepare_made(struct fs_req *r)
{
	if (r->sub.status && r->sub.status != -FS_CHANGED) /* changed: it is there now */
		return prepare_end(r, r->sub.status);
	return prepare_list(r);
}

/* --- orphans --- */

static uint64_t *reap_list(struct fs_req *r)
{
	return (uint64_t *)(void *)r->buf;
}

static bool reap_entry(struct pst_op *sub, const struct pst_entry *e)
{
	struct fs_req *r = container_of(sub, struct fs_req, sub);
	uint64_t be;

	if (e->name_len != 1 + sizeof(be))
		return true;
	memcpy(&be, (const char *)e->name + 1, sizeof(be));
	reap_list(r)[r->buf_len++] = be64toh(be);
	memcpy(r->orphan_key[0], e->name, e->name_len);
	return r->buf_len < FS_REAP_MAX;
}

/* Those behind the last ones. */
static enum fs_act reap_more(struct fs_req *r)
{
	static const char prefix = FS_KEY_ORPHAN;
	struct pst_op *sub = fs_sub(r, PST_OP_KV_LIST, FS_INO_BOOK);

	sub->key = &prefix;
	sub->key_len = 1;
	sub->start = r->buf_len ? r->orphan_key[0] : NULL;
	sub->start_len = sizeof(r->orphan_key[0]);
	sub->entry = reap_entry;
	r->buf_len = 0;
	r->next = prepare_reap;
	return FS_SUB;
}

static enum fs_act prepare_list(struct fs_req *r)
{
	r->cont->reap_due = fs_in_grace(r->fs);
	if (r->cont->reap_due)
		return prepare_end(r, 0);
	r->buf_len = 0;
	return reap_more(r);
}

static enum fs_act prepare_reap(struct fs_req *r)
{
	uint8_t(*key)[9] = (void *)(r->buf[1]);
	struct fs_cont *c = r->cont;
	uint64_t be;

	if (r->sub.status || !r->buf_len)
		return prepare_end(r, r->sub.status);
	fs_batch(r);
	for (uint32_t i = 0; i < r->buf_len; i++) {
		if (fs_open_find(r->fs, c->id, reap_list(r)[i]))
			continue; /* it was opened again, or somebody is at it */
		fs_mark(r->fs, &c->reaped[c->reaped_count++], c->id, reap_list(r)[i]);
		be = htobe64(reap_list(r)[i]);
		key[i][0] = FS_KEY_ORPHAN;
		memcpy(&key[i][1], &be, sizeof(be));
		fs_delete(r, reap_list(r)[i]);
		fs_del(r, FS_INO_BOOK, key[i], sizeof(key[i]));
	}
	return r->mut_count ? fs_commit_own(r, prepare_reaped) : reap_more(r);
}

static enum fs_act prepare_reaped(struct fs_req *r)
{
	struct fs_cont *c = r->cont;

	while (c->reaped_count)
		fs_unmark(r->fs, &c->reaped[--c->reaped_count]);
	return r->sub.status ? prepare_end(r, r->sub.status) : reap_more(r);
}

/* --- coming in --- */

enum fs_act fs_cont_enter(struct fs_req *r, fs_step *then)
{
	if (r->op->view)
		return fs_goto(r, then); /* nothing to wait for or to race with */
	r->cont = cont_get(r->fs, r->op->cont);
	if (!r->cont)
		return fs_end(r, -ENOMEM);
	r->cont->users++;
	r->cont_then = then;
	return enter_again(r);
}

static enum fs_act enter_again(struct fs_req *r)
{
	struct fs_cont *c = r->cont;

	if (c->ready && likely(!c->reap_due || fs_in_grace(r->fs)))
		return fs_goto(r, r->cont_then);
	if (c->objects)
		return r->mutates ? fs_end(r, -ENOTSUP) : fs_goto(r, r->cont_then);
	if (c->preparing)
		return fs_wait_in(r, &c->prepare_waiters, enter_again);
	if ((!r->mutates || c->ready) && loop_now(r->fs->store.loop) < c->retry_at_ns)
		return fs_goto(r, r->cont_then);
	if (!c->ready)
		return prepare(r);
	c->preparing = true;
	return prepare_list(r);
}

/* --- inode numbers --- */

static const char counter_key = FS_KEY_COUNTER;
static fs_step counter_got, counter_set;

static uint64_t *counters(struct fs_req *r)
{
	return (uint64_t *)(void *)r->buf[0]; /* two, little-endian: what is there, what will be */
}

static enum fs_act counter_get(struct fs_req *r)
{
	struct pst_op *sub = fs_sub(r, PST_OP_KV_GET, FS_INO_BOOK);

	r->cont->reserving = true;
	sub->key = &counter_key;
	sub->key_len = 1;
	sub->val = counters(r);
	sub->val_cap = sizeof(uint64_t);
	r->next = counter_got;
	return FS_SUB;
}

static enum fs_act counter_end(struct fs_req *r, int status)
{
	r->cont->reserving = false;
	fs_wake_all(r->fs, &r->cont->ino_waiters);
	return status ? fs_end(r, status) : FS_NEXT;
}

static enum fs_act ino_take(struct fs_req *r)
{
	struct fs_cont *c = r->cont;

	if (c->ino_next < c->ino_end) {
		r->ino_new |= c->ino_next++ << 2;
		return fs_goto(r, r->then);
	}
	if (c->reserving)
		return fs_wait_in(r, &c->ino_waiters, ino_take);
	r->tries = 0;
	return counter_get(r);
}

static enum fs_act counter_got(struct fs_req *r)
{
	int ret = r->sub.status;
	bool absent = ret == -ENOENT;
	uint64_t from;

	if ((!ret && r->sub.ret_len != sizeof(uint64_t)) || ret == -ERANGE)
		ret = -EBADMSG;
	if (ret && !absent)
		return counter_end(r, ret);
	from = absent ? 1 : le64toh(counters(r)[0]);
	if (!from || from >= FS_COUNTER_MAX - r->fs->opts.ino_range)
		return counter_end(r, from ? -ENOSPC : -EBADMSG);
	counters(r)[1] = htole64(from + r->fs->opts.ino_range);
	fs_batch(r);
	fs_if_key(r, absent ? PST_IF_KEY_ABSENT : PST_IF_KEY_EQ, FS_INO_BOOK, &counter_key, 1,
	          -FS_CHANGED);
	if (!absent) {
		r->muts[0].val = &counters(r)[0];
		r->muts[0].val_len = sizeof(uint64_t);
	}
	fs_put(r, FS_INO_BOOK, &counter_key, 1, &counters(r)[1], sizeof(uint64_t));
	return fs_commit_own(r, counter_set);
}

static enum fs_act counter_set(struct fs_req *r)
{
	struct fs_cont *c = r->cont;

	if (r->sub.status == -FS_CHANGED && ++r->tries < r->fs->opts.attempts_max)
		return counter_get(r);
	if (r->sub.status)
		return counter_end(r, r->sub.status == -FS_CHANGED ? -EAGAIN : r->sub.status);
	c->ino_end = le64toh(counters(r)[1]);
	c->ino_next = c->ino_end - r->fs->opts.ino_range;
	c->ino_first = c->ino_first ? c->ino_first : c->ino_next;
	r->next = ino_take;
	return counter_end(r, 0);
}

enum fs_act fs_ino_alloc(struct fs_req *r, enum fs_kind kind, fs_step *then)
{
	r->then = then;
	if (r->ino_new && fs_ino_kind(r->ino_new) == kind)
		return fs_goto(r, then); /* of an attempt before */
	r->ino_new = kind;
	return ino_take(r);
}
