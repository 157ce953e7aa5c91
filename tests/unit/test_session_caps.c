/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_session_caps - capabilities, their tokens, and handles: what each lets through, what it doesn't,
 * and that what is refused is told to the audit and leaves no trace in the store.
 */
#include "session_world.h"

static struct pst_op write_op(uint32_t cont, const char *text, struct iovec *iov)
{
	*iov = (struct iovec){(void *)(uintptr_t)text, strlen(text)};
	return (struct pst_op){.opcode = PST_OP_WRITE,
	                       .cont = cont,
	                       .oid = oid_of(7),
	                       .len = iov->iov_len,
	                       .iov = iov,
	                       .iov_count = 1};
}

static struct pst_op read_op(uint32_t cont, struct iovec *iov, char *buf, size_t len)
{
	*iov = (struct iovec){buf, len};
	return (struct pst_op){.opcode = PST_OP_READ,
	                       .cont = cont,
	                       .oid = oid_of(7),
	                       .len = len,
	                       .iov = iov,
	                       .iov_count = 1};
}

/* --- rights and containers --- */

static void test_no_capability(void **state)
{
	struct world w = {0};
	struct client c = {0};
	struct ident id = {0};

	world_start(&w);
	sx_forget(&w.x);
	assert_int_equal(session_auth_peer(w.x.t, &id, 4711, 100), -EACCES);
	assert_true(sx_audited(&w.x, AUDIT_AUTH, -EACCES));
	assert_string_equal(sx_last(&w.x)->who, "uid:4711");
	assert_int_equal(client_open_as(&c, &w.x, &id), -EACCES);
	assert_int_equal(session_auth_open(w.x.t, &id), -EACCES);
	assert_int_equal(session_auth_cert(w.x.t, &id, "host1"), -EACCES);
	world_end(&w);
}

static void test_wrong_container(void **state)
{
	struct world w = {0};
	struct client c = {0};
	struct cap_op o;
	struct iovec iov;
	char buf[8];

	world_start(&w);
	o = grant(&w, "b", RIGHTS_ALL & ~RIGHT_ADMIN);
	assert_int_equal(client_open_token(&c, &w.x, o.token), 0);
	{
		struct pst_op op = write_op(w.b, "text", &iov);

		assert_int_equal(client_run(&c, &op), 0);
	}
	refused(&w, &c, write_op(w.a, "text", &iov), -EACCES);
	refused(&w, &c, read_op(w.a, &iov, buf, 4), -EACCES);
	refused(&w, &c, names_op(PST_OP_CREATE, w.a, "f"), -EACCES);
	refused(&w, &c, names_op(PST_OP_CONT_OPEN, 0, "a"), -EACCES);
	refused(&w, &c, names_op(PST_OP_SNAP_LIST, 0, "a"), -EACCES);
	refused(&w, &c, names_op(PST_OP_CONT_CREATE, 0, "mine"), -EACCES);
	refused(&w, &c, names_op(PST_OP_CONT_DESTROY, 0, "b"), -EACCES);
	/* What the server counts of all tenants. */
	refused(&w, &c, OP(.opcode = PST_OP_FIGURES), -EACCES);
	/* The table's own container is for nobody, whatever he calls it, the owner included. */
	refused(&w, &c, names_op(PST_OP_CONT_OPEN, 0, SYS_CONT_NAME), -EACCES);
	refused(&w, &w.owner, names_op(PST_OP_CONT_OPEN, 0, SYS_CONT_NAME), -ENOENT);
	refused(&w, &w.owner, names_op(PST_OP_CONT_DESTROY, 0, SYS_CONT_NAME), -ENOENT);
	refused(&w, &w.owner, names_op(PST_OP_CONT_GET, w.x.t->sys_cont, NULL), -ENOENT);
	refused(&w, &w.owner, names_op(PST_OP_CONT_CREATE, 0, ":x"), -EINVAL);
	/* Names that would be orders to somebody's terminal. */
	refused(&w, &w.owner, names_op(PST_OP_CONT_CREATE, 0, "x\n"), -EINVAL);
	refused(&w, &w.owner, names_op(PST_OP_CONT_CREATE, 0, "\x1b[2J"), -EINVAL);
	refused(&w, &w.owner, names_op(PST_OP_CONT_CREATE, 0, "x\x7f"), -EINVAL);
	refused(&w, &w.owner,
	        OP(.opcode = PST_OP_SNAP_CREATE, .name = "b", .name_len = 1, .name2 = "v\r",
	           .name2_len = 2),
	        -EINVAL);
	refused(&w, &w.owner, write_op(w.x.t->sys_cont, "text", &iov), -ENOENT);
	refused(&w, &w.owner, read_op(w.x.t->sys_cont, &iov, buf, 4), -ENOENT);
	/* Nor ops that no client sends, or that don't exist. */
	refused(&w, &w.owner, OP(.opcode = PST_OP_SESSION_CLOSE, .ino = 1), -EINVAL);
	refused(&w, &w.owner, OP(.opcode = 255), -EINVAL);
	refused(&w, &w.owner, OP(.opcode = 0), -EINVAL);
	assert_int_equal(client_bye(&c), 0);
	world_end(&w);
}

