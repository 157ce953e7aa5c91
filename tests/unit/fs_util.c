/* SPDX-License-Identifier: BSD-3-Clause */
#include "fs_util.h"

#include <stdio.h>

#include "bdev/bdev.h"
#include "store/local/local.h"

/* --- the shim --- */

static struct shim *shim_of(struct store *s)
{
	return container_of(s, struct shim, store);
}

static enum pst_outcome shim_submit(struct store *s, struct pst_op *op)
{
	struct shim *sh = shim_of(s);
	bool batch = op->opcode == PST_OP_BATCH;

	sh->ops++;
	sh->batches += batch && op->mut_count;
	if (sh->fail_at && (batch || !sh->fail_batches_only) && !--sh->fail_at) {
		op->status = sh->fail_status;
		return PST_DONE;
	}
	if (sh->hold && sh->hold(op)) {
		list_push(&sh->held, &op->link);
		sh->held_count++;
		return PST_QUEUED;
	}
	if (sh->late && sh->late(op)) {
		pst_assert(store_submit(sh->below, op) == PST_DONE);
		list_push(&sh->done, &op->link);
		return PST_QUEUED;
	}
	return store_submit(sh->below, op);
}

static void shim_cancel(struct store *s, struct pst_op *op)
{
	struct shim *sh = shim_of(s);
	struct pst_op *it;

	list_for_each (it, &sh->held, link) {
		if (it == op) {
			op->deadline_ns = 1; /* told apart in shim_release() */
			return;
		}
	}
	store_cancel(sh->below, op);
}

static int shim_close(struct store *s)
{
	pst_assert(list_empty(&shim_of(s)->held));
	return 0; /* the model stays: fsx_close() ends it */
}

static const struct store_ops shim_ops = {
        .name = "shim",
        .submit = shim_submit,
        .cancel = shim_cancel,
        .close = shim_close,
};

void fsx_turn(struct fsx *x)
{
	while (loop_turn(x->loop, 0) > 0)
		;
}

void shim_release(struct fsx *x)
{
	struct shim *sh = &x->shim;
	struct list held;
	struct list *l;

	list_init(&held);
	list_splice(&held, &sh->held);
	while ((l = list_pop(&held))) {
		struct pst_op *op = list_entry(l, struct pst_op, link);

		sh->held_count--;
		if (op->deadline_ns == 1) {
			op->status = -ECANCELED;
			op->done(op);
		} else if (store_submit(sh->below, op) == PST_DONE) {
			op->done(op);
		}
	}
	list_splice(&held, &sh->done);
	while ((l = list_pop(&held))) {
		struct pst_op *op = list_entry(l, struct pst_op, link);

		op->done(op);
	}
	fsx_turn(x);
}

void shim_fail_held(struct fsx *x, uint8_t opcode, int status)
{
	struct pst_op *op;

	list_for_each (op, &x->shim.held, link) {
		if (op->opcode != opcode)
			continue;
		list_del(&op->link);
		x->shim.held_count--;
		op->status = status;
		op->done(op);
		return;
	}
	pst_assert(!"nothing of this kind is held");
}

/* --- the stack --- */

bool fsx_on_engine(void)
{
	const char *below = getenv("PST_FS_BELOW");

	return below && !strcmp(below, "local");
}

static void open_engine(struct fsx *x)
{
	const struct local_format_opts format = {
	        .shards = 2, .journal_bytes = 2 * MIB, .region_bytes = 256 * KIB};
	const struct local_opts opts = {.csum_cache_bytes = 256 * KIB, .journal_cache_bytes = MIB};
	struct pst_err err = {0};
	struct bdev *dev;

	bdev_mem_forget("fs");
	if (bdev_open(&dev, "mem:128m?name=fs", x->loop, NULL, &err) ||
	    local_format(&dev, 1, &format, &err) ||
	    local_open(&x->shim.below, x->loop, &dev, 1, &opts, &err)) {
		(void)fprintf(stderr, "%s\n", err.text);
		abort();
	}
}

void fsx_open(struct fsx *x, const struct fs_opts *opts, const struct model_store_opts *model,
              uint64_t caps_without)
{
	struct loop_opts lo;

	memset(x, 0, sizeof(*x));
	loop_opts_default(&lo);
	lo.sim = true;
	lo.sim_start_ns = 1000 * NSEC_PER_SEC;
	pst_assert(!loop_new(&x->loop, &lo, NULL));
	if (fsx_on_engine())
		open_engine(x);
	else
		pst_assert(!model_store_new(&x->shim.below, x->loop, model));
	x->shim.store = *x->shim.below;
	x->shim.store.ops = &shim_ops;
	x->shim.store.caps &= ~caps_without;
	list_init(&x->shim.held);
	list_init(&x->shim.done);
	if (opts)
		x->opts = *opts;
	pst_assert(!fs_new(&x->fs, &x->shim.store, &x->opts, NULL));
	pst_assert(!ops_cont_create(x->fs, "c", &x->cont));
}

