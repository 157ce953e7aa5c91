/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cursor - bytes and numbers in and out, and the structures that several messages carry.
 */
#include "wire/codec.h"

static void *room(struct wire_out *out, size_t len)
{
	uint8_t *at = out->at;

	if (out->full || len > (size_t)(out->end - at)) {
		out->full = true;
		return NULL;
	}
	out->at += len;
	return at;
}

void wire_put_bytes(struct wire_out *out, const void *p, size_t len)
{
	void *to = room(out, len);

	if (to && len)
		memcpy(to, p, len);
}

void wire_put_8(struct wire_out *out, uint8_t v)
{
	wire_put_bytes(out, &v, 1);
}

void wire_put_16(struct wire_out *out, uint16_t v)
{
	le16 le = le16_make(v);

	wire_put_bytes(out, &le, 2);
}

void wire_put_32(struct wire_out *out, uint32_t v)
{
	le32 le = le32_make(v);

	wire_put_bytes(out, &le, 4);
}

void wire_put_64(struct wire_out *out, uint64_t v)
{
	le64 le = le64_make(v);

	wire_put_bytes(out, &le, 8);
}

void wire_put_pad(struct wire_out *out, size_t len)
{
	static const uint8_t zero[8];

	wire_put_bytes(out, zero, ALIGN_UP(len, 8) - len);
}

const void *wire_get_bytes(struct wire_in *in, size_t len)
{
	const uint8_t *at = in->at;

	if (in->bad || len > (size_t)(in->end - at)) {
		in->bad = true;
		return NULL;
	}
	in->at += len;
	return at;
}

void wire_copy_bytes(struct wire_in *in, void *to, size_t len)
{
	const void *from = wire_get_bytes(in, len);

	if (from && len)
		memcpy(to, from, len);
	else
		memset(to, 0, len);
}

uint8_t wire_get_8(struct wire_in *in)
{
	uint8_t v;

	wire_copy_bytes(in, &v, 1);
	return v;
}

uint16_t wire_get_16(struct wire_in *in)
{
	le16 v;

	wire_copy_bytes(in, &v, 2);
	return le16_get(v);
}

uint32_t wire_get_32(struct wire_in *in)
{
	le32 v;

	wire_copy_bytes(in, &v, 4);
	return le32_get(v);
}

uint64_t wire_get_64(struct wire_in *in)
{
	le64 v;

	wire_copy_bytes(in, &v, 8);
	return le64_get(v);
}

void wire_get_zero(struct wire_in *in, size_t len)
{
	const uint8_t *p = wire_get_bytes(in, len);

	for (size_t i = 0; p && i < len; i++)
		in->bad |= p[i] != 0;
}

void wire_get_pad(struct wire_in *in, size_t len)
{
	wire_get_zero(in, ALIGN_UP(len, 8) - len);
}

static bool get_bool(struct wire_in *in)
{
	uint8_t v = wire_get_8(in);

	in->bad |= v > 1;
	return v == 1;
}

/* Text in a field of fixed size, which has to end in it. */
static void put_text(struct wire_out *out, const char *text, size_t size)
{
	size_t len = strnlen(text, size - 1);

	wire_put_16(out, (uint16_t)len);
	wire_put_bytes(out, text, len);
}

static void get_text(struct wire_in *in, char *to, size_t size)
{
	uint16_t len = wire_get_16(in);
	const char *from = len < size ? wire_get_bytes(in, len) : NULL;

	memset(to, 0, size);
	if (!from || memchr(from, 0, len))
		in->bad = true;
	else
		memcpy(to, from, len);
}

/* --- attributes: 80 bytes --- */

void wire_attr_put(struct wire_out *out, const struct pst_attr *a)
{
	wire_put_64(out, a->ino);
	wire_put_32(out, a->mode);
	wire_put_32(out, a->uid);
	wire_put_32(out, a->gid);
	wire_put_32(out, a->nlink);
	wire_put_64(out, a->size_bytes);
	wire_put_64(out, a->alloc_bytes);
	wire_put_64(out, a->rdev);
	wire_put_64(out, (uint64_t)a->atime_ns);
	wire_put_64(out, (uint64_t)a->mtime_ns);
	wire_put_64(out, (uint64_t)a->ctime_ns);
	wire_put_64(out, (uint64_t)a->btime_ns);
}

void wire_attr_get(struct wire_in *in, struct pst_attr *a)
{
	a->ino = wire_get_64(in);
	a->mode = wire_get_32(in);
	a->uid = wire_get_32(in);
	a->gid = wire_get_32(in);
	a->nlink = wire_get_32(in);
	a->size_bytes = wire_get_64(in);
	a->alloc_bytes = wire_get_64(in);
	a->rdev = wire_get_64(in);
	a->atime_ns = (int64_t)wire_get_64(in);
	a->mtime_ns = (int64_t)wire_get_64(in);
	a->ctime_ns = (int64_t)wire_get_64(in);
	a->btime_ns = (int64_t)wire_get_64(in);
}