static unsigned listed;
static bool count_entry(struct pst_op *op, const struct pst_entry *e)
{
	listed += *(const char *)e->name == 'a' ? 1 : 100;
	assert_memory_not_equal(e->name, ":", 1);
	return true;
}

static void test_lists(void **state)
{
	struct world w = {0};
	struct client c = {0};
	struct pst_op op = {.opcode = PST_OP_CONT_LIST, .entry = count_entry};
	struct cap_op o;

	world_start(&w);
	o = grant(&w, "a", RIGHT_READ);
	assert_int_equal(client_open_token(&c, &w.x, o.token), 0);
	listed = 0;
	assert_int_equal(client_run(&c, &op), 0);
	assert_int_equal(listed, 1);
	assert_ptr_equal(op.entry, count_entry);
	listed = 0;
	assert_int_equal(client_run(&w.owner, &op), 0);
	assert_int_equal(listed, 101);
	assert_int_equal(client_bye(&c), 0);
	world_end(&w);
}

/* One op of each kind under one right at a time. */
static void test_rights(void **state)
{
	struct world w = {0};
	struct iovec iov;
	char buf[8];
	static struct pst_mut del = {.kind = PST_OBJ_DELETE};
	static struct pst_mut app[] = {
	        {.kind = PST_ARRAY_APPEND, .val = "x", .val_len = 1, .len = 1}};
	static struct pst_mut put = {
	        .kind = PST_KV_PUT, .key = "k", .key_len = 1, .val = "v", .val_len = 1};

	world_start(&w);
	del.oid = app[0].oid = put.oid = oid_of(9);
	struct pst_obj_stat st;
	struct pst_snap_info snap;
	struct pst_cont_info info;
	const struct {
		struct pst_op op;
		uint32_t any; /* any of these alone is enough */
	} one[] = {
	        {read_op(w.b, &iov, buf, 4), RIGHT_READ},
	        {{.opcode = PST_OP_STAT, .cont = w.b, .oid = oid_of(7), .stat = &st},
	         RIGHT_READ | RIGHT_WRITE | RIGHT_APPEND | RIGHT_LIST},
	        {{.opcode = PST_OP_BATCH, .cont = w.b, .muts = &del, .mut_count = 1}, RIGHT_REMOVE},
	        {{.opcode = PST_OP_BATCH, .cont = w.b, .muts = app, .mut_count = 1},
	         RIGHT_WRITE | RIGHT_APPEND},
	        {{.opcode = PST_OP_BATCH, .cont = w.b, .muts = &put, .mut_count = 1}, RIGHT_WRITE},
	        {{.opcode = PST_OP_OBJ_LIST, .cont = w.b, .entry = count_entry}, RIGHT_LIST},
	        {{.opcode = PST_OP_SNAP_CREATE,
	          .cont = w.b,
	          .name2 = "s",
	          .name2_len = 1,
	          .snap_info = &snap},
	         RIGHT_SNAPSHOT},
	        {{.opcode = PST_OP_SNAP_DESTROY, .cont = w.b, .name2 = "s", .name2_len = 1},
	         RIGHT_SNAPSHOT},
	        {{.opcode = PST_OP_CONT_SET, .cont = w.b, .cont_info = &info}, RIGHT_ADMIN},
	        {{.opcode = PST_OP_CONT_GET, .cont = w.b, .cont_info = &info}, RIGHTS_ALL},
	        {{.opcode = PST_OP_FLUSH, .cont = w.b}, RIGHTS_ALL},
	};

	memset(&info, 0, sizeof(info));
	for (uint32_t bit = 0; bit < 9; bit++) {
		struct cap_op o = grant(&w, "b", 1u << bit);
		struct client c = {0};

		assert_int_equal(client_open_token(&c, &w.x, o.token), 0);
		for (unsigned i = 0; i < ARRAY_LEN(one); i++) {
			struct pst_op op = one[i].op;

			if (one[i].any & 1u << bit)
				assert_int_equal(client_run(&c, &op), 0);
			else
				refused(&w, &c, op, -EACCES);
		}
		assert_int_equal(client_bye(&c), 0);
	}
	world_end(&w);
}

