/* SPDX-License-Identifier: BSD-3-Clause */
/* A target's namespaces, ports, ANA states and commands. The ports themselves are in target_*.c. */
#include "nvme/target_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>

/* --- ANA states as text --- */

static const struct {
	const char *text;
	enum nvme_ana_state state;
} ana_states[] = {
        {"optimized", NVME_ANA_OPTIMIZED},       {"non-optimized", NVME_ANA_NON_OPTIMIZED},
        {"inaccessible", NVME_ANA_INACCESSIBLE}, {"persistent-loss", NVME_ANA_PERSISTENT_LOSS},
        {"change", NVME_ANA_CHANGING},
};

int nvme_ana_parse(const char *text)
{
	for (unsigned i = 0; i < ARRAY_LEN(ana_states); i++) {
		if (!strcmp(text, ana_states[i].text))
			return (int)ana_states[i].state;
	}
	return -EINVAL;
}

const char *nvme_ana_text(enum nvme_ana_state state)
{
	for (unsigned i = 0; i < ARRAY_LEN(ana_states); i++) {
		if (ana_states[i].state == state)
			return ana_states[i].text;
	}
	return "unknown";
}

/* Digits only; what strtoul takes beside them is refused. */
static bool number(const char **text, unsigned long max, unsigned long *ret)
{
	char *end;

	if (**text < '0' || **text > '9')
		return false;
	errno = 0;
	*ret = strtoul(*text, &end, 10);
	if (errno || *ret > max)
		return false;
	*text = end;
	return true;
}

int nvme_ana_parse_rule(const char *text, unsigned *ret_port, uint32_t *ret_group,
                        enum nvme_ana_state *ret_state)
{
	unsigned long port = 0, group;
	int state;

	if (!number(&text, NVME_ANA_GROUPS_MAX, &group))
		return -EINVAL;
	if (*text == ':') {
		port = group;
		text++;
		if (!port || !number(&text, NVME_ANA_GROUPS_MAX, &group))
			return -EINVAL;
	}
	if (*text++ != '=' || !group)
		return -EINVAL;
	state = nvme_ana_parse(text);
	if (state < 0)
		return state;
	*ret_port = (unsigned)port;
	*ret_group = (uint32_t)group;
	*ret_state = (enum nvme_ana_state)state;
	return 0;
}

/* --- making and ending --- */

void nvme_target_opts_default(struct nvme_target_opts *opts)
{
	*opts = (struct nvme_target_opts){.nqn = "nqn.2026-11.io.penstock:target"};
	nvme_ctrlr_opts_default(&opts->ctrlr);
	opts->ctrlr.mdts = 8; /* 1 MiB */
	opts->ctrlr.sleepy = true;
}

static int copy_opts(struct nvme_target *t, const struct nvme_target_opts *o, struct pst_err *err)
{
	const char *nqn = o->nqn ? o->nqn : "nqn.2026-11.io.penstock:target";

	t->opts = *o;
	if (o->allow_count > NVME_TARGET_ALLOW_MAX)
		return err_set(err, -EINVAL, "at most %u hosts can be named",
		               NVME_TARGET_ALLOW_MAX);
	if (strlen(nqn) > NVME_NQN_MAX || (o->faults && strlen(o->faults) >= sizeof(t->faults)))
		return err_set(err, -EINVAL, "an NQN, or a fault plan, is too long");
	snprintf(t->nqn, sizeof(t->nqn), "%s", nqn);
	snprintf(t->faults, sizeof(t->faults), "%s", o->faults ? o->faults : "");
	for (unsigned i = 0; i < o->allow_count; i++) {
		size_t len = strlen(o->allow[i]);

		if (!len || len > NVME_NQN_MAX)
			return err_set(err, -EINVAL, "'%s' is no NQN", o->allow[i]);
		t->allow[i] = mem_alloc(len + 1);
		if (!t->allow[i])
			return err_set(err, -ENOMEM, "out of memory");
		memcpy(t->allow[i], o->allow[i], len + 1);
	}
	return 0;
}

