/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sim_names - lanes that use the names layer: each has a directory of its own in one container and
 * makes, links, renames, writes and removes in it, some of it while it holds the inode open.
 *
 * Opens are in memory only, and so are left out of what is pending: a cut closes everything, and
 * what had no name then must be gone when the container is used again.
 */
#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

#include "names_model.h"

#define HELD_MAX 3

struct name_lane {
	char root[16];
	uint64_t held[HELD_MAX];
};

static uint32_t names_cont; /* of the seed that runs */

/* --- ops --- */

static void set_path(struct name_op *n, const char *path)
{
	snprintf(n->path, sizeof(n->path), "%s", path);
	n->op.name = n->path;
	n->op.name_len = (uint32_t)strlen(n->path);
}

static void set_path2(struct name_op *n, const char *path)
{
	snprintf(n->path2, sizeof(n->path2), "%s", path);
	n->op.name2 = n->path2;
	n->op.name2_len = (uint32_t)strlen(n->path2);
}

static struct name_op *name_op_new(uint8_t opcode)
{
	struct name_op *n = calloc(1, sizeof(*n));

	pst_assert(n);
	n->op.opcode = opcode;
	n->op.cont = names_cont;
	return n;
}

void name_op_free(struct name_op *n)
{
	if (!n)
		return;
	free(n->data);
	free(n);
}

void name_op_rewind(struct name_op *n)
{
	if (n->op.opcode != PST_OP_FILE_WRITE && n->op.opcode != PST_OP_SETATTR)
		n->op.ino = 0;
	n->op.attr = n->attr_in;
	n->op.ret_len = n->op.ret_off = 0;
	n->list_hash = 0;
}

const char *name_op_text(const struct name_op *n, char *buf, size_t buf_len)
{
	static const char *const names[] = {
	        [PST_OP_LOOKUP] = "LOOKUP",       [PST_OP_CREATE] = "CREATE",
	        [PST_OP_MKDIR] = "MKDIR",         [PST_OP_SYMLINK] = "SYMLINK",
	        [PST_OP_LINK] = "LINK",           [PST_OP_UNLINK] = "UNLINK",
	        [PST_OP_RMDIR] = "RMDIR",         [PST_OP_RENAME] = "RENAME",
	        [PST_OP_READDIR] = "READDIR",     [PST_OP_READLINK] = "READLINK",
	        [PST_OP_SETATTR] = "SETATTR",     [PST_OP_SETXATTR] = "SETXATTR",
	        [PST_OP_FILE_OPEN] = "FILE_OPEN", [PST_OP_FILE_CLOSE] = "FILE_CLOSE",
	        [PST_OP_FILE_READ] = "FILE_READ", [PST_OP_FILE_WRITE] = "FILE_WRITE",
	        [PST_OP_FSYNC] = "FSYNC"};
	const char *name = n->op.opcode < ARRAY_LEN(names) ? names[n->op.opcode] : NULL;

	snprintf(buf, buf_len, "%s%s %s %s ino %llu off %llu len %llu flags %x",
	         name ? name : "(restored)", n->op.flags & PST_F_VOLATILE ? " volatile" : "",
	         n->path, n->path2, (unsigned long long)n->op.ino, (unsigned long long)n->op.off,
	         (unsigned long long)n->op.len, n->op.flags);
	return buf;
}

static bool on_entry(struct pst_op *op, const struct pst_entry *e)
{
	struct name_op *n = container_of(op, struct name_op, op);

	n->list_hash = names_list_hash(n->list_hash, e->name, e->name_len, e->type);
	return true;
}

/* --- answers --- */

static int wrong(const struct name_op *n, struct pst_err *err, const char *what, uint64_t got,
                 uint64_t want)
{
	char text[200];

	return err_set(err, -EUCLEAN, "%s: %s is %lld, should be %lld",
	               name_op_text(n, text, sizeof(text)), what, (long long)got, (long long)want);
}

