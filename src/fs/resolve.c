/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * resolve - a path, component by component, from a directory to what it names. Symbolic links are
 * followed by putting the rest of the path behind their target, in one of two buffers of the
 * request by turns: the rest may lie in the other one.
 *
 * Whether something is a directory is in its inode number; that it still exists is not checked on
 * the way: a directory that is gone has no entries.
 *
 * An op with a root can't leave it: "/" and ".." end there, links are read as if it were the root of
 * the tree. Where a walk begins at a directory that the caller named by its number, and after each
 * "..", the way up is climbed until the root is met: a directory may have been moved out.
 */
#include "fs_int.h"

#define CLIMB_MAX (1u << 20) /* directories deep: above it the parents go in circles */

static fs_step walk_on, walk_found, walk_up, walk_target;

static enum fs_act climbed(struct fs_req *r)
{
	const struct fs_node *n = &r->node[FS_N_DIR];

	if (!n->exists)
		return fs_end(r, -ENOENT);
	if (n->label.parent == r->op->root)
		return fs_goto(r, r->under_then);
	if (n->ino == PST_INO_ROOT || n->label.parent == PST_INO_ROOT)
		return fs_end(r, -EACCES);
	if (++r->tries > CLIMB_MAX)
		return fs_end(r, -EBADMSG);
	return fs_stat(r, FS_N_DIR, n->label.parent, climbed);
}

enum fs_act fs_under(struct fs_req *r, uint64_t dir, fs_step *then)
{
	if (!r->op->root || dir == r->op->root)
		return fs_goto(r, then);
	if (dir == PST_INO_ROOT)
		return fs_end(r, -EACCES);
	r->under_then = then;
	r->tries = 0;
	return fs_stat(r, FS_N_DIR, dir, climbed);
}

enum fs_act fs_walk(struct fs_req *r, unsigned i, uint64_t dir, const char *path, uint32_t path_len,
                    enum fs_walk_mode mode, bool follow, fs_step *then)
{
	struct fs_walk *w = &r->walk[i];

	if (path_len > PST_PATH_MAX)
		return fs_end(r, -ENAMETOOLONG);
	if (!path_len || !path)
		return fs_end(r, -ENOENT);
	if (memchr(path, 0, path_len))
		return fs_end(r, -EINVAL);
	memset(w, 0, sizeof(*w));
	w->dir = path[0] == '/' ? fs_root(r) : fs_alias(r, dir);
	w->rest = path;
	w->rest_len = path_len;
	w->mode = mode;
	w->follow = follow;
	if (fs_ino_kind(w->dir) != FS_KIND_DIR)
		return fs_end(r, -ENOTDIR);
	r->cur = w;
	r->walk_then = then;
	return fs_under(r, w->dir, walk_on);
}

static enum fs_act walk_end(struct fs_req *r, struct fs_walk *w, enum fs_last last)
{
	w->last = last;
	if (w->mode == FS_WALK_PARENT) {
		w->ino = 0; /* of a directory on the way */
	} else if (last != FS_LAST_NAME) {
		w->ino = w->dir;
		w->type = DT_DIR;
	}
	return fs_goto(r, r->walk_then);
}

/* Takes the next component off the rest, and the slashes before it; length 0: there is none. */
static uint32_t take(struct fs_walk *w, const char **ret_name)
{
	const char *slash;
	uint32_t len;

	while (w->rest_len && w->rest[0] == '/') {
		w->rest++;
		w->rest_len--;
	}
	*ret_name = w->rest;
	slash = memchr(w->rest, '/', w->rest_len);
	len = slash ? (uint32_t)(slash - w->rest) : w->rest_len;
	w->rest += len;
	w->rest_len -= len;
	return len;
}

static bool only_slashes(const char *s, uint32_t len)
{
	while (len && s[len - 1] == '/')
		len--;
	return !len;
}

static bool is_dots(const char *name, uint32_t len, uint32_t dots)
{
	return len == dots && !memcmp(name, "..", dots);
}

