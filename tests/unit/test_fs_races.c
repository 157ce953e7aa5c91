/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The names layer: ops at the same time, step by step where it matters and at random; a store below
 * that is late and busy; cancel; failures of every op below and of every allocation.
 */
#include "fs_case.h"

static bool hold_all(const struct pst_op *op)
{
	return true;
}

static void start_held(struct pst_op *op, int *status, bool (*hold)(const struct pst_op *))
{
	x->shim.hold = hold;
	assert_int_equal(fsx_start(x, op, status), PST_QUEUED);
	x->shim.hold = NULL;
}

/* The label of a file, as somebody else could have changed it. */
static const uint8_t *label_of(const char *path, uint32_t uid)
{
	static uint8_t bytes[FS_LABEL_BYTES];
	struct pst_obj_stat st;
	struct fs_label l;

	ok(ops_stat(x->fs, x->cont, 0, fs_oid(ino_of(path)), &st));
	ok(fs_label_unpack(&l, x->ino, st.label, st.label_len));
	l.uid = uid + 1000;
	fs_label_pack(&l, bytes);
	return bytes;
}

/* --- two at a time --- */

static void test_create_and_rmdir(void **state)
{
	struct pst_op op;
	int status;

	ok(fsx_mkdir(x, "d"));
	op = fsx_op(x, PST_OP_CREATE, "d/f");
	start_held(&op, &status, is_batch);
	ok(fsx_rmdir(x, "d"));
	shim_release(x);
	assert_int_equal(status, -ENOENT);
	ok(fsx_mkdir(x, "d"));
	op = fsx_op(x, PST_OP_MKDIR, "d/d");
	start_held(&op, &status, is_batch);
	ok(fsx_rmdir(x, "d"));
	shim_release(x);
	assert_int_equal(status, -ENOENT);
	ok(fsx_mkdir(x, "d"));
	op = fsx_op(x, PST_OP_RMDIR, "d");
	start_held(&op, &status, is_batch);
	ok(fsx_create(x, "d/f", 0));
	shim_release(x);
	assert_int_equal(status, -ENOTEMPTY);
}

static void test_create_twice(void **state)
{
	struct pst_op op[2];
	int status[2];

	for (unsigned round = 0; round < 2; round++) {
		uint32_t flags = round ? PST_F_EXCL : 0;

		for (unsigned i = 0; i < 2; i++) {
			op[i] = fsx_op(x, PST_OP_CREATE, "f");
			op[i].flags = flags;
			start_held(&op[i], &status[i], is_batch);
		}
		shim_release(x);
		assert_int_equal(status[0], 0);
		assert_int_equal(status[1], round ? -EEXIST : 0);
		if (!round)
			assert_int_equal(op[0].ino, op[1].ino);
		ok(fsx_unlink(x, "f"));
	}
}

/* The links of the parent: nobody's is lost. */
static void test_many_mkdirs(void **state)
{
	struct pst_op op[32];
	int status[32];
	char name[32][8];

	ok(fsx_create(x, "f", 0)); /* gets it ready, so that all come as far as their batch */
	for (unsigned i = 0; i < 32; i++) {
		snprintf(name[i], sizeof(name[i]), "d%u", i);
		op[i] = fsx_op(x, PST_OP_MKDIR, name[i]);
		start_held(&op[i], &status[i], is_batch);
	}
	assert_int_equal(x->shim.held_count, 32);
	shim_release(x);
	for (unsigned i = 0; i < 32; i++)
		assert_int_equal(status[i], 0);
	ok(fsx_getattr(x, PST_INO_ROOT));
	assert_int_equal(x->attr.nlink, 34);
}

static void test_first_use_by_many(void **state)
{
	struct pst_op op[8];
	int status[8];
	char name[8][8];

	for (unsigned i = 0; i < 8; i++) {
		snprintf(name[i], sizeof(name[i]), "f%u", i);
		op[i] = fsx_op(x, i & 1 ? PST_OP_CREATE : PST_OP_MKDIR, name[i]);
		start_held(&op[i], &status[i], hold_all);
	}
	assert_int_equal(x->shim.held_count, 1); /* one gets it ready */
	shim_release(x);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(status[i], 0);
	assert_int_equal(fsx_check(x), 9);
}