/* Names, likewise: what more than one right is needed for needs all of them. */
static void test_rights_of_names(void **state)
{
	struct world w = {0};
	uint32_t rights = RIGHT_READ | RIGHT_LIST;
	struct client c = {0};
	struct cap_op o;
	struct pst_op op;
	uint64_t ino;
	char buf[16];

	world_start(&w);
	assert_int_equal(client_create(&w.owner, w.a, "f", "text", &ino), 0);
	o = grant(&w, "a", rights);
	assert_int_equal(client_open_token(&c, &w.x, o.token), 0);
	assert_int_equal(client_lookup(&c, w.a, "f", NULL), 0);
	assert_int_equal(client_read(&c, w.a, ino, buf, sizeof(buf)), 0);
	assert_string_equal(buf, "text");
	refused(&w, &c, names_op(PST_OP_CREATE, w.a, "g"), -EACCES);
	refused(&w, &c, names_op(PST_OP_MKDIR, w.a, "g"), -EACCES);
	refused(&w, &c, names_op(PST_OP_UNLINK, w.a, "f"), -EACCES);
	refused(&w, &c, names_op(PST_OP_RMDIR, w.a, "f"), -EACCES);
	op = names_op(PST_OP_RENAME, w.a, "f");
	op.name2 = "g";
	op.name2_len = 1;
	refused(&w, &c, op, -EACCES);
	op.opcode = PST_OP_LINK;
	refused(&w, &c, op, -EACCES);
	op.opcode = PST_OP_SYMLINK;
	refused(&w, &c, op, -EACCES);
	op = names_op(PST_OP_SETATTR, w.a, "f");
	op.attr_mask = PST_ATTR_MODE;
	refused(&w, &c, op, -EACCES);
	op.attr_mask = PST_ATTR_SIZE;
	refused(&w, &c, op, -EACCES);
	op = (struct pst_op){.opcode = PST_OP_FILE_WRITE, .cont = w.a, .ino = ino};
	refused(&w, &c, op, -EACCES);
	op.flags = PST_F_APPEND;
	refused(&w, &c, op, -EACCES);
	assert_int_equal(client_bye(&c), 0);
	/* To append is not to overwrite. */
	o = grant(&w, "a", RIGHT_APPEND);
	c = (struct client){0};
	assert_int_equal(client_open_token(&c, &w.x, o.token), 0);
	struct iovec iov = {"more", 4};
	op = (struct pst_op){.opcode = PST_OP_FILE_WRITE,
	                     .cont = w.a,
	                     .ino = ino,
	                     .iov = &iov,
	                     .iov_count = 1,
	                     .len = 4};
	refused(&w, &c, op, -EACCES);
	op.flags = PST_F_APPEND;
	assert_int_equal(client_run(&c, &op), 0);
	assert_int_equal(client_bye(&c), 0);
	assert_int_equal(client_read(&w.owner, w.a, ino, buf, sizeof(buf)), 0);
	assert_string_equal(buf, "textmore");
	/* The objects that the names layer stands on are nobody's but the administrator's. */
	o = grant(&w, "a", RIGHTS_ALL & ~RIGHT_ADMIN);
	c = (struct client){0};
	assert_int_equal(client_open_token(&c, &w.x, o.token), 0);
	op = write_op(w.a, "evil", &iov);
	op.oid = fs_oid(ino);
	refused(&w, &c, op, -EACCES);
	static struct pst_mut m = {.kind = PST_OBJ_DELETE};
	m.oid = fs_oid(PST_INO_ROOT);
	op = (struct pst_op){.opcode = PST_OP_BATCH, .cont = w.a, .muts = &m, .mut_count = 1};
	refused(&w, &c, op, -EACCES);
	assert_int_equal(client_bye(&c), 0);
	world_end(&w);
}

