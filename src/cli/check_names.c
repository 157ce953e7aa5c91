/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_names - see check_names.h. What must hold in each view (fs/fs.h says how it is stored):
 *
 *  1. an inode's label can be read, and its kind fits its number;
 *  2. an entry has a good name, names an inode that is there, and has its type;
 *  3. an inode that is no directory has as many entries as links; none: it is listed as an orphan;
 *  4. a directory but the root has one entry, in the directory that it calls its parent, and as many
 *     links as sub-directories and two; going up from it leads to the root;
 *  5. a symbolic link has a target as long as it says;
 *  6. an orphan that is listed is there (or was just reaped: that is no harm and not told).
 *
 * Repairs: an entry of nothing is removed; a wrong number of links, parent or type is set right; an
 * inode without a name comes into /lost+found under its number. A label that can't be read is not
 * guessed.
 */
#include "cli/check_names.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <sys/stat.h>

#include "base/base.h"
#include "fs/fs.h"

#define TABLE_MIN 1024

struct inode {
	uint64_t ino; /* 0: a free slot */
	uint64_t parent, named_in;
	uint32_t mode, nlink, names, subdirs;
	bool bad, orphan, leads_up;
};

struct view {
	struct check_names *c;
	struct pst_cont *cont;
	const char *name; /* of the container, with the snapshot */
	bool live;
	struct inode *table;
	size_t count, mask;
	int rc;
	struct inode *dir; /* whose entries are being listed */
};

static void found(struct view *v, bool repaired, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
static void found(struct view *v, bool repaired, const char *fmt, ...)
{
	char text[2 * PST_NAME_MAX + 256];
	int n = snprintf(text, sizeof(text), "%s: ", v->name);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text + n, sizeof(text) - (size_t)n, fmt, ap);
	va_end(ap);
	v->c->findings++;
	v->c->repaired += repaired;
	v->c->finding(v->c->arg, text, repaired);
}

static bool may_repair(const struct view *v)
{
	return v->c->repair && v->live;
}

/* --- the table of inodes: open addressing --- */

static struct inode *slot_of(struct inode *table, size_t mask, uint64_t ino)
{
	size_t at = hash_u64(ino) & mask;

	while (table[at].ino && table[at].ino != ino)
		at = (at + 1) & mask;
	return &table[at];
}

static struct inode *inode_find(const struct view *v, uint64_t ino)
{
	struct inode *n = ino ? slot_of(v->table, v->mask, ino) : NULL;

	return n && n->ino ? n : NULL;
}

static int table_grow(struct view *v)
{
	size_t mask = v->table ? 2 * v->mask + 1 : TABLE_MIN - 1;
	struct inode *table = mem_calloc(mask + 1, sizeof(*table));

	if (!table)
		return -ENOMEM;
	for (size_t i = 0; v->table && i <= v->mask; i++)
		if (v->table[i].ino)
			*slot_of(table, mask, v->table[i].ino) = v->table[i];
	mem_free(v->table);
	v->table = table;
	v->mask = mask;
	return 0;
}

/* --- writing a label back --- */

static bool label_write(struct view *v, const struct inode *n)
{
	uint8_t bytes[FS_LABEL_BYTES];
	struct pst_obj_stat st;
	struct fs_label label;
	struct pst_mut mut = {.kind = PST_SET_LABEL, .oid = fs_oid(n->ino), .val = bytes};

	if (pst_obj_stat(v->cont, fs_oid(n->ino), &st) < 0 ||
	    fs_label_unpack(&label, n->ino, st.label, st.label_len) < 0)
		return false;
	label.nlink = n->nlink;
	label.parent = n->parent;
	mut.val_len = fs_label_pack(&label, bytes);
	return pst_batch(v->cont, &mut, 1, 0, NULL) == 0;
}

/* --- 1., 5.: inodes --- */

static void check_target(struct view *v, uint64_t ino, uint64_t size)
{
	static const char key = FS_KEY_SYMLINK;
	static char target[PST_VALUE_MAX];
	uint32_t len = 0;
	int rc = pst_kv_get(v->cont, fs_oid(ino), &key, 1, target, sizeof(target), &len);

	if (rc < 0 || len != size)
		found(v, false, "inode %" PRIu64 ": the target of the symbolic link is %s", ino,
		      rc < 0 ? "missing" : "not as long as its size");
}

static bool add_inode(void *arg, struct pst_oid oid)
{
	struct view *v = arg;
	struct pst_obj_stat st = {0};
	struct fs_label label = {0};
	struct inode *n;

	if (oid.hi != FS_OID_HI || oid.lo == 0)
		return true;
	if (!v->table || 2 * v->count > v->mask)
		v->rc = table_grow(v);
	if (v->rc == 0)
		v->rc = pst_obj_stat(v->cont, oid, &st);
	if (v->rc < 0)
		return false;
	n = slot_of(v->table, v->mask, oid.lo);
	*n = (struct inode){.ino = oid.lo};
	v->count++;
	v->c->inodes++;
	if (fs_label_unpack(&label, oid.lo, st.label, st.label_len) < 0) {
		n->bad = true;
		found(v, false, "inode %" PRIu64 ": its label can't be read", oid.lo);
		return true;
	}
	n->mode = label.mode;
	n->nlink = label.nlink;
	n->parent = label.parent;
	if (S_ISLNK(n->mode))
		check_target(v, oid.lo, st.size_bytes);
	return true;
}