/* An inode that loses its last name while somebody opens it: gone for good, or there until closed.
 */
static void test_unlink_and_open(void **state)
{
	struct pst_op un, open;
	int un_status, open_status;
	uint64_t ino;

	ok(fsx_create(x, "f", 0));
	ino = x->ino;
	un = fsx_op(x, PST_OP_UNLINK, "f");
	start_held(&un, &un_status, is_batch);
	open = fsx_op(x, PST_OP_FILE_OPEN, NULL);
	open.ino = ino;
	assert_int_equal(fsx_start(x, &open, &open_status), PST_QUEUED); /* it waits */
	assert_int_equal(x->shim.held_count, 1);
	shim_release(x);
	assert_int_equal(un_status, 0);
	assert_int_equal(open_status, -ESTALE);
	err(fsx_drop(x, ino), EBADF);

	ok(fsx_create(x, "f", 0));
	ino = x->ino;
	open = fsx_op(x, PST_OP_FILE_OPEN, "f");
	start_held(&open, &open_status, is_stat);
	ok(fsx_unlink(x, "f")); /* sees that it is being opened */
	shim_release(x);
	assert_int_equal(open_status, 0);
	assert_int_equal(open.attr.nlink, 0);
	ok(fsx_drop(x, ino));
	err(fsx_getattr(x, ino), ESTALE);
	assert_int_equal(fsx_objects(x), 2);
}

static void test_unlink_and_close(void **state)
{
	struct pst_op un, close[2];
	int un_status, close_status[2];
	uint64_t ino;

	ok(fsx_create(x, "f", 0));
	ino = x->ino;
	ok(fsx_hold(x, "f", 0));
	un = fsx_op(x, PST_OP_UNLINK, "f");
	start_held(&un, &un_status, is_batch); /* will make it an orphan */
	for (unsigned i = 0; i < 2; i++) {     /* one too many */
		close[i] = fsx_op(x, PST_OP_FILE_CLOSE, NULL);
		close[i].ino = ino;
		assert_int_equal(fsx_start(x, &close[i], &close_status[i]), PST_QUEUED);
	}
	shim_release(x);
	assert_int_equal(un_status, 0);
	assert_int_equal(close_status[0], 0);
	assert_int_equal(close_status[1], -EBADF);
	err(fsx_getattr(x, ino), ESTALE);
	assert_int_equal(fsx_objects(x), 2);
}

static void test_close_fails(void **state)
{
	uint64_t ino;

	ok(fsx_create(x, "f", 0));
	ino = x->ino;
	ok(fsx_hold(x, "f", 0));
	ok(fsx_unlink(x, "f"));
	x->shim.fail_at = 1;
	x->shim.fail_status = -EIO;
	err(fsx_drop(x, ino), EIO);
	ok(fsx_getattr(x, ino)); /* it is open still */
	ok(fsx_drop(x, ino));
	err(fsx_getattr(x, ino), ESTALE);
}

/* An open that failed gives its count back, and no cancel comes in between. */
static void test_open_fails(void **state)
{
	struct pst_op un, open;
	int un_status, open_status;
	uint64_t ino;

	ok(fsx_create(x, "f", 0));
	ino = x->ino;
	open = fsx_op(x, PST_OP_FILE_OPEN, NULL);
	open.ino = ino;
	start_held(&open, &open_status, is_stat);
	un = fsx_op(x, PST_OP_UNLINK, "f");
	start_held(&un, &un_status, is_batch);
	shim_fail_held(x, PST_OP_STAT, -EIO); /* it waits for what the unlink will have done */
	assert_int_equal(open_status, 1);
	store_cancel(x->fs, &open);
	shim_release(x);
	assert_int_equal(un_status, 0);
	assert_int_equal(open_status, -EIO);
	err(fsx_drop(x, ino), EBADF);
	assert_int_equal(fsx_objects(x), 2);
}

