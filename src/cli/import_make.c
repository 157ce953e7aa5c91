/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * import_make - the steps by which an item comes into the store:
 *
 *   file     CREATE                                              (new, small, plain: one op)
 *   file     NAMELESS -> XATTRS -> SYNC -> LINK -> RELEASE       (the name exists, or it has xattrs)
 *   large    NAMELESS -> STREAM -> XATTRS -> ATTRS -> SYNC -> LINK -> RELEASE
 *   symlink, special
 *            CREATE -> XATTRS; where the name exists: CREATE beside it -> XATTRS -> RENAME
 *   link     CREATE, when the first name of the file is there
 *   dir      CREATE [-> STAT]; then it is scanned
 *
 * Whatever fails after NAMELESS goes to RELEASE, and what was made beside a name to UNLINK, which drop
 * what was made. What the name stood for stays until something whole takes its place.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/import.h"

#define LINK_ATTRS   (HOST_ATTRS & ~PST_ATTR_MODE)
#define BESIDE_TRIES 8

static void go(struct import_item *it, enum import_step step);

/* --- the call of each step --- */

static int start_create(struct import_item *it, struct pst_cq *cq)
{
	struct pst_cont *cont = it->import->cont;
	uint64_t dir = it->dir->ino;
	const char *name = it->replaces ? it->beside : it->name;
	void *t = &it->task;

	switch (it->kind) {
	case IMPORT_DIR:
		return pst_fs_mkdir_async(cont, dir, it->name, &it->attr, HOST_ATTRS,
		                          PST_F_VOLATILE, NULL, cq, t);
	case IMPORT_SYMLINK:
		return pst_fs_symlink_async(cont, dir, name, it->data, &it->attr, LINK_ATTRS,
		                            PST_F_VOLATILE, NULL, cq, t);
	case IMPORT_LINK:
		return pst_fs_link_async(cont, it->inode->ino, NULL, dir, it->name,
		                         PST_F_REPLACE | PST_F_VOLATILE, cq, t);
	default:
		return pst_fs_create_async(cont, dir, name, &it->attr, HOST_ATTRS, it->data,
		                           it->len, PST_F_EXCL | PST_F_VOLATILE, NULL, cq, t);
	}
}

static int start(struct pump_task *t, struct pst_cq *cq)
{
	struct import_item *it = container_of(t, struct import_item, task);
	struct pst_cont *cont = it->import->cont;
	const struct host_xattr *x;

	switch (it->step) {
	case STEP_CREATE:
		return start_create(it, cq);
	case STEP_STAT:
		return pst_fs_stat_async(cont, it->dir->ino, it->name, 0, &it->found, cq, t);
	case STEP_UNLINK:
		return pst_fs_unlink_async(cont, it->dir->ino, it->beside, PST_F_VOLATILE, cq, t);
	case STEP_RENAME:
		return pst_fs_rename_async(cont, it->dir->ino, it->beside, it->dir->ino, it->name,
		                           PST_F_VOLATILE, cq, t);
	case STEP_NAMELESS:
		return pst_fs_create_async(cont, 0, NULL, &it->attr, HOST_ATTRS, it->data, it->len,
		                           PST_F_VOLATILE, NULL, cq, t);
	case STEP_XATTRS:
		x = &it->xattrs.item[it->xattr_at];
		return pst_fs_setxattr_async(cont, it->ino, NULL, x->name, x->val, x->val_len,
		                             PST_F_VOLATILE, cq, t);
	case STEP_ATTRS:
		return pst_fs_setattr_async(cont, it->ino, NULL, &it->attr,
		                            HOST_ATTRS | PST_ATTR_SIZE, PST_F_VOLATILE, cq, t);
	case STEP_SYNC:
		return pst_fs_sync_async(cont, it->ino, NULL, cq, t);
	case STEP_LINK:
		return pst_fs_link_async(cont, it->ino, NULL, it->dir->ino, it->name,
		                         PST_F_REPLACE | PST_F_VOLATILE, cq, t);
	case STEP_RELEASE:
		return pst_fs_release_async(cont, it->ino, cq, t);
	case STEP_STREAM:
		break;
	}
	pst_assert(false);
	return -EINVAL;
}

/* --- what comes after it --- */

/* The directory is there: what is in it is next. */
static void dir_made(struct import_item *it, uint64_t ino, const struct pst_attr *attr)
{
	char *host = import_item_host(it);
	struct import_dir *d = host ? import_dir_new(it->import, it->dir, host, it->name) : NULL;

	if (!d) {
		mem_free(host);
		it->status = -ENOMEM;
		import_item_end(it);
		return;
	}
	d->ino = ino;
	d->attr = *attr;
	d->finish = true;
	d->xattrs = it->xattrs;
	it->xattrs = (struct host_xattrs){0};
	import_scan(d);
	import_item_end(it);
}

/* A name for what is made beside another: one that nobody would choose. */
static void beside_next(struct import_item *it)
{
	(void)snprintf(it->beside, sizeof(it->beside), ".penstock-put.%ld.%llu", (long)getpid(),
	               (unsigned long long)it->import->beside++);
	it->replaces++;
}

