/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The names layer against a tree: random ops, one at a time, each status compared with what a small
 * tree in memory says that POSIX wants, and the whole of both compared in between. The tree
 * resolves paths recursively and knows nothing of objects, batches or inode numbers.
 *
 * PST_FS_SEED=N in the environment runs seed N alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "fs_util.h"

#define NODES   512
#define ENTRIES 16
#define ROOT    0

struct entry {
	char name[4];
	int node;
};

struct node {
	bool used;
	char type; /* 'd', 'f', 'l' */
	int parent;
	unsigned names, held;
	struct entry entries[ENTRIES];
	unsigned count;
	char target[32];
	char data[64];
	unsigned size;
	bool xattr;
	uint64_t ino;
};

static struct node tree[NODES];
static struct rng rng;
static struct fsx X;
static struct fsx *const x = &X;

/* --- the tree --- */

static int node_new(char type, int parent)
{
	for (int i = 0; i < NODES; i++) {
		if (tree[i].used)
			continue;
		tree[i] = (struct node){.used = true, .type = type, .parent = parent};
		return i;
	}
	fail_msg("the tree is full");
	return -1;
}

static void node_check(int n)
{
	if (!tree[n].names && !tree[n].held)
		tree[n].used = false;
}

static struct entry *find(int dir, const char *name)
{
	for (unsigned i = 0; i < tree[dir].count; i++) {
		if (!strcmp(tree[dir].entries[i].name, name))
			return &tree[dir].entries[i];
	}
	return NULL;
}

static void entry_add(int dir, const char *name, int node)
{
	struct node *d = &tree[dir];
	unsigned at = d->count++;

	assert_true(d->count <= ENTRIES);
	for (; at && strcmp(d->entries[at - 1].name, name) > 0; at--)
		d->entries[at] = d->entries[at - 1];
	strcpy(d->entries[at].name, name);
	d->entries[at].node = node;
	tree[node].names++;
	if (tree[node].type == 'd')
		tree[node].parent = dir;
}

static void entry_del(int dir, const char *name)
{
	struct node *d = &tree[dir];
	struct entry *e = find(dir, name);
	int node = e->node;

	tree[node].names--;
	memmove(e, e + 1, (size_t)((char *)&d->entries[d->count] - (char *)(e + 1)));
	d->count--;
	node_check(node);
}

static unsigned links(int n)
{
	unsigned dirs = 0;

	if (tree[n].type != 'd')
		return tree[n].names;
	for (unsigned i = 0; i < tree[n].count; i++)
		dirs += tree[tree[n].entries[i].node].type == 'd';
	return 2 + dirs;
}

static bool is_under(int n, int top)
{
	while (n != top && n != ROOT)
		n = tree[n].parent;
	return n == top;
}

/* The node, or an errno value. */
static int resolve(int dir, const char *path, bool follow, int *budget)
{
	int node = dir;

	if (path[0] == '/')
		node = ROOT;
	for (;;) {
		char name[64];
		size_t len;
		bool last, slash;
		struct entry *e;

		path += strspn(path, "/");
		if (!*path)
			return node;
		dir = node;
		if (tree[dir].type != 'd')
			return -ENOTDIR;
		len = strcspn(path, "/");
		snprintf(name, sizeof(name), "%.*s", (int)len, path);
		path += len;
		slash = *path == '/';
		last = !path[strspn(path, "/")];
		if (!strcmp(name, "."))
			continue;
		if (!strcmp(name, "..")) {
			node = tree[dir].parent;
			continue;
		}
		e = find(dir, name);
		if (!e)
			return -ENOENT;
		node = e->node;
		if (tree[node].type == 'l' && (!last || slash || follow)) {
			if (!(*budget)--)
				return -ELOOP;
			node = resolve(dir, tree[node].target, true, budget);
			if (node < 0)
				return node;
		}
		if (slash && tree[node].type != 'd')
			return -ENOTDIR;
	}
}

static int look(const char *path, bool follow)
{
	int budget = PST_SYMLINKS_MAX;

	return resolve(ROOT, path, follow, &budget);
}

struct place {
	int dir;
	char name[64]; /* "" for "/" */
	bool slash, dots;
	int node; /* -1: not there */
};

