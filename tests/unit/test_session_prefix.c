/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_session_prefix - a capability with a prefix: nothing beside its directory is reached, whatever
 * the path, the link, or the number; and what it means when things are renamed.
 *
 *   /in            the prefix
 *   /in/f          "inside"          /in/up -> ../out/secret     /in/abs -> /out/secret
 *   /in/d/g        "deep"            /in/home -> /f              /in/dots -> d/../../out
 *   /out/secret    "secret"          /out/d                      /in/hard = /out/shared
 */
#include "session_util.h"

#define OWNER 1000

struct world {
	struct sx x;
	uint32_t a;
	struct client owner, c;
	struct cap_op cap;
	uint64_t in, out, f, d, g, secret, out_d, shared;
};

static uint64_t make_dir(struct world *w, const char *path)
{
	struct pst_op op = names_op(PST_OP_MKDIR, w->a, path);

	assert_int_equal(client_run(&w->owner, &op), 0);
	return op.ino;
}

static uint64_t make(struct world *w, const char *path, const char *text)
{
	uint64_t ino;

	assert_int_equal(client_create(&w->owner, w->a, path, text, &ino), 0);
	return ino;
}

static int two_names(struct client *c, uint8_t opcode, uint32_t cont, const char *a, const char *b)
{
	struct pst_op op = names_op(opcode, cont, a);

	op.name2 = b;
	op.name2_len = (uint32_t)strlen(b);
	return client_run(c, &op);
}

static void world_start(struct world *w)
{
	struct cap_info i = {.cont_name = "a", .rights = RIGHTS_ALL, .prefix = "in"};

	w->x.opts.owner_uid = OWNER;
	w->x.opts.refusals_max = UINT32_MAX;
	sx_start(&w->x);
	w->a = sx_cont(&w->x, "a", PST_LAYOUT_POSIX);
	assert_int_equal(client_open_owner(&w->owner, &w->x), 0);
	w->in = make_dir(w, "in");
	w->out = make_dir(w, "out");
	w->f = make(w, "in/f", "inside");
	w->d = make_dir(w, "in/d");
	w->g = make(w, "in/d/g", "deep");
	w->secret = make(w, "out/secret", "secret");
	w->out_d = make_dir(w, "out/d");
	w->shared = make(w, "out/shared", "shared");
	assert_int_equal(two_names(&w->owner, PST_OP_SYMLINK, w->a, "in/up", "../out/secret"), 0);
	assert_int_equal(two_names(&w->owner, PST_OP_SYMLINK, w->a, "in/abs", "/out/secret"), 0);
	assert_int_equal(two_names(&w->owner, PST_OP_SYMLINK, w->a, "in/home", "/f"), 0);
	assert_int_equal(two_names(&w->owner, PST_OP_SYMLINK, w->a, "in/dots", "d/../../out"), 0);
	assert_int_equal(two_names(&w->owner, PST_OP_LINK, w->a, "out/shared", "in/hard"), 0);
	assert_int_equal(sx_grant(&w->x, &i, &w->cap), 0);
	assert_int_equal(w->cap.info.root_ino, w->in);
	assert_int_equal(client_open_token(&w->c, &w->x, w->cap.token), 0);
}

static void world_end(struct world *w)
{
	assert_int_equal(client_bye(&w->c), 0);
	assert_int_equal(client_bye(&w->owner), 0);
	sx_end(&w->x);
}

/* The error, or 0 when it leads to @ino, or 1 when to something else. */
static int leads(struct world *w, uint64_t dir, const char *path, uint64_t ino)
{
	struct pst_op op = names_op(PST_OP_LOOKUP, w->a, path);
	int rc;

	op.dir = dir;
	rc = client_run(&w->c, &op);
	return rc ? rc : op.ino != ino;
}

