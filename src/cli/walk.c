/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * walk - see walk.h.
 */
#include "cli/walk.h"

#include <errno.h>
#include <sys/stat.h>

static struct walk_dir *dir_new(struct walk *w, struct walk_dir *parent, const char *name,
                                const struct pst_attr *attr)
{
	struct walk_dir *d = mem_calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->path = parent ? cli_join(parent->path, name) : cli_join("", "");
	if (!d->path) {
		mem_free(d);
		return NULL;
	}
	d->walk = w;
	d->parent = parent;
	d->name = cli_base_name(d->path);
	d->ino = attr->ino;
	d->attr = *attr;
	d->held = 1; /* the listing */
	list_init(&d->link);
	return d;
}

void walk_hold(struct walk_dir *d)
{
	d->held++;
}

void walk_dir_end(struct walk_dir *d)
{
	struct walk_dir *parent = d->parent;

	mem_free(d->path);
	mem_free(d);
	if (parent)
		walk_let_go(parent);
}

void walk_let_go(struct walk_dir *d)
{
	pst_assert(d->held > 0);
	if (--d->held > 0)
		return;
	if (d->walk->leave)
		d->walk->leave(d);
	else
		walk_dir_end(d);
}

static bool found(void *arg, const struct pst_dirent *e)
{
	struct walk_dir *d = arg, *sub;
	struct walk *w = d->walk;

	while (w->full && w->full(w))
		pump_turn(w->pump);
	if (!e->attr) {
		d->status = -EIO;
		return false;
	}
	if (!S_ISDIR(e->attr->mode)) {
		w->entry(d, e);
		return !w->stop;
	}
	sub = dir_new(w, d, e->name, e->attr);
	if (!sub) {
		d->status = -ENOMEM;
		return false;
	}
	walk_hold(d);
	list_push_front(&w->stack, &sub->link);
	return !w->stop;
}

static void list_one(struct walk *w, struct walk_dir *d)
{
	int rc;

	if (w->stop || (w->enter && !w->enter(d))) {
		walk_dir_end(d);
		return;
	}
	rc = pst_fs_list(w->cont, d->ino, NULL, NULL, true, found, d);
	if (rc < 0)
		d->status = rc;
	walk_let_go(d);
}

int walk_run(struct walk *w, const struct pst_attr *attr)
{
	struct walk_dir *root = dir_new(w, NULL, "", attr);
	struct list *l;

	if (!root)
		return -ENOMEM;
	list_init(&w->stack);
	list_push(&w->stack, &root->link);
	while ((l = list_pop(&w->stack)))
		list_one(w, list_entry(l, struct walk_dir, link));
	pump_run(w->pump);
	return 0;
}