/* --- whose ids --- */

static void test_ids(void **state)
{
	struct world w = {0};
	struct client c = {0};
	struct cap_info i = {.cont_name = "a",
	                     .rights = RIGHTS_ALL & ~RIGHT_ADMIN,
	                     .map = CAP_MAP_RANGES,
	                     .range_count = 2,
	                     .range = {{500, 599}, {1000, 1000}}};
	struct cap_op o;
	struct pst_op op;

	world_start(&w);
	assert_int_equal(sx_grant(&w.x, &i, &o), 0);
	assert_int_equal(client_open_token(&c, &w.x, o.token), 0);
	op = names_op(PST_OP_CREATE, w.a, "mine");
	assert_int_equal(client_run(&c, &op), 0);
	assert_int_equal(op.attr.uid, 500);
	assert_int_equal(op.attr.gid, 500);
	op = names_op(PST_OP_MKDIR, w.a, "dir");
	op.attr_mask = PST_ATTR_UID | PST_ATTR_GID;
	op.attr.uid = 1000;
	op.attr.gid = 599;
	assert_int_equal(client_run(&c, &op), 0);
	assert_int_equal(op.attr.uid, 1000);
	op = names_op(PST_OP_CREATE, w.a, "root's");
	op.attr_mask = PST_ATTR_UID;
	op.attr.uid = 0;
	refused(&w, &c, op, -EPERM);
	op = names_op(PST_OP_SETATTR, w.a, "mine");
	op.attr_mask = PST_ATTR_GID;
	op.attr.gid = 600;
	refused(&w, &c, op, -EPERM);
	op.attr_mask = PST_ATTR_MODE;
	op.attr.mode = 0600;
	assert_int_equal(client_run(&c, &op), 0);
	assert_int_equal(op.attr.uid, 500);
	assert_int_equal(client_bye(&c), 0);

	i.map = CAP_MAP_SQUASH;
	i.range_count = 0;
	i.uid = 65534;
	i.gid = 65533;
	c = (struct client){0};
	assert_int_equal(sx_grant(&w.x, &i, &o), 0);
	assert_int_equal(client_open_token(&c, &w.x, o.token), 0);
	op = names_op(PST_OP_CREATE, w.a, "root's");
	op.attr_mask = PST_ATTR_UID;
	op.attr.uid = 0;
	assert_int_equal(client_run(&c, &op), 0);
	assert_int_equal(op.attr.uid, 65534);
	assert_int_equal(op.attr.gid, 65533);
	/* To empty a file is not to own it. */
	op = names_op(PST_OP_CREATE, w.a, "mine");
	op.flags = PST_F_TRUNCATE;
	assert_int_equal(client_run(&c, &op), 0);
	assert_int_equal(op.attr.uid, 500);
	assert_int_equal(op.attr.gid, 500);
	assert_int_equal(client_bye(&c), 0);
	world_end(&w);
}