/* --- containers and snapshots --- */

void wire_cont_put(struct wire_out *out, const struct pst_cont_info *c)
{
	wire_put_32(out, c->id);
	wire_put_32(out, c->home_shard);
	wire_put_32(out, c->props);
	wire_put_8(out, c->layout);
	wire_put_bytes(out, c->uuid, 16);
	wire_put_64(out, c->ctime_ns);
	wire_put_64(out, c->quota_bytes);
	wire_put_64(out, c->quota_objects);
	wire_put_64(out, c->used_bytes);
	wire_put_64(out, c->used_objects);
	wire_put_64(out, c->logical_bytes);
	wire_put_64(out, c->snapshots);
	put_text(out, c->name, sizeof(c->name));
}

void wire_cont_get(struct wire_in *in, struct pst_cont_info *c)
{
	c->id = wire_get_32(in);
	c->home_shard = wire_get_32(in);
	c->props = wire_get_32(in);
	c->layout = wire_get_8(in);
	wire_copy_bytes(in, c->uuid, 16);
	c->ctime_ns = wire_get_64(in);
	c->quota_bytes = wire_get_64(in);
	c->quota_objects = wire_get_64(in);
	c->used_bytes = wire_get_64(in);
	c->used_objects = wire_get_64(in);
	c->logical_bytes = wire_get_64(in);
	c->snapshots = wire_get_64(in);
	get_text(in, c->name, sizeof(c->name));
}

void wire_snap_put(struct wire_out *out, const struct pst_snap_info *s)
{
	wire_put_64(out, s->view);
	wire_put_64(out, s->ctime_ns);
	wire_put_64(out, s->used_bytes);
	wire_put_64(out, s->used_objects);
	put_text(out, s->name, sizeof(s->name));
}

void wire_snap_get(struct wire_in *in, struct pst_snap_info *s)
{
	s->view = wire_get_64(in);
	s->ctime_ns = wire_get_64(in);
	s->used_bytes = wire_get_64(in);
	s->used_objects = wire_get_64(in);
	get_text(in, s->name, sizeof(s->name));
}

/* --- objects --- */

void wire_stat_put(struct wire_out *out, const struct pst_obj_stat *s)
{
	wire_put_8(out, s->exists);
	wire_put_8(out, s->label_len);
	wire_put_64(out, s->size_bytes);
	wire_put_64(out, s->alloc_bytes);
	wire_put_64(out, s->mtime_ns);
	wire_put_bytes(out, s->label, MIN(s->label_len, sizeof(s->label)));
}

void wire_stat_get(struct wire_in *in, struct pst_obj_stat *s)
{
	s->exists = get_bool(in);
	s->label_len = wire_get_8(in);
	s->size_bytes = wire_get_64(in);
	s->alloc_bytes = wire_get_64(in);
	s->mtime_ns = wire_get_64(in);
	if (s->label_len > sizeof(s->label))
		in->bad = true;
	else
		wire_copy_bytes(in, s->label, s->label_len);
}

/* --- the store --- */

/* The numbers of a status in the order in which they travel; new ones at the end of the message. */
#define NUMBER(name) offsetof(struct pst_store_status, name)
static const size_t status_numbers[] = {
        NUMBER(size_bytes),
        NUMBER(used_bytes),
        NUMBER(free_bytes),
        NUMBER(reserved_bytes),
        NUMBER(objects),
        NUMBER(containers),
        NUMBER(index_bytes),
        NUMBER(index_limit_bytes),
        NUMBER(index_items),
        NUMBER(index_pages),
        NUMBER(extents),
        NUMBER(csum_cache_bytes),
        NUMBER(csum_cache_limit_bytes),
        NUMBER(csum_hits),
        NUMBER(csum_misses),
        NUMBER(journal_bytes),
        NUMBER(journal_used_bytes),
        NUMBER(journal_cache_bytes),
        NUMBER(commits),
        NUMBER(commit_records),
        NUMBER(checkpoints),
        NUMBER(dev_read_bytes),
        NUMBER(dev_write_bytes),
        NUMBER(dev_flushes),
        NUMBER(user_read_bytes),
        NUMBER(user_write_bytes),
        NUMBER(mirror_repairs),
        NUMBER(csum_errors),
        NUMBER(recovery_ns),
        NUMBER(recovery_records),
        NUMBER(recovery_index_bytes),
};
_Static_assert(ARRAY_LEN(status_numbers) == 31, "a status has 31 numbers");

