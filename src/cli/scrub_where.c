/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * scrub_where - see scrub_where.h. An inode does not know its names: they are found by walking the
 * tree, which is worth it for an error.
 */
#include "cli/scrub_where.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "fs/fs.h"

/* One view, and its part of the list: sorted by object. */
struct search {
	struct cli *cli;
	struct scrub_bad *bad;
	size_t count, found;
	char *name; /* of the container, later with the snapshot */
	bool posix;
	int status;
	/* The walk */
	struct todo {
		struct todo *next;
		uint64_t ino;
		char *path;
	} * stack, *dir;
};

static int by_place(const void *a, const void *b)
{
	const struct scrub_bad *x = a, *y = b;

	if (x->cont != y->cont)
		return x->cont < y->cont ? -1 : 1;
	if (x->view != y->view)
		return x->view < y->view ? -1 : 1;
	if (x->oid.lo != y->oid.lo)
		return x->oid.lo < y->oid.lo ? -1 : 1;
	return x->off < y->off ? -1 : x->off > y->off;
}

/* --- names of containers and snapshots --- */

static bool note_cont(void *arg, const struct pst_cont_info *info)
{
	struct search *s = arg;

	if (info->id != s->bad->cont)
		return true;
	s->posix = info->layout == PST_LAYOUT_POSIX;
	s->name = cli_join("", info->name);
	if (!s->name)
		s->status = -ENOMEM;
	return false;
}

static bool note_snap(void *arg, const struct pst_snap_info *info)
{
	struct search *s = arg;
	char *both = NULL;

	if (info->view != s->bad->view)
		return true;
	if (asprintf(&both, "%s@%s", s->name, info->name) < 0)
		both = NULL;
	mem_free(s->name);
	s->name = both ? cli_join("", both) : NULL;
	free(both);
	if (!s->name)
		s->status = -ENOMEM;
	s->found = 1;
	return false;
}

/* The name of the view: NULL when it has gone meanwhile. */
static void view_name(struct search *s)
{
	int rc = pst_cont_list(s->cli->client, note_cont, s);

	if (rc < 0 || !s->name || !s->bad->view)
		return;
	rc = pst_snap_list(s->cli->client, s->name, note_snap, s);
	if (rc < 0 || !s->found) {
		mem_free(s->name);
		s->name = NULL;
	}
	s->found = 0;
}

/* --- paths --- */

static bool is_inode(const struct scrub_bad *b)
{
	return b->oid.hi == FS_OID_HI;
}

/* Everything that is told of @ino gets @path. */
static void path_note(struct search *s, uint64_t ino, const char *path)
{
	size_t lo = 0, hi = s->count;

	while (lo < hi) { /* the first of them */
		size_t mid = lo + (hi - lo) / 2;

		if (s->bad[mid].oid.lo < ino)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo < s->count && s->bad[lo].oid.lo == ino; lo++) {
		struct scrub_bad *b = &s->bad[lo];

		if (!is_inode(b) || b->path)
			continue;
		b->path = cli_join("", path);
		if (!b->path)
			s->status = -ENOMEM;
		s->found++;
	}
}

static void push(struct search *s, uint64_t ino, char *path)
{
	struct todo *t = mem_calloc(1, sizeof(*t));

	if (!t || !path) {
		s->status = -ENOMEM;
		mem_free(t);
		mem_free(path);
		return;
	}
	*t = (struct todo){s->stack, ino, path};
	s->stack = t;
}

static bool note_entry(void *arg, const struct pst_dirent *e)
{
	struct search *s = arg;
	char *path = cli_join(s->dir->path, e->name);

	if (!path) {
		s->status = -ENOMEM;
		return false;
	}
	path_note(s, e->ino, path);
	if (e->type == DT_DIR)
		push(s, e->ino, path);
	else
		mem_free(path);
	return !s->status && s->found < s->count;
}

static void walk(struct search *s)
{
	struct pst_cont *cont;

	if (pst_cont_open(s->cli->client, s->name, &cont) < 0)
		return;
	path_note(s, PST_INO_ROOT, "/");
	push(s, PST_INO_ROOT, cli_join("", "/"));
	while (s->stack) {
		s->dir = s->stack;
		s->stack = s->dir->next;
		/* A directory that can't be listed has its own line: what is below it has no path. */
		if (!s->status && s->found < s->count)
			(void)pst_fs_list(cont, s->dir->ino, NULL, NULL, false, note_entry, s);
		mem_free(s->dir->path);
		mem_free(s->dir);
	}
	(void)pst_cont_close(cont);
}

/* --- all --- */

static int view_find(struct cli *cli, struct scrub_bad *bad, size_t count)
{
	struct search s = {.cli = cli, .bad = bad, .count = count};
	size_t inodes = 0;

	view_name(&s);
	for (size_t i = 0; i < count && s.name; i++) {
		bad[i].name = cli_join("", s.name);
		inodes += is_inode(&bad[i]);
	}
	if (s.name && s.posix && inodes && !s.status) {
		s.found = count - inodes;
		walk(&s);
	}
	mem_free(s.name);
	return s.status;
}

int scrub_where(struct cli *cli, struct scrub_bad *bad, size_t count)
{
	size_t end;
	int rc = 0;

	if (count)
		qsort(bad, count, sizeof(*bad), by_place);
	for (size_t at = 0; at < count && !rc; at = end) {
		for (end = at + 1;
		     end < count && bad[end].cont == bad[at].cont && bad[end].view == bad[at].view;)
			end++;
		rc = view_find(cli, bad + at, end - at);
	}
	return rc;
}

void scrub_bad_free(struct scrub_bad *bad, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		mem_free(bad[i].name);
		mem_free(bad[i].path);
	}
	mem_free(bad);
}
