/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * storex - see storex.h.
 */
#include "cli/storex.h"

#include <errno.h>

struct names {
	char *text; /* NUL-separated */
	size_t len, cap;
	unsigned count;
	int rc;
};

static bool add_name(void *arg, const char *name)
{
	struct names *n = arg;
	size_t len = strlen(name) + 1;

	if (n->len + len > n->cap) {
		size_t cap = 2 * (n->len + len);
		char *text = mem_realloc(n->text, cap);

		if (!text) {
			n->rc = -ENOMEM;
			return false;
		}
		n->text = text;
		n->cap = cap;
	}
	memcpy(n->text + n->len, name, len);
	n->len += len;
	n->count++;
	return true;
}

static int read_one(struct pst_cont *cont, uint64_t ino, struct host_xattr *item)
{
	static char value[PST_VALUE_MAX];
	uint32_t len;
	void *copy;
	int rc = pst_fs_getxattr(cont, ino, NULL, item->name, value, sizeof(value), 0, &len);

	if (rc < 0)
		return rc;
	copy = mem_alloc((size_t)len + 1);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, value, len);
	item->val = copy;
	item->val_len = len;
	return 0;
}

int store_xattrs_read(struct pst_cont *cont, uint64_t ino, struct host_xattrs *ret_xattrs)
{
	struct host_xattrs x = {0};
	struct names n = {0};
	char *name;
	int rc = pst_fs_listxattr(cont, ino, NULL, 0, add_name, &n);

	if (rc == 0)
		rc = n.rc;
	x.storage = n.text;
	if (rc == 0 && n.count) {
		x.item = mem_calloc(n.count, sizeof(*x.item));
		rc = x.item ? 0 : -ENOMEM;
	}
	name = n.text;
	for (unsigned i = 0; rc == 0 && i < n.count; i++, name += strlen(name) + 1) {
		x.item[x.count].name = name;
		rc = read_one(cont, ino, &x.item[x.count]);
		if (rc == 0)
			x.count++;
		else if (rc == -ENODATA) /* removed meanwhile */
			rc = 0;
	}
	if (rc < 0) {
		host_xattrs_done(&x);
		return rc;
	}
	*ret_xattrs = x;
	return 0;
}
