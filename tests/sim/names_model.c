/* SPDX-License-Identifier: BSD-3-Clause */
#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

#include "names_model.h"

static void *xdup(const void *from, size_t len)
{
	void *p = malloc(len ? len : 1);

	pst_assert(p);
	if (len)
		memcpy(p, from, len);
	return p;
}

/* --- nodes --- */

static struct n_node *node_new(struct names_state *st, uint32_t mode)
{
	struct n_node *n = calloc(1, sizeof(*n));

	st->nodes = realloc(st->nodes, (st->count + 1) * sizeof(*st->nodes));
	pst_assert(n && st->nodes);
	st->nodes[st->count++] = n;
	n->id = st->next_id++;
	n->mode = mode;
	n->nlink = S_ISDIR(mode) ? 2 : 1;
	if (S_ISREG(mode)) {
		n->data = calloc(1, NAMES_DATA_MAX);
		pst_assert(n->data);
	}
	return n;
}

static void node_free(struct n_node *n)
{
	free(n->data);
	free(n->ent);
	free(n);
}

struct n_node *names_by_id(const struct names_state *st, unsigned id)
{
	for (size_t i = 0; i < st->count; i++) {
		if (st->nodes[i]->id == id)
			return st->nodes[i];
	}
	return NULL;
}

struct n_node *names_by_ino(const struct names_state *st, uint64_t ino)
{
	for (size_t i = 0; ino && i < st->count; i++) {
		if (st->nodes[i]->ino == ino)
			return st->nodes[i];
	}
	return NULL;
}

/* It goes if no name and no open holds it. */
static void node_drop(struct names_state *st, struct n_node *n)
{
	size_t i = 0;

	if (n->nlink || n->opens)
		return;
	while (st->nodes[i] != n)
		i++;
	node_free(n);
	st->count--;
	memmove(&st->nodes[i], &st->nodes[i + 1], (st->count - i) * sizeof(*st->nodes));
}

struct names_state *names_new(void)
{
	struct names_state *st = calloc(1, sizeof(*st));

	pst_assert(st);
	st->next_id = NAMES_ROOT;
	node_new(st, S_IFDIR | 0755)->ino = PST_INO_ROOT;
	return st;
}

struct names_state *names_clone(const struct names_state *st)
{
	struct names_state *c = xdup(st, sizeof(*st));

	c->nodes = xdup(st->nodes, st->count * sizeof(*st->nodes));
	for (size_t i = 0; i < st->count; i++) {
		const struct n_node *from = st->nodes[i];
		struct n_node *to = c->nodes[i] = xdup(from, sizeof(*from));

		to->ent = xdup(from->ent, from->ent_count * sizeof(*from->ent));
		if (from->data)
			to->data = xdup(from->data, NAMES_DATA_MAX);
	}
	return c;
}

void names_free(struct names_state *st)
{
	if (!st)
		return;
	for (size_t i = 0; i < st->count; i++)
		node_free(st->nodes[i]);
	free(st->nodes);
	free(st);
}

void names_crash(struct names_state *st)
{
	for (size_t i = st->count; i--;) {
		st->nodes[i]->opens = 0;
		node_drop(st, st->nodes[i]);
	}
}

/* --- entries --- */

static struct n_entry *entry_find(const struct n_node *dir, const char *name)
{
	for (size_t i = 0; i < dir->ent_count; i++) {
		if (!strcmp(dir->ent[i].name, name))
			return &dir->ent[i];
	}
	return NULL;
}

static void entry_add(struct n_node *dir, const char *name, unsigned id)
{
	size_t at = 0;

	dir->ent = realloc(dir->ent, (dir->ent_count + 1) * sizeof(*dir->ent));
	pst_assert(dir->ent && strlen(name) < NAMES_NAME_MAX);
	while (at < dir->ent_count && strcmp(dir->ent[at].name, name) < 0)
		at++;
	memmove(&dir->ent[at + 1], &dir->ent[at], (dir->ent_count - at) * sizeof(*dir->ent));
	dir->ent_count++;
	snprintf(dir->ent[at].name, NAMES_NAME_MAX, "%s", name);
	dir->ent[at].id = id;
}

static void entry_del(struct n_node *dir, const char *name)
{
	struct n_entry *e = entry_find(dir, name);

	dir->ent_count--;
	memmove(e, e + 1, (size_t)(dir->ent + dir->ent_count - e) * sizeof(*e));
}

struct n_node *names_walk(const struct names_state *st, const char *path, struct n_node **ret_dir,
                          const char **ret_name)
{
	struct n_node *at = names_by_id(st, NAMES_ROOT), *dir = NULL;
	char part[NAMES_NAME_MAX];

	*ret_name = path;
	while (*path == '/') {
		size_t len = strcspn(++path, "/");
		struct n_entry *e;

		dir = at && S_ISDIR(at->mode) ? at : NULL;
		*ret_name = path;
		if (!dir)
			break;
		snprintf(part, sizeof(part), "%.*s", (int)len, path);
		e = entry_find(dir, part);
		at = e ? names_by_id(st, e->id) : NULL;
		path += len;
	}
	*ret_dir = dir;
	return dir ? at : NULL;
}