static void test_paths(void **state)
{
	struct world w = {0};

	world_start(&w);
	assert_int_equal(leads(&w, 0, "f", w.f), 0);
	assert_int_equal(leads(&w, 0, "/f", w.f), 0);
	assert_int_equal(leads(&w, 0, "d/g", w.g), 0);
	assert_int_equal(leads(&w, 0, "/", w.in), 0);
	assert_int_equal(leads(&w, PST_INO_ROOT, "f", w.f), 0);
	assert_int_equal(leads(&w, w.in, "f", w.f), 0);
	assert_int_equal(leads(&w, w.d, "g", w.g), 0);
	assert_int_equal(leads(&w, w.d, "../f", w.f), 0);
	/* ".." ends at the top. */
	assert_int_equal(leads(&w, 0, "..", w.in), 0);
	assert_int_equal(leads(&w, 0, "../../f", w.f), 0);
	assert_int_equal(leads(&w, w.d, "../../../f", w.f), 0);
	assert_int_equal(leads(&w, 0, "../out/secret", w.secret), -ENOENT);
	assert_int_equal(leads(&w, 0, "/../out/secret", w.secret), -ENOENT);
	assert_int_equal(leads(&w, 0, "d/../../out/secret", w.secret), -ENOENT);
	assert_int_equal(leads(&w, 0, "/out/secret", w.secret), -ENOENT);
	/* Links too: they are read as if the directory were all there is. */
	assert_int_equal(leads(&w, 0, "home", w.f), 0);
	assert_int_equal(leads(&w, 0, "up", w.secret), -ENOENT);
	assert_int_equal(leads(&w, 0, "abs", w.secret), -ENOENT);
	assert_int_equal(leads(&w, 0, "dots/secret", w.secret), -ENOENT);
	/* A hard link is a name inside: what it names is inside. */
	assert_int_equal(leads(&w, 0, "hard", w.shared), 0);
	/* Directories by number. */
	assert_int_equal(leads(&w, w.out, "secret", w.secret), -EACCES);
	assert_int_equal(leads(&w, w.out_d, "../secret", w.secret), -EACCES);
	assert_int_equal(leads(&w, w.out, "/f", w.f), 0);
	world_end(&w);
}

static void test_numbers(void **state)
{
	struct world w = {0};
	char buf[16];
	struct pst_op op;
	uint8_t h[SESSION_HANDLE_BYTES];

	world_start(&w);
	/* Files by number: only what a handle names, open or not. */
	assert_int_equal(client_read(&w.c, w.a, w.secret, buf, sizeof(buf)), -EACCES);
	assert_int_equal(client_write(&w.c, w.a, w.secret, "evil"), -EACCES);
	assert_int_equal(client_read(&w.c, w.a, w.f, buf, sizeof(buf)), -EACCES);
	op = names_op(PST_OP_FILE_OPEN, w.a, "f");
	assert_int_equal(client_run(&w.c, &op), 0);
	assert_int_equal(client_read(&w.c, w.a, w.f, buf, sizeof(buf)), -EACCES);
	memcpy(h, w.c.got, sizeof(h));
	w.c.handle = h;
	assert_int_equal(client_read(&w.c, w.a, w.f, buf, sizeof(buf)), 0);
	assert_string_equal(buf, "inside");
	w.c.handle = NULL;
	op = (struct pst_op){.opcode = PST_OP_FILE_CLOSE, .cont = w.a, .ino = w.f};
	assert_int_equal(client_run(&w.c, &op), 0);
	assert_int_equal(client_read(&w.c, w.a, w.f, buf, sizeof(buf)), -EACCES);
	op = (struct pst_op){.opcode = PST_OP_FILE_OPEN, .cont = w.a, .ino = w.secret};
	assert_int_equal(client_run(&w.c, &op), -EACCES);
	op = (struct pst_op){.opcode = PST_OP_SETATTR, .cont = w.a, .ino = w.secret};
	assert_int_equal(client_run(&w.c, &op), -EACCES);
	op = (struct pst_op){.opcode = PST_OP_GETATTR, .cont = w.a, .ino = w.out};
	assert_int_equal(client_run(&w.c, &op), -EACCES);
	op = (struct pst_op){.opcode = PST_OP_GETATTR, .cont = w.a, .ino = PST_INO_ROOT};
	assert_int_equal(client_run(&w.c, &op), 0);
	assert_int_equal(op.attr.ino, w.in);
	op = (struct pst_op){.opcode = PST_OP_LINK,
	                     .cont = w.a,
	                     .ino = w.secret,
	                     .name2 = "mine",
	                     .name2_len = 4};
	assert_int_equal(client_run(&w.c, &op), -EACCES);
	assert_int_equal(leads(&w, 0, "f", w.f), 0);
	memcpy(h, w.c.got, sizeof(h));
	w.c.handle = h;
	assert_int_equal(client_read(&w.c, w.a, w.f, buf, sizeof(buf)), 0);
	assert_int_equal(client_read(&w.c, w.a, w.secret, buf, sizeof(buf)), -EACCES);
	w.c.handle = NULL;
	/* Objects: none. */
	op = (struct pst_op){.opcode = PST_OP_READ, .cont = w.a, .oid = fs_oid(w.secret)};
	assert_int_equal(client_run(&w.c, &op), -EACCES);
	op = (struct pst_op){.opcode = PST_OP_KV_LIST, .cont = w.a, .oid = fs_oid(w.out)};
	assert_int_equal(client_run(&w.c, &op), -EACCES);
	op = (struct pst_op){.opcode = PST_OP_OBJ_LIST, .cont = w.a};
	assert_int_equal(client_run(&w.c, &op), -EACCES);
	/* The container as a whole: no. */
	op = names_op(PST_OP_SNAP_CREATE, w.a, NULL);
	assert_int_equal(client_run(&w.c, &op), -EACCES);
	op = names_op(PST_OP_CONT_SET, w.a, NULL);
	assert_int_equal(client_run(&w.c, &op), -EACCES);
	world_end(&w);
}

