/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check - the tree of a container, examined and mended: see check.h.
 *
 * Every inode is in one table. It is filled from the list of objects; then the entries of each
 * directory are counted against it; then what does not add up is told and mended. An entry that is
 * to go is collected while its directory is listed, and dropped after.
 *
 * Directories hang together by the parents that entries give them. A climb from each marks those
 * that reach the root; one that comes upon itself is on a cycle, which is cut at the directory that
 * it began with.
 */
#include <stdio.h>
#include <sys/stat.h>

#include "fs/check.h"
#include "fs_int.h"

#define LOST_NAME "lost+found"

struct inode {
	uint64_t ino;
	uint64_t parent;   /* directories: as the label has it */
	uint64_t named_in; /* directory of the (first) entry; 0: none */
	uint32_t nlink;
	uint32_t entries;
	uint32_t subdirs;
	uint8_t type; /* DT_*; DT_UNKNOWN: its label makes no sense */
	bool orphan;
	uint8_t reach; /* enum reach */
};

enum reach {
	REACH_UNKNOWN,
	REACH_CLIMBING, /* on the path of the climb under way */
	REACH_ROOT,
	REACH_LOST,
};

struct drop { /* an entry that goes, or whose type is corrected */
	uint64_t dir;
	uint16_t key_len;
	bool retype;
	uint64_t ino;
	uint8_t type;
	uint8_t key[PST_KEY_MAX];
};

struct check {
	struct store *below;
	uint32_t cont;
	uint64_t view;
	const struct fs_check_opts *o;
	struct fs_check_report rep;
	struct inode *inode; /* sorted by number */
	size_t count, cap;
	struct drop *drop;
	size_t drops, drops_cap;
	uint64_t dir; /* the one that is listed */
	uint64_t counter;
	int status;
};

/* --- ops --- */

static int run(struct check *c, struct pst_op *op)
{
	op->cont = c->cont;
	op->view = c->view;
	return store_run(c->below, op);
}

static int change(struct check *c, struct pst_mut *m, uint32_t count)
{
	struct pst_op op = {.opcode = PST_OP_BATCH, .muts = m, .mut_count = count};

	return c->view ? c->o->change(c->o->arg, c->cont, c->view, m, count) : run(c, &op);
}

static void found(struct check *c, bool done, const char *remedy, const char *fmt, ...)
        __attribute__((format(printf, 4, 5)));
static void found(struct check *c, bool done, const char *remedy, const char *fmt, ...)
{
	char what[512], text[640];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	(void)snprintf(text, sizeof(text), "%s; %s%s", what, remedy ? "repair: " : "",
	               remedy ? remedy : "it can't be repaired");
	c->rep.findings++;
	c->rep.repaired += done;
	if (c->o->finding)
		c->o->finding(c->o->arg, text, done);
}

static bool repair(const struct check *c)
{
	return c->o->repair && (!c->view || c->o->change);
}

/* Runs a repair's batch: true when it was done. */
static bool mend(struct check *c, struct pst_mut *m, uint32_t count)
{
	return repair(c) && change(c, m, count) == 0;
}

/* --- the table --- */

