/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * list - lists by pages. A store calls back on its own thread and wants no nested calls, while
 * callers want to do what they like in theirs. So entries are copied into a page on the loop's
 * thread, and given to the caller's function from the page on the caller's.
 */
#include "client/client.h"

/* One entry in a page: this, then the value, the attributes or information, and the name. */
struct packed {
	uint32_t bytes; /* of all of it, a multiple of 8 */
	uint32_t name_len, val_len, body_len;
	uint64_t id;
	struct pst_oid oid;
	uint8_t body; /* enum body */
	uint8_t type;
	bool has_val;
};

enum body {
	BODY_NONE,
	BODY_ATTR,
	BODY_CONT,
	BODY_SNAP,
};

/* The largest entry, so that what was called back always fits. */
#define PACKED_MAX                                                                          \
	ALIGN_UP(sizeof(struct packed) + PST_VALUE_MAX + 8 + sizeof(struct pst_cont_info) + \
	                 MAX(PST_NAME_MAX, PST_KEY_MAX) + 1,                                \
	         8)
#define PAGE_BYTES (4 * PACKED_MAX)

struct page {
	size_t used;
	size_t last; /* where the last entry begins */
	bool full;   /* the store was told to stop: there may be more */
	char buf[] __attribute__((aligned(8)));
};

static const void *entry_body(const struct pst_entry *e, enum body *ret_body, uint32_t *ret_len)
{
	if (e->attr) {
		*ret_body = BODY_ATTR;
		*ret_len = sizeof(*e->attr);
		return e->attr;
	}
	if (e->cont) {
		*ret_body = BODY_CONT;
		*ret_len = sizeof(*e->cont);
		return e->cont;
	}
	if (e->snap) {
		*ret_body = BODY_SNAP;
		*ret_len = sizeof(*e->snap);
		return e->snap;
	}
	*ret_body = BODY_NONE;
	*ret_len = 0;
	return NULL;
}

static bool page_add(struct pst_op *op, const struct pst_entry *e)
{
	struct page *page = container_of(op, struct request, op)->out;
	struct packed *p = (struct packed *)(void *)(page->buf + page->used);
	char *to = (char *)(p + 1);
	enum body body;
	const void *from = entry_body(e, &body, &p->body_len);

	pst_assert(e->name_len <= MAX(PST_NAME_MAX, PST_KEY_MAX) && e->val_len <= PST_VALUE_MAX);
	p->name_len = e->name_len;
	p->val_len = e->val ? e->val_len : 0;
	p->has_val = e->val;
	p->id = e->id;
	p->oid = e->oid;
	p->type = e->type;
	p->body = body;
	if (from)
		memcpy(to, from, p->body_len);
	to += ALIGN_UP(p->body_len, 8);
	if (p->val_len)
		memcpy(to, e->val, p->val_len);
	to += p->val_len;
	if (p->name_len)
		memcpy(to, e->name, p->name_len);
	to[p->name_len] = 0;
	p->bytes = (uint32_t)ALIGN_UP((size_t)(to + p->name_len + 1 - (char *)p), 8);
	page->last = page->used;
	page->used += p->bytes;
	page->full = page->used + PACKED_MAX > PAGE_BYTES;
	return !page->full;
}

static const struct packed *unpack(const struct page *page, size_t at, struct list_entry_out *ret)
{
	const struct packed *p = (const struct packed *)(const void *)(page->buf + at);
	const char *from = (const char *)(p + 1);

	memset(ret, 0, sizeof(*ret));
	if (p->body == BODY_ATTR)
		ret->attr = (const void *)from;
	else if (p->body == BODY_CONT)
		ret->cont = (const void *)from;
	else if (p->body == BODY_SNAP)
		ret->snap = (const void *)from;
	from += ALIGN_UP(p->body_len, 8);
	ret->val = p->has_val ? from : NULL;
	ret->val_len = p->val_len;
	ret->name = from + p->val_len;
	ret->name_len = p->name_len;
	ret->id = p->id;
	ret->oid = p->oid;
	ret->type = p->type;
	return p;
}

/* False when the caller's function wants no more. */
static bool page_deliver(const struct page *page,
                         bool (*fn)(void *arg, const struct list_entry_out *e), void *arg)
{
	struct list_entry_out out;

	for (size_t at = 0; at < page->used; at += unpack(page, at, &out)->bytes) {
		unpack(page, at, &out);
		if (!fn(arg, &out))
			return false;
	}
	return true;
}

int list_run(struct request *r, const void *start, uint32_t start_len,
             bool (*fn)(void *arg, const struct list_entry_out *e), void *arg)
{
	struct page *page = mem_alloc(sizeof(*page) + PAGE_BYTES);
	char last[MAX(PST_NAME_MAX, PST_KEY_MAX) + 1];
	struct list_entry_out e;
	int rc;

	if (!page)
		return -ENOMEM;
	r->out = page;
	r->op.entry = page_add;
	r->op.start = start;
	r->op.start_len = start_len;
	for (;;) {
		page->used = 0;
		page->full = false;
		atomic_store_explicit(&r->ended, 0, memory_order_relaxed);
		rc = request_wait(r);
		if (rc < 0 || !page_deliver(page, fn, arg) || !page->full)
			break;
		unpack(page, page->last, &e);
		memcpy(last, e.name, e.name_len);
		r->op.start = last;
		r->op.start_len = e.name_len;
	}
	mem_free(page);
	return rc;
}