static uint64_t *number(const struct pst_store_status *s, unsigned i)
{
	return (uint64_t *)(void *)((uintptr_t)s + status_numbers[i]);
}

void wire_status_put(struct wire_out *out, const struct pst_store_status *s, bool reactors)
{
	wire_put_bytes(out, s->uuid, 16);
	wire_put_64(out, s->epoch);
	wire_put_32(out, s->shards);
	wire_put_32(out, s->devices);
	wire_put_8(out, s->stopped);
	for (unsigned i = 0; i < ARRAY_LEN(status_numbers); i++)
		wire_put_64(out, *number(s, i));
	put_text(out, s->stopped_why, sizeof(s->stopped_why));
	put_text(out, s->label, sizeof(s->label));
	for (uint32_t i = 0; i < MIN(s->devices, (uint32_t)PST_DEVICES_MAX); i++) {
		wire_put_64(out, s->device[i].size_bytes);
		put_text(out, s->device[i].name, sizeof(s->device[i].name));
	}
	if (out->version == 1)
		return;
	wire_put_32(out, s->refused_last);
	wire_put_32(out, PST_SCARCE_KINDS);
	for (unsigned i = 0; i < PST_SCARCE_KINDS; i++)
		wire_put_64(out, s->refused[i]);
	if (!reactors)
		return;
	wire_put_32(out, s->reactors);
	for (unsigned i = 0; i < MIN(s->reactors, (uint32_t)PST_REACTORS_MAX); i++) {
		const struct pst_reactor_status *r = &s->reactor[i];

		wire_put_32(out, (uint32_t)r->core);
		wire_put_64(out, r->up_ns);
		wire_put_64(out, r->busy_ns);
		wire_put_64(out, r->ops);
	}
}

/* Kinds that we don't know are none. */
static void refused_get(struct wire_in *in, struct pst_store_status *s)
{
	uint32_t last = wire_get_32(in), kinds = wire_get_32(in);

	if (kinds > 64)
		in->bad = true;
	s->refused_last = last < PST_SCARCE_KINDS ? last : PST_SCARCE_NONE;
	for (uint32_t i = 0; i < kinds && !in->bad; i++) {
		uint64_t n = wire_get_64(in);

		if (i < PST_SCARCE_KINDS)
			s->refused[i] = n;
	}
}

static void reactors_get(struct wire_in *in, struct pst_store_status *s)
{
	s->reactors = wire_get_32(in);
	if (s->reactors > PST_REACTORS_MAX)
		in->bad = true;
	for (uint32_t i = 0; i < s->reactors && !in->bad; i++) {
		struct pst_reactor_status *r = &s->reactor[i];

		r->core = (int32_t)wire_get_32(in);
		r->up_ns = wire_get_64(in);
		r->busy_ns = wire_get_64(in);
		r->ops = wire_get_64(in);
	}
}

void wire_status_get(struct wire_in *in, struct pst_store_status *s)
{
	memset(s, 0, sizeof(*s));
	wire_copy_bytes(in, s->uuid, 16);
	s->epoch = wire_get_64(in);
	s->shards = wire_get_32(in);
	s->devices = wire_get_32(in);
	s->stopped = get_bool(in);
	for (unsigned i = 0; i < ARRAY_LEN(status_numbers); i++)
		*number(s, i) = wire_get_64(in);
	get_text(in, s->stopped_why, sizeof(s->stopped_why));
	get_text(in, s->label, sizeof(s->label));
	if (s->devices > PST_DEVICES_MAX)
		in->bad = true;
	for (uint32_t i = 0; i < s->devices && !in->bad; i++) {
		s->device[i].size_bytes = wire_get_64(in);
		get_text(in, s->device[i].name, sizeof(s->device[i].name));
	}
	if (in->version != 1) {
		refused_get(in, s);
		if (wire_in_left(in))
			reactors_get(in, s);
	}
}

void wire_scrub_put(struct wire_out *out, const struct pst_scrub_report *r)
{
	wire_put_64(out, r->rate_bytes_per_s);
	wire_put_64(out, r->total_bytes);
	wire_put_64(out, r->done_bytes);
	wire_put_64(out, r->objects);
	wire_put_64(out, r->errors);
	wire_put_64(out, r->repaired);
}

void wire_scrub_get(struct wire_in *in, struct pst_scrub_report *r)
{
	r->rate_bytes_per_s = wire_get_64(in);
	r->total_bytes = wire_get_64(in);
	r->done_bytes = wire_get_64(in);
	r->objects = wire_get_64(in);
	r->errors = wire_get_64(in);
	r->repaired = wire_get_64(in);
}