static void test_subjects(void **state)
{
	struct world w = {0};
	struct cap_info i = {.cont_name = "b", .rights = RIGHT_READ, .tenant = 5};
	struct client c = {0};
	struct ident id = {0};
	struct iovec iov;
	char buf[4];

	world_start(&w);
	(void)snprintf(i.subject, sizeof(i.subject), "uid:42");
	assert_int_equal(sx_grant(&w.x, &i, NULL), 0);
	(void)snprintf(i.subject, sizeof(i.subject), "cert:node1.example");
	i.rights = RIGHT_WRITE;
	assert_int_equal(sx_grant(&w.x, &i, NULL), 0);
	assert_int_equal(session_auth_peer(w.x.t, &id, 421, 42), -EACCES);
	id = (struct ident){0};
	assert_int_equal(session_auth_peer(w.x.t, &id, 42, 421), 0);
	assert_int_equal(id.tenant, 5);
	assert_int_equal(client_open_as(&c, &w.x, &id), 0);
	refused(&w, &c, write_op(w.b, "x", &iov), -EACCES);
	struct pst_op op = read_op(w.b, &iov, buf, 4);
	assert_int_equal(client_run(&c, &op), 0);
	assert_int_equal(op.tenant, 5);
	assert_int_equal(client_bye(&c), 0);
	id = (struct ident){0};
	c = (struct client){0};
	assert_int_equal(session_auth_cert(w.x.t, &id, "node1.example.org"), -EACCES);
	assert_int_equal(session_auth_cert(w.x.t, &id, "node1.exampl"), -EACCES);
	id = (struct ident){0};
	assert_int_equal(session_auth_cert(w.x.t, &id, "node1.example"), 0);
	assert_string_equal(id.who, "cert:node1.example");
	assert_int_equal(client_open_as(&c, &w.x, &id), 0);
	op = write_op(w.b, "x", &iov);
	assert_int_equal(client_run(&c, &op), 0);
	assert_int_equal(client_bye(&c), 0);
	/* A name that is too long is not cut to another one's. */
	char name[300];
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	id = (struct ident){0};
	(void)snprintf(i.subject, sizeof(i.subject), "cert:%.58s", name);
	assert_int_equal(sx_grant(&w.x, &i, NULL), 0);
	assert_int_equal(session_auth_cert(w.x.t, &id, name), -EACCES);
	/* One that is no text is nobody's, and not shown as it is to those who read of it. */
	static const char *const bad[][2] = {{"a\nb", "cert:a?b"},
	                                     {"\x1b[2J", "cert:?[2J"},
	                                     {"a\xc2\x9b", "cert:a??"},
	                                     {"a\xff", "cert:a?"}};
	for (unsigned k = 0; k < ARRAY_LEN(bad); k++) {
		id = (struct ident){0};
		assert_int_equal(session_auth_cert(w.x.t, &id, bad[k][0]), -EACCES);
		assert_string_equal(id.who, bad[k][1]);
	}
	world_end(&w);
}

/* What is anyone's, who shows nothing has: that, and nothing more. */
static void test_anyone(void **state)
{
	struct world w = {0};
	struct cap_info i = {.cont_name = "b", .rights = RIGHT_READ, .subject = "anyone"};
	struct ident id = {0};
	struct client c = {0};
	struct iovec iov;
	char buf[4];
	struct cap_op o;

	world_start(&w);
	(void)grant(&w, "a", RIGHTS_ALL);
	assert_int_equal(session_auth_open(w.x.t, &id), -EACCES);
	assert_int_equal(sx_grant(&w.x, &i, &o), 0);
	id = (struct ident){0};
	assert_int_equal(session_auth_open(w.x.t, &id), 0);
	assert_string_equal(id.who, "anyone");
	assert_int_equal(id.cap_count, 1);
	assert_int_equal(id.cap[0], o.info.id);
	assert_int_equal(sx_last(&w.x)->status, 0);
	assert_int_equal(client_open_as(&c, &w.x, &id), 0);
	refused(&w, &c, write_op(w.b, "x", &iov), -EACCES);
	refused(&w, &c, read_op(w.a, &iov, buf, 4), -EACCES);
	struct pst_op op = read_op(w.b, &iov, buf, 4);
	assert_int_equal(client_run(&c, &op), 0);
	assert_int_equal(client_bye(&c), 0);
	/* Who has a name got it with that, and is told of once. */
	id = (struct ident){0};
	assert_int_equal(session_auth_peer(w.x.t, &id, 4711, 1), 0);
	sx_forget(&w.x);
	assert_int_equal(session_auth_open(w.x.t, &id), -EACCES);
	assert_int_equal(w.x.events, 0);
	assert_int_equal(id.cap_count, 1);
	assert_int_equal(sx_revoke(&w.x, o.info.id), 0);
	id = (struct ident){0};
	assert_int_equal(session_auth_open(w.x.t, &id), -EACCES);
	world_end(&w);
}

