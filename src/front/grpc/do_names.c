/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * do_names - the methods of the services Containers and Names: each becomes the op of its name, in the
 * caller's session and with its token, and goes the way of all requests.
 */
#include <dirent.h>
#include <stdio.h>

#include "front/grpc/grpc_int.h"

/* --- containers --- */

/* Names are bytes to the store, and text here: a client could not read the message that has others. */
static char *text(char *name)
{
	size_t len = strlen(name);

	(void)text_show(name, len + 1, name, len);
	return name;
}

static void cont_fill(Penstock__V1__Container *m, struct pst_cont_info *i)
{
	penstock__v1__container__init(m);
	m->name = text(i->name);
	m->id = i->id;
	m->layout = i->layout;
	m->properties = i->props;
	m->quota_bytes = i->quota_bytes;
	m->quota_objects = i->quota_objects;
	m->used_bytes = i->used_bytes;
	m->used_objects = i->used_objects;
	m->snapshots = i->snapshots;
	m->created_ns = i->ctime_ns;
}

static void cont_done(struct gcall *c, int status)
{
	Penstock__V1__ContainerReply r = PENSTOCK__V1__CONTAINER_REPLY__INIT;
	Penstock__V1__Container m;

	cont_fill(&m, &c->cont);
	r.container = &m;
	if (c->has_handle)
		r.handle = (ProtobufCBinaryData){sizeof(c->handle), c->handle};
	call_end(c, status, &r.base);
}

static void empty_done(struct gcall *c, int status)
{
	const Penstock__V1__Empty r = PENSTOCK__V1__EMPTY__INIT;

	call_end(c, status, &r.base);
}

/* @field: of the message; @fresh: it is to be made. What the library refuses is refused here, too: it
 * could not use such names. */
static int name_check(struct gcall *c, const char *field, const char *name, bool fresh)
{
	char text[SHOWN_MAX];
	size_t len = strlen(name);

	if (len > PST_NAME_MAX)
		return call_fail(c, -ENAMETOOLONG, "%s: %zu bytes: a name has at most %d", field,
		                 len, PST_NAME_MAX);
	if (fresh && !len)
		return call_fail(c, -EINVAL, "%s: it needs a name", field);
	if (fresh && strpbrk(name, "/:@"))
		return call_fail(c, -EINVAL,
		                 "%s: \"%s\": no '/', ':' or '@' in it, which part paths", field,
		                 shown(text, name));
	return 0;
}

#define SET_KNOWN (PST_SET_QUOTA_BYTES | PST_SET_QUOTA_OBJECTS | PST_SET_PROPS)

static int cont_check(struct gcall *c, enum pst_opcode opcode)
{
	const Penstock__V1__ContainerRequest *in = (const void *)c->in;
	const Penstock__V1__Container *m = in->container;
	bool fresh = opcode == PST_OP_CONT_CREATE;

	if (!m || (!fresh && !m->name[0] && !m->id))
		return call_fail(c, -EINVAL, "container: %s takes its name%s", method_name(c),
		                 fresh ? "" : " or id");
	if (fresh && m->layout > PST_LAYOUT_OBJECT)
		return call_fail(c, -EINVAL, "container.layout: %u: it is 0 (files) or 1 (objects)",
		                 m->layout);
	if (m->properties & ~PST_PROP_CHECKSUM_OFF)
		return call_fail(c, -EINVAL,
		                 "container.properties: %#x: 1 (no checksums) is all there is",
		                 m->properties);
	if (opcode == PST_OP_CONT_SET && (!in->set || in->set & ~SET_KNOWN))
		return call_fail(
		        c, -EINVAL,
		        "set: %#x: it is a sum of 1 (quota_bytes), 2 (quota_objects) and 4 "
		        "(properties)",
		        in->set);
	return name_check(c, "container.name", m->name, fresh);
}