/* --- ops --- */

static int op_create(struct names_state *st, struct name_op *n, struct names_answer *want)
{
	struct n_node *dir, *made;
	const char *name;
	struct n_node *there = names_walk(st, n->path, &dir, &name);
	uint32_t type = n->op.opcode == PST_OP_MKDIR     ? S_IFDIR
	                : n->op.opcode == PST_OP_SYMLINK ? S_IFLNK
	                                                 : S_IFREG;

	if (!dir)
		return -ENOENT;
	if (there)
		return -EEXIST;
	made = node_new(st, type | (type == S_IFLNK ? 0777 : n->attr_in.mode & 07777));
	made->ino = n->made;
	if (type == S_IFLNK) {
		snprintf(made->target, sizeof(made->target), "%s", n->path2);
		made->size = strlen(made->target);
	}
	entry_add(dir, name, made->id);
	if (type == S_IFDIR)
		dir->nlink++;
	want->node = made;
	return 0;
}

static int op_link(struct names_state *st, struct name_op *n, struct names_answer *want)
{
	struct n_node *dir, *dir2;
	const char *name, *name2;
	struct n_node *from = names_walk(st, n->path, &dir, &name);
	struct n_node *to = names_walk(st, n->path2, &dir2, &name2);

	if (!from || !dir2)
		return -ENOENT;
	if (S_ISDIR(from->mode))
		return -EPERM;
	if (to)
		return -EEXIST;
	from->nlink++;
	entry_add(dir2, name2, from->id);
	want->node = from;
	return 0;
}

static int op_unlink(struct names_state *st, struct name_op *n)
{
	struct n_node *dir;
	const char *name;
	struct n_node *node = names_walk(st, n->path, &dir, &name);
	bool rmdir = n->op.opcode == PST_OP_RMDIR;

	if (!node)
		return -ENOENT;
	if (rmdir && !S_ISDIR(node->mode))
		return -ENOTDIR;
	if (!rmdir && S_ISDIR(node->mode))
		return -EISDIR;
	if (rmdir && node->ent_count)
		return -ENOTEMPTY;
	entry_del(dir, name);
	node->nlink -= rmdir ? 2 : 1;
	if (rmdir)
		dir->nlink--;
	node_drop(st, node);
	return 0;
}

static bool inside(const struct names_state *st, const struct n_node *dir,
                   const struct n_node *what)
{
	if (dir == what)
		return true;
	for (size_t i = 0; i < what->ent_count; i++) {
		const struct n_node *sub = names_by_id(st, what->ent[i].id);

		if (S_ISDIR(sub->mode) && inside(st, dir, sub))
			return true;
	}
	return false;
}

static int rename_check(const struct names_state *st, const struct name_op *n,
                        const struct n_node *from, const struct n_node *to,
                        const struct n_node *dir, const struct n_node *dir2)
{
	bool exchange = n->op.flags & PST_F_EXCHANGE;

	if (!from || !dir2)
		return -ENOENT;
	if (!to && exchange)
		return -ENOENT;
	if (to && n->op.flags & PST_F_EXCL)
		return -EEXIST;
	if (from == to)
		return 0;
	if (to && !exchange && S_ISDIR(from->mode) != S_ISDIR(to->mode))
		return S_ISDIR(from->mode) ? -ENOTDIR : -EISDIR;
	if (S_ISDIR(from->mode) && inside(st, dir2, from))
		return -EINVAL;
	if (exchange && S_ISDIR(to->mode) && inside(st, dir, to))
		return -EINVAL;
	if (to && !exchange && to->ent_count)
		return -ENOTEMPTY;
	return 0;
}

static int op_rename(struct names_state *st, struct name_op *n)
{
	struct n_node *dir, *dir2;
	const char *name, *name2;
	struct n_node *from = names_walk(st, n->path, &dir, &name);
	struct n_node *to = names_walk(st, n->path2, &dir2, &name2);
	int r = rename_check(st, n, from, to, dir, dir2);

	if (r || from == to)
		return r;
	entry_del(dir, name);
	dir->nlink -= S_ISDIR(from->mode) != 0;
	if (to) {
		entry_del(dir2, name2);
		dir2->nlink -= S_ISDIR(to->mode) != 0;
	}
	entry_add(dir2, name2, from->id);
	dir2->nlink += S_ISDIR(from->mode) != 0;
	if (to && n->op.flags & PST_F_EXCHANGE) {
		entry_add(dir, name, to->id);
		dir->nlink += S_ISDIR(to->mode) != 0;
	} else if (to) {
		to->nlink -= S_ISDIR(to->mode) ? 2 : 1;
		node_drop(st, to);
	}
	return 0;
}