void fsx_close(struct fsx *x)
{
	pst_assert(!store_close(x->fs));
	pst_assert(!store_close(x->shim.below));
	loop_free(x->loop);
}

void fsx_restart(struct fsx *x)
{
	pst_assert(!store_close(x->fs));
	pst_assert(!fs_new(&x->fs, &x->shim.store, &x->opts, NULL));
}

/* --- ops --- */

struct pst_op fsx_op(struct fsx *x, uint8_t opcode, const char *path)
{
	struct pst_op op = {.opcode = opcode, .cont = x->cont, .view = x->view, .name = path};

	op.name_len = path ? (uint32_t)strlen(path) : 0;
	if (x->seq)
		op.token = (struct pst_token){.session = 7, .slot = 1, .seq = x->seq};
	return op;
}

int fsx_run(struct fsx *x, struct pst_op *op)
{
	int r = ops_run(x->fs, op);

	x->attr = op->attr;
	x->ino = op->ino;
	x->ret_len = op->ret_len;
	x->ret_off = op->ret_off;
	return r;
}

static void started_done(struct pst_op *op)
{
	*(int *)op->user = op->status;
}

enum pst_outcome fsx_start(struct fsx *x, struct pst_op *op, int *status)
{
	enum pst_outcome out;

	*status = 1;
	op->done = started_done;
	op->user = status;
	out = store_submit(x->fs, op);
	if (out == PST_DONE)
		*status = op->status;
	return out;
}

int fsx_create_data(struct fsx *x, const char *path, const char *data, uint32_t flags)
{
	struct pst_op op = fsx_op(x, PST_OP_CREATE, path);
	struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = strlen(data)};

	op.flags = flags;
	op.attr.mode = S_IFREG | 0640;
	op.attr.uid = 10;
	op.attr.gid = 20;
	op.attr_mask = PST_ATTR_MODE | PST_ATTR_UID | PST_ATTR_GID;
	op.len = iov.iov_len;
	op.iov = &iov;
	op.iov_count = op.len != 0;
	return fsx_run(x, &op);
}

int fsx_create(struct fsx *x, const char *path, uint32_t flags)
{
	return fsx_create_data(x, path, "", flags);
}

int fsx_mkdir(struct fsx *x, const char *path)
{
	struct pst_op op = fsx_op(x, PST_OP_MKDIR, path);

	return fsx_run(x, &op);
}

static int two(struct fsx *x, uint8_t opcode, const char *path, const char *path2, uint32_t flags)
{
	struct pst_op op = fsx_op(x, opcode, path);

	op.name2 = path2;
	op.name2_len = (uint32_t)strlen(path2);
	op.flags = flags;
	return fsx_run(x, &op);
}

int fsx_symlink(struct fsx *x, const char *path, const char *target)
{
	return two(x, PST_OP_SYMLINK, path, target, 0);
}

int fsx_link(struct fsx *x, const char *path, const char *path2, uint32_t flags)
{
	return two(x, PST_OP_LINK, path, path2, flags);
}

int fsx_rename(struct fsx *x, const char *path, const char *path2, uint32_t flags)
{
	return two(x, PST_OP_RENAME, path, path2, flags);
}

int fsx_unlink(struct fsx *x, const char *path)
{
	struct pst_op op = fsx_op(x, PST_OP_UNLINK, path);

	return fsx_run(x, &op);
}

int fsx_rmdir(struct fsx *x, const char *path)
{
	struct pst_op op = fsx_op(x, PST_OP_RMDIR, path);

	return fsx_run(x, &op);
}

int fsx_lookup(struct fsx *x, const char *path, uint32_t flags)
{
	struct pst_op op = fsx_op(x, PST_OP_LOOKUP, path);

	op.flags = flags;
	return fsx_run(x, &op);
}

int fsx_getattr(struct fsx *x, uint64_t ino)
{
	struct pst_op op = fsx_op(x, PST_OP_GETATTR, NULL);

	op.ino = ino;
	return fsx_run(x, &op);
}

int fsx_hold(struct fsx *x, const char *path, uint64_t ino)
{
	struct pst_op op = fsx_op(x, PST_OP_FILE_OPEN, path);

	op.ino = ino;
	return fsx_run(x, &op);
}

