/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * files - what a server lives on (its devices, its configuration, the files of TLS), and that nothing of it is
 * appended to or removed: the audit log and the locks of sockets are files, too, and may be named wrongly.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/stack.h"
#include "server/server.h"

#define PATH_BYTES 4096

/* A file by what it is under each of its names, a block device by what it is at each of its nodes. */
struct server_file {
	dev_t dev;
	ino_t ino;
	bool block;
	unsigned device; /* which one, counted from 1; 0: none of the store's */
	const char *what;
};

static struct server_file identity(const struct stat *st)
{
	if (S_ISBLK(st->st_mode))
		return (struct server_file){.dev = st->st_rdev, .block = true};
	return (struct server_file){.dev = st->st_dev, .ino = st->st_ino};
}

static bool same(const struct server_file *a, const struct server_file *b)
{
	return a->block == b->block && a->dev == b->dev && a->ino == b->ino;
}

static int add(struct server_files *f, const struct server_file *one)
{
	struct server_file *at;

	if (f->count == f->room) {
		at = mem_realloc(f->at, (f->room + 8) * sizeof(*at));
		if (!at)
			return -ENOMEM;
		f->at = at;
		f->room += 8;
	}
	f->at[f->count++] = *one;
	return 0;
}

/* What is not there will be missed by whoever opens it. */
static int add_path(struct server_files *f, const char *path, const char *what, struct pst_err *err)
{
	struct server_file one;
	struct stat st;

	if (!path || stat(path, &st) < 0)
		return 0;
	one = identity(&st);
	one.what = what;
	return add(f, &one) < 0 ? err_set(err, -ENOMEM, "no memory") : 0;
}

struct adding {
	struct server_files *f;
	unsigned first; /* the number of the first device that is added */
	struct pst_err *err;
};

/* Several paths to one device may be one file. */
static int add_device(void *arg, unsigned device, const char *path)
{
	struct adding *a = arg;
	struct server_file one;
	struct stat st;

	if (stat(path, &st) < 0)
		return 0;
	one = identity(&st);
	one.what = "a device of the store";
	one.device = a->first + device;
	a->f->devices = MAX(a->f->devices, one.device);
	for (unsigned i = 0; i < a->f->count; i++) {
		const struct server_file *is = &a->f->at[i];

		if (is->device && is->device != one.device && same(is, &one))
			return err_set(a->err, -EBUSY,
			               "'%s' is named twice: a device before it is the same %s",
			               path, one.block ? "one" : "file");
	}
	return add(a->f, &one) < 0 ? err_set(a->err, -ENOMEM, "no memory") : 0;
}

int server_files_devices(struct server_files *f, const char *text, struct pst_err *err)
{
	struct adding a = {.f = f, .first = f->devices + 1, .err = err};

	return stack_local_files(strncmp(text, "local:", 6) ? text : text + 6, add_device, &a, err);
}

int server_files_others(struct server_files *f, const struct server_opts *o, struct pst_err *err)
{
	static const char pem[] = "a file of TLS";
	int rc = add_path(f, o->config, "the configuration", err);

	rc = rc ? rc : add_path(f, o->tls_cert, pem, err);
	rc = rc ? rc : add_path(f, o->tls_key, pem, err);
	return rc ? rc : add_path(f, o->tls_ca, pem, err);
}

void server_files_done(struct server_files *f)
{
	mem_free(f->at);
	*f = (struct server_files){.at = NULL};
}

/* --- what is written or removed --- */

static const char *folder_of(const char *path, char folder[PATH_BYTES])
{
	const char *slash = strrchr(path, '/');

	(void)snprintf(folder, PATH_BYTES, "%.*s", slash ? (int)MAX(slash - path, 1) /* "/" */ : 1,
	               slash ? path : ".");
	return folder;
}

int server_file_folder(const char *option, const char *path, struct pst_err *err)
{
	char folder[PATH_BYTES];

	if (access(folder_of(path, folder), W_OK | X_OK) < 0)
		return err_set(err, -errno, "%s %s: %s: %s", option, path, folder, strerror(errno));
	return 0;
}

/* Also where there is nothing yet: the same name in one folder. */
static bool same_place(const char *a, const char *b)
{
	const char *name_a = strrchr(a, '/'), *name_b = strrchr(b, '/');
	char folder[PATH_BYTES];
	struct server_file ia, ib;
	struct stat sa, sb;
	bool there = lstat(a, &sa) == 0;

	if (there != (lstat(b, &sb) == 0))
		return false;
	if (!there && (strcmp(name_a ? name_a + 1 : a, name_b ? name_b + 1 : b) != 0 ||
	               stat(folder_of(a, folder), &sa) < 0 || stat(folder_of(b, folder), &sb) < 0))
		return false;
	ia = identity(&sa);
	ib = identity(&sb);
	return same(&ia, &ib);
}

static bool lock_of(const char *socket, char lock[PATH_BYTES])
{
	return (size_t)snprintf(lock, PATH_BYTES, "%s.lock", socket) < PATH_BYTES;
}

bool server_has_control(const struct server_opts *o)
{
	return server_control_built && (!o->control || strcmp(o->control, "none") != 0);
}

/* What is at the path of a socket may be what a killed server left. @who: @path in a sentence. */
static int socket_may(const char *option, const char *path, const char *who, struct pst_err *err)
{
	char lock[PATH_BYTES];
	struct stat st;

	if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
		return err_set(err, -EEXIST, "--socket %s: %s is there, and no socket", option,
		               who);
	if (lock_of(path, lock) && lstat(lock, &st) == 0 &&
	    (!S_ISREG(st.st_mode) || st.st_size > 0))
		return err_set(err, -EEXIST,
		               "--socket %s: %s, its lock, would be removed in the end, and is "
		               "something else",
		               option, lock);
	return 0;
}

int server_file_socket(const struct server_opts *o, const char *path, struct pst_err *err)
{
	static const char beside[] = ", the control plane's beside it,";
	char control[PATH_BYTES], who[PATH_BYTES + sizeof(beside)];
	int rc = socket_may(path, path, "it", err);

	if (rc || !server_has_control(o) || !wire_place_control(control, sizeof(control), path))
		return rc;
	(void)snprintf(who, sizeof(who), "%s%s", control, beside);
	return socket_may(path, control, who, err);
}

static int audit_beside(const char *path, const char *socket, struct pst_err *err)
{
	char control[PATH_BYTES] = "", lock[PATH_BYTES];
	const char *its[] = {socket, control};
	bool taken = false;

	(void)wire_place_control(control, sizeof(control), socket);
	for (unsigned i = 0; i < ARRAY_LEN(its); i++)
		taken |= its[i][0] && (same_place(path, its[i]) ||
		                       (lock_of(its[i], lock) && same_place(path, lock)));
	return taken ? err_set(err, -EINVAL, "--audit-log %s: the socket %s has files of that name",
	                       path, socket)
	             : 0;
}

int server_files_audit(const struct server_files *f, const char *path, const char *socket,
                       struct pst_err *err)
{
	struct server_file one;
	struct stat st;

	if (socket && audit_beside(path, socket, err) < 0)
		return -EINVAL;
	if (stat(path, &st) < 0)
		return 0;
	one = identity(&st);
	for (unsigned i = 0; i < f->count; i++)
		if (same(&f->at[i], &one))
			return err_set(err, -EINVAL, "--audit-log %s: it is %s", path,
			               f->at[i].what);
	if (S_ISBLK(st.st_mode))
		return err_set(err, -EINVAL, "--audit-log %s: it is a block device", path);
	return 0;
}