static bool no_entry(struct pst_op *op, const struct pst_entry *e)
{
	fail_msg("listed %s", (const char *)e->name);
	return false;
}

/* Changes: each of them tries to reach out. */
static void test_changes(void **state)
{
	struct world w = {0};
	uint64_t records;
	struct pst_op op;

	world_start(&w);
	records = sx_records(&w.x);
	assert_int_equal(two_names(&w.c, PST_OP_RENAME, w.a, "../out/secret", "mine"), -ENOENT);
	assert_int_equal(two_names(&w.c, PST_OP_LINK, w.a, "../out/secret", "mine"), -ENOENT);
	assert_int_equal(two_names(&w.c, PST_OP_RENAME, w.a, "f", "../out/f"), -ENOENT);
	op = names_op(PST_OP_RENAME, w.a, "f");
	op.dir2 = w.out;
	op.name2 = "f";
	op.name2_len = 1;
	assert_int_equal(client_run(&w.c, &op), -EACCES);
	op.opcode = PST_OP_LINK;
	assert_int_equal(client_run(&w.c, &op), -EACCES);
	op = names_op(PST_OP_UNLINK, w.a, "secret");
	op.dir = w.out;
	assert_int_equal(client_run(&w.c, &op), -EACCES);
	op = names_op(PST_OP_CREATE, w.a, "new");
	op.dir = w.out;
	assert_int_equal(client_run(&w.c, &op), -EACCES);
	op = names_op(PST_OP_READDIR, w.a, NULL);
	op.ino = w.out;
	op.entry = no_entry;
	assert_int_equal(client_run(&w.c, &op), -EACCES);
	assert_int_equal(sx_records(&w.x), records);
	/* Inside all of it works; a new link may point anywhere: it leads nowhere. */
	assert_int_equal(two_names(&w.c, PST_OP_RENAME, w.a, "f", "/d/f"), 0);
	assert_int_equal(two_names(&w.c, PST_OP_SYMLINK, w.a, "s", "/out"), 0);
	assert_int_equal(leads(&w, 0, "s/secret", w.secret), -ENOENT);
	assert_int_equal(leads(&w, 0, "d/f", w.f), 0);
	world_end(&w);
}

/* The prefix's directory is renamed: the grant goes with it. Replaced: the new one isn't granted. */
static void test_renames(void **state)
{
	struct world w = {0};
	struct client late = {0};
	char buf[16];
	uint8_t h[SESSION_HANDLE_BYTES];

	world_start(&w);
	assert_int_equal(two_names(&w.owner, PST_OP_RENAME, w.a, "in", "out/moved"), 0);
	assert_int_equal(leads(&w, 0, "f", w.f), 0);
	assert_int_equal(leads(&w, 0, "../secret", w.secret), -ENOENT);
	(void)make_dir(&w, "in");
	(void)make(&w, "in/new", "new");
	assert_int_equal(leads(&w, 0, "new", 0), -ENOENT);
	/* A directory below it is moved out: numbers of it don't lead back in. */
	assert_int_equal(leads(&w, w.d, "g", w.g), 0);
	memcpy(h, w.c.got, sizeof(h));
	assert_int_equal(two_names(&w.owner, PST_OP_RENAME, w.a, "out/moved/d", "out/e"), 0);
	assert_int_equal(leads(&w, w.d, "g", w.g), -EACCES);
	assert_int_equal(leads(&w, w.d, "../secret", w.secret), -EACCES);
	/* A handle names the file itself, until it expires. */
	w.c.handle = h;
	assert_int_equal(client_read(&w.c, w.a, w.g, buf, sizeof(buf)), 0);
	w.c.handle = NULL;
	/* A restart changes none of it. */
	client_unlink(&w.c);
	client_unlink(&w.owner);
	sx_cut(&w.x);
	client_link(&w.c, &w.x);
	assert_int_equal(client_resume(&w.c), 0);
	client_link(&w.owner, &w.x);
	assert_int_equal(client_resume(&w.owner), 0);
	assert_int_equal(leads(&w, 0, "f", w.f), 0);
	assert_int_equal(leads(&w, 0, "new", 0), -ENOENT);
	/* Removed, it is a grant for nothing. */
	assert_int_equal(client_open_token(&late, &w.x, w.cap.token), 0);
	assert_int_equal(client_bye(&late), 0);
	world_end(&w);
}