int fsx_drop(struct fsx *x, uint64_t ino)
{
	struct pst_op op = fsx_op(x, PST_OP_FILE_CLOSE, NULL);

	op.ino = ino;
	return fsx_run(x, &op);
}

static int data(struct fsx *x, uint8_t opcode, uint64_t ino, uint64_t off, const void *buf,
                size_t len, uint32_t flags)
{
	struct pst_op op = fsx_op(x, opcode, NULL);
	struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};
	int r;

	op.ino = ino;
	op.off = off;
	op.len = len;
	op.iov = &iov;
	op.iov_count = 1;
	op.flags = flags;
	r = fsx_run(x, &op);
	pst_assert(op.opcode == opcode && op.flags == flags && op.ino == ino);
	return r;
}

int fsx_read(struct fsx *x, uint64_t ino, uint64_t off, char *buf, size_t len)
{
	return data(x, PST_OP_FILE_READ, ino, off, buf, len, 0);
}

int fsx_write(struct fsx *x, uint64_t ino, uint64_t off, const char *text, uint32_t flags)
{
	return data(x, PST_OP_FILE_WRITE, ino, off, text, strlen(text), flags);
}

int fsx_readlink(struct fsx *x, const char *path, char *buf, uint32_t cap)
{
	struct pst_op op = fsx_op(x, PST_OP_READLINK, path);
	int r;

	op.val = buf;
	op.val_cap = cap;
	r = fsx_run(x, &op);
	if (!r)
		buf[op.ret_len] = 0;
	return r;
}

static int xattr(struct fsx *x, uint8_t opcode, const char *path, const char *name, void *val,
                 uint32_t len, uint32_t flags)
{
	struct pst_op op = fsx_op(x, opcode, path);

	op.key = name;
	op.key_len = (uint32_t)strlen(name);
	op.val = val;
	op.val_cap = len;
	op.flags = flags;
	return fsx_run(x, &op);
}

int fsx_setx(struct fsx *x, const char *path, const char *name, const char *val, uint32_t flags)
{
	return xattr(x, PST_OP_SETXATTR, path, name, (void *)(uintptr_t)val, (uint32_t)strlen(val),
	             flags);
}

int fsx_getx(struct fsx *x, const char *path, const char *name, char *val, uint32_t cap)
{
	int r = xattr(x, PST_OP_GETXATTR, path, name, val, cap, 0);

	if (!r && cap > x->ret_len)
		val[x->ret_len] = 0;
	return r;
}

int fsx_delx(struct fsx *x, const char *path, const char *name)
{
	return xattr(x, PST_OP_REMOVEXATTR, path, name, NULL, 0, 0);
}

/* --- listing --- */

struct listing {
	char *buf;
	size_t len, at;
	unsigned left, seen;
	char last[PST_NAME_MAX];
	uint32_t last_len;
	bool attrs;
};

static bool list_one(struct pst_op *op, const struct pst_entry *e)
{
	struct listing *l = *(struct listing **)op->cont_info;

	pst_assert(l->attrs == (e->attr != NULL));
	pst_assert(!e->attr || e->attr->ino == e->id);
	pst_assert(e->type != DT_UNKNOWN);
	l->at += (size_t)snprintf(l->buf + l->at, l->len - l->at, "%s%.*s", l->at ? " " : "",
	                          (int)e->name_len, (const char *)e->name);
	pst_assert(l->at < l->len);
	memcpy(l->last, e->name, e->name_len);
	l->last_len = e->name_len;
	l->seen++;
	return !l->left || --l->left;
}

int fsx_list(struct fsx *x, const char *path, unsigned max, bool attrs, char *buf, size_t len)
{
	struct listing l = {.buf = buf, .len = len, .attrs = attrs}, *lp = &l;
	int r;

	buf[0] = 0;
	do {
		struct pst_op op = fsx_op(x, PST_OP_READDIR, path);

		/* The op's user word is the runner's: another field carries ours. */
		op.cont_info = (void *)&lp;
		op.entry = list_one;
		op.want_values = attrs;
		op.start = l.last_len ? l.last : NULL;
		op.start_len = l.last_len;
		l.left = max;
		l.seen = 0;
		r = fsx_run(x, &op);
	} while (!r && max && l.seen == max);
	return r;
}

/* --- the state below --- */

struct objects {
	struct pst_oid oid[4096];
	unsigned count;
};

