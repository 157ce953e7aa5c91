/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * identity - whether a controller or a namespace that is there now is the one that was there before:
 * after a reset, a lost connection, at the end of another path. A subsystem is known by its NQN and
 * serial number; a namespace by its NSID and by all of NGUID, EUI64 and UUID, also by those that it
 * has not got. Its block size must not have changed. It may have grown: its users stay within what
 * they were told; it must not have become smaller.
 *
 * What a controller writes is read once, field by field.
 */
#include <stdio.h>

#include "nvme/host.h"

void nvme_identity_take(struct nvme_identity *i, uint32_t nsid, const void *id_ns)
{
	const struct nvme_id_ns *id = id_ns;
	const struct nvme_lbaf *f = &id->lbaf[NVME_FLBAS_INDEX(id->flbas)];
	unsigned shift = f->lbads;

	memset(i, 0, sizeof(*i));
	i->nsid = nsid;
	i->blocks = shift >= 9 && shift < 32 ? le64_get(id->nsze) : 0;
	i->block_bytes = i->blocks ? 1u << shift : 0;
	i->ana_group = le32_get(id->anagrpid);
	memcpy(i->nguid, id->nguid, sizeof(i->nguid));
	memcpy(i->eui64, id->eui64, sizeof(i->eui64));
}

static void take_id(uint8_t *to, size_t size, const uint8_t *from, unsigned len)
{
	if (len == size)
		memcpy(to, from, size);
}

void nvme_identity_take_ids(struct nvme_identity *i, const void *descriptors)
{
	const uint8_t *p = descriptors;
	size_t at = 0;

	while (at + sizeof(struct nvme_ns_desc) <= NVME_IDENTIFY_BYTES) {
		unsigned type = p[at], len = p[at + 1];

		at += sizeof(struct nvme_ns_desc);
		if (!len || len > NVME_IDENTIFY_BYTES - at)
			return;
		if (type == NVME_NIDT_EUI64)
			take_id(i->eui64, sizeof(i->eui64), p + at, len);
		else if (type == NVME_NIDT_NGUID)
			take_id(i->nguid, sizeof(i->nguid), p + at, len);
		else if (type == NVME_NIDT_UUID)
			take_id(i->uuid, sizeof(i->uuid), p + at, len);
		at += len;
	}
}

bool nvme_identity_same(const struct nvme_identity *was, const struct nvme_identity *now)
{
	return was->nsid == now->nsid && was->block_bytes == now->block_bytes &&
	       was->blocks <= now->blocks &&
	       memcmp(was->nguid, now->nguid, sizeof(was->nguid)) == 0 &&
	       memcmp(was->eui64, now->eui64, sizeof(was->eui64)) == 0 &&
	       memcmp(was->uuid, now->uuid, sizeof(was->uuid)) == 0;
}

/* " NAME hex", unless it is zeroes. */
static size_t id_text(char *to, size_t size, const char *name, const uint8_t *id, size_t len)
{
	uint8_t any = 0;
	size_t n;

	for (size_t k = 0; k < len; k++)
		any |= id[k];
	if (!any)
		return 0;
	n = (size_t)snprintf(to, size, ", %s ", name);
	for (size_t k = 0; k < len; k++)
		n += (size_t)snprintf(to + n, size - n, "%02x", id[k]);
	return n;
}

void nvme_identity_text(char *to, size_t size, const struct nvme_identity *i)
{
	size_t n = (size_t)snprintf(to, size, "namespace %u, %llu blocks of %u bytes", i->nsid,
	                            (unsigned long long)i->blocks, i->block_bytes);

	pst_assert(size >= NVME_IDENTITY_TEXT); /* so that all of it fits */
	n += id_text(to + n, size - n, "NGUID", i->nguid, sizeof(i->nguid));
	n += id_text(to + n, size - n, "EUI64", i->eui64, sizeof(i->eui64));
	id_text(to + n, size - n, "UUID", i->uuid, sizeof(i->uuid));
}

/* --- what a host was told --- */

struct nvme_identity *nvme_identity_find(struct nvme_host *h, uint32_t nsid)
{
	struct nvme_identity *i;

	list_for_each (i, &h->identities, link) {
		if (i->nsid == nsid)
			return i;
	}
	return NULL;
}

int nvme_identity_keep(struct nvme_host *h, const struct nvme_identity *i)
{
	struct nvme_identity *n = nvme_identity_find(h, i->nsid);
	struct list link;

	if (!n) {
		n = mem_calloc(1, sizeof(*n));
		if (!n)
			return -ENOMEM;
		list_push(&h->identities, &n->link);
	}
	link = n->link;
	*n = *i;
	n->link = link;
	return 0;
}

void nvme_identities_free(struct nvme_host *h)
{
	struct list *n;

	while ((n = list_pop(&h->identities)))
		mem_free(list_entry(n, struct nvme_identity, link));
}

/* --- the subsystem --- */

bool nvme_ctrlr_same(const struct nvme_id_ctrlr *was, const struct nvme_id_ctrlr *now)
{
	return strncmp(was->subnqn, now->subnqn, sizeof(was->subnqn)) == 0 &&
	       memcmp(was->sn, now->sn, sizeof(was->sn)) == 0;
}

/* Of a controller that may say anything: printable, without the padding. */
static void printable(char *to, const char *from, size_t len)
{
	size_t n = strnlen(from, len);

	while (n && from[n - 1] == ' ')
		n--;
	for (size_t i = 0; i < n; i++)
		to[i] = from[i] >= 32 && from[i] < 127 ? from[i] : '?';
	to[n] = '\0';
}

void nvme_ctrlr_text(char *to, size_t size, const struct nvme_id_ctrlr *id)
{
	char nqn[sizeof(id->subnqn) + 1], serial[sizeof(id->sn) + 1];

	printable(nqn, id->subnqn, sizeof(id->subnqn));
	printable(serial, id->sn, sizeof(id->sn));
	snprintf(to, size, "%s, serial number %s", nqn[0] ? nqn : "no NQN", serial);
}