static int place(const char *path, struct place *p)
{
	int budget = PST_SYMLINKS_MAX;
	char head[64];
	size_t len = strlen(path);
	const char *name;

	*p = (struct place){.node = -1};
	while (len && path[len - 1] == '/') {
		p->slash = true;
		len--;
	}
	if (!len)
		return 0;
	snprintf(head, sizeof(head), "%.*s", (int)len, path);
	name = strrchr(head, '/');
	name = name ? name + 1 : head;
	strcpy(p->name, name);
	p->dots = !strcmp(name, ".") || !strcmp(name, "..");
	head[name - head] = 0;
	p->dir = resolve(ROOT, head, true, &budget);
	if (p->dir < 0)
		return p->dir;
	if (tree[p->dir].type != 'd')
		return -ENOTDIR;
	if (!p->dots && find(p->dir, p->name))
		p->node = find(p->dir, p->name)->node;
	return 0;
}

static bool special(const struct place *p)
{
	return !p->name[0] || p->dots;
}

/* --- ops on the tree --- */

static int t_create(const char *path, uint32_t flags, const char *data, int *ret_node)
{
	struct place p;
	int r, n;

	if (flags & PST_F_EXCL) {
		r = place(path, &p);
		if (r)
			return r;
		if (special(&p))
			return -EEXIST;
		if (p.slash)
			return -EISDIR;
		if (p.node >= 0)
			return -EEXIST;
	} else {
		char at[64];
		int budget = PST_SYMLINKS_MAX;

		/* Through symbolic links, to where the file is or would be. */
		strcpy(at, path);
		for (;;) {
			r = place(at, &p);
			if (r)
				return r;
			if (special(&p))
				return -EISDIR;
			if (p.node < 0)
				break;
			if (tree[p.node].type != 'l')
				break;
			if (!budget--)
				return -ELOOP;
			/* The targets here are absolute or one name: no need to be clever. */
			r = p.node;
			if (tree[r].target[0] != '/' && p.dir != ROOT)
				return -EXFULL; /* not modelled: the caller skips it */
			strcpy(at, tree[r].target);
			strcat(at, p.slash ? "/" : "");
		}
		if (p.node >= 0 && tree[p.node].type == 'd')
			return -EISDIR;
		if (p.node >= 0 && p.slash)
			return -ENOTDIR;
		if (p.slash)
			return -EISDIR;
	}
	n = p.node;
	if (n < 0) {
		n = node_new('f', p.dir);
		entry_add(p.dir, p.name, n);
	} else if (!(flags & PST_F_TRUNCATE)) {
		*ret_node = n;
		return 0;
	}
	strcpy(tree[n].data, data);
	tree[n].size = (unsigned)strlen(data);
	*ret_node = n;
	return 0;
}

static int t_mkdir(const char *path, int *ret_node)
{
	struct place p;
	int r = place(path, &p);

	if (r)
		return r;
	if (special(&p) || p.node >= 0)
		return -EEXIST;
	*ret_node = node_new('d', p.dir);
	entry_add(p.dir, p.name, *ret_node);
	return 0;
}

static int t_symlink(const char *path, const char *target, int *ret_node)
{
	struct place p;
	int r = place(path, &p);

	if (r)
		return r;
	if (special(&p))
		return -EEXIST;
	if (p.slash)
		return -ENOENT;
	if (p.node >= 0)
		return -EEXIST;
	*ret_node = node_new('l', p.dir);
	strcpy(tree[*ret_node].target, target);
	tree[*ret_node].size = (unsigned)strlen(target);
	entry_add(p.dir, p.name, *ret_node);
	return 0;
}

static int t_link(const char *path, const char *path2, uint32_t flags)
{
	int n = look(path, false), r;
	struct place p;

	if (n < 0)
		return n;
	if (tree[n].type == 'd')
		return -EPERM;
	r = place(path2, &p);
	if (r)
		return r;
	if (special(&p))
		return -EEXIST;
	if (p.slash)
		return -ENOENT;
	if (flags & PST_F_REPLACE) {
		if (p.node >= 0 && tree[p.node].type == 'd')
			return -EISDIR;
		if (p.node == n)
			return 0;
		if (p.node >= 0)
			entry_del(p.dir, p.name);
	} else if (p.node >= 0) {
		return -EEXIST;
	}
	entry_add(p.dir, p.name, n);
	return 0;
}