static void test_name_for_nameless(void **state)
{
	struct pst_op op, close;
	int status, close_status;
	uint64_t ino;

	ok(fsx_create(x, "", 0));
	ino = x->ino;
	op = fsx_op(x, PST_OP_LINK, NULL);
	op.ino = ino;
	op.name2 = "f";
	op.name2_len = 1;
	start_held(&op, &status, is_batch);
	close = fsx_op(x, PST_OP_FILE_CLOSE, NULL);
	close.ino = ino;
	assert_int_equal(fsx_start(x, &close, &close_status), PST_QUEUED);
	shim_release(x);
	assert_int_equal(status, 0);
	assert_int_equal(close_status, 0);
	ok(fsx_lookup(x, "f", 0));
	assert_int_equal(x->ino, ino);
	assert_int_equal(x->attr.nlink, 1);
}

/* Makes @op lose to somebody else @times times, and then lets it be. */
static void lose(struct pst_op *op, int *status, unsigned times)
{
	start_held(op, status, is_batch);
	for (unsigned i = 1; i <= times; i++) {
		struct pst_mut m = {.kind = PST_SET_LABEL, .oid = fs_oid(ino_of("f"))};

		m.val = label_of("f", *status == 1 ? i : 0);
		m.val_len = 40;
		ok(ops_batch(x->fs, x->cont, &m, 1));
		x->shim.hold = i < times ? is_batch : NULL;
		shim_release(x);
		x->shim.hold = NULL;
	}
}

/* Somebody else always is faster: an end, not an endless loop. */
static void test_attempts_are_bounded(void **state)
{
	const struct fs_opts opts = {.attempts_max = 5};

	fsx_close(x);
	fsx_open(x, &opts, NULL, 0);
	ok(fsx_create(x, "f", 0));
	for (unsigned n = 1; n <= 5; n++) {
		struct pst_op op = fsx_op(x, PST_OP_SETATTR, "f");
		int status;

		op.attr.uid = n;
		op.attr_mask = PST_ATTR_UID;
		lose(&op, &status, n);
		assert_int_equal(status, n < 5 ? 0 : -EAGAIN);
	}
}

/* Who lost often enough closes the gate: newcomers wait until it is through. */
static void test_gate(void **state)
{
	struct pst_op op = fsx_op(x, PST_OP_SETATTR, "f"), late = fsx_op(x, PST_OP_MKDIR, "d");
	int status, late_status;
	unsigned lost = 0;
	struct pst_mut m;

	ok(fsx_create(x, "f", 0));
	start_held(&op, &status, is_batch);
	for (;; lost++) {
		x->shim.hold = NULL;
		assert_true(lost < 20);
		(void)fsx_start(x, &late, &late_status);
		fsx_turn(x);
		if (late_status == 1)
			break;
		ok(late_status);
		late.opcode = late.opcode == PST_OP_MKDIR ? PST_OP_RMDIR : PST_OP_MKDIR;
		m = (struct pst_mut){.kind = PST_SET_LABEL, .oid = fs_oid(ino_of("f"))};
		m.val = label_of("f", lost);
		m.val_len = 40;
		ok(ops_batch(x->fs, x->cont, &m, 1));
		x->shim.hold = is_batch;
		shim_release(x);
	}
	assert_true(lost >= 7);
	assert_int_equal(late_status, 1);
	ok(fsx_lookup(x, "f", 0)); /* who only reads does not wait */
	shim_release(x);
	assert_int_equal(status, 0);
	assert_int_equal(late_status, 0);
}

static void test_pool_is_limited(void **state)
{
	const struct fs_opts opts = {.requests_max = 2};
	struct pst_op op[3];
	int status[3];

	fsx_close(x);
	fsx_open(x, &opts, NULL, 0);
	ok(fsx_create(x, "f", 0));
	x->shim.hold = hold_all;
	for (unsigned i = 0; i < 3; i++) {
		op[i] = fsx_op(x, PST_OP_LOOKUP, "f");
		assert_int_equal(fsx_start(x, &op[i], &status[i]), i < 2 ? PST_QUEUED : PST_BUSY);
	}
	x->shim.hold = NULL;
	shim_release(x);
	assert_int_equal(fsx_start(x, &op[2], &status[2]), PST_DONE);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(status[i], 0);
}

/* --- the scenario that the sweeps below go through: each kind of op, from one state --- */

struct step {
	uint8_t opcode;
	const char *name, *name2;
	uint32_t flags;
};