static bool answers_attr(const struct name_op *n)
{
	switch (n->op.opcode) {
	case PST_OP_LOOKUP:
	case PST_OP_CREATE:
	case PST_OP_MKDIR:
	case PST_OP_SYMLINK:
	case PST_OP_LINK:
	case PST_OP_SETATTR:
		return true;
	default:
		return false;
	}
}

static int check_attr(const struct name_op *n, const struct n_node *want, struct pst_err *err)
{
	const struct pst_attr *a = &n->op.attr;

	if (want->ino && a->ino != want->ino)
		return wrong(n, err, "inode", a->ino, want->ino);
	if (n->blind && !a->mode)
		return 0;
	if (a->mode != want->mode)
		return wrong(n, err, "mode", a->mode, want->mode);
	if (a->nlink != want->nlink)
		return wrong(n, err, "nlink", a->nlink, want->nlink);
	if (!S_ISDIR(want->mode) && a->size_bytes != want->size)
		return wrong(n, err, "size", a->size_bytes, want->size);
	return 0;
}

int name_op_check(struct name_op *n, struct names_state *st, struct pst_err *err)
{
	struct names_answer want;
	const struct pst_op *op = &n->op;
	int status;

	if (!op->status && !n->made &&
	    (op->opcode == PST_OP_CREATE || op->opcode == PST_OP_MKDIR ||
	     op->opcode == PST_OP_SYMLINK))
		n->made = op->attr.ino;
	status = names_execute(st, n, &want);
	if (op->status != status)
		return wrong(n, err, "status", (uint64_t)op->status, (uint64_t)status);
	if (status)
		return 0;
	if (answers_attr(n) && want.node)
		return check_attr(n, want.node, err);
	if (op->opcode == PST_OP_READDIR && n->list_hash != want.list_hash)
		return wrong(n, err, "the entries' hash", n->list_hash, want.list_hash);
	if (op->opcode == PST_OP_FILE_WRITE && op->ret_len != want.len)
		return wrong(n, err, "ret_len", op->ret_len, want.len);
	if (op->opcode == PST_OP_FILE_WRITE && want.off != UINT64_MAX && op->ret_off != want.off)
		return wrong(n, err, "ret_off", op->ret_off, want.off);
	if (op->opcode == PST_OP_FILE_READ) {
		if (op->ret_len != want.len)
			return wrong(n, err, "ret_len", op->ret_len, want.len);
		if (memcmp(n->data, want.bytes, want.len))
			return err_set(err, -EUCLEAN, "FILE_READ of inode %llu: wrong bytes",
			               (unsigned long long)op->ino);
	}
	return 0;
}

/* --- what a lane does next --- */

static void pick_dir(struct lane *lane, char path[24])
{
	static const char *const subs[] = {"", "", "/d0", "/d1", "/d0/d1", "/d1/d0"};

	snprintf(path, 24, "%s%s", lane->names->root, subs[rng_below(&lane->rng, 6)]);
}

static const char *pick(struct lane *lane, bool dir, char path[40])
{
	char at[24];

	pick_dir(lane, at);
	snprintf(path, 40, "%s/%c%u", at, dir ? 'd' : 'f',
	         (unsigned)rng_below(&lane->rng, dir ? 2 : 4));
	return path;
}

static unsigned collect_files(const struct names_state *st, const struct n_node *dir,
                              const struct n_node **files, unsigned count, unsigned max)
{
	for (size_t i = 0; i < dir->ent_count && count < max; i++) {
		const struct n_node *n = names_by_id(st, dir->ent[i].id);

		if (S_ISREG(n->mode) && n->ino)
			files[count++] = n;
		else if (S_ISDIR(n->mode))
			count = collect_files(st, n, files, count, max);
	}
	return count;
}