static int t_unlink(const char *path)
{
	struct place p;
	int r = place(path, &p);

	if (r)
		return r;
	if (special(&p))
		return -EISDIR;
	if (p.node < 0)
		return -ENOENT;
	if (tree[p.node].type == 'd')
		return -EISDIR;
	if (p.slash)
		return -ENOTDIR;
	entry_del(p.dir, p.name);
	return 0;
}

static int t_rmdir(const char *path)
{
	struct place p;
	int r = place(path, &p);

	if (r)
		return r;
	if (!p.name[0])
		return -EBUSY;
	if (p.dots)
		return p.name[1] ? -ENOTEMPTY : -EINVAL;
	if (p.node < 0)
		return -ENOENT;
	if (tree[p.node].type != 'd')
		return -ENOTDIR;
	if (tree[p.node].count)
		return -ENOTEMPTY;
	entry_del(p.dir, p.name);
	return 0;
}

static int t_rename_check(const struct place *a, const struct place *b, uint32_t flags)
{
	bool adir, bdir, swap = flags & PST_F_EXCHANGE;

	if (special(a) || special(b))
		return -EBUSY;
	if (a->node < 0)
		return -ENOENT;
	adir = tree[a->node].type == 'd';
	bdir = b->node >= 0 && tree[b->node].type == 'd';
	if (a->slash && !adir)
		return -ENOTDIR;
	if (swap && b->node < 0)
		return -ENOENT;
	if (b->slash && !(swap ? bdir : adir))
		return -ENOTDIR;
	if (b->node >= 0 && flags & PST_F_EXCL)
		return -EEXIST;
	if (a->node == b->node)
		return 1;
	if (b->node >= 0 && !swap && adir != bdir)
		return adir ? -ENOTDIR : -EISDIR;
	if (adir && is_under(b->dir, a->node))
		return -EINVAL;
	if (swap && bdir && is_under(a->dir, b->node))
		return -EINVAL;
	if (!swap && bdir && tree[b->node].count)
		return -ENOTEMPTY;
	return 0;
}

static int t_rename(const char *path, const char *path2, uint32_t flags)
{
	struct place a, b;
	int r = place(path, &a);

	if (!r)
		r = place(path2, &b);
	if (!r)
		r = t_rename_check(&a, &b, flags);
	if (r)
		return r < 0 ? r : 0;
	if (flags & PST_F_EXCHANGE) {
		find(a.dir, a.name)->node = b.node;
		find(b.dir, b.name)->node = a.node;
		if (tree[a.node].type == 'd')
			tree[a.node].parent = b.dir;
		if (tree[b.node].type == 'd')
			tree[b.node].parent = a.dir;
		return 0;
	}
	if (b.node >= 0)
		entry_del(b.dir, b.name);
	entry_add(b.dir, b.name, a.node);
	entry_del(a.dir, a.name);
	if (tree[a.node].type == 'd')
		tree[a.node].parent = b.dir;
	return 0;
}

/* --- both at once --- */

static void compare(const char *what, const char *path, const char *path2, int got, int expected)
{
	if (getenv("PST_FS_TRACE"))
		print_message("%s %s %s: %d\n", what, path, path2, got);
	if (got != expected)
		fail_msg("PST_FS_SEED=%llu: %s %s %s: %d, but %d in the tree",
		         (unsigned long long)fsx_seed, what, path, path2, got, expected);
}

static void compare_node(int n)
{
	static const uint32_t types[] = {['d'] = S_IFDIR, ['f'] = S_IFREG, ['l'] = S_IFLNK};
	const struct node *t = &tree[n];
	char buf[64];

	compare("getattr", "", "", fsx_getattr(x, t->ino), 0);
	assert_int_equal(x->attr.mode & S_IFMT, types[(unsigned char)t->type]);
	assert_int_equal(x->attr.nlink, links(n));
	assert_int_equal(x->attr.size_bytes, t->type == 'd' ? 0 : t->size);
	if (t->type != 'f')
		return;
	compare("read", "", "", fsx_read(x, t->ino, 0, buf, sizeof(buf)), 0);
	assert_int_equal(x->ret_len, t->size);
	assert_memory_equal(buf, t->data, t->size);
}

