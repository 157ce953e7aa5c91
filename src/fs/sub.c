/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sub - the sub-ops of requests, and how their batches are put together: conditions first, then
 * changes, as store.h wants it.
 */
#include "fs_int.h"

struct pst_op *fs_sub(struct fs_req *r, uint8_t opcode, uint64_t ino)
{
	struct pst_op *sub = &r->sub, *op = r->op;
	void (*done)(struct pst_op *) = sub->done;

	memset(sub, 0, offsetof(struct pst_op, frame));
	sub->opcode = opcode;
	sub->flags = op->flags & PST_F_NOVERIFY;
	sub->tenant = op->tenant;
	sub->cont = op->cont;
	sub->view = op->view;
	sub->deadline_ns = op->deadline_ns;
	sub->oid = fs_oid(ino);
	sub->done = done;
	return sub;
}

/* --- STAT --- */

static void root_by_default(struct fs_node *n)
{
	n->exists = true;
	memset(&n->st, 0, sizeof(n->st));
	n->label = (struct fs_label){.mode = S_IFDIR | 0755, .nlink = 2, .parent = PST_INO_ROOT};
}

static enum fs_act stat_done(struct fs_req *r)
{
	struct fs_node *n = r->stat_node;
	int ret = r->sub.status;

	if (ret)
		return fs_end(r, ret);
	n->exists = n->st.exists;
	if (n->exists) {
		ret = fs_label_unpack(&n->label, n->ino, n->st.label, n->st.label_len);
		if (ret)
			return fs_end(r, ret);
	} else if (n->ino == PST_INO_ROOT) {
		root_by_default(n); /* a snapshot of before the first use */
	}
	return fs_goto(r, r->then);
}

enum fs_act fs_stat(struct fs_req *r, unsigned n, uint64_t ino, fs_step *then)
{
	struct fs_node *node = &r->node[n];

	node->ino = ino;
	node->exists = false;
	r->stat_node = node;
	r->then = then;
	r->next = stat_done;
	fs_sub(r, PST_OP_STAT, ino)->stat = &node->st;
	return FS_SUB;
}

/* --- KV_GET of a directory entry --- */

static enum fs_act dirent_done(struct fs_req *r)
{
	struct fs_walk *w = r->cur;
	int ret = r->sub.status;

	w->ino = 0;
	if (ret == -ENOENT)
		return fs_goto(r, r->then);
	if (!ret)
		ret = fs_dirent_unpack(&w->ino, &w->type, w->val, r->sub.ret_len);
	else if (ret == -ERANGE)
		ret = -EBADMSG; /* longer than an entry is */
	return ret ? fs_end(r, ret) : fs_goto(r, r->then);
}

enum fs_act fs_dirent_get(struct fs_req *r, struct fs_walk *w, fs_step *then)
{
	struct pst_op *sub = fs_sub(r, PST_OP_KV_GET, w->dir);

	sub->key = w->key;
	sub->key_len = w->key_len;
	sub->val = w->val;
	sub->val_cap = sizeof(w->val);
	r->cur = w;
	r->then = then;
	r->next = dirent_done;
	return FS_SUB;
}

/* --- batches --- */

void fs_batch(struct fs_req *r)
{
	r->mut_count = 0;
}

static struct pst_mut *add(struct fs_req *r, uint8_t kind, uint64_t ino)
{
	struct pst_mut *m = &r->muts[r->mut_count++];

	pst_assert(r->mut_count <= FS_MUTS);
	/* Conditions come before changes. */
	pst_assert(r->mut_count == 1 || kind >= PST_KV_PUT || m[-1].kind < PST_KV_PUT);
	memset(m, 0, sizeof(*m));
	m->kind = kind;
	m->oid = fs_oid(ino);
	return m;
}

void fs_if_present(struct fs_req *r, uint64_t ino, int err)
{
	add(r, PST_IF_OBJ_PRESENT, ino)->err = err;
}

void fs_if_label(struct fs_req *r, const struct fs_node *n)
{
	struct pst_mut *m = add(r, PST_IF_LABEL_EQ, n->ino);

	m->val = n->st.label;
	m->val_len = n->st.label_len;
	m->err = -FS_CHANGED;
}

void fs_if_key(struct fs_req *r, uint8_t kind, uint64_t ino, const void *key, uint32_t key_len,
               int err)
{
	struct pst_mut *m = add(r, kind, ino);

	m->key = key;
	m->key_len = key_len;
	m->err = err;
}