static void cont_begin(struct gcall *c, enum pst_opcode opcode,
                       void (*finish)(struct gcall *c, int status))
{
	const Penstock__V1__ContainerRequest *in = (const void *)c->in;
	const Penstock__V1__Container *m = in->container;
	int rc = cont_check(c, opcode);

	rc = rc ? rc : call_session(c, in->session);
	if (rc) {
		call_end(c, rc, NULL);
		return;
	}
	c->cont = (struct pst_cont_info){.layout = (uint8_t)m->layout,
	                                 .props = m->properties,
	                                 .quota_bytes = m->quota_bytes,
	                                 .quota_objects = m->quota_objects};
	c->req.op = (struct pst_op){.opcode = (uint8_t)opcode,
	                            .name = m->name,
	                            .name_len = (uint32_t)strlen(m->name),
	                            .cont = m->name[0] ? 0 : m->id,
	                            .attr_mask = in->set,
	                            .cont_info = &c->cont};
	call_run(c, in->token, finish);
}

void do_create_container(struct gcall *c)
{
	cont_begin(c, PST_OP_CONT_CREATE, cont_done);
}

void do_get_container(struct gcall *c)
{
	cont_begin(c, PST_OP_CONT_OPEN, cont_done);
}

static void cont_changed(struct gcall *c, int status)
{
	memset(&c->cont, 0, sizeof(c->cont));
	cont_done(c, status);
}

void do_set_container(struct gcall *c)
{
	cont_begin(c, PST_OP_CONT_SET, cont_changed);
}

void do_destroy_container(struct gcall *c)
{
	cont_begin(c, PST_OP_CONT_DESTROY, empty_done);
}

/* --- lists: entries are copied, a page of them --- */

struct page {
	size_t count;
	bool more;
	union {
		struct pst_cont_info cont[PAGE_MAX];
		struct pst_snap_info snap[PAGE_MAX];
		struct {
			char name[PST_NAME_MAX];
			uint8_t name_len, type;
			uint64_t ino;
		} entry[PAGE_MAX];
	} u;
};

static bool page_full(struct page *p)
{
	p->more = p->count == PAGE_MAX;
	return p->more;
}

static bool take_cont(struct pst_op *op, const struct pst_entry *e)
{
	struct page *p = container_of(op, struct gcall, req.op)->out;

	if (page_full(p))
		return false;
	p->u.cont[p->count++] = *e->cont;
	return true;
}

static bool take_snap(struct pst_op *op, const struct pst_entry *e)
{
	struct page *p = container_of(op, struct gcall, req.op)->out;

	if (page_full(p))
		return false;
	p->u.snap[p->count++] = *e->snap;
	return true;
}

static bool take_entry(struct pst_op *op, const struct pst_entry *e)
{
	struct page *p = container_of(op, struct gcall, req.op)->out;

	if (page_full(p))
		return false;
	memcpy(p->u.entry[p->count].name, e->name, MIN(e->name_len, PST_NAME_MAX));
	p->u.entry[p->count].name_len = (uint8_t)e->name_len;
	p->u.entry[p->count].type = e->type;
	p->u.entry[p->count++].ino = e->id;
	return true;
}

/* @each: of the messages that the page becomes; their pointers stand behind them. */
static void *messages(const struct page *p, size_t each, void ***ret_list)
{
	char *m = mem_calloc(p->count + 1, each + sizeof(void *));

	if (!m)
		return NULL;
	*ret_list = (void **)(void *)(m + p->count * ALIGN_UP(each, 8));
	for (size_t i = 0; i < p->count; i++)
		(*ret_list)[i] = m + i * each;
	return m;
}

static void list_begin(struct gcall *c, void (*finish)(struct gcall *c, int status))
{
	c->out = mem_calloc(1, sizeof(struct page));
	if (c->out) {
		call_run(c, NULL, finish);
		return;
	}
	fsession_put(c->session);
	c->session = NULL;
	call_end(c, call_fail(c, -ENOMEM, "%s: no memory for the list", method_name(c)), NULL);
}

static void conts_listed(struct gcall *c, int status)
{
	Penstock__V1__ListContainersReply r = PENSTOCK__V1__LIST_CONTAINERS_REPLY__INIT;
	struct page *p = c->out;
	void **list = NULL;
	Penstock__V1__Container *m = messages(p, sizeof(*m), &list);

	for (size_t i = 0; m && i < p->count; i++)
		cont_fill(&m[i], &p->u.cont[i]);
	r.containers = (void *)list;
	r.n_containers = m ? p->count : 0;
	r.more = p->more;
	call_end(c, status ? status : m ? 0 : -ENOMEM, &r.base);
	mem_free(m);
	mem_free(p);
}