static void compare_dir(int dir, const char *path, unsigned depth)
{
	char buf[256], expected[256] = "", sub[128];

	compare_node(dir);
	for (unsigned i = 0; i < tree[dir].count; i++) {
		if (i)
			strcat(expected, " ");
		strcat(expected, tree[dir].entries[i].name);
	}
	compare("list", path, "",
	        fsx_list(x, path, (unsigned)rng_below(&rng, 3), rng_below(&rng, 2), buf,
	                 sizeof(buf)),
	        0);
	assert_string_equal(buf, expected);
	for (unsigned i = 0; i < tree[dir].count; i++) {
		const struct entry *e = &tree[dir].entries[i];

		snprintf(sub, sizeof(sub), "%s/%s", path, e->name);
		compare("lookup", sub, "", fsx_lookup(x, sub, PST_F_NOFOLLOW), 0);
		assert_int_equal(x->ino, tree[e->node].ino);
		if (tree[e->node].type == 'd')
			compare_dir(e->node, sub, depth + 1);
		else
			compare_node(e->node);
	}
}

static void compare_all(void)
{
	unsigned used = 0;

	compare_dir(ROOT, "/", 0);
	for (unsigned i = 0; i < NODES; i++) {
		used += tree[i].used;
		if (tree[i].used && !tree[i].names && i != ROOT)
			compare_node((int)i); /* held open */
	}
	assert_int_equal(fsx_check(x), used);
}

static void random_path(char *path)
{
	static const char *const tails[] = {"", "", "", "", "", "", "/", "/.", "/.."};
	static const char *const parts[] = {"a", "b", "c", "d", "a", "b", ".."};
	uint64_t n = 1 + rng_below(&rng, 3);

	path[0] = 0;
	for (uint64_t i = 0; i < n; i++) {
		if (i || !rng_below(&rng, 8))
			strcat(path, "/");
		strcat(path, parts[rng_below(&rng, i + 1 < n ? 7 : 4)]);
	}
	strcat(path, tails[rng_below(&rng, ARRAY_LEN(tails))]);
	if (!rng_below(&rng, 100))
		strcpy(path, "/");
}

static void random_make(const char *p, const char *q)
{
	static const uint32_t flags[] = {0, PST_F_EXCL, PST_F_TRUNCATE};
	static const char *const targets[] = {"a", "b", "/a/b", "/c", "../d", "/d/"};
	uint64_t which = rng_below(&rng, 4);
	uint32_t f = flags[rng_below(&rng, 3)];
	const char *t = targets[rng_below(&rng, ARRAY_LEN(targets))];
	int r, n = -1;

	if (which < 2) {
		r = t_create(p, f, q, &n);
		if (r == -EXFULL)
			return;
		compare("create", p, "", fsx_create_data(x, p, q, f), r);
	} else if (which == 2) {
		r = t_mkdir(p, &n);
		compare("mkdir", p, "", fsx_mkdir(x, p), r);
	} else {
		r = t_symlink(p, t, &n);
		compare("symlink", p, t, fsx_symlink(x, p, t), r);
	}
	if (r)
		return;
	if (tree[n].ino)
		assert_int_equal(tree[n].ino, x->ino);
	tree[n].ino = x->ino;
}

static void random_data(const char *p)
{
	int n = look(p, true);
	struct node *t = &tree[n < 0 ? 0 : n];
	int r = n < 0 ? n : 0;

	if (r || t->type == 'd') {
		compare("lookup", p, "", fsx_lookup(x, p, 0), r);
	} else if (t->size < 60) {
		compare("append", p, "", fsx_write(x, t->ino, 0, "xy", PST_F_APPEND), 0);
		assert_int_equal(x->ret_off, t->size);
		memcpy(t->data + t->size, "xy", 2);
		t->size += 2;
	} else {
		struct pst_op op = fsx_op(x, PST_OP_SETATTR, p);

		op.attr.size_bytes = t->size = (unsigned)rng_below(&rng, 10);
		op.attr_mask = PST_ATTR_SIZE;
		compare("truncate", p, "", fsx_run(x, &op), 0);
	}
}