/* One name that is neither "." nor "..". */
static enum fs_act walk_name(struct fs_req *r, struct fs_walk *w, const char *name, uint32_t len)
{
	if (len > PST_NAME_MAX)
		return fs_end(r, -ENAMETOOLONG);
	w->key[0] = FS_KEY_DIRENT;
	memcpy(w->key + 1, name, len);
	w->key_len = 1 + len;
	if (w->at_last && w->mode == FS_WALK_PARENT)
		return walk_end(r, w, FS_LAST_NAME);
	return fs_dirent_get(r, w, walk_found);
}

static enum fs_act walk_on(struct fs_req *r)
{
	struct fs_walk *w = r->cur;
	const char *name;
	uint32_t len;

	for (;;) {
		len = take(w, &name);
		if (!len)
			return walk_end(r, w, FS_LAST_ROOT);
		w->at_last = only_slashes(w->rest, w->rest_len);
		w->slash = w->at_last && w->rest_len;
		if (is_dots(name, len, 2)) {
			if (w->at_last && w->mode == FS_WALK_PARENT)
				return walk_end(r, w, FS_LAST_DOTDOT);
			if (w->dir != fs_root(r))
				return fs_stat(r, FS_N_DIR, w->dir, walk_up);
			if (w->at_last)
				return walk_end(r, w, FS_LAST_DOTDOT);
		} else if (!is_dots(name, len, 1)) {
			return walk_name(r, w, name, len);
		} else if (w->at_last) {
			return walk_end(r, w, FS_LAST_DOT);
		}
	}
}

static enum fs_act walk_went_up(struct fs_req *r)
{
	struct fs_walk *w = r->cur;

	return w->at_last ? walk_end(r, w, FS_LAST_DOTDOT) : walk_on(r);
}

static enum fs_act walk_up(struct fs_req *r)
{
	struct fs_walk *w = r->cur;
	const struct fs_node *n = &r->node[FS_N_DIR];

	if (!n->exists)
		return fs_end(r, -ENOENT);
	w->dir = n->label.parent;
	return fs_under(r, w->dir, walk_went_up);
}

static enum fs_act follow_link(struct fs_req *r, struct fs_walk *w)
{
	static const char key = FS_KEY_SYMLINK;
	struct pst_op *sub;

	if (++w->links > PST_SYMLINKS_MAX)
		return fs_end(r, -ELOOP);
	sub = fs_sub(r, PST_OP_KV_GET, w->ino);
	sub->key = &key;
	sub->key_len = 1;
	sub->val = r->buf[w->half];
	sub->val_cap = PST_PATH_MAX;
	r->next = walk_target;
	return FS_SUB;
}

static enum fs_act walk_target(struct fs_req *r)
{
	struct fs_walk *w = r->cur;
	char *buf = r->buf[w->half];
	uint32_t len = (uint32_t)r->sub.ret_len;

	if (r->sub.status == -ENOENT) {
		r->by_path = true;
		return fs_gone(r); /* replaced since its entry was read */
	}
	if (r->sub.status)
		return fs_end(r, r->sub.status == -ERANGE ? -EBADMSG : r->sub.status);
	if (!len || memchr(buf, 0, len))
		return fs_end(r, -EBADMSG);
	if (len + w->rest_len > PST_PATH_MAX)
		return fs_end(r, -ENAMETOOLONG);
	if (w->rest_len)
		memcpy(buf + len, w->rest, w->rest_len); /* nothing, or begins with a slash */
	w->rest = buf;
	w->rest_len += len;
	w->half = !w->half;
	if (buf[0] == '/')
		w->dir = fs_root(r);
	return walk_on(r);
}

static enum fs_act walk_found(struct fs_req *r)
{
	struct fs_walk *w = r->cur;

	if (!w->ino) {
		if (w->at_last && w->mode == FS_WALK_MISSING)
			return walk_end(r, w, FS_LAST_NAME);
		return fs_end(r, -ENOENT);
	}
	if (w->type == DT_LNK && (!w->at_last || w->slash || w->follow))
		return follow_link(r, w);
	if ((!w->at_last || w->slash) && w->type != DT_DIR)
		return fs_end(r, -ENOTDIR);
	if (w->at_last)
		return walk_end(r, w, FS_LAST_NAME);
	w->dir = w->ino;
	return walk_on(r);
}