static int op_write(struct names_state *st, struct name_op *n, struct names_answer *want)
{
	struct n_node *node = names_by_ino(st, n->op.ino);
	uint64_t off = n->op.off;

	if (!node)
		return -ESTALE;
	if (n->op.flags & PST_F_APPEND)
		off = node->size;
	pst_assert(off + n->op.len <= NAMES_DATA_MAX);
	memcpy(node->data + off, n->data, n->op.len);
	node->size = MAX(node->size, off + n->op.len);
	want->len = n->op.len;
	want->off = n->op.flags & PST_F_APPEND ? off : UINT64_MAX;
	return 0;
}

static int op_read(struct names_state *st, struct name_op *n, struct names_answer *want)
{
	const struct n_node *node = names_by_ino(st, n->op.ino);

	if (!node)
		return -ESTALE;
	want->len = n->op.off < node->size ? MIN(n->op.len, node->size - n->op.off) : 0;
	want->bytes = node->data + n->op.off;
	return 0;
}

static int op_setattr(struct names_state *st, struct name_op *n, struct names_answer *want)
{
	struct n_node *node = names_by_ino(st, n->op.ino);
	uint64_t size = n->attr_in.size_bytes;

	if (!node)
		return -ESTALE;
	if (n->op.attr_mask & PST_ATTR_MODE)
		node->mode = (node->mode & S_IFMT) | (n->attr_in.mode & 07777);
	if (n->op.attr_mask & PST_ATTR_SIZE) {
		if (size < node->size)
			memset(node->data + size, 0, node->size - size);
		node->size = size;
	}
	want->node = node;
	return 0;
}

static int op_open(struct names_state *st, struct name_op *n, struct names_answer *want)
{
	struct n_node *node = names_by_ino(st, n->op.ino);

	if (!node)
		return -ESTALE;
	if (n->op.opcode == PST_OP_FILE_OPEN) {
		node->opens++;
		want->node = node;
		return 0;
	}
	if (!node->opens)
		return -EBADF;
	node->opens--;
	node_drop(st, node);
	return 0;
}

uint64_t names_list_hash(uint64_t hash, const void *name, size_t len, uint8_t type)
{
	return hash_u64(hash ^ crc32c(type, name, len)) + 1;
}

static uint8_t dirent_type(uint32_t mode)
{
	return (uint8_t)((mode & S_IFMT) >> 12); /* what DT_ of <dirent.h> is */
}

static int op_look(struct names_state *st, struct name_op *n, struct names_answer *want)
{
	struct n_node *dir;
	const char *name;
	struct n_node *node = names_walk(st, n->path, &dir, &name);

	if (!node)
		return -ENOENT;
	if (n->op.opcode == PST_OP_LOOKUP) {
		want->node = node;
		return 0;
	}
	if (n->op.opcode == PST_OP_READLINK) {
		want->len = node->size;
		want->bytes = (const uint8_t *)node->target;
		return S_ISLNK(node->mode) ? 0 : -EINVAL;
	}
	if (n->op.opcode == PST_OP_SETXATTR) {
		memcpy(node->xattr, n->op.val, n->op.val_cap);
		node->xattr[n->op.val_cap] = 0;
		return 0;
	}
	if (!S_ISDIR(node->mode))
		return -ENOTDIR;
	for (size_t i = 0; i < node->ent_count; i++) {
		const struct n_entry *e = &node->ent[i];

		want->list_hash = names_list_hash(want->list_hash, e->name, strlen(e->name),
		                                  dirent_type(names_by_id(st, e->id)->mode));
	}
	return 0;
}

static int execute(struct names_state *st, struct name_op *n, struct names_answer *want)
{
	switch (n->op.opcode) {
	case PST_OP_CREATE:
	case PST_OP_MKDIR:
	case PST_OP_SYMLINK:
		return op_create(st, n, want);
	case PST_OP_LINK:
		return op_link(st, n, want);
	case PST_OP_UNLINK:
	case PST_OP_RMDIR:
		return op_unlink(st, n);
	case PST_OP_RENAME:
		return op_rename(st, n);
	case PST_OP_FILE_WRITE:
		return op_write(st, n, want);
	case PST_OP_FILE_READ:
		return op_read(st, n, want);
	case PST_OP_SETATTR:
		return op_setattr(st, n, want);
	case PST_OP_FILE_OPEN:
	case PST_OP_FILE_CLOSE:
		return op_open(st, n, want);
	case PST_OP_FSYNC:
		return 0;
	default:
		return op_look(st, n, want);
	}
}

int names_execute(struct names_state *st, struct name_op *n, struct names_answer *want)
{
	uint64_t seq = n->op.token.session ? n->op.token.seq : 0;
	int r;

	*want = (struct names_answer){.off = UINT64_MAX};
	if (seq && st->done[n->lane].seq == seq) { /* a repeat: answered, not executed */
		want->len = st->done[n->lane].len;
		want->off = st->done[n->lane].off;
		want->node = names_by_ino(st, st->done[n->lane].ino);
		return 0;
	}
	r = execute(st, n, want);
	if (!r && seq) {
		st->done[n->lane].seq = seq;
		st->done[n->lane].ino = want->node ? want->node->ino : 0;
		st->done[n->lane].len = want->len;
		st->done[n->lane].off = want->off;
	}
	return r;
}