void do_list_containers(struct gcall *c)
{
	const Penstock__V1__ListRequest *in = (const void *)c->in;
	int rc = name_check(c, "after", in->after, false);

	rc = rc ? rc : call_session(c, in->session);
	if (rc) {
		call_end(c, rc, NULL);
		return;
	}
	c->req.op = (struct pst_op){.opcode = PST_OP_CONT_LIST,
	                            .start = in->after[0] ? in->after : NULL,
	                            .start_len = (uint32_t)strlen(in->after),
	                            .entry = take_cont};
	list_begin(c, conts_listed);
}

/* --- snapshots --- */

static void snap_fill(Penstock__V1__Snapshot *m, struct pst_snap_info *i)
{
	penstock__v1__snapshot__init(m);
	m->name = text(i->name);
	m->view = i->view;
	m->created_ns = i->ctime_ns;
	m->used_bytes = i->used_bytes;
	m->used_objects = i->used_objects;
}

static void snaps_listed(struct gcall *c, int status)
{
	Penstock__V1__ListSnapshotsReply r = PENSTOCK__V1__LIST_SNAPSHOTS_REPLY__INIT;
	struct page *p = c->out;
	void **list = NULL;
	Penstock__V1__Snapshot *m = messages(p, sizeof(*m), &list);

	for (size_t i = 0; m && i < p->count; i++)
		snap_fill(&m[i], &p->u.snap[i]);
	r.snapshots = (void *)list;
	r.n_snapshots = m ? p->count : 0;
	r.more = p->more;
	call_end(c, status ? status : m ? 0 : -ENOMEM, &r.base);
	mem_free(m);
	mem_free(p);
}

void do_list_snapshots(struct gcall *c)
{
	const Penstock__V1__ListRequest *in = (const void *)c->in;
	int rc = name_check(c, "after", in->after, false);

	if (!rc && !in->container[0])
		rc = call_fail(c, -EINVAL, "container: ListSnapshots takes its name");
	rc = rc ? rc : name_check(c, "container", in->container, false);
	rc = rc ? rc : call_session(c, in->session);
	if (rc) {
		call_end(c, rc, NULL);
		return;
	}
	c->req.op = (struct pst_op){.opcode = PST_OP_SNAP_LIST,
	                            .name = in->container,
	                            .name_len = (uint32_t)strlen(in->container),
	                            .start = in->after[0] ? in->after : NULL,
	                            .start_len = (uint32_t)strlen(in->after),
	                            .entry = take_snap};
	list_begin(c, snaps_listed);
}

static void snap_done(struct gcall *c, int status)
{
	Penstock__V1__SnapshotReply r = PENSTOCK__V1__SNAPSHOT_REPLY__INIT;
	Penstock__V1__Snapshot m;

	snap_fill(&m, &c->snap);
	r.snapshot = &m;
	call_end(c, status, &r.base);
}

static void snap_begin(struct gcall *c, enum pst_opcode opcode,
                       void (*finish)(struct gcall *c, int status))
{
	const Penstock__V1__SnapshotRequest *in = (const void *)c->in;
	int rc = in->container[0] && in->name[0]
	                 ? 0
	                 : call_fail(c, -EINVAL, "%s: %s takes its name",
	                             in->container[0] ? "name" : "container", method_name(c));

	rc = rc ? rc : name_check(c, "container", in->container, false);
	rc = rc ? rc : name_check(c, "name", in->name, opcode == PST_OP_SNAP_CREATE);
	rc = rc ? rc : call_session(c, in->session);

	if (rc) {
		call_end(c, rc, NULL);
		return;
	}
	c->req.op = (struct pst_op){.opcode = (uint8_t)opcode,
	                            .name = in->container,
	                            .name_len = (uint32_t)strlen(in->container),
	                            .name2 = in->name,
	                            .name2_len = (uint32_t)strlen(in->name),
	                            .snap_info = &c->snap};
	call_run(c, in->token, finish);
}