static const struct step steps[] = {
        {PST_OP_CREATE, "new", NULL, 0},
        {PST_OP_CREATE, "f", NULL, PST_F_TRUNCATE},
        {PST_OP_CREATE, "", NULL, 0},
        {PST_OP_MKDIR, "d/sub", NULL, 0},
        {PST_OP_SYMLINK, "link", "f", 0},
        {PST_OP_LINK, "f", "d/hard", 0},
        {PST_OP_LINK, "f", "g", PST_F_REPLACE},
        {PST_OP_UNLINK, "f", NULL, 0},
        {PST_OP_UNLINK, "held", NULL, 0},
        {PST_OP_RMDIR, "e", NULL, 0},
        {PST_OP_RENAME, "f", "g", 0},
        {PST_OP_RENAME, "d", "e/d", 0},
        {PST_OP_RENAME, "d", "e", PST_F_EXCHANGE},
        {PST_OP_SETATTR, "f", NULL, 0},
        {PST_OP_SETXATTR, "f", NULL, 0},
        {PST_OP_FILE_OPEN, "f", NULL, 0},
        {PST_OP_FILE_WRITE, "f", NULL, PST_F_APPEND},
        {PST_OP_READDIR, "/", NULL, 0},
        {PST_OP_GETATTR, "d/../f", NULL, 0},
};

static void scene(void)
{
	fsx_open(x, NULL, NULL, 0);
	ok(fsx_create_data(x, "f", "abc", 0));
	ok(fsx_create(x, "g", 0));
	ok(fsx_create(x, "held", 0));
	ok(fsx_hold(x, "held", 0));
	ok(fsx_mkdir(x, "d"));
	ok(fsx_create(x, "d/in", 0));
	ok(fsx_mkdir(x, "e"));
}

static bool any(struct pst_op *op, const struct pst_entry *e)
{
	return true;
}

static struct pst_op step_op(const struct step *s)
{
	static struct iovec iov = {.iov_base = "xyz", .iov_len = 3};
	struct pst_op op = fsx_op(x, s->opcode, s->name);

	op.name2 = s->name2;
	op.name2_len = s->name2 ? (uint32_t)strlen(s->name2) : 0;
	op.flags = s->flags;
	op.key = "user.a";
	op.key_len = 6;
	op.entry = any;
	op.want_values = true;
	if (s->opcode == PST_OP_FILE_WRITE) {
		op.iov = &iov;
		op.iov_count = 1;
		op.len = 3;
	}
	return op;
}

/* Everything that can be seen of the tree, as one number. */
static uint64_t picture(void)
{
	static const char *const paths[] = {"f",     "g",    "held",   "d",   "d/in", "e", "new",
	                                    "d/sub", "link", "d/hard", "e/d", "e/in", "/"};
	uint64_t sum = fsx_objects(x);
	char buf[8];

	for (unsigned i = 0; i < ARRAY_LEN(paths); i++) {
		int r = fsx_lookup(x, paths[i], PST_F_NOFOLLOW);

		sum = hash_u64(sum + (uint64_t)r);
		if (r)
			continue;
		sum = hash_u64(sum + x->attr.ino);
		sum = hash_u64(sum + x->attr.nlink);
		sum = hash_u64(sum + x->attr.size_bytes);
		sum = hash_u64(sum + (uint64_t)fsx_getx(x, paths[i], "user.a", buf, 8));
	}
	return sum;
}

/* Fails the n-th op below, for every n until there is none: all of it happened, or nothing. */
static void test_failure_sweep(void **state)
{
	for (unsigned i = 0; i < ARRAY_LEN(steps); i++) {
		bool failed = true;

		for (unsigned n = 1; failed; n++) {
			struct pst_op op;
			uint64_t before;
			int r;

			scene();
			before = picture();
			op = step_op(&steps[i]);
			x->shim.fail_at = n;
			x->shim.fail_status = -EIO;
			r = fsx_run(x, &op);
			failed = !x->shim.fail_at;
			x->shim.fail_at = 0;
			assert_true(!r || (failed && r == -EIO));
			if (r)
				assert_int_equal(before, picture());
			fsx_check(x);
			fsx_restart(x);
			ok(fsx_lookup(x, "/", 0));
			fsx_check(x);
			fsx_close(x);
			assert_true(n < 50);
		}
	}
}