void fs_if_dirent(struct fs_req *r, const struct fs_walk *w)
{
	struct pst_mut *m;

	fs_if_key(r, w->ino ? PST_IF_KEY_EQ : PST_IF_KEY_ABSENT, w->dir, w->key, w->key_len,
	          -FS_CHANGED);
	m = &r->muts[r->mut_count - 1];
	m->val = w->val;
	m->val_len = w->ino ? sizeof(w->val) : 0;
}

void fs_put(struct fs_req *r, uint64_t ino, const void *key, uint32_t key_len, const void *val,
            uint32_t val_len)
{
	struct pst_mut *m = add(r, PST_KV_PUT, ino);

	m->key = key;
	m->key_len = key_len;
	m->val = val;
	m->val_len = val_len;
}

void fs_put_dirent(struct fs_req *r, unsigned i, const struct fs_walk *w, uint64_t ino,
                   uint8_t type)
{
	fs_dirent_pack(ino, type, r->dirent[i]);
	fs_put(r, w->dir, w->key, w->key_len, r->dirent[i], FS_DIRENT_BYTES);
}

void fs_del(struct fs_req *r, uint64_t ino, const void *key, uint32_t key_len)
{
	struct pst_mut *m = add(r, PST_KV_DEL, ino);

	m->key = key;
	m->key_len = key_len;
}

void fs_set_label(struct fs_req *r, struct fs_node *n)
{
	struct pst_mut *m = add(r, PST_SET_LABEL, n->ino);

	m->val_len = fs_label_pack(&n->label, n->packed);
	m->val = n->packed;
}

void fs_set_mtime(struct fs_req *r, uint64_t ino, uint64_t mtime_ns)
{
	add(r, PST_SET_MTIME, ino)->off = mtime_ns;
}

void fs_resize(struct fs_req *r, uint64_t ino, uint64_t size_bytes)
{
	add(r, PST_ARRAY_RESIZE, ino)->off = size_bytes;
}

void fs_delete(struct fs_req *r, uint64_t ino)
{
	add(r, PST_OBJ_DELETE, ino);
}

void fs_content(struct fs_req *r, uint64_t ino)
{
	struct pst_mut *m = add(r, PST_ARRAY_WRITE, ino);

	m->len = r->op->len;
	m->iov = r->op->iov;
	m->iov_count = r->op->iov_count;
}

static const uint8_t *orphan_key(uint8_t key[9], uint64_t ino)
{
	uint64_t be = htobe64(ino); /* so that they are listed in order */

	key[0] = FS_KEY_ORPHAN;
	memcpy(key + 1, &be, sizeof(be));
	return key;
}

void fs_orphan_put(struct fs_req *r, uint64_t ino)
{
	fs_put(r, FS_INO_BOOK, orphan_key(r->orphan_key[0], ino), 9, NULL, 0);
}

void fs_orphan_del(struct fs_req *r, uint64_t ino)
{
	fs_del(r, FS_INO_BOOK, orphan_key(r->orphan_key[1], ino), 9);
}

void fs_if_orphan(struct fs_req *r, uint64_t ino)
{
	fs_if_key(r, PST_IF_KEY_PRESENT, FS_INO_BOOK, orphan_key(r->orphan_key[0], ino), 9,
	          -FS_CHANGED);
}

static enum fs_act commit_done(struct fs_req *r)
{
	if (r->sub.status == -FS_CHANGED)
		return fs_again(r);
	if (r->sub.status)
		return fs_end(r, r->sub.status);
	r->committed = true;
	return fs_goto(r, r->then);
}

static struct pst_op *batch_sub(struct fs_req *r)
{
	struct pst_op *sub = fs_sub(r, PST_OP_BATCH, 0);

	sub->oid = (struct pst_oid){0};
	sub->muts = r->muts;
	sub->mut_count = r->mut_count;
	return sub;
}

enum fs_act fs_commit(struct fs_req *r, uint64_t word, fs_step *then)
{
	struct pst_op *sub = batch_sub(r);

	sub->flags = r->op->flags & PST_F_VOLATILE;
	sub->token = r->op->token;
	sub->region = r->op->region;
	sub->ino = word;
	r->then = then;
	r->next = commit_done;
	return FS_SUB;
}

enum fs_act fs_commit_own(struct fs_req *r, fs_step *then)
{
	batch_sub(r);
	r->next = then;
	return FS_SUB;
}
