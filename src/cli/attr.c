/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * attr - see attr.h.
 */
#include "cli/attr.h"

#include <jansson.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/base.h"

static char type_letter(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return 'd';
	case S_IFLNK:
		return 'l';
	case S_IFIFO:
		return 'p';
	case S_IFCHR:
		return 'c';
	case S_IFBLK:
		return 'b';
	case S_IFSOCK:
		return 's';
	default:
		return '-';
	}
}

const char *attr_type_name(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "file";
	case S_IFDIR:
		return "directory";
	case S_IFLNK:
		return "symlink";
	case S_IFIFO:
		return "fifo";
	case S_IFCHR:
		return "character device";
	case S_IFBLK:
		return "block device";
	case S_IFSOCK:
		return "socket";
	default:
		return "unknown";
	}
}

const char *attr_mode_text(uint32_t mode, char buf[12])
{
	static const char bits[] = "rwxrwxrwx";

	buf[0] = type_letter(mode);
	for (int i = 0; i < 9; i++)
		buf[i + 1] = mode & (0400u >> i) ? bits[i] : '-';
	if (mode & S_ISUID)
		buf[3] = mode & S_IXUSR ? 's' : 'S';
	if (mode & S_ISGID)
		buf[6] = mode & S_IXGRP ? 's' : 'S';
	if (mode & S_ISVTX)
		buf[9] = mode & S_IXOTH ? 't' : 'T';
	buf[10] = 0;
	return buf;
}

void json_set_text(json_t *o, const char *key, const char *text)
{
	json_t *s = json_string(text);
	char mark[64];
	char utf8[2 * PST_PATH_MAX + 1], *out = utf8;

	if (s) {
		json_object_set_new(o, key, s);
		return;
	}
	for (const char *c = text; *c && out < utf8 + sizeof(utf8) - 2; c++) {
		unsigned char b = (unsigned char)*c;

		if (b >= 0x80) {
			*out++ = (char)(0xc0 | b >> 6);
			b = 0x80 | (b & 0x3f);
		}
		*out++ = (char)b;
	}
	*out = 0;
	json_object_set_new(o, key, json_string(utf8));
	snprintf(mark, sizeof(mark), "%s_latin1", key);
	json_object_set_new(o, mark, json_true());
}

json_t *json_bytes(const void *bytes, size_t len)
{
	json_t *s = json_stringn(bytes, len);
	char *hex, *out;

	if (s)
		return s;
	hex = out = mem_alloc(2 * len + 5);
	if (!hex)
		return json_null();
	out += sprintf(out, "hex:");
	for (size_t i = 0; i < len; i++)
		out += sprintf(out, "%02x", ((const unsigned char *)bytes)[i]);
	s = json_string(hex);
	mem_free(hex);
	return s;
}

json_t *attr_device_json(const char *name, uint64_t size_bytes)
{
	json_t *o = json_object();

	json_set_text(o, "name", name);
	json_object_set_new(o, "size_bytes", json_integer((json_int_t)size_bytes));
	return o;
}

json_t *attr_json(const char *name, const struct pst_attr *a, const char *target)
{
	json_t *o = json_object();

	json_set_text(o, "name", name);
	if (target)
		json_set_text(o, "target", target);
	json_object_set_new(o, "type", json_string(attr_type_name(a->mode)));
	json_object_set_new(o, "mode", json_integer(a->mode & 07777));
	json_object_set_new(o, "uid", json_integer(a->uid));
	json_object_set_new(o, "gid", json_integer(a->gid));
	json_object_set_new(o, "links", json_integer(a->nlink));
	json_object_set_new(o, "inode", json_integer((json_int_t)a->ino));
	json_object_set_new(o, "size_bytes", json_integer((json_int_t)a->size_bytes));
	json_object_set_new(o, "alloc_bytes", json_integer((json_int_t)a->alloc_bytes));
	json_object_set_new(o, "rdev", json_integer((json_int_t)a->rdev));
	json_object_set_new(o, "mtime_ns", json_integer((json_int_t)a->mtime_ns));
	json_object_set_new(o, "ctime_ns", json_integer((json_int_t)a->ctime_ns));
	json_object_set_new(o, "atime_ns", json_integer((json_int_t)a->atime_ns));
	json_object_set_new(o, "btime_ns", json_integer((json_int_t)a->btime_ns));
	return o;
}