static uint64_t stat_of;

static bool is_stat(const struct pst_op *op)
{
	return op->opcode == PST_OP_STAT && op->oid.lo == stat_of;
}

/* A directory is moved out while a path goes through it: ".." from there leads nowhere. */
static void test_moved_meanwhile(void **state)
{
	struct world w = {0};
	struct creq q = {0};

	world_start(&w);
	assert_int_equal(client_lookup(&w.owner, w.a, "in/f", NULL), 0);
	q.r.op = names_op(PST_OP_LOOKUP, w.a, "d/../secret");
	stat_of = w.d;
	w.x.hold_below = is_stat;
	creq_start(&q, &w.c);
	assert_non_null(w.x.held_below);
	assert_int_equal(two_names(&w.owner, PST_OP_RENAME, w.a, "in/d", "out/moved"), 0);
	sx_release_below(&w.x);
	assert_int_equal(creq_wait(&q), -EACCES);
	world_end(&w);
}

/* A handle of a directory leads to what is below it, and no further. */
static void test_directory_handle(void **state)
{
	struct world w = {0};
	uint8_t h[SESSION_HANDLE_BYTES];

	world_start(&w);
	assert_int_equal(leads(&w, 0, "d", w.d), 0);
	memcpy(h, w.c.got, sizeof(h));
	w.c.handle = h;
	assert_int_equal(leads(&w, 0, "g", w.g), 0);
	assert_int_equal(leads(&w, w.d, "g", w.g), 0);
	assert_int_equal(leads(&w, 0, "..", w.d), 0);
	assert_int_equal(leads(&w, 0, "../f", w.f), -ENOENT);
	assert_int_equal(leads(&w, 0, "/f", w.f), -ENOENT);
	assert_int_equal(leads(&w, w.in, "f", w.f), -EACCES);
	w.c.handle = NULL;
	world_end(&w);
}

/* Random paths of these pieces, from random directories: nothing beside /in is ever seen. */
static void test_random(void **state)
{
	static const char *const piece[] = {"..", ".",   "in",   "out",  "d", "f", "g",    "secret",
	                                    "up", "abs", "dots", "home", "",  "s", "moved"};
	struct world w = {0};
	struct rng rng;

	world_start(&w);
	rng_seed(&rng, 20);
	for (unsigned n = 0; n < 30000; n++) {
		const uint64_t dir[] = {0, w.in, w.out, w.d, w.out_d, PST_INO_ROOT};
		uint64_t from = dir[rng_below(&rng, ARRAY_LEN(dir))];
		char path[128] = "";

		for (uint64_t k = 1 + rng_below(&rng, 6); k > 0; k--) {
			(void)strcat(path, piece[rng_below(&rng, ARRAY_LEN(piece))]);
			(void)strcat(path, "/");
		}
		if (rng_chance(&rng, 0.7))
			path[strlen(path) - 1] = 0;
		if (!path[0])
			continue;
		if (n % 100 == 0) { /* now and then the tree changes */
			(void)two_names(&w.owner, PST_OP_RENAME, w.a, "in/d", "out/moved");
			(void)two_names(&w.owner, PST_OP_RENAME, w.a, "out/d", "in/d");
		} else if (n % 100 == 50) {
			(void)two_names(&w.owner, PST_OP_RENAME, w.a, "in/d", "out/d");
			(void)two_names(&w.owner, PST_OP_RENAME, w.a, "out/moved", "in/d");
		}
		struct pst_op op = names_op(PST_OP_LOOKUP, w.a, path);

		op.dir = from;
		if (client_run(&w.c, &op) == 0)
			assert_true(op.ino != w.out && op.ino != w.secret &&
			            op.ino != PST_INO_ROOT);
	}
	world_end(&w);
}

static struct pst_cont_info listed_info;

static bool listed(struct pst_op *op, const struct pst_entry *e)
{
	if (e->cont && !strcmp(e->cont->name, "a"))
		listed_info = *e->cont;
	return true;
}

