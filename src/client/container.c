/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * container - containers, snapshots, and handles to work in them.
 */
#include "client/client.h"

/* Names appear in paths such as CONTAINER@SNAPSHOT:/path, so what separates is not in them. */
static int name_check(const char *name, size_t len)
{
	if (len == 0)
		return -EINVAL;
	if (len > PST_NAME_MAX)
		return -ENAMETOOLONG;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)name[i];

		if (c < 0x20 || c == 0x7f || c == '/' || c == ':' || c == '@')
			return -EINVAL;
	}
	return 0;
}

/* A blocking call about the container @name. */
static int cont_init(struct request *r, struct pst_client *c, enum pst_opcode opcode,
                     const char *name)
{
	size_t len = strlen(name);
	int rc = name_check(name, len);

	if (rc < 0)
		return rc;
	request_init(r, c, opcode);
	r->op.name = name;
	r->op.name_len = (uint32_t)len;
	return 0;
}

static int snap_init(struct request *r, struct pst_client *c, enum pst_opcode opcode,
                     const char *name, const char *snap)
{
	size_t len = strlen(snap);
	int rc = name_check(snap, len);

	if (rc == 0)
		rc = cont_init(r, c, opcode, name);
	if (rc < 0)
		return rc;
	r->op.name2 = snap;
	r->op.name2_len = (uint32_t)len;
	return 0;
}

int pst_cont_create(struct pst_client *client, const char *name, struct pst_cont_info *info)
{
	struct pst_cont_info all = {0};
	struct request r;
	int rc = cont_init(&r, client, PST_OP_CONT_CREATE, name);

	if (rc < 0)
		return rc;
	if (info) {
		if (info->layout > PST_LAYOUT_OBJECT || (info->props & ~PST_PROP_CHECKSUM_OFF))
			return -EINVAL;
		all.layout = info->layout;
		all.props = info->props;
		all.quota_bytes = info->quota_bytes;
		all.quota_objects = info->quota_objects;
	}
	r.op.cont_info = &all;
	rc = request_wait(&r);
	if (rc == 0 && info)
		*info = all;
	return rc;
}

int pst_cont_get(struct pst_client *client, const char *name, struct pst_cont_info *ret_info)
{
	struct pst_cont_info info = {0};
	struct request r;
	int rc = cont_init(&r, client, PST_OP_CONT_GET, name);

	if (rc < 0)
		return rc;
	r.op.cont_info = &info;
	rc = request_wait(&r);
	if (rc == 0)
		*ret_info = info;
	return rc;
}

int pst_cont_set(struct pst_client *client, const char *name, uint32_t what,
                 const struct pst_cont_info *info)
{
	struct pst_cont_info copy = *info;
	struct request r;
	int rc = cont_init(&r, client, PST_OP_CONT_SET, name);

	if (rc < 0)
		return rc;
	if (what & ~(PST_SET_QUOTA_BYTES | PST_SET_QUOTA_OBJECTS | PST_SET_PROPS))
		return -EINVAL;
	if ((what & PST_SET_PROPS) && (info->props & ~PST_PROP_CHECKSUM_OFF))
		return -EINVAL;
	r.op.attr_mask = what;
	r.op.cont_info = &copy;
	return request_wait(&r);
}

int pst_cont_destroy(struct pst_client *client, const char *name)
{
	struct request r;
	int rc = cont_init(&r, client, PST_OP_CONT_DESTROY, name);

	return rc < 0 ? rc : request_wait(&r);
}

struct cont_list {
	bool (*fn)(void *arg, const struct pst_cont_info *info);
	void *arg;
};

static bool cont_list_one(void *arg, const struct list_entry_out *e)
{
	struct cont_list *l = arg;

	if (e->cont->name[0] == ':') /* the server's own: no name that a call could take */
		return true;
	return l->fn(l->arg, e->cont);
}

int pst_cont_list(struct pst_client *client,
                  bool (*fn)(void *arg, const struct pst_cont_info *info), void *arg)
{
	struct cont_list l = {.fn = fn, .arg = arg};
	struct request r;

	request_init(&r, client, PST_OP_CONT_LIST);
	return list_run(&r, NULL, 0, cont_list_one, &l);
}

/* --- handles --- */

static int cont_open_ids(struct pst_client *client, const char *name, const char *snap,
                         struct pst_cont *cont)
{
	struct pst_cont_info info = {0};
	struct pst_snap_info snap_info = {0};
	struct request r;
	int rc = cont_init(&r, client, PST_OP_CONT_OPEN, name);