/* An inode of the lane: one with a name, or one that is held. NULL: it has none. */
static const struct n_node *pick_file(struct lane *lane)
{
	const struct names_state *st = lane->sim->cur.names;
	const struct n_node *files[32 + HELD_MAX];
	struct n_node *dir;
	const char *name;
	const struct n_node *root = names_walk(st, lane->names->root, &dir, &name);
	unsigned count = collect_files(st, root, files, 0, 32);

	for (unsigned i = 0; i < HELD_MAX; i++) {
		const struct n_node *n = names_by_ino(st, lane->names->held[i]);

		if (n)
			files[count++] = n;
	}
	return count ? files[rng_below(&lane->rng, count)] : NULL;
}

static void take_data(struct name_op *n, struct lane *lane, uint64_t len)
{
	n->data = malloc(len + 1);
	pst_assert(n->data);
	for (uint64_t i = 0, x = rng_next(&lane->rng); i < len; i++, x = x * 25214903917 + 11)
		n->data[i] = (uint8_t)(x >> 40);
	n->iov = (struct iovec){n->data, len};
	n->op.iov = &n->iov;
	n->op.iov_count = 1;
	n->op.len = len;
}

static struct name_op *make_data(struct lane *lane, bool write)
{
	const struct n_node *f = pick_file(lane);
	struct name_op *n;
	uint64_t len = 1 + rng_below(&lane->rng, rng_below(&lane->rng, 3) ? 5000 : 30000);

	if (!f)
		return NULL;
	n = name_op_new(write ? PST_OP_FILE_WRITE : PST_OP_FILE_READ);
	n->op.ino = f->ino;
	n->op.off = rng_below(&lane->rng, NAMES_DATA_MAX - len);
	take_data(n, lane, len);
	if (write && f->size + len <= NAMES_DATA_MAX && !rng_below(&lane->rng, 3)) {
		n->op.flags |= PST_F_APPEND;
		n->op.off = 0;
	}
	if (write && !rng_below(&lane->rng, 3))
		n->op.flags |= PST_F_VOLATILE;
	return n;
}

static struct name_op *make_setattr(struct lane *lane)
{
	const struct n_node *f = pick_file(lane);
	struct name_op *n;

	if (!f)
		return NULL;
	n = name_op_new(PST_OP_SETATTR);
	n->op.ino = f->ino;
	n->op.attr_mask = rng_below(&lane->rng, 2) ? PST_ATTR_MODE : PST_ATTR_SIZE;
	n->op.attr.mode = (uint32_t)rng_below(&lane->rng, 01000);
	n->op.attr.size_bytes = rng_below(&lane->rng, NAMES_DATA_MAX);
	return n;
}

static struct name_op *make_open(struct lane *lane)
{
	const struct n_node *f = pick_file(lane);
	unsigned slot = (unsigned)rng_below(&lane->rng, HELD_MAX);
	struct name_op *n;

	if (lane->names->held[slot]) {
		n = name_op_new(PST_OP_FILE_CLOSE);
		n->op.ino = lane->names->held[slot];
		lane->names->held[slot] = 0;
		return n;
	}
	if (!f)
		return NULL;
	n = name_op_new(PST_OP_FILE_OPEN);
	n->op.ino = f->ino;
	lane->names->held[slot] = f->ino; /* alone in its lane: it can't fail */
	return n;
}

static struct name_op *make_rename(struct lane *lane)
{
	struct name_op *n = name_op_new(PST_OP_RENAME);
	bool dir = !rng_below(&lane->rng, 3);
	char path[40];

	set_path(n, pick(lane, dir, path));
	set_path2(n, pick(lane, dir, path));
	switch (rng_below(&lane->rng, 5)) {
	case 0:
		n->op.flags = PST_F_EXCL;
		break;
	case 1:
		n->op.flags = PST_F_EXCHANGE;
		break;
	default:
		break;
	}
	return n;
}

static struct name_op *make_entry(struct lane *lane, uint8_t opcode)
{
	struct name_op *n = name_op_new(opcode);
	char path[40];