/* What it knows of the container: enough to work in it, and nothing that is of all of it. */
static void knows(struct client *c, uint32_t cont, bool whole)
{
	static const uint8_t ops[] = {PST_OP_CONT_OPEN, PST_OP_CONT_GET, PST_OP_STATFS,
	                              PST_OP_CONT_LIST};

	for (unsigned i = 0; i < ARRAY_LEN(ops); i++) {
		struct pst_cont_info info = {0};
		bool list = ops[i] == PST_OP_CONT_LIST;
		struct pst_op op = {.opcode = ops[i], .cont_info = list ? NULL : &info};

		if (list)
			op.entry = listed;
		else if (ops[i] == PST_OP_STATFS)
			op.cont = cont;
		else {
			op.name = "a";
			op.name_len = 1;
		}
		assert_int_equal(client_run(c, &op), 0);
		if (list)
			info = listed_info;
		assert_int_equal(info.id, cont);
		assert_string_equal(info.name, "a");
		assert_int_equal(info.layout, PST_LAYOUT_POSIX);
		assert_true((info.used_objects > 0) == whole);
		assert_true((info.logical_bytes > 0) == whole);
		assert_true((info.snapshots > 0) == whole);
		assert_true((info.quota_bytes > 0) == whole);
	}
}

static int devices_seen(struct client *c, uint32_t cont)
{
	struct pst_store_status *st = mem_calloc(1, sizeof(*st));
	struct pst_op op = {
	        .opcode = cont ? PST_OP_STATFS : PST_OP_STATUS, .cont = cont, .status_out = st};
	int n;

	assert_non_null(st);
	assert_int_equal(client_run(c, &op), 0);
	assert_true(st->size_bytes > 0);
	n = (int)st->devices;
	assert_true((st->device[0].size_bytes > 0) == (n > 0));
	mem_free(st);
	return n;
}

/* The container is not theirs who have a directory of it, and the server not theirs who don't manage it. */
static void test_whole(void **state)
{
	struct world w = {0};
	struct cap_info i = {.cont_name = "a", .rights = RIGHT_READ};
	struct pst_cont_info quota = {.quota_bytes = GIB};
	struct pst_snap_info snap = {0};
	struct pst_op op;
	struct client c = {0};
	struct cap_op o;

	world_start(&w);
	assert_int_equal(sx_grant(&w.x, &i, &o), 0);
	assert_int_equal(client_open_token(&c, &w.x, o.token), 0);
	op = (struct pst_op){.opcode = PST_OP_CONT_SET,
	                     .cont = w.a,
	                     .cont_info = &quota,
	                     .attr_mask = PST_SET_QUOTA_BYTES};
	assert_int_equal(client_run(&w.owner, &op), 0);
	op = names_op(PST_OP_SNAP_CREATE, w.a, NULL);
	op.name2 = "v";
	op.name2_len = 1;
	op.snap_info = &snap;
	assert_int_equal(client_run(&w.owner, &op), 0);
	knows(&w.owner, w.a, true);
	knows(&c, w.a, true);
	knows(&w.c, w.a, false);
	/* Snapshots can be read by who knows their names. */
	op = (struct pst_op){.opcode = PST_OP_SNAP_LIST, .cont = w.a, .entry = listed};
	assert_int_equal(client_run(&c, &op), 0);
	op = (struct pst_op){.opcode = PST_OP_SNAP_LIST, .cont = w.a, .entry = listed};
	sx_forget(&w.x);
	assert_int_equal(client_run(&w.c, &op), -EACCES);
	assert_true(sx_audited(&w.x, AUDIT_REQUEST, -EACCES));
	for (unsigned k = 0; k < 2; k++) {
		op = names_op(PST_OP_SNAP_OPEN, w.a, NULL);
		op.name2 = "v";
		op.name2_len = 1;
		op.snap_info = &snap;
		assert_int_equal(client_run(k ? &w.c : &c, &op), 0);
		assert_true(snap.view && (snap.used_objects > 0) == !k);
	}
	assert_true(devices_seen(&w.owner, 0) > 0);
	assert_true(devices_seen(&w.owner, w.a) > 0);
	assert_int_equal(devices_seen(&c, 0), 0);
	assert_int_equal(devices_seen(&c, w.a), 0);
	assert_int_equal(client_bye(&c), 0);
	world_end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_paths),           cmocka_unit_test(test_whole),
	        cmocka_unit_test(test_numbers),         cmocka_unit_test(test_changes),
	        cmocka_unit_test(test_renames),         cmocka_unit_test(test_random),
	        cmocka_unit_test(test_moved_meanwhile), cmocka_unit_test(test_directory_handle),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