	if (rc < 0)
		return rc;
	r.op.cont_info = &info;
	rc = request_wait(&r);
	if (rc < 0)
		return rc;
	cont->id = info.id;
	if (!snap)
		return 0;
	rc = snap_init(&r, client, PST_OP_SNAP_OPEN, name, snap);
	if (rc < 0)
		return rc;
	r.op.snap_info = &snap_info;
	rc = request_wait(&r);
	if (rc == 0)
		cont->view = snap_info.view;
	return rc;
}

int pst_cont_open(struct pst_client *client, const char *name, struct pst_cont **ret_cont)
{
	const char *at = strchr(name, '@');
	char base[PST_NAME_MAX + 1];
	size_t len = at ? (size_t)(at - name) : strlen(name);
	struct pst_cont *cont;
	int rc = client_check(client);

	if (rc < 0)
		return rc;
	if (len > PST_NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(base, name, len);
	base[len] = 0;
	cont = mem_calloc(1, sizeof(*cont));
	if (!cont)
		return -ENOMEM;
	cont->client = client;
	rc = cont_open_ids(client, base, at ? at + 1 : NULL, cont);
	if (rc < 0) {
		mem_free(cont);
		return rc;
	}
	atomic_fetch_add(&client->conts, 1);
	*ret_cont = cont;
	return 0;
}

int pst_cont_close(struct pst_cont *cont)
{
	int rc;

	if (!cont)
		return 0;
	rc = client_check(cont->client);
	if (rc < 0)
		return rc;
	if (atomic_load(&cont->files))
		return -EBUSY;
	atomic_fetch_sub(&cont->client->conts, 1);
	mem_free(cont);
	return 0;
}

int pst_cont_flush(struct pst_cont *cont)
{
	struct request r;

	request_init(&r, cont->client, PST_OP_FLUSH);
	request_into(&r, cont);
	return request_wait(&r);
}

int pst_cont_flush_async(struct pst_cont *cont, struct pst_cq *cq, void *user_data)
{
	struct request *r;
	int rc = request_get(&r, cont->client, cq, user_data, PST_OP_FLUSH);

	if (rc < 0)
		return rc;
	request_into(r, cont);
	return request_go(r, 0);
}

int pst_cont_watch(struct pst_cont *cont, const struct pst_oid *object, uint64_t timeout_ns,
                   uint64_t *seen)
{
	struct request r;
	int rc;

	if (cont->view)
		return -EINVAL;
	request_init(&r, cont->client, PST_OP_WATCH);
	request_into(&r, cont);
	r.op.off = *seen;
	if (object)
		r.op.oid = *object;
	if (timeout_ns)
		r.op.deadline_ns = clock_mono_ns() + timeout_ns;
	rc = request_wait(&r);
	if (rc == 0)
		*seen = r.op.ret_off;
	return rc;
}

struct pst_client *pst_cont_client(const struct pst_cont *cont)
{
	return cont->client;
}

/* --- snapshots --- */

int pst_snap_create(struct pst_client *client, const char *name, const char *snap,
                    struct pst_snap_info *ret_info)
{
	struct pst_snap_info info = {0};
	struct request r;
	int rc = snap_init(&r, client, PST_OP_SNAP_CREATE, name, snap);

	if (rc < 0)
		return rc;
	r.op.snap_info = &info;
	rc = request_wait(&r);
	if (rc == 0 && ret_info)
		*ret_info = info;
	return rc;
}

struct snap_list {
	bool (*fn)(void *arg, const struct pst_snap_info *info);
	void *arg;
};

static bool snap_list_one(void *arg, const struct list_entry_out *e)
{
	struct snap_list *l = arg;

	return l->fn(l->arg, e->snap);
}

int pst_snap_list(struct pst_client *client, const char *name,
                  bool (*fn)(void *arg, const struct pst_snap_info *info), void *arg)
{
	struct snap_list l = {.fn = fn, .arg = arg};
	struct request r;
	int rc = cont_init(&r, client, PST_OP_SNAP_LIST, name);

	return rc < 0 ? rc : list_run(&r, NULL, 0, snap_list_one, &l);
}

int pst_snap_destroy(struct pst_client *client, const char *name, const char *snap)
{
	struct request r;
	int rc = snap_init(&r, client, PST_OP_SNAP_DESTROY, name, snap);

	return rc < 0 ? rc : request_wait(&r);
}