int nvme_target_new(struct nvme_target **ret_target, struct loop *loop,
                    const struct nvme_target_opts *opts, struct pst_err *err)
{
	struct nvme_target *t = mem_calloc(1, sizeof(*t));
	struct nvme_subsys_opts so = {.serial = opts->serial};
	int rc;

	if (!t)
		return err_set(err, -ENOMEM, "out of memory");
	t->loop = loop;
	list_init(&t->port_list);
	rc = copy_opts(t, opts, err);
	so.nqn = t->nqn;
	if (!rc)
		rc = nvme_subsys_new(&t->subsys, loop, &so, err);
	if (rc) {
		nvme_target_free(t);
		return rc;
	}
	*ret_target = t;
	return 0;
}

static bool ports_empty(const struct nvme_target *t)
{
	const struct target_port *p;

	list_for_each (p, &t->port_list, link) {
		if (!list_empty(&p->hosts))
			return false;
	}
	return true;
}

void nvme_target_free(struct nvme_target *t)
{
	struct target_port *p, *tmp;

	if (!t)
		return;
	list_for_each (p, &t->port_list, link)
		p->ops->stop(p);
	while (!ports_empty(t)) {
		int rc = loop_turn(t->loop, NSEC_PER_SEC);

		pst_assert(rc >= 0 || rc == -EINTR || rc == -EAGAIN || rc == -EBUSY);
	}
	list_for_each_safe (p, tmp, &t->port_list, link) {
		list_del(&p->link);
		p->ops->free(p);
	}
	nvme_subsys_free(t->subsys);
	for (unsigned i = 0; i < t->bdevs; i++)
		bdev_close(t->bdev[i]);
	for (unsigned i = 0; i < NVME_TARGET_ALLOW_MAX; i++)
		mem_free(t->allow[i]);
	mem_free(t);
}

/* Memory is empty at every start: a host must not take it for what it wrote to before. */
static int uuid_of_memory(const char *spec, struct nvme_ns_opts *o)
{
	static const uint8_t none[16];

	if (strncmp(spec, "mem:", 4) != 0 || memcmp(o->uuid, none, sizeof(none)) != 0)
		return 0;
	if (getrandom(o->uuid, sizeof(o->uuid), 0) != (ssize_t)sizeof(o->uuid))
		return -EIO;
	o->uuid[6] = (uint8_t)((o->uuid[6] & 0x0f) | 0x40); /* version 4: random */
	o->uuid[8] = (uint8_t)((o->uuid[8] & 0x3f) | 0x80);
	return 0;
}

int nvme_target_add(struct nvme_target *t, const char *spec, const struct nvme_ns_opts *opts,
                    struct pst_err *err)
{
	struct bdev_open_opts bo = {.read_only = opts->read_only};
	struct nvme_ns_opts no = *opts;
	struct bdev *b;
	int rc;

	if (t->bdevs == NVME_SUBSYS_NS_MAX)
		return err_set(err, -ENOSPC, "a target has at most %u namespaces",
		               NVME_SUBSYS_NS_MAX);
	rc = uuid_of_memory(spec, &no);
	if (rc)
		return err_set(err, rc, "no random bytes for a UUID");
	rc = bdev_open(&b, spec, t->loop, &bo, err);
	if (rc)
		return rc;
	rc = nvme_subsys_ns_add(t->subsys, b, &no, NULL, err);
	if (rc) {
		bdev_close(b);
		return rc;
	}
	t->bdev[t->bdevs++] = b;
	return 0;
}

/* --- ports and hosts --- */

int target_port_add(struct nvme_target *t, struct target_port *p, bool control_only)
{
	if (!control_only && t->ports == NVME_TARGET_PORTS_MAX)
		return -ENOSPC;
	p->target = t;
	p->number = control_only ? 0 : ++t->ports;
	memset(p->ana, NVME_ANA_OPTIMIZED, sizeof(p->ana));
	list_init(&p->hosts);
	list_push(&t->port_list, &p->link);
	return 0;
}

bool target_allows(const struct nvme_target *t, const char *nqn)
{
	for (unsigned i = 0; i < t->opts.allow_count; i++) {
		if (!strcmp(t->allow[i], nqn))
			return true;
	}
	return !t->opts.allow_count;
}

void target_ctrlr_opts(const struct nvme_target *t, struct nvme_ctrlr_opts *ret_opts)
{
	*ret_opts = t->opts.ctrlr;
}

int target_host_begin(struct target_host *h, const struct nvme_ctrlr_opts *opts,
                      struct pst_err *err)
{
	struct nvme_target *t = h->port->target;
	int rc = nvme_ctrlr_new(&h->ctrlr, t->subsys, opts, err);