	set_path(n, pick(lane, opcode == PST_OP_MKDIR || opcode == PST_OP_RMDIR, path));
	if (opcode == PST_OP_CREATE)
		n->op.flags = PST_F_EXCL;
	if (opcode == PST_OP_CREATE || opcode == PST_OP_MKDIR) {
		n->op.attr_mask = PST_ATTR_MODE;
		n->op.attr.mode = (uint32_t)rng_below(&lane->rng, 01000);
	}
	if (opcode == PST_OP_SYMLINK) {
		snprintf(path, sizeof(path), "to/%llu",
		         (unsigned long long)rng_below(&lane->rng, 1000000));
		set_path2(n, path);
	}
	if (opcode == PST_OP_LINK)
		set_path2(n, pick(lane, false, path));
	if (opcode == PST_OP_LOOKUP)
		n->op.flags = PST_F_NOFOLLOW;
	if (opcode == PST_OP_READDIR) {
		set_path(n, pick(lane, true, path));
		n->op.entry = on_entry;
	}
	return n;
}

static struct name_op *make(struct lane *lane)
{
	static const uint8_t entries[] = {
	        PST_OP_CREATE, PST_OP_CREATE,  PST_OP_CREATE,  PST_OP_MKDIR,  PST_OP_MKDIR,
	        PST_OP_RMDIR,  PST_OP_SYMLINK, PST_OP_LINK,    PST_OP_UNLINK, PST_OP_UNLINK,
	        PST_OP_LOOKUP, PST_OP_LOOKUP,  PST_OP_READDIR, PST_OP_READDIR};
	uint64_t roll = rng_below(&lane->rng, 20);

	if (roll < 4)
		return make_data(lane, true);
	if (roll < 6)
		return make_data(lane, false);
	if (roll < 7)
		return make_setattr(lane);
	if (roll < 8)
		return make_open(lane);
	if (roll < 12)
		return make_rename(lane);
	if (roll < 13)
		return name_op_new(PST_OP_FSYNC);
	return make_entry(lane, entries[rng_below(&lane->rng, ARRAY_LEN(entries))]);
}

static bool changes(uint8_t opcode)
{
	switch (opcode) {
	case PST_OP_LOOKUP:
	case PST_OP_READDIR:
	case PST_OP_FILE_READ:
	case PST_OP_FILE_OPEN:
	case PST_OP_FILE_CLOSE:
	case PST_OP_FSYNC:
		return false;
	default:
		return true;
	}
}

struct sim_op *names_next(struct lane *lane)
{
	struct name_op *n = make(lane);
	struct sim_op *o;

	if (!n)
		n = make_entry(lane, PST_OP_CREATE);
	o = sim_op_new(lane, SIM_NAME);
	n->lane = lane->index;
	n->attr_in = n->op.attr;
	o->name_op = n;
	o->submitted = &n->op;
	o->cont = n->op.cont;
	o->mutates = changes(n->op.opcode);
	o->is_volatile = n->op.flags & PST_F_VOLATILE;
	o->flushes = n->op.opcode == PST_OP_FSYNC;
	if (o->mutates && lane->tokens)
		n->op.token = (struct pst_token){.session = lane->index + 1, .seq = ++lane->seq};
	return o;
}

/* --- the store's tree against the oracle's --- */

struct walk {
	struct sim *sim;
	const struct names_state *st;
	struct pst_err *err;
};

struct dir_list {
	struct pst_op op;
	unsigned count;
	struct {
		char name[NAMES_NAME_MAX];
		uint64_t ino;
	} e[32];
};

static bool dir_entry(struct pst_op *op, const struct pst_entry *e)
{
	struct dir_list *l = container_of(op, struct dir_list, op);

	pst_assert(l->count < ARRAY_LEN(l->e) && e->name_len < NAMES_NAME_MAX);
	memcpy(l->e[l->count].name, e->name, e->name_len);
	l->e[l->count].name[e->name_len] = 0;
	l->e[l->count++].ino = e->id;
	return true;
}

static int names_run(struct walk *w, struct pst_op *op, uint8_t opcode, const char *path)
{
	op->opcode = opcode;
	op->cont = names_cont;
	op->name = path;
	op->name_len = path ? (uint32_t)strlen(path) : 0;
	op->flags |= PST_F_NOFOLLOW;
	return ops_run(w->sim->store, op);
}