/* --- grants --- */

static void test_bad_grants(void **state)
{
	struct world w = {0};
	const struct cap_info good = {.cont_name = "a", .rights = RIGHT_READ};
	struct cap_info i;
	struct table_figures f;
	uint64_t records;

	world_start(&w);
	records = sx_records(&w.x);
	i = good;
	i.rights = 0;
	assert_int_equal(sx_grant(&w.x, &i, NULL), -EINVAL);
	i.rights = RIGHTS_ALL + 1;
	assert_int_equal(sx_grant(&w.x, &i, NULL), -EINVAL);
	i = good;
	i.cont_name[0] = 'x';
	assert_int_equal(sx_grant(&w.x, &i, NULL), -ENOENT);
	memcpy(i.cont_name, SYS_CONT_NAME, sizeof(SYS_CONT_NAME));
	assert_int_equal(sx_grant(&w.x, &i, NULL), -ENOENT);
	i = good;
	memcpy(i.prefix, "nowhere", 8);
	assert_int_equal(sx_grant(&w.x, &i, NULL), -ENOENT);
	i.cont_name[0] = 0;
	assert_int_equal(sx_grant(&w.x, &i, NULL), -EINVAL);
	i.cont_name[0] = 'b';
	assert_int_equal(sx_grant(&w.x, &i, NULL), -EINVAL);
	i = good;
	i.expiry_ns = 1;
	assert_int_equal(sx_grant(&w.x, &i, NULL), -EINVAL);
	i = good;
	i.map = CAP_MAP_RANGES;
	assert_int_equal(sx_grant(&w.x, &i, NULL), -EINVAL);
	i.range_count = 1;
	i.range[0] = (struct cap_range){5, 4};
	assert_int_equal(sx_grant(&w.x, &i, NULL), -EINVAL);
	i = good;
	memcpy(i.subject, "root", 5);
	assert_int_equal(sx_grant(&w.x, &i, NULL), -EINVAL);
	memset(i.subject, 'x', sizeof(i.subject));
	assert_int_equal(sx_grant(&w.x, &i, NULL), -EINVAL);
	i = good;
	memcpy(i.subject, "cert:a\nb", 9);
	assert_int_equal(sx_grant(&w.x, &i, NULL), -EINVAL);
	memcpy(i.subject, "cert:\xff", 7);
	assert_int_equal(sx_grant(&w.x, &i, NULL), -EINVAL);
	i = good;
	memcpy(i.prefix, "\x1b", 2);
	assert_int_equal(sx_grant(&w.x, &i, NULL), -EINVAL);
	assert_true(sx_audited(&w.x, AUDIT_GRANT, -EINVAL));
	assert_int_equal(sx_records(&w.x), records);
	assert_int_equal(sx_revoke(&w.x, OWNER_CAP), -EPERM);
	assert_int_equal(sx_renew(&w.x, OWNER_CAP, 0), -EPERM);
	assert_int_equal(sx_revoke(&w.x, 77), -ENOENT);
	session_table_figures(w.x.t, &f);
	assert_int_equal(f.caps, 1);
	world_end(&w);
}

/* --- expiry and revocation --- */