/* Cancels before the n-th op below goes on: the same. */
static void test_cancel_sweep(void **state)
{
	for (unsigned i = 0; i < ARRAY_LEN(steps); i++) {
		int status = -ECANCELED;

		for (unsigned n = 0; status == -ECANCELED || n < 2; n++) {
			struct pst_op op;
			uint64_t before;

			scene();
			before = picture();
			op = step_op(&steps[i]);
			x->shim.hold = hold_all;
			assert_int_equal(fsx_start(x, &op, &status), PST_QUEUED);
			for (unsigned j = 0; j < n && status == 1; j++)
				shim_release(x);
			store_cancel(x->fs, &op);
			x->shim.hold = NULL;
			shim_release(x);
			assert_true(!status || status == -ECANCELED);
			if (status)
				assert_int_equal(before, picture());
			else if (op.attr.ino) /* too late for it: all of the answer is there */
				assert_true(op.attr.mode);
			store_cancel(x->fs, &op); /* done: harmless */
			fsx_check(x);
			fsx_close(x);
			assert_true(n < 50);
		}
	}
}

static void test_alloc_sweep(void **state)
{
	struct store *s;
	uint64_t n = 0;
	int r = -ENOMEM;

	fsx_open(x, NULL, NULL, 0);
	while (r) {
		mem_alloc_fail_at(++n, false);
		r = fs_new(&s, &x->shim.store, NULL, NULL);
		mem_alloc_fail_at(0, false);
		assert_true(!r || r == -ENOMEM);
	}
	assert_true(n > 3);
	ok(store_close(s));
	mem_alloc_fail_at(1, false);
	err(fsx_create(x, "f", 0), ENOMEM); /* the container's entry */
	mem_alloc_fail_at(0, false);
	ok(fsx_create(x, "f", 0));
	mem_alloc_fail_at(1, false);
	err(fsx_hold(x, "f", 0), ENOMEM);
	mem_alloc_fail_at(0, false);
	/* Nothing else allocates here; below, the engine does. */
	mem_alloc_fail_at(fsx_on_engine() ? 0 : 1, true);
	ok(fsx_create(x, "g", 0));
	ok(fsx_rename(x, "f", "g", 0));
	ok(fsx_write(x, x->ino ? x->ino : 4, 0, "a", 0));
	ok(fsx_unlink(x, "g"));
	mem_alloc_fail_at(0, false);
	fsx_check(x);
	fsx_close(x);
}

/* --- many at random --- */

#define CLIENTS 24

struct client {
	struct pst_op op;
	char path[2][32], key[8];
	int status;
	bool running;
	uint64_t held; /* an inode that it holds open */
};

static struct rng rng;

static void random_path(char *to)
{
	static const char *const dirs[] = {"", "a/", "b/", "a/b/", "b/a/", "a/../b/", "s/"};

	snprintf(to, 32, "%s%c", dirs[rng_below(&rng, ARRAY_LEN(dirs))],
	         (int)('a' + rng_below(&rng, 4)));
}

static void random_op(struct client *c)
{
	static const uint8_t opcodes[] = {
	        PST_OP_LOOKUP,    PST_OP_CREATE,     PST_OP_CREATE,    PST_OP_MKDIR,
	        PST_OP_MKDIR,     PST_OP_SYMLINK,    PST_OP_LINK,      PST_OP_UNLINK,
	        PST_OP_RMDIR,     PST_OP_RENAME,     PST_OP_RENAME,    PST_OP_RENAME,
	        PST_OP_READDIR,   PST_OP_SETATTR,    PST_OP_SETXATTR,  PST_OP_REMOVEXATTR,
	        PST_OP_FILE_OPEN, PST_OP_FILE_CLOSE, PST_OP_LISTXATTR, PST_OP_GETATTR};
	static const uint32_t flags[] = {
	        0, 0, 0, PST_F_EXCL, PST_F_EXCHANGE, PST_F_REPLACE, PST_F_TRUNCATE};

	random_path(c->path[0]);
	random_path(c->path[1]);
	c->op = fsx_op(x, opcodes[rng_below(&rng, ARRAY_LEN(opcodes))], c->path[0]);
	c->op.flags = flags[rng_below(&rng, ARRAY_LEN(flags))];
	c->op.name2 = c->path[1];
	c->op.name2_len = (uint32_t)strlen(c->path[1]);
	c->op.key = "user.a";
	c->op.key_len = 6;
	c->op.entry = any;
	c->op.want_values = rng_below(&rng, 2);
	c->op.attr.uid = 5;
	if (c->op.opcode == PST_OP_SETATTR)
		c->op.attr_mask = PST_ATTR_UID;
	if (c->op.opcode == PST_OP_FILE_OPEN && c->held)
		c->op.opcode = PST_OP_FILE_CLOSE;
	if (c->op.opcode == PST_OP_FILE_CLOSE) {
		if (!c->held)
			c->op.opcode = PST_OP_LOOKUP;
		c->op.ino = c->held;
	}
}