static int diff_file(struct walk *w, const char *path, uint64_t ino, const struct n_node *want)
{
	static uint8_t buf[NAMES_DATA_MAX + 1];
	struct iovec iov = {buf, sizeof(buf)};
	struct pst_op op = {.iov = &iov, .iov_count = 1, .len = sizeof(buf), .ino = ino};
	int r = names_run(w, &op, PST_OP_FILE_READ, NULL);

	if (r)
		return err_set(w->err, r, "%s: read: error %d", path, r);
	if (op.ret_len != want->size)
		return err_set(w->err, -EUCLEAN, "%s: has %llu bytes, should have %llu", path,
		               (unsigned long long)op.ret_len, (unsigned long long)want->size);
	for (uint64_t i = 0; i < want->size; i++) {
		if (buf[i] != want->data[i])
			return err_set(w->err, -EUCLEAN, "%s: byte %llu is %02x, not %02x", path,
			               (unsigned long long)i, buf[i], want->data[i]);
	}
	return 0;
}

static int diff_link(struct walk *w, const char *path, const struct n_node *want)
{
	char buf[64] = "";
	struct pst_op op = {.val = buf, .val_cap = sizeof(buf)};
	int r = names_run(w, &op, PST_OP_READLINK, path);

	if (r)
		return err_set(w->err, r, "%s: readlink: error %d", path, r);
	if (strncmp(buf, want->target, sizeof(buf)))
		return err_set(w->err, -EUCLEAN, "%s: leads to another place", path);
	return 0;
}

static int diff_dir(struct walk *w, const char *path, const struct n_node *want);

static int diff_node(struct walk *w, const char *path, uint64_t ino, const struct n_node *want)
{
	struct name_op look = {0};
	int r;

	snprintf(look.path, sizeof(look.path), "%s", path);
	r = names_run(w, &look.op, PST_OP_LOOKUP, path);
	if (r)
		return err_set(w->err, -EUCLEAN, "%s: is listed, and lookup gives error %d", path,
		               r);
	if (look.op.attr.ino != ino)
		return wrong(&look, w->err, "inode", look.op.attr.ino, ino);
	r = check_attr(&look, want, w->err);
	if (r)
		return r;
	if (S_ISDIR(want->mode))
		return diff_dir(w, path, want);
	return S_ISREG(want->mode) ? diff_file(w, path, ino, want) : diff_link(w, path, want);
}

static int diff_dir(struct walk *w, const char *path, const struct n_node *want)
{
	struct dir_list l = {.op.entry = dir_entry};
	char sub[40];
	int r = names_run(w, &l.op, PST_OP_READDIR, path);

	if (r)
		return err_set(w->err, r == -ENOENT ? -EUCLEAN : r, "%s: readdir: error %d", path,
		               r);
	for (unsigned i = 0; i < MAX(l.count, want->ent_count); i++) {
		if (i >= l.count || i >= want->ent_count || strcmp(l.e[i].name, want->ent[i].name))
			return err_set(w->err, -EUCLEAN, "%s: entry %u is \"%s\", should be \"%s\"",
			               path, i, i < l.count ? l.e[i].name : "",
			               i < want->ent_count ? want->ent[i].name : "");
	}
	for (unsigned i = 0; i < l.count; i++) {
		snprintf(sub, sizeof(sub), "%s/%s", path[1] ? path : "", l.e[i].name);
		r = diff_node(w, sub, l.e[i].ino, names_by_id(w->st, want->ent[i].id));
		if (r)
			return r;
	}
	return 0;
}

static bool count_object(struct pst_op *op, const struct pst_entry *e)
{
	op->ino++; /* counts: OBJ_LIST has no other use for it */
	return true;
}

