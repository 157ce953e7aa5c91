/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * create - CREATE, MKDIR, SYMLINK: a new inode and its name in one batch.
 *
 * The batch asks that the directory exists and has no such entry. It does not look at the
 * directory's label, so that creates in one directory don't get in each other's way; only MKDIR has
 * to (a directory's links count its sub-directories).
 *
 * CREATE without a name makes an orphan that its caller holds open; LINK can give it a name later.
 */
#include "fs_int.h"

/* The new inode into FS_N_MAIN. */
static struct fs_node *new_node(struct fs_req *r, uint32_t mode, uint32_t perm_default)
{
	struct fs_node *n = &r->node[FS_N_MAIN];

	n->ino = r->ino_new;
	n->label = (struct fs_label){
	        .mode = (mode & S_IFMT) | perm_default,
	        .nlink = S_ISDIR(mode) ? 2 : 1,
	        .atime_ns = r->now_ns,
	        .ctime_ns = r->now_ns,
	        .btime_ns = r->now_ns,
	        .parent = r->walk[0].dir,
	        .rdev = S_ISCHR(mode) || S_ISBLK(mode) ? r->op->attr.rdev : 0,
	};
	fs_label_apply(&n->label, r->op);
	return n;
}

/* Label, content and mtime of the inode. */
static void put_node(struct fs_req *r, struct fs_node *n, uint64_t mtime_ns)
{
	const struct pst_op *op = r->op;

	fs_set_label(r, n);
	if (S_ISREG(n->label.mode) && op->len)
		fs_content(r, n->ino);
	if (S_ISREG(n->label.mode) && op->attr_mask & PST_ATTR_SIZE &&
	    op->attr.size_bytes > op->len)
		fs_resize(r, n->ino, op->attr.size_bytes);
	if (S_ISLNK(n->label.mode))
		fs_resize(r, n->ino, op->name2_len);
	fs_set_mtime(r, n->ino, mtime_ns);
}

static void put_new(struct fs_req *r, struct fs_node *n)
{
	const struct pst_op *op = r->op;

	put_node(r, n, op->attr_mask & PST_ATTR_MTIME ? (uint64_t)op->attr.mtime_ns : r->now_ns);
}

static enum fs_act made(struct fs_req *r)
{
	return fs_end_stat(r, r->sub.ino);
}

/* --- CREATE --- */

static uint32_t type_of(const struct pst_op *op)
{
	uint32_t type = op->attr_mask & PST_ATTR_MODE ? op->attr.mode & S_IFMT : 0;

	return type ? type : S_IFREG;
}

static int check_create(const struct pst_op *op)
{
	uint32_t type = type_of(op);

	if (fs_type_of_mode(type) == DT_UNKNOWN || S_ISDIR(type) || S_ISLNK(type))
		return -EINVAL;
	if (!S_ISREG(type) && (op->len || op->attr_mask & PST_ATTR_SIZE))
		return -EINVAL;
	if (op->len > PST_IO_MAX)
		return -E2BIG;
	return op->attr_mask & PST_ATTR_SIZE && op->attr.size_bytes > PST_OBJECT_MAX ? -EFBIG : 0;
}

static enum fs_act create_new(struct fs_req *r)
{
	const struct fs_walk *w = &r->walk[0];
	struct fs_node *n = new_node(r, type_of(r->op), 0644);

	fs_batch(r);
	fs_if_present(r, w->dir, -ENOENT);
	fs_if_key(r, PST_IF_KEY_ABSENT, w->dir, w->key, w->key_len,
	          r->op->flags & PST_F_EXCL ? -EEXIST : -FS_CHANGED);
	put_new(r, n);
	fs_put_dirent(r, 0, w, n->ino, fs_type_of_mode(n->label.mode));
	fs_set_mtime(r, w->dir, r->now_ns);
	return fs_commit(r, n->ino, made);
}

static enum fs_act found_durable(struct fs_req *r)
{
	return r->sub.status ? fs_end(r, r->sub.status) : fs_end_attr(r);
}

/*
 * That it is there is an answer like any other of a change, and holds after a crash: what made it may not
 * be durable yet. Costs nothing if it is.
 */
static enum fs_act create_found(struct fs_req *r)
{
	if (r->op->flags & PST_F_VOLATILE)
		return fs_end_attr(r);
	fs_sub(r, PST_OP_FLUSH, 0)->oid = (struct pst_oid){0};
	r->next = found_durable;
	return FS_SUB;
}

/*
 * It is there: left as it is, or, with PST_F_TRUNCATE, written anew. As with open(2) only a file that is
 * made takes mode, owner and times from the op: to give them to one that is there would be SETATTR,
 * for which other rights are needed.
 */
static enum fs_act create_over(struct fs_req *r)
{
	struct fs_node *n = &r->node[FS_N_MAIN];

	if (!n->exists)
		return fs_gone(r);
	if (!(r->op->flags & PST_F_TRUNCATE) || !S_ISREG(n->label.mode))
		return create_found(r);
	fs_batch(r);
	fs_if_label(r, n);
	n->label.ctime_ns = r->now_ns;
	fs_resize(r, n->ino, 0);
	put_node(r, n, r->now_ns);
	return fs_commit(r, n->ino, made);
}

static enum fs_act create_walked(struct fs_req *r)
{
	const struct fs_walk *w = &r->walk[0];
	bool excl = r->op->flags & PST_F_EXCL;

	if (w->last != FS_LAST_NAME)
		return fs_end(r, excl ? -EEXIST : -EISDIR);
	if (w->slash || (w->ino && w->type == DT_DIR))
		return fs_end(r, -EISDIR);
	if (!w->ino)
		return fs_ino_alloc(r, S_ISREG(type_of(r->op)) ? FS_KIND_FILE : FS_KIND_OTHER,
		                    create_new);
	if (w->type == DT_LNK)
		return fs_end(r, -ELOOP); /* PST_F_NOFOLLOW */
	r->by_path = true;
	return fs_stat(r, FS_N_MAIN, w->ino, create_over);
}

/* --- CREATE without a name --- */

static enum fs_act nameless_made(struct fs_req *r)
{
	struct fs_open *o;

	if (r->sub.status)
		return fs_drop(r, r->sub.status);
	r->committed = true;
	o = fs_open_find(r->fs, r->op->cont, r->held_ino);
	pst_assert(o);
	o->orphan = true;
	if (r->sub.ino != r->ino_new) /* answered from the record: ours is not there */
		return fs_drop(r, -ESTALE);
	return fs_end_stat(r, r->ino_new);
}

static enum fs_act nameless_new(struct fs_req *r)
{
	struct fs_node *n;
	int ret = fs_hold(r, r->ino_new);

	if (ret)
		return fs_end(r, ret);
	r->walk[0].dir = 0;
	n = new_node(r, type_of(r->op), 0644);
	n->label.nlink = 0;
	fs_batch(r);
	put_new(r, n);
	fs_orphan_put(r, n->ino);
	fs_commit(r, n->ino, nameless_made);
	r->next = nameless_made; /* whatever the outcome: the count has to be given back */
	return FS_SUB;
}

enum fs_act fs_op_create(struct fs_req *r)
{
	const struct pst_op *op = r->op;
	bool excl = op->flags & PST_F_EXCL;
	int ret = check_create(op);

	if (ret)
		return fs_end(r, ret);
	if (!op->name_len)
		return S_ISREG(type_of(op)) ? fs_ino_alloc(r, FS_KIND_FILE, nameless_new)
		                            : fs_end(r, -EINVAL);
	return fs_walk(r, 0, op->dir, op->name, op->name_len,
	               excl ? FS_WALK_PARENT : FS_WALK_MISSING,
	               !excl && !(op->flags & PST_F_NOFOLLOW), create_walked);
}

/* --- SYMLINK --- */

static enum fs_act symlink_new(struct fs_req *r)
{
	static const char key = FS_KEY_SYMLINK;
	const struct fs_walk *w = &r->walk[0];
	struct fs_node *n = new_node(r, S_IFLNK, 0777);

	fs_batch(r);
	fs_if_present(r, w->dir, -ENOENT);
	fs_if_key(r, PST_IF_KEY_ABSENT, w->dir, w->key, w->key_len, -EEXIST);
	put_new(r, n);
	fs_put(r, n->ino, &key, 1, r->op->name2, r->op->name2_len);
	fs_put_dirent(r, 0, w, n->ino, DT_LNK);
	fs_set_mtime(r, w->dir, r->now_ns);
	return fs_commit(r, n->ino, made);
}

static enum fs_act symlink_walked(struct fs_req *r)
{
	if (r->walk[0].last != FS_LAST_NAME)
		return fs_end(r, -EEXIST);
	if (r->walk[0].slash)
		return fs_end(r, -ENOENT);
	return fs_ino_alloc(r, FS_KIND_OTHER, symlink_new);
}

enum fs_act fs_op_symlink(struct fs_req *r)
{
	const struct pst_op *op = r->op;

	if (!op->name2_len || memchr(op->name2, 0, op->name2_len))
		return fs_end(r, -EINVAL);
	if (op->name2_len >= PST_PATH_MAX)
		return fs_end(r, -ENAMETOOLONG);
	return fs_walk(r, 0, op->dir, op->name, op->name_len, FS_WALK_PARENT, false,
	               symlink_walked);
}

/* --- MKDIR --- */

static enum fs_act mkdir_new(struct fs_req *r)
{
	const struct fs_walk *w = &r->walk[0];
	struct fs_node *dir = &r->node[FS_N_DIR];
	struct fs_node *n = new_node(r, S_IFDIR, 0755);

	fs_batch(r);
	fs_if_key(r, PST_IF_KEY_ABSENT, w->dir, w->key, w->key_len, -EEXIST);
	fs_if_label(r, dir);
	put_new(r, n);
	fs_put_dirent(r, 0, w, n->ino, DT_DIR);
	dir->label.nlink++;
	fs_set_label(r, dir);
	fs_set_mtime(r, w->dir, r->now_ns);
	return fs_commit(r, n->ino, made);
}

static enum fs_act mkdir_found(struct fs_req *r)
{
	const struct fs_node *dir = &r->node[FS_N_DIR];

	if (!dir->exists)
		return fs_end(r, -ENOENT);
	if (dir->label.nlink == UINT32_MAX)
		return fs_end(r, -EMLINK);
	return mkdir_new(r);
}

/* The number first and the label then, so that nothing is waited for between label and batch. */
static enum fs_act mkdir_alloc(struct fs_req *r)
{
	return fs_stat(r, FS_N_DIR, r->walk[0].dir, mkdir_found);
}

static enum fs_act mkdir_walked(struct fs_req *r)
{
	if (r->walk[0].last != FS_LAST_NAME)
		return fs_end(r, -EEXIST);
	return fs_ino_alloc(r, FS_KIND_DIR, mkdir_alloc);
}

enum fs_act fs_op_mkdir(struct fs_req *r)
{
	const struct pst_op *op = r->op;

	return fs_walk(r, 0, op->dir, op->name, op->name_len, FS_WALK_PARENT, false, mkdir_walked);
}