static void create_done(struct import_item *it, const struct pst_event *e)
{
	if (e->status == -EEXIST && it->kind == IMPORT_FILE) {
		go(it, STEP_NAMELESS);
	} else if (e->status == -EEXIST && it->replaces < BESIDE_TRIES &&
	           (it->kind == IMPORT_SYMLINK || it->kind == IMPORT_SPECIAL)) {
		beside_next(it);
		go(it, STEP_CREATE);
	} else if (e->status < 0) {
		it->status = e->status;
		import_item_end(it);
	} else {
		it->ino = e->off;
		if (it->xattrs.count > 0 && it->kind != IMPORT_FILE)
			go(it, STEP_XATTRS);
		else if (it->replaces)
			go(it, STEP_RENAME);
		else
			import_item_end(it);
	}
}

/* After a step of a file without a name, or the extended attributes of something with one. */
static void next_step(struct import_item *it)
{
	bool named = it->kind == IMPORT_SYMLINK || it->kind == IMPORT_SPECIAL;

	switch (it->step) {
	case STEP_NAMELESS:
		if (it->kind == IMPORT_BIG) {
			it->step = STEP_STREAM;
			import_stream(it);
			return;
		}
		break;
	case STEP_XATTRS:
		it->xattr_at++;
		break;
	case STEP_ATTRS:
		go(it, STEP_SYNC);
		return;
	case STEP_SYNC:
		go(it, STEP_LINK);
		return;
	case STEP_LINK:
		go(it, STEP_RELEASE);
		return;
	case STEP_RELEASE:
	case STEP_UNLINK:
	case STEP_RENAME:
		import_item_end(it);
		return;
	default:
		break;
	}
	if (it->xattr_at < it->xattrs.count)
		go(it, STEP_XATTRS);
	else if (named && it->replaces)
		go(it, STEP_RENAME);
	else if (named)
		import_item_end(it);
	else
		go(it, it->kind == IMPORT_BIG ? STEP_ATTRS : STEP_SYNC);
}

static void failed(struct import_item *it, int status)
{
	bool nameless = it->kind == IMPORT_FILE || it->kind == IMPORT_BIG;

	if (it->status == 0)
		it->status = status;
	if (nameless && it->ino && it->step != STEP_RELEASE)
		go(it, STEP_RELEASE);
	else if (it->replaces && it->step != STEP_UNLINK)
		go(it, STEP_UNLINK);
	else
		import_item_end(it);
}

/* A directory was made, or is there already, or something else is. */
static void dir_done(struct import_item *it, const struct pst_event *e)
{
	if (it->step == STEP_CREATE && e->status == -EEXIST) {
		go(it, STEP_STAT);
		return;
	}
	it->status = e->status;
	if (it->status == 0 && it->step == STEP_STAT && !S_ISDIR(it->found.mode))
		it->status = -ENOTDIR;
	if (it->status < 0)
		import_item_end(it);
	else
		dir_made(it, e->off, &it->attr);
}

static void done(struct pump_task *t, const struct pst_event *e)
{
	struct import_item *it = container_of(t, struct import_item, task);

	if (it->kind == IMPORT_DIR) {
		dir_done(it, e);
	} else if (it->step == STEP_CREATE) {
		create_done(it, e);
	} else if (e->status < 0) {
		failed(it, e->status);
	} else {
		if (it->step == STEP_NAMELESS)
			it->ino = e->off;
		next_step(it);
	}
}

static void go(struct import_item *it, enum import_step step)
{
	it->step = step;
	it->task.start = start;
	it->task.done = done;
	pump_add(&it->import->pump, &it->task);
}

/* --- large files: chunks --- */

static void stream_check(struct import_item *it)
{
	if (!it->streamed || it->chunks_out > 0)
		return;
	if (it->status < 0)
		failed(it, it->status);
	else
		next_step(it);
}

static int chunk_start(struct pump_task *t, struct pst_cq *cq)
{
	struct import_chunk *c = container_of(t, struct import_chunk, task);

	if (c->item->status < 0)
		return -ECANCELED;
	return pst_fs_write_async(c->item->import->cont, c->item->ino, NULL, c->data, c->len,
	                          c->off, PST_F_VOLATILE, cq, t);
}

static void chunk_done(struct pump_task *t, const struct pst_event *e)
{
	struct import_chunk *c = container_of(t, struct import_chunk, task);
	struct import_item *it = c->item;

	if (e->status < 0 && it->status == 0)
		it->status = e->status;
	if (e->status == 0)
		it->import->progress.done_bytes += c->len;
	import_chunk_put(it->import, c->data);
	mem_free(c);
	it->chunks_out--;
	stream_check(it);
}

void import_chunk_arrived(struct job *j)
{
	struct import_chunk *c = container_of(j, struct import_chunk, job);

	c->item->chunks_out++;
	c->task.start = chunk_start;
	c->task.done = chunk_done;
	pump_add(&c->item->import->pump, &c->task);
}

/* --- the beginning --- */

void import_make(struct import_item *it)
{
	if (it->step == STEP_STREAM) { /* its reader has come to the end */
		stream_check(it);
		return;
	}
	if (it->kind == IMPORT_LINK) {
		if (!it->inode->ended) {
			list_push(&it->inode->waiting, &it->link);
			return;
		}
		if (!it->inode->ino) {
			it->status = -ENOENT;
			it->what = "another name of the same file could not be stored";
			import_item_end(it);
			return;
		}
	}
	if (it->kind == IMPORT_DIR && !it->name[0]) { /* merged into the destination */
		dir_made(it, it->dir->ino, &it->attr);
		return;
	}
	go(it, it->kind == IMPORT_BIG || (it->kind == IMPORT_FILE && it->xattrs.count > 0)
	               ? STEP_NAMELESS
	               : STEP_CREATE);
}
