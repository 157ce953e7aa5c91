/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fabric - the list of providers, and what is the same for all of them.
 */
#include "fabric/fabric.h"

#include <dirent.h>

static struct list providers = {&providers, &providers}; /* filled before main() */

void fabric_provider_add(struct fabric_provider *p)
{
	list_push(&providers, &p->link);
}

const struct fabric_provider *fabric_provider_find(const char *name)
{
	struct fabric_provider *p;

	list_for_each (p, &providers, link)
		if (strcmp(p->name, name) == 0)
			return p;
	return NULL;
}

const struct fabric_provider *fabric_provider_next(const struct fabric_provider *p)
{
	const struct list *next = p ? p->link.next : providers.next;

	return next == &providers ? NULL : list_entry(next, struct fabric_provider, link);
}

/* Fills in what was left 0. */
static void opts_take(struct fabric_opts *ret_opts, const struct fabric_opts *opts)
{
	struct fabric_opts o = opts ? *opts : (struct fabric_opts){0};

	o.msg_max = o.msg_max ? o.msg_max : 16 * KIB;
	o.msg_credits = o.msg_credits ? o.msg_credits : 64;
	o.windows_max = o.windows_max ? o.windows_max : 1024;
	o.xfers_max = o.xfers_max ? o.xfers_max : 128;
	o.conns_max = o.conns_max ? o.conns_max : 1024;
	o.connect_ns = o.connect_ns ? o.connect_ns : 10 * NSEC_PER_SEC;
	o.dead_ns = o.dead_ns ? o.dead_ns : 15 * NSEC_PER_SEC;
	*ret_opts = o;
}

static int find(const struct fabric_provider **ret_p, const char *name, struct pst_err *err)
{
	*ret_p = fabric_provider_find(name);
	if (*ret_p)
		return 0;
	if (strcmp(name, "ofi") == 0)
		return err_set(
		        err, -ENOTSUP,
		        "ofi: this build has no RDMA: libfabric was not there when it was made");
	return err_set(err, -ENOTSUP, "%s: no such channel in this build", name);
}

bool fabric_has_rdma(void)
{
	DIR *dir = opendir("/sys/class/infiniband");
	bool has = false;

	for (const struct dirent *e; dir && !has && (e = readdir(dir));)
		has = e->d_name[0] != '.';
	if (dir)
		closedir(dir);
	return has;
}

int fabric_check_any(const struct fabric_opts *opts, struct pst_err *err)
{
	if (!opts->provider)
		return 0;
	return err_set(err, -EINVAL, "\":%s\" is for ofi alone: this channel has no choice",
	               opts->provider);
}

int fabric_check(const char *provider, const struct fabric_opts *opts, struct pst_err *err)
{
	const struct fabric_provider *p;
	int rc = find(&p, provider, err);

	return rc < 0 ? rc : p->check(opts, err);
}

int fabric_listen(struct fabric_listener **ret_l, struct loop *loop, const char *provider,
                  const char *addr, const struct fabric_opts *opts, struct pst_err *err)
{
	const struct fabric_provider *p;
	struct fabric_opts o;
	int rc = find(&p, provider, err);

	if (rc < 0)
		return rc;
	opts_take(&o, opts);
	return p->listen(ret_l, loop, addr, &o, err);
}

void fabric_listener_close(struct fabric_listener *l)
{
	if (l)
		l->close(l);
}

int fabric_connect(struct chan **ret_c, struct loop *loop, const char *provider, const char *addr,
                   const struct fabric_opts *opts, const struct chan_handlers *handlers, void *user,
                   struct pst_err *err)
{
	const struct fabric_provider *p;
	struct fabric_opts o;
	int rc = find(&p, provider, err);

	if (rc < 0)
		return rc;
	opts_take(&o, opts);
	return p->connect(ret_c, loop, addr, &o, handlers, user, err);
}
