/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Subsystems and their namespaces: what the controllers of one subsystem share.
 */
#include <stdio.h>

#include "nvme/ctrlr_int.h"

static void pad(char *to, size_t size, const char *text)
{
	size_t n = strnlen(text, size);

	memcpy(to, text, n);
	memset(to + n, ' ', size - n);
}

static bool is_printable(const char *text)
{
	for (; *text; text++) {
		if (*text < 0x20 || *text > 0x7e)
			return false;
	}
	return true;
}

int nvme_subsys_new(struct nvme_subsys **ret_subsys, struct loop *loop,
                    const struct nvme_subsys_opts *opts, struct pst_err *err)
{
	struct nvme_subsys *s;
	size_t len = opts->nqn ? strlen(opts->nqn) : 0;
	char serial[21];

	if (!len || len > NVME_NQN_MAX)
		return err_set(err, -EINVAL, "a subsystem's NQN has 1 to %u bytes", NVME_NQN_MAX);
	if ((opts->serial && (strlen(opts->serial) > 20 || !is_printable(opts->serial))) ||
	    (opts->model && (strlen(opts->model) > 40 || !is_printable(opts->model))))
		return err_set(err, -EINVAL,
		               "serial and model number: at most 20 and 40 printable characters");
	s = mem_calloc(1, sizeof(*s));
	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	s->loop = loop;
	memcpy(s->nqn, opts->nqn, len + 1);
	snprintf(serial, sizeof(serial), "PST%08X", crc32c(0, opts->nqn, len));
	pad(s->serial, sizeof(s->serial), opts->serial ? opts->serial : serial);
	pad(s->model, sizeof(s->model), opts->model ? opts->model : "Penstock");
	*ret_subsys = s;
	return 0;
}

void nvme_subsys_free(struct nvme_subsys *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < NVME_SUBSYS_CTRLRS_MAX; i++)
		pst_assert(!s->ctrlrs[i]);
	for (unsigned i = 0; i < NVME_SUBSYS_NS_MAX; i++)
		mem_free(s->ns[i]);
	mem_free(s);
}

struct nvme_ns *subsys_ns(const struct nvme_subsys *s, uint32_t nsid)
{
	return nsid - 1 < NVME_SUBSYS_NS_MAX ? s->ns[nsid - 1] : NULL;
}

/* --- namespaces --- */

static void usable_set(struct nvme_ctrlr *c, const struct nvme_ns *ns)
{
	struct nvme_ns *there = c->subsys->ns[ns->nsid - 1];
	bool passes = c->ana[ns->ana_group] <= NVME_ANA_NON_OPTIMIZED;

	c->usable[ns->nsid - 1] = there == ns && !ns->closed && passes ? there : NULL;
}

void ns_update(const struct nvme_ns *ns)
{
	for (unsigned i = 0; i < NVME_SUBSYS_CTRLRS_MAX; i++) {
		if (ns->subsys->ctrlrs[i])
			usable_set(ns->subsys->ctrlrs[i], ns);
	}
}

void ns_update_all(struct nvme_ctrlr *c)
{
	for (unsigned i = 0; i < NVME_SUBSYS_NS_MAX; i++) {
		if (c->subsys->ns[i])
			usable_set(c, c->subsys->ns[i]);
	}
}

static uint64_t text_hash(uint64_t h, const char *text)
{
	for (; *text; text++)
		h = hash_u64(h ^ (uint8_t)*text);
	return hash_u64(h);
}

/* The same NQN, number and device give the same UUID at every start: a host knows the namespace
 * again, and knows another device from it. A device is its string without options; a file, the name
 * that it really has. */
static void uuid_make(uint8_t uuid[16], const char *nqn, uint32_t nsid, const char *device)
{
	size_t scheme = strncmp(device, "uring:", 6) == 0 ? 6 : 0;
	char name[sizeof(((struct bdev_info *)0)->name)], *real;
	uint64_t half[2];

	device += scheme;
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(device, "?"), device);
	real = realpath(name, NULL);
	for (unsigned i = 0; i < 2; i++)
		half[i] = text_hash(text_hash(nsid + ((uint64_t)i << 32), nqn), real ? real : name);
	free(real);
	memcpy(uuid, half, 16);
	uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x80); /* version 8: custom */
	uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
}