static bool list_object(struct pst_op *op, const struct pst_entry *e)
{
	struct objects *o = (void *)op->cont_info;

	pst_assert(o->count < ARRAY_LEN(o->oid));
	o->oid[o->count++] = e->oid;
	return true;
}

static struct objects *objects(struct fsx *x)
{
	struct objects *o = calloc(1, sizeof(*o));
	struct pst_op op = {.opcode = PST_OP_OBJ_LIST, .cont = x->cont};

	pst_assert(o);
	op.cont_info = (void *)o;
	op.entry = list_object;
	pst_assert(!ops_run(x->shim.below, &op));
	return o;
}

uint64_t fsx_objects(struct fsx *x)
{
	struct objects *o = objects(x);
	uint64_t n = o->count;

	free(o);
	return n;
}

uint64_t fsx_seed;

/* Says which seed it was. */
#define check_that(expr) check_said(expr, #expr)

static void check_said(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "PST_FS_SEED=%llu: %s\n", (unsigned long long)fsx_seed, what);
	abort();
}

struct checked {
	uint64_t ino, parent;
	uint32_t links, nlink, named;
	bool dir, orphan;
};
struct check {
	struct checked inode[4096];
	unsigned count;
	uint64_t at; /* the directory that is listed */
};

static struct checked *check_find(struct check *c, uint64_t ino)
{
	for (unsigned i = 0; i < c->count; i++) {
		if (c->inode[i].ino == ino)
			return &c->inode[i];
	}
	check_that(!"an entry that leads nowhere");
	return NULL;
}

static bool check_key(struct pst_op *op, const struct pst_entry *e)
{
	struct check *c = (void *)op->cont_info;
	const char *key = e->name;
	struct checked *i;
	uint64_t ino;
	uint8_t type;

	if (!c->at && key[0] == FS_KEY_ORPHAN) {
		memcpy(&ino, key + 1, sizeof(ino));
		check_find(c, be64toh(ino))->orphan = true;
	}
	if (!c->at || key[0] != FS_KEY_DIRENT)
		return true;
	check_that(!fs_dirent_unpack(&ino, &type, e->val, e->val_len));
	i = check_find(c, ino);
	i->named++;
	check_that(i->dir == (type == DT_DIR));
	if (i->dir) {
		check_that(i->parent == c->at && i->named == 1);
		check_find(c, c->at)->links++;
	}
	return true;
}

static void check_keys(struct fsx *x, struct check *c, uint64_t ino)
{
	struct pst_op op = {.opcode = PST_OP_KV_LIST, .cont = x->cont, .oid = fs_oid(ino)};

	c->at = ino;
	op.want_values = true;
	op.cont_info = (void *)c;
	op.entry = check_key;
	check_that(!ops_run(x->shim.below, &op));
}

static void check_load(struct fsx *x, struct check *c, const struct objects *o)
{
	for (unsigned i = 0; i < o->count; i++) {
		struct pst_obj_stat st;
		struct fs_label l;

		check_that(o->oid[i].hi == FS_OID_HI);
		if (!o->oid[i].lo)
			continue;
		check_that(!ops_stat(x->shim.below, x->cont, 0, o->oid[i], &st));
		check_that(!fs_label_unpack(&l, o->oid[i].lo, st.label, st.label_len));
		c->inode[c->count++] = (struct checked){.ino = o->oid[i].lo,
		                                        .nlink = l.nlink,
		                                        .parent = l.parent,
		                                        .dir = S_ISDIR(l.mode)};
	}
}

/* From every directory the root is reached: nothing is cut off, nothing goes in circles. */
static void check_climb(struct check *c, const struct checked *i)
{
	for (unsigned steps = 0; i->ino != PST_INO_ROOT; steps++) {
		check_that(steps < c->count);
		i = check_find(c, i->parent);
	}
}

unsigned fsx_check(struct fsx *x)
{
	struct objects *o = objects(x);
	struct check *c = calloc(1, sizeof(*c));
	unsigned count;

	pst_assert(c);
	check_load(x, c, o);
	for (unsigned i = 0; i < c->count; i++) {
		if (c->inode[i].dir)
			check_keys(x, c, c->inode[i].ino);
	}
	check_keys(x, c, 0);
	for (unsigned n = 0; n < c->count; n++) {
		const struct checked *i = &c->inode[n];

		check_that(i->nlink == (i->dir ? 2 + i->links : i->named));
		check_that(i->named || i->orphan || i->ino == PST_INO_ROOT);
		check_that(!i->named || !i->orphan);
		if (i->dir)
			check_climb(c, i);
	}
	count = c->count;
	free(c);
	free(o);
	return count;
}