int names_diff(struct sim *sim, const struct names_state *st, struct pst_err *err)
{
	struct walk w = {.sim = sim, .st = st, .err = err};
	struct pst_op op = {.opcode = PST_OP_OBJ_LIST, .cont = names_cont, .entry = count_object};
	int r = diff_dir(&w, "/", names_by_id(st, NAMES_ROOT));

	if (r)
		return r;
	r = ops_run(sim->store, &op);
	if (r)
		return err_set(err, r, "list of the names layer's objects: error %d", r);
	/* One more: the layer's book. Anything else is an inode that nobody can reach. */
	if (op.ino != st->count + 1)
		return err_set(err, -EUCLEAN, "%llu objects for %zu inodes",
		               (unsigned long long)op.ino, st->count);
	return 0;
}

/* --- after a cut --- */

/* The client did not hear which inode its create made: the name says. */
static void learn(struct walk *w, struct name_op *n)
{
	struct pst_op look = {0};

	if (n->made || (n->op.opcode != PST_OP_CREATE && n->op.opcode != PST_OP_MKDIR &&
	                n->op.opcode != PST_OP_SYMLINK))
		return;
	if (!names_run(w, &look, PST_OP_LOOKUP, n->path))
		n->made = look.attr.ino;
}

void names_judge(struct sim *sim, struct lane *lane, struct sim_op *const *ops, unsigned count,
                 unsigned *ret_min, unsigned *ret_max)
{
	struct pst_err err = {0}, first = {0};
	struct state st = {.names = names_clone(sim->base.names)};
	struct walk w = {.sim = sim, .st = st.names, .err = &err};
	struct n_node *dir;
	const char *name;

	*ret_min = UINT32_MAX;
	*ret_max = 0;
	for (unsigned k = 0; k <= count; k++) {
		int r;

		if (k) {
			learn(&w, ops[k - 1]->name_op);
			sim_op_apply(ops[k - 1], &st);
		}
		r = diff_dir(&w, lane->names->root,
		             names_walk(st.names, lane->names->root, &dir, &name));
		if (r && r != -EUCLEAN)
			sim_fail(sim, "lane %u: %s", lane->index, err.text);
		if (r && !k)
			first = err;
		if (!r) {
			*ret_min = MIN(*ret_min, k);
			*ret_max = k;
		}
	}
	names_free(st.names);
	if (*ret_min > *ret_max)
		sim_fail(sim,
		         "lane %u: %u names ops were pending and no prefix of them gives what is "
		         "there. With none: %s. With some: %s. The last: %s",
		         lane->index, count, first.text, err.text,
		         sim_op_text(ops[count - 1], (char[300]){0}));
}

/* --- all --- */

void names_lights_out(struct sim *sim)
{
	for (unsigned i = 0; i < sim->lanes; i++) {
		if (sim->lane[i].names)
			memset(sim->lane[i].names->held, 0, sizeof(sim->lane[i].names->held));
	}
}

void names_close_all(struct sim *sim)
{
	names_lights_out(sim);
	names_crash(sim->base.names);
	names_crash(sim->cur.names);
}

void names_init(struct sim *sim)
{
	if (ops_cont_create(sim->store, "fs0", &names_cont))
		sim_fail(sim, "no container for names");
	sim->base.names = names_new();
	for (unsigned i = 0; i < sim->lanes; i++) {
		struct name_op n = {.op.opcode = PST_OP_MKDIR, .op.cont = names_cont};
		struct pst_err err;

		if (sim->lane[i].role != LANE_NAMES)
			continue;
		sim->lane[i].names = calloc(1, sizeof(struct name_lane));
		pst_assert(sim->lane[i].names);
		snprintf(sim->lane[i].names->root, 16, "/L%u", i);
		set_path(&n, sim->lane[i].names->root);
		n.op.attr_mask = PST_ATTR_MODE;
		n.op.attr.mode = n.attr_in.mode = 0755;
		ops_run(sim->store, &n.op);
		if (name_op_check(&n, sim->base.names, &err))
			sim_fail(sim, "%s", err.text);
	}
}

void names_done(struct sim *sim)
{
	for (unsigned i = 0; i < sim->lanes; i++)
		free(sim->lane[i].names);
}