static int opts_check(const struct nvme_subsys *s, const struct bdev *b,
                      const struct nvme_ns_opts *o, struct pst_err *err)
{
	uint32_t lba = o->lba_bytes ? o->lba_bytes : b->info.block_bytes;

	if (o->nsid > NVME_SUBSYS_NS_MAX)
		return err_set(err, -EINVAL, "namespace %u: the highest is %u", o->nsid,
		               NVME_SUBSYS_NS_MAX);
	if (o->nsid && s->ns[o->nsid - 1])
		return err_set(err, -EEXIST, "namespace %u is there already", o->nsid);
	if ((lba != 512 && lba != 4096) || lba < b->info.block_bytes)
		return err_set(err, -EINVAL, "blocks of %u bytes on a device with blocks of %u",
		               lba, b->info.block_bytes);
	if (o->ana_group > NVME_ANA_GROUPS_MAX)
		return err_set(err, -EINVAL, "ANA group %u: the highest is %u", o->ana_group,
		               NVME_ANA_GROUPS_MAX);
	if (b->loop != s->loop)
		return err_set(err, -EINVAL, "the device belongs to another loop");
	return 0;
}

int nvme_subsys_ns_add(struct nvme_subsys *s, struct bdev *b, const struct nvme_ns_opts *opts,
                       uint32_t *ret_nsid, struct pst_err *err)
{
	static const uint8_t none[16];
	uint32_t nsid = opts->nsid, lba = opts->lba_bytes ? opts->lba_bytes : b->info.block_bytes;
	struct nvme_ns *ns;
	int rc = opts_check(s, b, opts, err);

	if (rc)
		return rc;
	for (uint32_t i = NVME_SUBSYS_NS_MAX; i && !opts->nsid; i--)
		nsid = s->ns[i - 1] ? nsid : i;
	if (!nsid)
		return err_set(err, -ENOSPC, "a subsystem has at most %u namespaces",
		               NVME_SUBSYS_NS_MAX);
	ns = mem_calloc(1, sizeof(*ns));
	if (!ns)
		return err_set(err, -ENOMEM, "out of memory");
	ns->subsys = s;
	ns->bdev = b;
	ns->nsid = nsid;
	ns->lba_shift = lba == 512 ? 9 : 12;
	ns->blocks = b->info.size_bytes >> ns->lba_shift;
	ns->mem_mask = b->info.mem_align ? b->info.mem_align - 1 : 0;
	ns->read_only = opts->read_only || b->read_only;
	ns->ana_group = opts->ana_group ? opts->ana_group : 1;
	list_init(&ns->gate);
	memcpy(ns->uuid, opts->uuid, sizeof(ns->uuid));
	if (!memcmp(ns->uuid, none, sizeof(none)))
		uuid_make(ns->uuid, s->nqn, nsid, b->info.name);
	s->ns[nsid - 1] = ns;
	ns_update(ns);
	ns_changed(ns, NULL);
	if (ret_nsid)
		*ret_nsid = nsid;
	return 0;
}

int nvme_subsys_ns_remove(struct nvme_subsys *s, uint32_t nsid)
{
	struct nvme_ns *ns = subsys_ns(s, nsid);

	if (!ns)
		return -ENOENT;
	ns->closed = ns->leaving = true;
	ns_update(ns);
	if (ns->users || ns->holder || !list_empty(&ns->gate))
		return -EBUSY;
	s->ns[nsid - 1] = NULL;
	ns_changed(ns, NULL);
	mem_free(ns);
	return 0;
}

int nvme_subsys_ns_info(const struct nvme_subsys *s, uint32_t nsid, struct nvme_ns_info *ret_info)
{
	const struct nvme_ns *ns = subsys_ns(s, nsid);

	if (!ns)
		return -ENOENT;
	*ret_info = (struct nvme_ns_info){.blocks = ns->blocks,
	                                  .lba_bytes = 1u << ns->lba_shift,
	                                  .ana_group = ns->ana_group,
	                                  .read_only = ns->read_only,
	                                  .name = ns->bdev->info.name};
	return 0;
}

bool nvme_subsys_group_used(const struct nvme_subsys *s, uint32_t group)
{
	for (unsigned i = 0; i < NVME_SUBSYS_NS_MAX; i++) {
		if (s->ns[i] && s->ns[i]->ana_group == group)
			return true;
	}
	return false;
}