void do_create_snapshot(struct gcall *c)
{
	snap_begin(c, PST_OP_SNAP_CREATE, snap_done);
}

void do_get_snapshot(struct gcall *c)
{
	snap_begin(c, PST_OP_SNAP_OPEN, snap_done);
}

void do_destroy_snapshot(struct gcall *c)
{
	snap_begin(c, PST_OP_SNAP_DESTROY, empty_done);
}

/* --- names --- */

static const struct {
	const char *name;
	uint8_t opcode;
} name_ops[] = {
        {"Lookup", PST_OP_LOOKUP},     {"Create", PST_OP_CREATE}, {"Mkdir", PST_OP_MKDIR},
        {"Symlink", PST_OP_SYMLINK},   {"Link", PST_OP_LINK},     {"Unlink", PST_OP_UNLINK},
        {"Rmdir", PST_OP_RMDIR},       {"Rename", PST_OP_RENAME}, {"SetAttr", PST_OP_SETATTR},
        {"ReadLink", PST_OP_READLINK},
};

static uint8_t name_opcode(const struct gcall *c)
{
	const char *name = strrchr(c->method->path, '/') + 1;

	for (unsigned i = 0; i < ARRAY_LEN(name_ops); i++)
		if (!strcmp(name_ops[i].name, name))
			return name_ops[i].opcode;
	return PST_OP_NONE;
}

static void name_done(struct gcall *c, int status)
{
	Penstock__V1__NameReply r = PENSTOCK__V1__NAME_REPLY__INIT;
	Penstock__V1__Attr m = PENSTOCK__V1__ATTR__INIT;
	const struct pst_attr *a = &c->req.op.attr;

	m.ino = c->req.op.ino;
	m.mode = a->mode;
	m.uid = a->uid;
	m.gid = a->gid;
	m.nlink = a->nlink;
	m.size = a->size_bytes;
	m.allocated = a->alloc_bytes;
	m.atime_ns = a->atime_ns;
	m.mtime_ns = a->mtime_ns;
	m.ctime_ns = a->ctime_ns;
	m.rdev = a->rdev;
	r.attr = &m;
	if (c->req.op.opcode == PST_OP_READLINK && !status)
		r.target = (ProtobufCBinaryData){c->req.op.ret_len, (uint8_t *)c->text};
	if (c->has_handle)
		r.handle = (ProtobufCBinaryData){sizeof(c->handle), c->handle};
	call_end(c, status, &r.base);
}

static int path_check(struct gcall *c, const char *field, const ProtobufCBinaryData *path)
{
	if (path->len > PST_PATH_MAX)
		return call_fail(c, -ENAMETOOLONG, "%s%s: %zu bytes: a path has at most %d",
		                 name_field(c), field, path->len, PST_PATH_MAX);
	return !path->len || !memchr(path->data, 0, path->len)
	               ? 0
	               : call_fail(c, -EINVAL, "%s%s: there is a NUL in it", name_field(c), field);
}

static int name_request_check(struct gcall *c, const Penstock__V1__NameRequest *in, uint8_t opcode)
{
	const char *within = name_field(c);
	int rc;

	if (!in)
		return call_fail(c, -EINVAL,
		                 "name: ReadDir takes a session, a container and a path");
	rc = path_check(c, "path", &in->path);
	rc = rc ? rc : path_check(c, "path2", &in->path2);
	if (rc)
		return rc;
	if (in->handle.len && in->handle.len != SESSION_HANDLE_BYTES)
		return call_fail(c, -EINVAL, "%shandle: %zu bytes: it has %d, as it was given",
		                 within, in->handle.len, SESSION_HANDLE_BYTES);
	if (in->data.len && opcode != PST_OP_CREATE)
		return call_fail(c, -EINVAL,
		                 "%sdata: %zu bytes: Create takes them, and %s does not", within,
		                 in->data.len, method_name(c));
	if (in->data.len > PST_IO_MAX)
		return call_fail(c, -EINVAL,
		                 "%sdata: %zu bytes: at most %u come with a file's name", within,
		                 in->data.len, (unsigned)PST_IO_MAX);
	if (in->flags > UINT16_MAX)
		return call_fail(c, -EINVAL, "%sflags: %#x: there are none above 0xffff", within,
		                 in->flags);
	/* A file without a name is held open, and this door has no way to close it. */
	if (opcode == PST_OP_CREATE && !in->path.len)
		return call_fail(c, -EINVAL, "path: a file that is made here has a name");
	return 0;
}