/* --- 2.: entries --- */

static bool name_is_good(const char *name, uint32_t len)
{
	return len > 0 && len <= PST_NAME_MAX && !memchr(name, '/', len) && !memchr(name, 0, len) &&
	       !(len == 1 && name[0] == '.') && !(len == 2 && name[0] == '.' && name[1] == '.');
}

static bool entry_remove(struct view *v, const struct pst_kv *kv)
{
	return may_repair(v) &&
	       pst_kv_del(v->cont, fs_oid(v->dir->ino), kv->key, kv->key_len, 0) == 0;
}

static bool entry_retype(struct view *v, const struct pst_kv *kv, const struct inode *n)
{
	uint8_t bytes[FS_DIRENT_BYTES];

	fs_dirent_pack(n->ino, (uint8_t)IFTODT(n->mode), bytes);
	return may_repair(v) && pst_kv_put(v->cont, fs_oid(v->dir->ino), kv->key, kv->key_len,
	                                   bytes, sizeof(bytes), 0) == 0;
}

static bool add_entry(void *arg, const struct pst_kv *kv)
{
	struct view *v = arg;
	const char *name = (const char *)kv->key + 1;
	uint32_t len = kv->key_len - 1;
	int shown = (int)len;
	struct inode *n;
	uint64_t ino;
	uint8_t type;

	v->c->names++;
	if (fs_dirent_unpack(&ino, &type, kv->val, kv->val_len) < 0) {
		found(v, entry_remove(v, kv), "directory %" PRIu64 ", \"%.*s\": not an entry",
		      v->dir->ino, shown, name);
		return true;
	}
	if (!name_is_good(name, len))
		found(v, false, "directory %" PRIu64 ", \"%.*s\": not a good name", v->dir->ino,
		      shown, name);
	n = inode_find(v, ino);
	if (!n) {
		found(v, entry_remove(v, kv),
		      "directory %" PRIu64 ", \"%.*s\": names inode %" PRIu64
		      ", which is not there",
		      v->dir->ino, shown, name, ino);
		return true;
	}
	if (!n->bad && IFTODT(n->mode) != type)
		found(v, entry_retype(v, kv, n),
		      "directory %" PRIu64 ", \"%.*s\": not of the type of inode %" PRIu64,
		      v->dir->ino, shown, name, ino);
	n->names++;
	n->named_in = v->dir->ino;
	if (S_ISDIR(n->mode))
		v->dir->subdirs++;
	return true;
}

static int check_entries(struct view *v)
{
	static const char prefix = FS_KEY_DIRENT;

	for (size_t i = 0; i <= v->mask; i++) {
		v->dir = &v->table[i];
		if (!v->dir->ino || v->dir->bad || !S_ISDIR(v->dir->mode))
			continue;
		v->rc = pst_kv_list(v->cont, fs_oid(v->dir->ino), &prefix, 1, NULL, 0, true,
		                    add_entry, v);
		if (v->rc < 0)
			return v->rc;
	}
	return 0;
}

/* --- 6.: orphans --- */

static bool add_orphan(void *arg, const struct pst_kv *kv)
{
	struct view *v = arg;
	struct inode *n;
	uint64_t be;

	if (kv->key_len != 1 + sizeof(be)) {
		found(v, false, "an orphan's key is %u bytes long", kv->key_len);
		return true;
	}
	memcpy(&be, (const char *)kv->key + 1, sizeof(be));
	n = inode_find(v, be64toh(be));
	if (n)
		n->orphan = true;
	v->c->orphans++;
	return true;
}

/* --- 3., 4.: inodes against names --- */

/* Gives an inode without a name one in /lost+found. */
static bool rescue(struct view *v, struct inode *n)
{
	struct pst_attr dir;
	char name[32];
	int len = snprintf(name, sizeof(name), "%c%" PRIu64, FS_KEY_DIRENT, n->ino);
	uint8_t bytes[FS_DIRENT_BYTES];

	if (pst_fs_stat(v->cont, 0, "lost+found", 0, &dir) < 0 &&
	    pst_fs_mkdir(v->cont, 0, "lost+found", NULL, 0, 0, &dir) < 0)
		return false;
	fs_dirent_pack(n->ino, (uint8_t)IFTODT(n->mode), bytes);
	if (pst_kv_put(v->cont, fs_oid(dir.ino), name, (uint32_t)len, bytes, sizeof(bytes), 0) < 0)
		return false;
	n->parent = S_ISDIR(n->mode) ? dir.ino : n->parent;
	n->nlink = S_ISDIR(n->mode) ? n->subdirs + 2 : 1;
	if (!label_write(v, n))
		return false;
	if (S_ISDIR(n->mode)) { /* lost+found has one sub-directory more */
		struct inode up = {.ino = dir.ino, .nlink = dir.nlink + 1, .parent = PST_INO_ROOT};

		return label_write(v, &up);
	}
	return true;
}