static void test_expired(void **state)
{
	struct world w = {0};
	struct client c = {0};
	struct cap_info i = {.cont_name = "b", .rights = RIGHT_READ};
	struct pst_op op;
	struct cap_op o;
	struct iovec iov;
	char buf[4];

	world_start(&w);
	i.expiry_ns = loop_real_now(w.x.eng.loop) + 5 * NSEC_PER_SEC;
	assert_int_equal(sx_grant(&w.x, &i, &o), 0);
	assert_int_equal(client_open_token(&c, &w.x, o.token), 0);
	op = read_op(w.b, &iov, buf, 4);
	assert_int_equal(client_run(&c, &op), 0);
	sx_sleep(&w.x, 6 * NSEC_PER_SEC);
	refused(&w, &c, read_op(w.b, &iov, buf, 4), -EKEYEXPIRED);
	struct ident id = {0};
	assert_int_equal(session_auth_token(w.x.t, &id, o.token, strlen(o.token)), -EKEYEXPIRED);
	/* Not into the past. */
	assert_int_equal(sx_renew(&w.x, o.info.id, loop_real_now(w.x.eng.loop)), -EINVAL);
	assert_true(sx_audited(&w.x, AUDIT_RENEW, -EINVAL));
	/* Renewed, all of it goes on. */
	assert_int_equal(sx_renew(&w.x, o.info.id, loop_real_now(w.x.eng.loop) + NSEC_PER_SEC), 0);
	op = read_op(w.b, &iov, buf, 4);
	assert_int_equal(client_run(&c, &op), 0);
	/* A token may say less than its capability. */
	char token[CAP_TOKEN_MAX];
	assert_int_equal(cap_token(w.x.t, o.info.id, RIGHT_WRITE, token), 0);
	id = (struct ident){0};
	assert_int_equal(session_auth_token(w.x.t, &id, token, strlen(token)), 0);
	assert_int_equal(id.cap_rights[0], 0);
	assert_int_equal(client_bye(&c), 0);
	world_end(&w);
}

static bool is_read(const struct pst_op *op)
{
	return op->opcode == PST_OP_READ || op->opcode == PST_OP_WRITE;
}

static int revoke_status;
static void revoke_ended(struct cap_op *o, int status)
{
	revoke_status = status;
}

/* Requests under way are stopped, and the revocation has ended when they have. */
static void test_revoked_in_flight(void **state)
{
	struct world w = {.x.opts.running_max = 2};
	struct client c = {0};
	struct cap_op o, rev = {.by = "operator", .done = revoke_ended};
	struct creq q[4];
	struct iovec iov[4];
	char buf[4][4];
	struct ident id = {0};

	memset(q, 0, sizeof(q));
	world_start(&w);
	o = grant(&w, "b", RIGHT_READ | RIGHT_WRITE);
	assert_int_equal(client_open_token(&c, &w.x, o.token), 0);
	w.x.hold = is_read;
	for (unsigned i = 0; i < 4; i++) {
		q[i].r.op = i ? read_op(w.b, &iov[i], buf[i], 4) : write_op(w.b, "evil", &iov[i]);
		creq_start(&q[i], &c);
	}
	assert_int_equal(w.x.held_count, 2);
	sx_forget(&w.x);
	rev.info.id = o.info.id;
	revoke_status = 1;
	assert_int_equal(cap_revoke(w.x.t, &rev), 0);
	/* Those that waited are over at once. */
	assert_int_equal(q[2].status, -EKEYREVOKED);
	assert_int_equal(q[3].status, -EKEYREVOKED);
	sx_turn(&w.x);
	assert_int_equal(revoke_status, 1); /* two are under way */
	refused(&w, &c, read_op(w.b, &iov[3], buf[3], 4), -EKEYREVOKED);
	assert_int_equal(session_auth_token(w.x.t, &id, o.token, strlen(o.token)), -EKEYREVOKED);
	sx_release(&w.x);
	assert_int_equal(creq_wait(&q[0]), -EKEYREVOKED);
	assert_int_equal(creq_wait(&q[1]), -EKEYREVOKED);
	sx_turn(&w.x);
	assert_int_equal(revoke_status, 0);
	assert_true(sx_audited(&w.x, AUDIT_REVOKE, 0));
	refused(&w, &c, read_op(w.b, &iov[3], buf[3], 4), -EKEYREVOKED);
	assert_int_equal(session_auth_token(w.x.t, &id, o.token, strlen(o.token)), -EKEYREVOKED);
	struct pst_op op = read_op(w.b, &iov[3], buf[3], 4);
	assert_int_equal(client_run(&w.owner, &op), 0);
	assert_int_equal(op.ret_len, 0); /* nothing was written */
	/* And after a restart. */
	client_unlink(&c);
	client_unlink(&w.owner);
	sx_cut(&w.x);
	client_link(&c, &w.x);
	assert_int_equal(client_resume(&c), 0);
	refused(&w, &c, read_op(w.b, &iov[3], buf[3], 4), -EKEYREVOKED);
	assert_int_equal(session_auth_token(w.x.t, &id, o.token, strlen(o.token)), -EKEYREVOKED);
	assert_int_equal(client_bye(&c), 0);
	world_end(&w);
}