static struct inode *inode_find(struct check *c, uint64_t ino)
{
	size_t lo = 0, hi = c->count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (c->inode[mid].ino == ino)
			return &c->inode[mid];
		if (c->inode[mid].ino < ino)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

/* Room for one more element of @size in the array @p; NULL: no memory. */
static void *grow(void *p, size_t count, size_t *cap, size_t size)
{
	size_t more = *cap ? *cap + *cap / 2 : 64;
	void *big;

	if (count < *cap)
		return p;
	big = mem_realloc(p, more * size);
	if (big)
		*cap = more;
	return big;
}

static bool note_object(struct pst_op *op, const struct pst_entry *e)
{
	struct check *c = (void *)op->cont_info; /* lists leave it alone */
	struct inode *p = grow(c->inode, c->count, &c->cap, sizeof(*c->inode));

	if (!p) {
		c->status = -ENOMEM;
		return false;
	}
	c->inode = p;
	if (e->oid.hi != FS_OID_HI) { /* somebody's own: this layer neither made nor needs it */
		c->rep.others++;
		return true;
	}
	if (e->oid.lo == FS_INO_BOOK)
		return true;
	pst_assert(!c->count || c->inode[c->count - 1].ino < e->oid.lo);
	c->inode[c->count++] = (struct inode){.ino = e->oid.lo};
	return true;
}

static int label_get(struct check *c, uint64_t ino, struct fs_label *ret_label)
{
	struct pst_obj_stat st = {0};
	struct pst_op op = {.opcode = PST_OP_STAT, .oid = fs_oid(ino), .stat = &st};
	int err = run(c, &op);

	if (err)
		return err;
	return st.exists ? fs_label_unpack(ret_label, ino, st.label, st.label_len) : -ENOENT;
}

/* A symbolic link has a value that says where it leads to. */
static bool is_symlink(struct check *c, uint64_t ino)
{
	static const char key = FS_KEY_SYMLINK;
	uint8_t val[16];
	struct pst_op op = {.opcode = PST_OP_KV_GET,
	                    .oid = fs_oid(ino),
	                    .key = &key,
	                    .key_len = 1,
	                    .val = val,
	                    .val_cap = sizeof(val)};
	int err = run(c, &op);

	return !err || err == -ERANGE;
}

/* A new label for one that is damaged or lost: what the inode's number and keys still say. */
static bool relabel(struct check *c, struct inode *n, struct fs_label *ret_label)
{
	static const char *const what[] = {[FS_KIND_FILE] = "make it a file of mode 0600",
	                                   [FS_KIND_DIR] = "make it a directory of mode 0700",
	                                   [FS_KIND_OTHER] = "make it a socket"};
	enum fs_kind kind = fs_ino_kind(n->ino);
	bool link = kind == FS_KIND_OTHER && is_symlink(c, n->ino);
	uint8_t packed[FS_LABEL_BYTES];
	struct pst_mut m = {.kind = PST_SET_LABEL, .oid = fs_oid(n->ino), .val = packed};

	if (kind > FS_KIND_OTHER) {
		found(c, false, NULL, "inode %llu: there are no such numbers",
		      (unsigned long long)n->ino);
		return false;
	}
	*ret_label = (struct fs_label){.nlink = 1};
	if (kind == FS_KIND_DIR)
		*ret_label = (struct fs_label){
		        .mode = S_IFDIR | 0700, .nlink = 2, .parent = PST_INO_ROOT};

	else
		ret_label->mode = kind == FS_KIND_FILE ? S_IFREG | 0600
		                  : link               ? S_IFLNK | 0777
		                                       : S_IFSOCK;
	m.val_len = fs_label_pack(ret_label, packed);
	found(c, mend(c, &m, 1), link ? "make it a symbolic link" : what[kind],
	      "inode %llu: its label makes no sense", (unsigned long long)n->ino);
	return true;
}

/* Before all others in the table. */
static int root_make(struct check *c)
{
	struct fs_label l = {.mode = S_IFDIR | 0755, .nlink = 2, .parent = PST_INO_ROOT};
	uint8_t packed[FS_LABEL_BYTES];
	struct pst_mut m = {.kind = PST_SET_LABEL, .oid = fs_oid(PST_INO_ROOT), .val = packed};
	struct inode *p = grow(c->inode, c->count, &c->cap, sizeof(*c->inode));

	if (!p)
		return -ENOMEM;
	c->inode = p;
	memmove(p + 1, p, c->count++ * sizeof(*p));
	*p = (struct inode){
	        .ino = PST_INO_ROOT, .type = DT_DIR, .nlink = 2, .parent = PST_INO_ROOT};
	m.val_len = fs_label_pack(&l, packed);
	found(c, mend(c, &m, 1), "make it anew", "the root directory is not there");
	return 0;
}

static int load_inodes(struct check *c)
{
	struct pst_op op = {.opcode = PST_OP_OBJ_LIST, .entry = note_object};
	int err;

	op.cont_info = (void *)c;
	err = run(c, &op);
	if (err || c->status)
		return err ? err : c->status;
	if (c->count && !inode_find(c, PST_INO_ROOT))
		err = root_make(c);
	if (err)
		return err;
	for (size_t i = 0; i < c->count; i++) {
		struct inode *n = &c->inode[i];
		struct fs_label l;

		if (n->type != DT_UNKNOWN)
			continue; /* the root that was made: without repair it is not there to be read */

		err = label_get(c, n->ino, &l);
		if (err && err != -EBADMSG)
			return err;
		if (err && !relabel(c, n, &l))
			continue;
		err = 0;
		n->type = fs_type_of_mode(l.mode);
		n->nlink = l.nlink;
		n->parent = n->type == DT_DIR ? l.parent : 0;
		c->rep.inodes++;
		c->rep.directories += n->type == DT_DIR;
	}
	return 0;
}

/* --- entries --- */

static void drop_note(struct check *c, const struct pst_entry *e, bool retype, uint64_t ino,
                      uint8_t type)
{
	struct drop *p = grow(c->drop, c->drops, &c->drops_cap, sizeof(*c->drop));

	if (!p) {
		c->status = -ENOMEM;
		return;
	}
	c->drop = p;
	p = &c->drop[c->drops++];
	*p = (struct drop){.dir = c->dir, .retype = retype, .ino = ino, .type = type};
	p->key_len = (uint16_t)MIN(e->name_len, sizeof(p->key));
	memcpy(p->key, e->name, p->key_len);
}

static bool name_ok(const char *name, size_t len)
{
	return len >= 1 && len <= PST_NAME_MAX && !memchr(name, '/', len) &&
	       !memchr(name, 0, len) && !(len == 1 && name[0] == '.') &&
	       !(len == 2 && name[0] == '.' && name[1] == '.');
}

static void entry(struct check *c, const struct pst_entry *e)
{
	const char *name = (const char *)e->name + 1;
	unsigned long long dir = c->dir;
	int len = (int)e->name_len - 1;
	struct inode *n;
	uint64_t ino;
	uint8_t type;

	c->rep.entries++;
	if (!name_ok(name, (size_t)len) || fs_dirent_unpack(&ino, &type, e->val, e->val_len)) {
		found(c, repair(c), "drop it", "directory %llu: entry '%.*s' makes no sense", dir,
		      MIN(len, 255), name);
		drop_note(c, e, false, 0, 0);
		return;
	}
	n = inode_find(c, ino);
	if (!n) {
		found(c, repair(c), "drop it",
		      "directory %llu: entry '%.*s' leads to inode %llu, which is not there", dir,
		      len, name, (unsigned long long)ino);
		drop_note(c, e, false, 0, 0);
		return;
	}
	if (n->type == DT_DIR && n->named_in) {
		found(c, repair(c), "drop it",
		      "directory %llu: entry '%.*s' is a second name of directory %llu", dir, len,
		      name, (unsigned long long)ino);
		drop_note(c, e, false, 0, 0);
		return;
	}
	if (n->type != DT_UNKNOWN && n->type != type) {
		found(c, repair(c), "correct it",
		      "directory %llu: entry '%.*s' says type %u, and inode %llu has %u", dir, len,
		      name, type, (unsigned long long)ino, n->type);
		drop_note(c, e, true, ino, n->type);
	}
	n->entries++;
	n->named_in = c->dir;
}

static void orphan(struct check *c, const struct pst_entry *e)
{
	struct inode *n;
	uint64_t ino;

	c->rep.orphans++;
	if (e->name_len != 1 + sizeof(ino)) {
		found(c, repair(c), "drop it", "an entry of the orphan list makes no sense");
		drop_note(c, e, false, 0, 0);
		return;
	}
	memcpy(&ino, (const uint8_t *)e->name + 1, sizeof(ino));
	n = inode_find(c, be64toh(ino));
	if (n) {
		n->orphan = true;
		return;
	}
	found(c, repair(c), "take it off the list", "orphan %llu is not there",
	      (unsigned long long)be64toh(ino));
	drop_note(c, e, false, 0, 0);
}

static bool note_key(struct pst_op *op, const struct pst_entry *e)
{
	struct check *c = (void *)op->cont_info;
	const char *key = e->name;
	le64 le;

	if (c->dir != FS_INO_BOOK && e->name_len && key[0] == FS_KEY_DIRENT)
		entry(c, e);
	else if (c->dir == FS_INO_BOOK && e->name_len && key[0] == FS_KEY_ORPHAN)
		orphan(c, e);
	else if (c->dir == FS_INO_BOOK && e->name_len == 1 && key[0] == FS_KEY_COUNTER &&
	         e->val_len == sizeof(le)) {
		memcpy(&le, e->val, sizeof(le));
		c->counter = le64_get(le);
	}
	return c->status == 0;
}

/* Drops or corrects what the listing of one object has collected. */
static int drops_apply(struct check *c)
{
	int err = c->status;

	for (size_t i = 0; i < c->drops && !err && repair(c); i++) {
		struct drop *d = &c->drop[i];
		uint8_t val[FS_DIRENT_BYTES];
		struct pst_mut m = {.kind = d->retype ? PST_KV_PUT : PST_KV_DEL,
		                    .oid = fs_oid(d->dir),
		                    .key = d->key,
		                    .key_len = d->key_len};

		if (d->retype) {
			fs_dirent_pack(d->ino, d->type, val);
			m.val = val;
			m.val_len = sizeof(val);
		}
		err = change(c, &m, 1);
	}
	c->drops = 0;
	return err;
}

static int list_keys(struct check *c, uint64_t ino)
{
	struct pst_op op = {.opcode = PST_OP_KV_LIST,
	                    .oid = fs_oid(ino),
	                    .want_values = true,
	                    .entry = note_key};
	int err;

	op.cont_info = (void *)c;
	c->dir = ino;
	err = run(c, &op);
	return err ? err : drops_apply(c);
}

static int load_entries(struct check *c)
{
	int err = list_keys(c, FS_INO_BOOK);

	for (size_t i = 0; i < c->count && !err; i++)
		if (c->inode[i].type == DT_DIR)
			err = list_keys(c, c->inode[i].ino);
	return err;
}

/* --- what hangs together --- */

struct seek { /* the entry of one inode */
	struct check *c;
	uint64_t ino;
	uint32_t key_len;
	uint8_t key[PST_KEY_MAX];
};

static bool seek_key(struct pst_op *op, const struct pst_entry *e)
{
	struct seek *k = (void *)op->cont_info;
	const char *key = e->name;
	uint64_t ino;
	uint8_t type;

	if (!e->name_len || key[0] != FS_KEY_DIRENT || e->name_len > sizeof(k->key) ||
	    fs_dirent_unpack(&ino, &type, e->val, e->val_len) || ino != k->ino)
		return true;
	k->key_len = e->name_len;
	memcpy(k->key, key, k->key_len);
	return false;
}

/* Takes away the one name of directory @n: true when it was done. */
static bool cut(struct check *c, struct inode *n)
{
	struct seek k = {.c = c, .ino = n->ino};
	struct pst_op op = {.opcode = PST_OP_KV_LIST,
	                    .oid = fs_oid(n->named_in),
	                    .want_values = true,
	                    .entry = seek_key};
	struct pst_mut m = {.kind = PST_KV_DEL, .oid = fs_oid(n->named_in), .key = k.key};

	op.cont_info = (void *)&k;
	if (!repair(c) || run(c, &op) || !k.key_len)
		return false;
	m.key_len = k.key_len;
	if (!mend(c, &m, 1))
		return false;
	n->named_in = 0;
	n->entries = 0;
	return true;
}

static void climb(struct check *c, struct inode *from)
{
	struct inode *n = from, *next;
	bool circle;
	uint8_t verdict;

	while (n && n->ino != PST_INO_ROOT && n->reach == REACH_UNKNOWN) {
		n->reach = REACH_CLIMBING;
		n = n->named_in ? inode_find(c, n->named_in) : NULL;
	}
	circle = n && n->reach == REACH_CLIMBING;
	verdict = n && (n->ino == PST_INO_ROOT || n->reach == REACH_ROOT) ? REACH_ROOT : REACH_LOST;
	for (next = from; next && next->reach == REACH_CLIMBING;
	     next = next->named_in ? inode_find(c, next->named_in) : NULL)
		next->reach = verdict;
	if (circle)
		found(c, cut(c, n), "cut the circle here, and name it in /" LOST_NAME,
		      "directory %llu is inside itself", (unsigned long long)n->ino);
}

static bool is_named(const struct inode *n)
{
	return n->named_in || n->ino == PST_INO_ROOT;
}

/* --- repairs --- */

static bool label_put(struct check *c, const struct inode *n, const struct fs_label *l)
{
	uint8_t packed[FS_LABEL_BYTES];
	struct pst_mut m = {.kind = PST_SET_LABEL, .oid = fs_oid(n->ino), .val = packed};

	m.val_len = fs_label_pack(l, packed);
	return mend(c, &m, 1);
}

/* The inode of /lost+found, made if need be; 0: it can't be had. */
static uint64_t lost_dir(struct check *c)
{
	static const char key[] = "d" LOST_NAME;
	uint8_t val[FS_DIRENT_BYTES], counter[8], packed[FS_LABEL_BYTES];
	struct fs_label l = {.mode = S_IFDIR | 0700, .nlink = 2, .parent = PST_INO_ROOT}, root;
	struct pst_op get = {.opcode = PST_OP_KV_GET,
	                     .oid = fs_oid(PST_INO_ROOT),
	                     .key = key,
	                     .key_len = sizeof(key) - 1,
	                     .val = val,
	                     .val_cap = sizeof(val)};
	struct inode *r = inode_find(c, PST_INO_ROOT);
	uint64_t ino, next = c->counter;
	uint8_t type;
	le64 le;
	int err = run(c, &get);

	if (!err)
		return get.ret_len == sizeof(val) &&
		                       !fs_dirent_unpack(&ino, &type, val, sizeof(val)) &&
		                       type == DT_DIR
		               ? ino
		               : 0;
	if (err != -ENOENT || !r || label_get(c, PST_INO_ROOT, &root))
		return 0;
	/* Above every number that is there, whatever the counter says. */
	if (c->count)
		next = MAX(next, (c->inode[c->count - 1].ino >> 2) + 1);
	if (!next || next >= FS_COUNTER_MAX)
		return 0;
	ino = next << 2 | FS_KIND_DIR;
	le = le64_make(next + 1);
	memcpy(counter, &le, sizeof(counter));
	fs_dirent_pack(ino, DT_DIR, val);

	struct pst_mut m[] = {
	        {.kind = PST_SET_LABEL, .oid = fs_oid(ino), .val = packed},
	        {.kind = PST_KV_PUT,
	         .oid = fs_oid(PST_INO_ROOT),
	         .key = key,
	         .key_len = sizeof(key) - 1,
	         .val = val,
	         .val_len = sizeof(val)},
	        {.kind = PST_KV_PUT,
	         .oid = fs_oid(FS_INO_BOOK),
	         .key = "n",
	         .key_len = 1,
	         .val = counter,
	         .val_len = sizeof(counter)},
	        {.kind = PST_SET_LABEL, .oid = fs_oid(PST_INO_ROOT)},
	};
	uint8_t root_packed[FS_LABEL_BYTES];

	m[0].val_len = fs_label_pack(&l, packed);
	root.nlink++;
	m[3].val = root_packed;
	m[3].val_len = fs_label_pack(&root, root_packed);
	if (change(c, m, ARRAY_LEN(m)))
		return 0;
	r->nlink++;
	r->subdirs++;
	c->counter = next + 1;
	return ino;
}

/* Directory @n is in @dir now: its parent, and the links there. */
static bool moved(struct check *c, struct inode *n, uint64_t dir)
{
	struct inode *lost = inode_find(c, dir); /* NULL: it was made just now */
	struct inode made = {.ino = dir};
	struct fs_label l;

	if (label_get(c, n->ino, &l))
		return false;
	l.parent = n->parent = dir;
	if (!label_put(c, n, &l) || label_get(c, dir, &l))
		return false;
	l.nlink++;
	if (lost) {
		lost->nlink++;
		lost->subdirs++;
	}
	return label_put(c, &made, &l);
}

/* Gives @n a name in /lost+found. */
static bool relink(struct check *c, struct inode *n)
{
	uint8_t val[FS_DIRENT_BYTES];
	char key[32];
	uint64_t dir = repair(c) ? lost_dir(c) : 0;
	struct pst_mut m = {.kind = PST_KV_PUT, .oid = fs_oid(dir), .key = key, .val = val};

	if (!dir || dir == n->ino)
		return false;
	(void)snprintf(key, sizeof(key), "d#%llu", (unsigned long long)n->ino);
	m.key_len = (uint32_t)strlen(key);
	m.val_len = sizeof(val);
	fs_dirent_pack(n->ino, n->type, val);
	if (!mend(c, &m, 1))
		return false;
	n->entries++;
	n->named_in = dir;
	return n->type != DT_DIR || moved(c, n, dir);
}

/* --- telling --- */

static void check_named(struct check *c, struct inode *n)
{
	struct pst_mut m = {.kind = PST_KV_DEL, .oid = fs_oid(FS_INO_BOOK)};
	uint64_t be = htobe64(n->ino);
	uint8_t key[9] = {FS_KEY_ORPHAN};

	memcpy(key + 1, &be, sizeof(be));
	m.key = key;
	m.key_len = sizeof(key);
	if (n->orphan && is_named(n))
		found(c, mend(c, &m, 1), "take it off the list",
		      "inode %llu has a name and is on the orphan list",
		      (unsigned long long)n->ino);
	if (is_named(n) || n->orphan || n->type == DT_UNKNOWN)
		return;
	found(c, relink(c, n), "name it in /" LOST_NAME, "no entry leads to inode %llu",
	      (unsigned long long)n->ino);
}

static void check_label(struct check *c, struct inode *n)
{
	uint32_t want = n->type == DT_DIR ? 2 + n->subdirs : n->entries;
	uint64_t parent = n->ino == PST_INO_ROOT ? PST_INO_ROOT : n->named_in;
	bool links = n->nlink != want, up = n->type == DT_DIR && parent && n->parent != parent;
	struct fs_label l;
	bool done = false;

	if (n->type == DT_UNKNOWN || n->orphan || (!links && !up))
		return;
	if (repair(c) && !label_get(c, n->ino, &l)) {
		l.nlink = want;
		if (up)
			l.parent = parent;
		done = label_put(c, n, &l);
	}
	if (links)
		found(c, done, "correct the count", "inode %llu counts %u links, and has %u",
		      (unsigned long long)n->ino, n->nlink, want);
	if (up)
		found(c, done, "correct it",
		      "directory %llu says that its parent is %llu, and is named in %llu",
		      (unsigned long long)n->ino, (unsigned long long)n->parent,
		      (unsigned long long)parent);
}

static void count_subdirs(struct check *c)
{
	for (size_t i = 0; i < c->count; i++) {
		struct inode *n = &c->inode[i];
		struct inode *up =
		        n->type == DT_DIR && n->named_in ? inode_find(c, n->named_in) : NULL;

		if (up)
			up->subdirs++;
	}
}

/* Numbers are given out once: the counter is above them all. */
static void check_counter(struct check *c, uint64_t max)
{
	uint8_t val[8];
	struct pst_mut m = {.kind = PST_KV_PUT,
	                    .oid = fs_oid(FS_INO_BOOK),
	                    .key = "n",
	                    .key_len = 1,
	                    .val = val,
	                    .val_len = sizeof(val)};
	le64 le = le64_make((max >> 2) + 1);

	if (max == PST_INO_ROOT || c->counter > max >> 2)
		return;
	memcpy(val, &le, sizeof(val));
	found(c, mend(c, &m, 1), "raise it",
	      "the counter of inode numbers says %llu, and %llu is in use",
	      (unsigned long long)c->counter, (unsigned long long)(max >> 2));
}

static void tell(struct check *c)
{
	size_t known = c->count;
	uint64_t known_max = known ? c->inode[known - 1].ino : 0;

	for (size_t i = 0; i < known; i++)
		if (c->inode[i].type == DT_DIR)
			climb(c, &c->inode[i]);
	count_subdirs(c);
	for (size_t i = 0; i < known; i++)
		check_named(c, &c->inode[i]);
	for (size_t i = 0; i < known; i++)
		check_label(c, &c->inode[i]);
	if (known)
		check_counter(c, known_max);
}

int fs_check(struct store *below, uint32_t cont, uint64_t view, const struct fs_check_opts *opts,
             struct fs_check_report *ret_report, struct pst_err *err)
{
	struct check c = {.below = below, .cont = cont, .view = view, .o = opts};
	int r = load_inodes(&c);

	if (!r)
		r = load_entries(&c);
	if (!r)
		tell(&c);
	if (!r)
		r = c.status;
	mem_free(c.inode);
	mem_free(c.drop);
	if (r)
		return err_set(err, r, "container %u can't be examined: %s", cont, strerror(-r));
	*ret_report = c.rep;
	return 0;
}