/* What the message says, as an op. */
static int name_fill(struct gcall *c, const Penstock__V1__NameRequest *in, uint8_t opcode)
{
	struct pst_op *op = &c->req.op;
	int rc = name_request_check(c, in, opcode);

	if (rc)
		return rc;
	*op = (struct pst_op){.opcode = opcode,
	                      .cont = in->container,
	                      .view = in->view,
	                      .flags = in->flags & 0xffff,
	                      .dir = in->dir,
	                      .dir2 = in->dir2,
	                      .name = (const char *)in->path.data,
	                      .name_len = (uint32_t)in->path.len,
	                      .name2 = (const char *)in->path2.data,
	                      .name2_len = (uint32_t)in->path2.len,
	                      .attr_mask = in->attr_mask,
	                      .val = c->text,
	                      .val_cap = sizeof(c->text)};
	if (in->handle.len)
		c->req.handle = in->handle.data;
	if (in->attr) {
		op->attr.mode = in->attr->mode;
		op->attr.uid = in->attr->uid;
		op->attr.gid = in->attr->gid;
		op->attr.size_bytes = in->attr->size;
		op->attr.atime_ns = in->attr->atime_ns;
		op->attr.mtime_ns = in->attr->mtime_ns;
		op->attr.rdev = in->attr->rdev;
	}
	if (opcode == PST_OP_CREATE && in->data.len) {
		c->iov = (struct iovec){in->data.data, in->data.len};
		op->iov = &c->iov;
		op->iov_count = 1;
		op->len = in->data.len;
	}
	return 0;
}

void do_name(struct gcall *c)
{
	const Penstock__V1__NameRequest *in = (const void *)c->in;
	int rc = name_fill(c, in, name_opcode(c));

	rc = rc ? rc : call_session(c, in->session);
	if (rc)
		call_end(c, rc, NULL);
	else
		call_run(c, in->token, name_done);
}

static void dir_read(struct gcall *c, int status)
{
	Penstock__V1__ReadDirReply r = PENSTOCK__V1__READ_DIR_REPLY__INIT;
	struct page *p = c->out;
	void **list = NULL;
	Penstock__V1__DirEntry *m = messages(p, sizeof(*m), &list);

	for (size_t i = 0; m && i < p->count; i++) {
		penstock__v1__dir_entry__init(&m[i]);
		m[i].name = (ProtobufCBinaryData){p->u.entry[i].name_len,
		                                  (uint8_t *)p->u.entry[i].name};
		m[i].ino = p->u.entry[i].ino;
		m[i].type = p->u.entry[i].type;
	}
	r.entries = (void *)list;
	r.n_entries = m ? p->count : 0;
	r.more = p->more;
	call_end(c, status ? status : m ? 0 : -ENOMEM, &r.base);
	mem_free(m);
	mem_free(p);
}

void do_read_dir(struct gcall *c)
{
	const Penstock__V1__ReadDirRequest *in = (const void *)c->in;
	int rc = name_fill(c, in->name, PST_OP_READDIR);

	if (!rc && in->after.len > PST_NAME_MAX)
		rc = call_fail(c, -ENAMETOOLONG, "after: %zu bytes: a name has at most %d",
		               in->after.len, PST_NAME_MAX);
	rc = rc ? rc : call_session(c, in->name->session);
	if (rc) {
		call_end(c, rc, NULL);
		return;
	}
	c->req.op.start = in->after.len ? in->after.data : NULL;
	c->req.op.start_len = (uint32_t)in->after.len;
	c->req.op.entry = take_entry;
	list_begin(c, dir_read);
}