/* A tenant's session does not hold another one's capability. */
static void test_tenants(void **state)
{
	struct world w = {0};
	struct cap_info i = {.cont_name = "b", .rights = RIGHT_READ, .tenant = 1};
	struct qos q = {.depth_max = 2, .sessions_max = 1};
	struct cap_op one, two;
	struct ident id = {0};
	struct client c = {0}, d = {0};

	world_start(&w);
	assert_int_equal(sx_grant(&w.x, &i, &one), 0);
	i.tenant = 2;
	assert_int_equal(sx_grant(&w.x, &i, &two), 0);
	assert_int_equal(session_auth_token(w.x.t, &id, one.token, strlen(one.token)), 0);
	assert_int_equal(session_auth_token(w.x.t, &id, two.token, strlen(two.token)), -EACCES);
	assert_int_equal(id.cap_count, 1);
	assert_int_equal(sx_tenant(&w.x, 1, "acme", &q), 0);
	assert_int_equal(client_open_as(&c, &w.x, &id), 0);
	assert_int_equal(client_open_as(&d, &w.x, &id), -EDQUOT);
	client_unlink(&c);
	client_unlink(&w.owner);
	sx_cut(&w.x);
	assert_string_equal(tenant_find(w.x.t, 1)->name, "acme");
	assert_int_equal(tenant_find(w.x.t, 1)->qos.depth_max, 2);
	assert_int_equal(tenant_find(w.x.t, 1)->sessions, 1);
	q.weight = 1001;
	assert_int_equal(sx_tenant(&w.x, 1, "acme", &q), -EINVAL);
	q.weight = 1;
	assert_int_equal(sx_tenant(&w.x, 1, "a\nb", &q), -EINVAL);
	assert_int_equal(sx_tenant(&w.x, 1, "a\xc2\x85", &q), -EINVAL);
	assert_int_equal(sx_tenant(&w.x, 1, "a\xe9", &q), -EINVAL);
	assert_int_equal(sx_tenant(&w.x, 1, "acm\xc3\xa9", &q), 0);
	world_end(&w);
}

/* A container that is destroyed and made again is not the one that was granted. */
static void test_same_name(void **state)
{
	struct world w = {0};
	struct client c = {0};
	struct cap_op o;
	struct pst_op op;
	struct pst_cont_info info;

	world_start(&w);
	o = grant(&w, "b", RIGHTS_ALL);
	assert_int_equal(client_open_token(&c, &w.x, o.token), 0);
	op = names_op(PST_OP_CONT_DESTROY, 0, "b");
	assert_int_equal(client_run(&w.owner, &op), 0);
	(void)sx_cont(&w.x, "b", PST_LAYOUT_OBJECT);
	op = names_op(PST_OP_CONT_GET, 0, "b");
	op.cont_info = &info;
	assert_int_equal(client_run(&c, &op), -ENOENT);
	assert_int_equal(client_bye(&c), 0);
	world_end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_no_capability),
	        cmocka_unit_test(test_wrong_container),
	        cmocka_unit_test(test_lists),
	        cmocka_unit_test(test_rights),
	        cmocka_unit_test(test_rights_of_names),
	        cmocka_unit_test(test_ids),
	        cmocka_unit_test(test_subjects),
	        cmocka_unit_test(test_anyone),
	        cmocka_unit_test(test_bad_grants),
	        cmocka_unit_test(test_expired),
	        cmocka_unit_test(test_revoked_in_flight),
	        cmocka_unit_test(test_tenants),
	        cmocka_unit_test(test_same_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