	if (rc)
		return rc;
	if (t->faults[0] && (rc = nvme_ctrlr_faults(h->ctrlr, t->faults, err))) {
		nvme_ctrlr_free(h->ctrlr);
		h->ctrlr = NULL;
		return rc;
	}
	for (uint32_t g = 1; g <= NVME_ANA_GROUPS_MAX; g++)
		nvme_ctrlr_ana_set(h->ctrlr, g, h->port->ana[g]);
	return 0;
}

void target_host_end(struct target_host *h)
{
	nvme_ctrlr_free(h->ctrlr);
	h->ctrlr = NULL;
	list_del(&h->link);
}

const char *nvme_target_address(const struct nvme_target *t, unsigned port)
{
	const struct target_port *p;

	list_for_each (p, &t->port_list, link) {
		if (port && p->number == port)
			return p->address;
	}
	return NULL;
}

int nvme_target_ana_set(struct nvme_target *t, unsigned port, uint32_t group,
                        enum nvme_ana_state state)
{
	struct target_port *p;
	struct target_host *h;
	bool found = false;

	if (!group || group > NVME_ANA_GROUPS_MAX || !strcmp(nvme_ana_text(state), "unknown"))
		return -EINVAL;
	list_for_each (p, &t->port_list, link) {
		if (!p->number || (port && p->number != port))
			continue;
		found = true;
		p->ana[group] = (uint8_t)state;
		list_for_each (h, &p->hosts, link) {
			if (h->ctrlr)
				nvme_ctrlr_ana_set(h->ctrlr, group, state);
		}
	}
	return found ? 0 : -ENOENT;
}

/* --- commands --- */

struct out {
	char *buf;
	size_t size, at;
};

static void say(struct out *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct out *o, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(o->buf + o->at, o->size - o->at, fmt, ap);
	va_end(ap);
	if (n > 0)
		o->at = MIN(o->at + (size_t)n, o->size - 1);
}

static void say_port(struct out *o, const struct nvme_target *t, const struct target_port *p)
{
	const struct target_host *h;

	if (!p->number)
		return;
	say(o, "port %u %s %s\n", p->number, p->ops->kind, p->address);
	for (uint32_t g = 1; g <= NVME_ANA_GROUPS_MAX; g++) {
		if (nvme_subsys_group_used(t->subsys, g))
			say(o, "ana %u %u %s\n", p->number, g, nvme_ana_text(p->ana[g]));
	}
	list_for_each (h, &p->hosts, link) {
		struct nvme_ctrlr_stats s = {0};

		if (!h->ctrlr)
			continue;
		nvme_ctrlr_stats(h->ctrlr, &s);
		say(o, "host %u %u %" PRIu64 " %" PRIu64 " %s\n", p->number,
		    nvme_ctrlr_cntlid(h->ctrlr), s.commands, s.errors, h->nqn);
	}
}

static void status(const struct nvme_target *t, struct out *o)
{
	const struct target_port *p;

	say(o, "nqn %s\n", t->nqn);
	for (uint32_t nsid = 1; nsid <= NVME_SUBSYS_NS_MAX; nsid++) {
		struct nvme_ns_info i;

		if (!nvme_subsys_ns_info(t->subsys, nsid, &i))
			say(o, "namespace %u %" PRIu64 " %u %u %s\n", nsid, i.blocks, i.lba_bytes,
			    i.ana_group, i.name);
	}
	list_for_each (p, &t->port_list, link)
		say_port(o, t, p);
}

int nvme_target_control(struct nvme_target *t, const char *command, char *buf, size_t size)
{
	struct out o = {.buf = buf, .size = size};
	enum nvme_ana_state state;
	uint32_t group;
	unsigned port;
	int rc;

	buf[0] = '\0';
	if (!strcmp(command, "status")) {
		status(t, &o);
		return 0;
	}
	if (strncmp(command, "ana ", 4) != 0) {
		say(&o, "this command is not known");
		return -ENOTSUP;
	}
	rc = nvme_ana_parse_rule(command + 4, &port, &group, &state);
	if (rc) {
		say(&o, "not [PORT:]GROUP=STATE");
		return rc;
	}
	rc = nvme_target_ana_set(t, port, group, state);
	if (rc)
		say(&o, "there is no port %u", port);
	return rc;
}