static void check_links(struct view *v, struct inode *n)
{
	uint32_t want = S_ISDIR(n->mode) ? n->subdirs + 2 : n->names;
	uint32_t has = n->nlink;

	if (has == want)
		return;
	n->nlink = want;
	found(v, may_repair(v) && label_write(v, n),
	      "inode %" PRIu64 ": %u links are recorded, there are %u", n->ino, has, want);
}

static void check_inode(struct view *v, struct inode *n)
{
	if (n->bad)
		return;
	if (n->ino != PST_INO_ROOT && n->names == 0) {
		if (!n->orphan)
			found(v, may_repair(v) && rescue(v, n),
			      "inode %" PRIu64 ": no name leads to it", n->ino);
		return;
	}
	if (S_ISDIR(n->mode) && n->ino != PST_INO_ROOT && n->names > 1)
		found(v, false, "directory %" PRIu64 ": has %u names", n->ino, n->names);
	else if (S_ISDIR(n->mode) && n->ino != PST_INO_ROOT && n->parent != n->named_in) {
		uint64_t wrong = n->parent;

		n->parent = n->named_in;
		found(v, may_repair(v) && label_write(v, n),
		      "directory %" PRIu64 ": is in %" PRIu64 ", but calls %" PRIu64 " its parent",
		      n->ino, n->named_in, wrong);
	}
	check_links(v, n);
}

/* Going up from a directory must come to the root: in fewer steps than there are inodes. */
static void check_circle(struct view *v, struct inode *n)
{
	struct inode *up = n;
	size_t steps = 0;

	while (up && !up->leads_up && up->ino != PST_INO_ROOT && steps++ <= v->count)
		up = up->names ? inode_find(v, up->named_in) : NULL;
	if (steps > v->count) {
		found(v, false, "directory %" PRIu64 ": lies in a circle", n->ino);
		return;
	}
	for (; up && n != up; n = inode_find(v, n->named_in))
		n->leads_up = true;
}

/* --- views, containers --- */

static int check_view(struct view *v)
{
	static const char prefix = FS_KEY_ORPHAN;
	int rc = table_grow(v);

	if (rc == 0)
		rc = pst_obj_list(v->cont, add_inode, v);
	if (rc == 0)
		rc = v->rc;
	if (rc == 0)
		rc = check_entries(v);
	if (rc == 0)
		rc = pst_kv_list(v->cont, fs_oid(0), &prefix, 1, NULL, 0, false, add_orphan, v);
	for (size_t i = 0; rc == 0 && i <= v->mask; i++) {
		if (!v->table[i].ino)
			continue;
		check_inode(v, &v->table[i]);
		if (S_ISDIR(v->table[i].mode))
			check_circle(v, &v->table[i]);
	}
	if (rc == 0 && v->count > 0 && !inode_find(v, PST_INO_ROOT))
		found(v, false, "there is no root directory");
	mem_free(v->table);
	return rc;
}

static int check_one(struct pst_client *client, struct check_names *c, const char *name)
{
	struct view v = {.c = c, .name = name, .live = !strchr(name, '@')};
	int rc = pst_cont_open(client, name, &v.cont);

	if (rc < 0)
		return rc;
	rc = check_view(&v);
	pst_cont_close(v.cont);
	return rc;
}

struct all {
	struct pst_client *client;
	struct check_names *c;
	const char *cont;
	char where[2 * PST_NAME_MAX + 2];
	int rc;
};

static bool each_snapshot(void *arg, const struct pst_snap_info *info)
{
	struct all *a = arg;

	snprintf(a->where, sizeof(a->where), "%s@%s", a->cont, info->name);
	a->rc = check_one(a->client, a->c, a->where);
	return a->rc == 0;
}

static bool each_container(void *arg, const struct pst_cont_info *info)
{
	struct all *a = arg;
	int rc;

	if (info->layout != PST_LAYOUT_POSIX)
		return true;
	snprintf(a->where, sizeof(a->where), "%s", info->name);
	a->cont = info->name;
	a->rc = check_one(a->client, a->c, a->where);
	if (a->rc == 0 && info->snapshots) {
		rc = pst_snap_list(a->client, info->name, each_snapshot, a);
		a->rc = rc < 0 ? rc : a->rc;
	}
	return a->rc == 0;
}

int check_names(struct pst_client *client, struct check_names *c, const char **ret_where)
{
	static struct all a; /* the name of what failed outlives the call */
	int rc;

	a = (struct all){.client = client, .c = c};
	rc = pst_cont_list(client, each_container, &a);
	*ret_where = a.where;
	return rc < 0 ? rc : a.rc;
}