static void client_done(struct client *c)
{
	static const int known[] = {0,     ENOENT, EEXIST,  ENOTDIR, EISDIR,    ENOTEMPTY, EINVAL,
	                            EPERM, ELOOP,  ENODATA, ESTALE,  ECANCELED, EBUSY};
	bool found = false;

	for (unsigned i = 0; i < ARRAY_LEN(known); i++)
		found = found || c->status == -known[i];
	if (!found)
		fail_msg("PST_FS_SEED=%llu: op %u: %d", (unsigned long long)fsx_seed, c->op.opcode,
		         c->status);
	if (!c->status && c->op.opcode == PST_OP_FILE_OPEN)
		c->held = c->op.ino;
	if (!c->status && c->op.opcode == PST_OP_FILE_CLOSE)
		c->held = 0;
	c->running = false;
}

static void client_step(struct client *c, bool start)
{
	enum pst_outcome out;

	if (c->running && c->status == 1) {
		if (rng_chance(&rng, 0.002))
			store_cancel(x->fs, &c->op);
		return;
	}
	if (c->running)
		client_done(c);
	if (!start)
		return;
	random_op(c);
	out = fsx_start(x, &c->op, &c->status);
	if (out == PST_BUSY)
		return;
	c->running = true;
}

static void random_round(uint64_t seed, unsigned count)
{
	static struct client clients[CLIENTS];
	const struct model_store_opts slow = {.later = true, .busy = 0.2, .seed = seed};
	const struct fs_opts opts = {.requests_max = CLIENTS - 4, .ino_range = 4};
	unsigned running = 1;

	rng_seed(&rng, seed);
	fsx_open(x, &opts, &slow, 0);
	memset(clients, 0, sizeof(clients));
	for (unsigned i = 0; i < count; i++) {
		client_step(&clients[rng_below(&rng, CLIENTS)], true);
		loop_turn(x->loop, 0);
	}
	while (running) {
		running = 0;
		for (unsigned i = 0; i < CLIENTS; i++) {
			client_step(&clients[i], false);
			running += clients[i].running;
		}
		loop_turn(x->loop, 0);
	}
	fsx_check(x);
	for (unsigned i = 0; i < CLIENTS; i++) {
		if (clients[i].held)
			ok(fsx_drop(x, clients[i].held));
	}
	fsx_check(x);
	fsx_close(x);
}

static void test_random(void **state)
{
	const char *env = getenv("PST_FS_SEED");

	for (uint64_t seed = env ? strtoull(env, NULL, 0) : 1; seed <= 300; seed++) {
		fsx_seed = seed;
		random_round(seed, 8000);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        H(test_create_and_rmdir),
	        H(test_create_twice),
	        H(test_many_mkdirs),
	        H(test_first_use_by_many),
	        H(test_unlink_and_open),
	        H(test_unlink_and_close),
	        H(test_close_fails),
	        H(test_open_fails),
	        H(test_name_for_nameless),
	        H(test_attempts_are_bounded),
	        H(test_gate),
	        H(test_pool_is_limited),
	        cmocka_unit_test(test_failure_sweep),
	        cmocka_unit_test(test_cancel_sweep),
	        cmocka_unit_test(test_alloc_sweep),
	        cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests_name("fs_races", tests, NULL, NULL);
}