static void random_xattr(const char *p)
{
	int n = look(p, true);
	int r = n < 0 ? n : 0;
	char buf[8];

	switch (rng_below(&rng, 3)) {
	case 0:
		r = r ? r : tree[n].xattr ? -EEXIST : 0;
		compare("setxattr", p, "", fsx_setx(x, p, "k", "v", PST_F_EXCL), r);
		break;
	case 1:
		r = r ? r : tree[n].xattr ? 0 : -ENODATA;
		compare("getxattr", p, "", fsx_getx(x, p, "k", buf, 8), r);
		return;
	default:
		r = r ? r : tree[n].xattr ? 0 : -ENODATA;
		compare("removexattr", p, "", fsx_delx(x, p, "k"), r);
		break;
	}
	if (!r)
		tree[n].xattr = !tree[n].xattr;
}

static void random_hold(const char *p)
{
	int n = look(p, true);

	if (rng_below(&rng, 3)) {
		compare("open", p, "", fsx_hold(x, p, 0), n < 0 ? n : 0);
		if (n >= 0 && tree[n].type == 'd')
			compare("close", p, "", fsx_drop(x, tree[n].ino), 0);
		else if (n >= 0)
			tree[n].held++;
		return;
	}
	n = (int)rng_below(&rng, NODES);
	for (int i = 0; i < NODES; i++, n = (n + 1) % NODES) {
		if (!tree[n].used || !tree[n].held)
			continue;
		compare("close", p, "", fsx_drop(x, tree[n].ino), 0);
		tree[n].held--;
		if (!tree[n].held)
			node_check(n);
		return;
	}
}

static void random_restart(void)
{
	fsx_restart(x);
	for (int i = 0; i < NODES; i++) {
		tree[i].held = 0;
		if (tree[i].used && i != ROOT)
			node_check(i);
	}
}

static void random_op(void)
{
	static const uint32_t flags[] = {0, 0, PST_F_EXCL, PST_F_EXCHANGE};
	uint64_t which = rng_below(&rng, 100);
	uint32_t f = flags[rng_below(&rng, 4)];
	char p[64], q[64];

	random_path(p);
	random_path(q);
	if (which < 35) {
		random_make(p, q);
	} else if (which < 45) {
		f = rng_below(&rng, 2) ? PST_F_REPLACE : 0;
		compare("link", p, q, fsx_link(x, p, q, f), t_link(p, q, f));
	} else if (which < 53) {
		compare("unlink", p, "", fsx_unlink(x, p), t_unlink(p));
	} else if (which < 58) {
		compare("rmdir", p, "", fsx_rmdir(x, p), t_rmdir(p));
	} else if (which < 80) {
		compare("rename", p, q, fsx_rename(x, p, q, f), t_rename(p, q, f));
	} else if (which < 87) {
		random_data(p);
	} else if (which < 92) {
		random_xattr(p);
	} else if (which < 99) {
		random_hold(p);
	} else if (!rng_below(&rng, 5)) {
		random_restart();
	}
}

static void run_seed(uint64_t seed)
{
	const struct model_store_opts slow = {.later = true, .busy = 0.2, .seed = seed};
	const struct fs_opts opts = {.ino_range = 16};

	fsx_seed = seed;
	rng_seed(&rng, seed);
	memset(tree, 0, sizeof(tree));
	tree[ROOT] = (struct node){.used = true, .type = 'd', .ino = PST_INO_ROOT};
	fsx_open(x, &opts, seed % 3 ? NULL : &slow,
	         seed % 5 ? 0 : PST_CAP_EXISTING | PST_CAP_REPLAY);
	for (unsigned i = 0; i < 400; i++) {
		random_op();
		if (i % 50 == 49)
			compare_all();
	}
	fsx_close(x);
}

static void test_random(void **state)
{
	const char *env = getenv("PST_FS_SEED");

	if (env) {
		run_seed(strtoull(env, NULL, 0));
		return;
	}
	for (uint64_t seed = 1; seed <= 400; seed++)
		run_seed(seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};

	return cmocka_run_group_tests_name("fs_random", tests, NULL, NULL);
}
