/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * export - see export.h.
 */
#include "cli/export.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/hostfile.h"
#include "cli/reader.h"
#include "cli/storex.h"
#include "cli/walk.h"

#define FILES_MAX   1024
#define WORKERS_MAX 4
#define ZERO_BLOCK  4096

struct export
{
	struct cli *cli;
	struct pump pump;
	struct reader reader;
	struct progress progress;
	struct pst_cont *cont;
	const struct cli_path *source;
	char *dest;              /* the host's path of the source */
	bool no_owner;           /* not root: owners can't be given */
	bool can_link;           /* files without a name can get one */
	struct list links, dirs; /* struct later */
	struct linked **inodes;  /* hash of files with several names */
	uint64_t files, bytes, others, under_way;
	bool full; /* the host's file system is: nothing more can be written */
	struct walk *walk;
	int status;
};

#define INODES_HASH 4096

/* A file with several names: the path that gets it first. */
struct linked {
	uint64_t ino;
	char *path;
	bool whole; /* it is there: further names can be made of it */
	struct linked *next;
};

/* What is done when all files are written. */
struct later {
	struct list link;
	char *path;
	const struct linked *first; /* links: what path is a further name of */
	struct pst_attr attr;       /* directories */
	struct host_xattrs xattrs;
};

struct export_file {
	struct reader_file reader;
	struct export *ex;
	struct walk_dir *dir;
	char *path;
	struct pst_attr attr;
	struct host_xattrs xattrs;
	struct job job; /* the last one: attributes and close */
	/* Workers: */
	pthread_mutex_t lock;
	int fd;     /* -1: not opened yet */
	char *temp; /* something has the name already: filled beside it, and moved over it when whole */
	int host_status;
	const char *host_what;
};

/* The store's side failed. */
static void complain(struct export *ex, const char *path, const char *what, int rc)
{
	progress_clear(&ex->progress);
	ex->status = cli_fail(ex->cli, rc, "%s%s%s", path, what ? ": " : "", what ? what : "");
}

/* The host's side did: cli_why()'s words are about the store. */
static void complain_host(struct export *ex, const char *path, const char *what, int rc)
{
	ex->status = CLI_FAILED;
	if (ex->full)
		return; /* told once */
	progress_clear(&ex->progress);
	cli_fail(ex->cli, 0, "%s%s%s: %s", path, what ? ": " : "", what ? what : "", strerror(-rc));
	if (rc != -ENOSPC && rc != -EDQUOT && rc != -EROFS)
		return;
	ex->full = true;
	if (ex->walk) {
		ex->walk->stop = true;
		cli_fail(ex->cli, 0, "giving up: nothing more can be written there");
	}
}

/* --- workers: files --- */

static void host_fail(struct export_file *f, int rc, const char *what)
{
	pthread_mutex_lock(&f->lock);
	if (f->host_status == 0) {
		f->host_status = rc;
		f->host_what = what;
	}
	pthread_mutex_unlock(&f->lock);
}

static int open_new(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : fd;
}

static int temp_name(struct export_file *f)
{
	mem_free(f->temp);
	f->temp = host_beside(f->path);
	return f->temp ? 0 : -ENOMEM;
}

static void temp_forget(struct export_file *f)
{
	mem_free(f->temp);
	f->temp = NULL;
}

static int open_beside(struct export_file *f)
{
	int fd;

	do {
		fd = temp_name(f);
		if (fd == 0)
			fd = open_new(f->temp);
	} while (fd == -EEXIST);
	if (fd < 0)
		temp_forget(f);
	return fd;
}

/* A file without a name, which is gone with the process. Not every file system has them. */
static int open_unnamed(const struct export_file *f)
{
	char *dir = host_dir_of(f->path);
	int fd;

	if (!dir)
		return -ENOMEM;
	fd = open(dir, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	if (fd < 0)
		fd = -errno;
	free(dir);
	return fd;
}

/* The file's descriptor, opened by whoever comes first. It gets its name when it is whole: what is
 * there until then is never written into (it may have other names), and who is killed leaves nothing
 * that looks like the file. */
static int file_fd(struct export_file *f)
{
	struct stat st;
	int fd;

	pthread_mutex_lock(&f->lock);
	if (f->fd < 0 && f->host_status == 0) {
		bool dir = lstat(f->path, &st) == 0 && S_ISDIR(st.st_mode);

		fd = dir ? -EISDIR : f->ex->can_link ? open_unnamed(f) : -EOPNOTSUPP;
		if (!dir && (fd == -EOPNOTSUPP || fd == -EISDIR))
			fd = open_beside(f);
		if (fd < 0)
			f->host_status = fd;
		else
			f->fd = fd;
	}
	fd = f->fd;
	pthread_mutex_unlock(&f->lock);
	return fd;
}

/* Gives the whole file @fd a name: its own, or one beside it if something has that. */
static int file_link(struct export_file *f, int fd)
{
	char proc[32];
	int rc;

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	if (linkat(AT_FDCWD, proc, AT_FDCWD, f->path, AT_SYMLINK_FOLLOW) == 0)
		return 0;
	if (errno != EEXIST)
		return -errno;
	do {
		rc = temp_name(f);
		if (rc == 0 && linkat(AT_FDCWD, proc, AT_FDCWD, f->temp, AT_SYMLINK_FOLLOW) < 0)
			rc = -errno;
	} while (rc == -EEXIST);
	if (rc < 0)
		temp_forget(f);
	return rc;
}

static bool is_zero(const char *buf, size_t len)
{
	return buf[0] == 0 && memcmp(buf, buf + 1, len - 1) == 0;
}

/* Blocks of zeroes in a file that has holes are holes. */
static int write_sparse(int fd, const char *buf, size_t len, uint64_t off)
{
	int rc = 0;

	for (size_t at = 0; rc == 0 && at < len; at += ZERO_BLOCK) {
		size_t n = MIN(len - at, ZERO_BLOCK);

		if (!is_zero(buf + at, n))
			rc = host_pwrite(fd, buf + at, n, off + at);
	}
	return rc;
}

static void chunk_run(struct job *j)
{
	struct reader_chunk *c = container_of(j, struct reader_chunk, job);
	struct export_file *f = container_of(c->file, struct export_file, reader);
	int fd = file_fd(f), rc = 0;

	if (fd < 0)
		return;
	if (f->reader.sparse)
		rc = write_sparse(fd, c->buf, c->len, c->off);
	else
		rc = host_pwrite(fd, c->buf, c->len, c->off);
	if (rc < 0)
		host_fail(f, rc, "writing");
}

static void finish_run(struct job *j)
{
	struct export_file *f = container_of(j, struct export_file, job);
	const char *what = NULL;
	int fd = file_fd(f), rc = 0;

	if (fd < 0)
		return;
	if (f->host_status == 0 && f->reader.status == 0) {
		if (ftruncate(fd, (off_t)f->attr.size_bytes) < 0)
			rc = -errno;
		else
			rc = host_set_attrs(f->path, fd, &f->attr, &f->xattrs, !f->ex->no_owner,
			                    &what);
	}
	if (rc == 0 && f->host_status == 0 && f->reader.status == 0 && !f->temp) {
		rc = file_link(f, fd);
		what = NULL;
	}
	if (close(fd) < 0 && rc == 0)
		rc = -errno;
	if (rc < 0)
		host_fail(f, rc, what);
	if (f->host_status == 0 && f->reader.status == 0 && f->temp && rename(f->temp, f->path) < 0)
		host_fail(f, -errno, NULL);
	if ((f->host_status < 0 || f->reader.status < 0) && f->temp)
		unlink(f->temp); /* half a file is no file */
}

/* --- the main thread: files --- */

static void chunk_done(struct job *j)
{
	struct reader_chunk *c = container_of(j, struct reader_chunk, job);
	struct export_file *f = container_of(c->file, struct export_file, reader);

	f->ex->progress.done_bytes += c->len;
	reader_chunk_put(c);
}

static void file_chunk(struct reader_file *rf, struct reader_chunk *c)
{
	struct export_file *f = container_of(rf, struct export_file, reader);

	c->job.run = chunk_run;
	c->job.done = chunk_done;
	jobs_submit(f->ex->pump.jobs, &c->job);
}

static struct linked **linked_bucket(struct export *ex, uint64_t ino)
{
	return &ex->inodes[hash_u64(ino) % INODES_HASH];
}

static struct linked *linked_find(struct export *ex, uint64_t ino)
{
	struct linked *n = *linked_bucket(ex, ino);

	while (n && n->ino != ino)
		n = n->next;
	return n;
}

/* What has these attributes is at its path, whole. */
static void made(struct export *ex, const struct pst_attr *a)
{
	struct linked *n = a->nlink > 1 ? linked_find(ex, a->ino) : NULL;

	if (n)
		n->whole = true;
}

static void finish_done(struct job *j)
{
	struct export_file *f = container_of(j, struct export_file, job);
	struct export *ex = f->ex;
	char where[64];

	if (f->reader.status < 0) {
		snprintf(where, sizeof(where), "reading at byte %" PRIu64, f->reader.at_err);
		complain(ex, f->path, where, f->reader.status);
	} else if (f->host_status < 0) {
		complain_host(ex, f->path, f->host_what, f->host_status);
	} else {
		ex->files++;
		ex->bytes += f->attr.size_bytes;
		made(ex, &f->attr);
	}
	ex->progress.done_items++;
	ex->under_way--;
	if (f->dir)
		walk_let_go(f->dir);
	host_xattrs_done(&f->xattrs);
	pthread_mutex_destroy(&f->lock);
	mem_free(f->temp);
	mem_free(f->path);
	mem_free(f);
}

static void file_end(struct reader_file *rf)
{
	struct export_file *f = container_of(rf, struct export_file, reader);

	f->job.run = finish_run;
	f->job.done = finish_done;
	jobs_submit(f->ex->pump.jobs, &f->job);
}

static void file_start(struct export *ex, struct walk_dir *dir, char *path,
                       const struct pst_attr *a, struct host_xattrs *x)
{
	struct export_file *f = mem_calloc(1, sizeof(*f));

	if (!f) {
		complain(ex, path, NULL, -ENOMEM);
		host_xattrs_done(x);
		mem_free(path);
		return;
	}
	f->ex = ex;
	f->dir = dir;
	f->path = path;
	f->attr = *a;
	f->xattrs = *x;
	f->fd = -1;
	pthread_mutex_init(&f->lock, NULL);
	f->reader.ino = a->ino;
	f->reader.size_bytes = a->size_bytes;
	f->reader.sparse = a->alloc_bytes < ALIGN_DOWN(a->size_bytes, ZERO_BLOCK);
	f->reader.chunk = file_chunk;
	f->reader.end = file_end;
	if (dir)
		walk_hold(dir);
	ex->under_way++;
	reader_add(&ex->reader, &f->reader);
}

/* --- what is no regular file --- */

static int make_symlink(struct export *ex, const char *path, const struct pst_attr *a)
{
	char target[PST_PATH_MAX + 1];
	uint32_t len;
	int rc = pst_fs_readlink(ex->cont, a->ino, NULL, target, PST_PATH_MAX, &len);

	if (rc < 0)
		return rc;
	target[len] = 0;
	return symlink(target, path) < 0 ? -errno : 0;
}

static int make_other(struct export *ex, const char *path, const struct pst_attr *a)
{
	if (S_ISLNK(a->mode))
		return make_symlink(ex, path, a);
	return mknod(path, a->mode, a->rdev) < 0 ? -errno : 0;
}

/* Something has the name: it stays until the new one, made beside it, takes its place. */
static int other_beside(struct export *ex, const char *path, const struct pst_attr *a,
                        const struct host_xattrs *x, const char **ret_what)
{
	char *beside = NULL;
	int rc;

	do {
		mem_free(beside);
		beside = host_beside(path);
		rc = beside ? make_other(ex, beside, a) : -ENOMEM;
	} while (rc == -EEXIST);
	if (rc < 0) {
		mem_free(beside);
		return rc;
	}
	rc = host_set_attrs(beside, -1, a, x, !ex->no_owner, ret_what);
	if (rc == 0 && rename(beside, path) < 0) {
		rc = -errno;
		*ret_what = NULL;
	}
	if (rc < 0)
		unlink(beside);
	mem_free(beside);
	return rc;
}

static void other(struct export *ex, const char *path, const struct pst_attr *a,
                  const struct host_xattrs *x)
{
	const char *what = NULL;
	int rc = make_other(ex, path, a);

	if (rc == 0)
		rc = host_set_attrs(path, -1, a, x, !ex->no_owner, &what);
	else if (rc == -EEXIST)
		rc = other_beside(ex, path, a, x, &what);
	if (rc < 0) {
		complain_host(ex, path, what, rc);
	} else {
		ex->others++;
		made(ex, a);
	}
	ex->progress.done_items++;
}

/* --- several names, directories: later --- */

static struct later *later_new(struct list *list, char *path)
{
	struct later *l = mem_calloc(1, sizeof(*l));

	if (l) {
		l->path = path;
		list_push(list, &l->link);
	}
	return l;
}

static void later_free(struct later *l)
{
	list_del(&l->link);
	host_xattrs_done(&l->xattrs);
	mem_free(l->path);
	mem_free(l);
}

/* True when @path is a further name: it is linked later. Takes @path then. */
static bool is_further_name(struct export *ex, char *path, const struct pst_attr *a)
{
	struct linked *n = linked_find(ex, a->ino);
	struct later *l;

	if (n) {
		l = later_new(&ex->links, path);
		if (l) {
			l->first = n;
		} else {
			complain(ex, path, NULL, -ENOMEM);
			mem_free(path);
		}
		return true;
	}
	n = mem_calloc(1, sizeof(*n));
	if (n) {
		n->ino = a->ino;
		n->path = cli_join("", path);
		n->next = *linked_bucket(ex, a->ino);
		*linked_bucket(ex, a->ino) = n;
	}
	return false;
}

/* What failed, or was never begun, is not linked to: what has its path is something older. */
static void link_make(struct export *ex, const struct later *l)
{
	int rc;

	if (l->first->path && !l->first->whole) {
		ex->status = CLI_FAILED;
		if (!ex->full)
			cli_fail(ex->cli, 0,
			         "%s: left out, since %s, another name of it, was not written",
			         l->path, l->first->path);
		return;
	}
	rc = l->first->path ? host_link_over(l->first->path, l->path) : -ENOMEM;
	if (rc < 0)
		complain_host(ex, l->path, "linking", rc);
	else
		ex->others++;
}

static void links_make(struct export *ex)
{
	while (!list_empty(&ex->links)) {
		struct later *l = list_first(&ex->links, struct later, link);

		link_make(ex, l);
		later_free(l);
	}
}

/* The innermost first: setting what is inside changes what is around. */
static void dirs_finish(struct export *ex)
{
	while (!list_empty(&ex->dirs)) {
		struct later *l = list_entry(ex->dirs.prev, struct later, link);
		const char *what = NULL;
		int rc = host_set_attrs(l->path, -1, &l->attr, &l->xattrs, !ex->no_owner, &what);

		if (rc < 0)
			complain_host(ex, l->path, what, rc);
		later_free(l);
	}
}

/* --- the walk --- */

static char *host_path(const struct export *ex, const struct walk_dir *d, const char *name)
{
	char *dir = cli_join(ex->dest, d->path), *path = dir ? cli_join(dir, name) : NULL;

	mem_free(dir);
	return path;
}

static void one(struct export *ex, struct walk_dir *dir, char *path, const struct pst_attr *a)
{
	struct host_xattrs x = {0};
	int rc;

	if (a->nlink > 1 && is_further_name(ex, path, a))
		return;
	rc = store_xattrs_read(ex->cont, a->ino, &x);
	if (rc < 0) {
		complain(ex, path, "reading extended attributes", rc);
		mem_free(path);
		return;
	}
	if (S_ISREG(a->mode)) {
		file_start(ex, dir, path, a, &x);
		return;
	}
	other(ex, path, a, &x);
	host_xattrs_done(&x);
	mem_free(path);
}

static void entry(struct walk_dir *d, const struct pst_dirent *e)
{
	struct export *ex = d->walk->user;
	char *path = host_path(ex, d, e->name);

	if (path)
		one(ex, d, path, e->attr);
	else
		complain(ex, e->name, NULL, -ENOMEM);
}

static bool enter(struct walk_dir *d)
{
	struct export *ex = d->walk->user;
	char *path = host_path(ex, d, "");
	struct later *l;
	struct stat st;
	int rc;

	if (!path) {
		complain(ex, d->path, NULL, -ENOMEM);
		return false;
	}
	/* A link to a directory is one where the user named it, and in the way further down. */
	if (mkdir(path, 0700) < 0 &&
	    (errno != EEXIST || (d->parent ? lstat(path, &st) : stat(path, &st)) < 0 ||
	     !S_ISDIR(st.st_mode))) {
		complain_host(ex, path, NULL, errno == EEXIST ? -ENOTDIR : -errno);
		mem_free(path);
		return false;
	}
	l = later_new(&ex->dirs, path);
	if (!l) {
		complain(ex, path, NULL, -ENOMEM);
		mem_free(path);
		return false;
	}
	l->attr = d->attr;
	rc = store_xattrs_read(ex->cont, d->ino, &l->xattrs);
	if (rc < 0)
		complain(ex, path, "reading extended attributes", rc);
	return true;
}

static void leave(struct walk_dir *d)
{
	struct export *ex = d->walk->user;

	if (d->status < 0)
		complain(ex, d->path[0] ? d->path : ex->source->text, "listing", d->status);
	walk_dir_end(d);
}

static bool full(struct walk *w)
{
	return ((struct export *)w->user)->under_way >= FILES_MAX;
}

/* --- start and end --- */

/* Into the directory @dest, under the source's own name. */
static char *dest_inside(const struct export *ex, const char *dest)
{
	char *base = strdup(ex->source->path), *slash, *path;

	while (base && (slash = strrchr(base, '/')) && !slash[1])
		*slash = 0;
	path = base ? cli_join(dest, cli_base_name(base)) : NULL;
	free(base);
	return path;
}

/*
 * Where it goes: into @dest if that is a directory, else it gets that name. A link to a file is
 * followed, as cp does. A device or FIFO is not replaced: that is never what was meant.
 */
static int find_dest(struct export *ex, const char *dest)
{
	struct stat st;
	size_t len = strlen(dest);
	int rc = stat(dest, &st);

	if (rc == 0 && S_ISDIR(st.st_mode)) {
		ex->dest = dest_inside(ex, dest);
	} else if (rc == 0 && !S_ISREG(st.st_mode)) {
		return cli_fail(ex->cli, 0,
		                "%s: neither a file nor a directory, and not replaced (penstock "
		                "cat writes to it)",
		                dest);
	} else if (rc == 0) {
		char *file = realpath(dest, NULL);

		if (!file)
			return cli_fail(ex->cli, 0, "%s: %s", dest, strerror(errno));
		ex->dest = cli_join("", file);
		free(file);
	} else {
		if (len > 1 && dest[len - 1] == '/' && !ex->source->path[0])
			len--;
		ex->dest = strndup(dest, len);
	}
	return ex->dest ? CLI_OK : cli_fail(ex->cli, -ENOMEM, "memory");
}

static void report(struct export *ex)
{
	double seconds = (double)(clock_mono_ns() - ex->progress.start_ns) / 1e9;
	char size[32], rate[32];

	if (ex->cli->json) {
		int status = cli_print_json(
		        ex->cli,
		        json_pack("{s:b, s:I, s:I, s:I, s:f}", "ok", ex->status == CLI_OK, "files",
		                  (json_int_t)ex->files, "others", (json_int_t)ex->others, "bytes",
		                  (json_int_t)ex->bytes, "seconds", seconds));

		ex->status = status == CLI_OK ? ex->status : status;
		return;
	}
	cli_note(ex->cli, "%" PRIu64 " file%s (%s), %" PRIu64 " other%s in %.1f s: %s/s", ex->files,
	         PLURAL(ex->files), format_size(ex->bytes, size, sizeof(size)), ex->others,
	         PLURAL(ex->others), seconds,
	         format_size((uint64_t)((double)ex->bytes / seconds), rate, sizeof(rate)));
}

static void run(struct export *ex, const struct pst_attr *a)
{
	struct walk w = {.pump = &ex->pump,
	                 .cont = ex->cont,
	                 .user = ex,
	                 .enter = enter,
	                 .entry = entry,
	                 .leave = leave,
	                 .full = full};
	struct pst_cont_info info;
	char *path;
	int rc;

	progress_start(&ex->progress, ex->cli, "exporting");
	ex->pump.progress = &ex->progress;
	if (ex->source->path[0] == 0 && !strchr(ex->source->cont, '@') &&
	    pst_cont_get(ex->cli->client, ex->source->cont, &info) == 0)
		ex->progress.total_bytes = info.logical_bytes;
	if (S_ISDIR(a->mode)) {
		ex->walk = &w;
		rc = walk_run(&w, a);
		ex->walk = NULL;
		if (rc < 0)
			complain(ex, ex->source->text, NULL, rc);
	} else {
		path = cli_join("", ex->dest);
		if (path)
			one(ex, NULL, path, a);
		pump_run(&ex->pump);
	}
	links_make(ex);
	dirs_finish(ex);
	progress_end(&ex->progress);
	if (S_ISDIR(a->mode) || ex->cli->json)
		report(ex);
}

static void inodes_free(struct export *ex)
{
	for (int i = 0; ex->inodes && i < INODES_HASH; i++) {
		struct linked *n, *next;

		for (n = ex->inodes[i]; n; n = next) {
			next = n->next;
			mem_free(n->path);
			mem_free(n);
		}
	}
	mem_free(ex->inodes);
}

static int export_open(struct export *ex, const struct cli_path *source, const char *dest,
                       const struct export_opts *opts, struct pst_attr *ret_attr)
{
	unsigned workers = (unsigned)MAX(1, MIN(WORKERS_MAX, sysconf(_SC_NPROCESSORS_ONLN)));
	int rc = pst_fs_stat(ex->cont, 0, source->path, PST_F_NOFOLLOW, ret_attr), status;

	if (rc == 0 && S_ISDIR(ret_attr->mode) && !opts->recursive)
		return cli_fail(ex->cli, 0, "%s: a directory; give -r", source->text);
	if (rc < 0)
		return cli_fail(ex->cli, rc, "%s", source->text);
	ex->inodes = mem_calloc(INODES_HASH, sizeof(*ex->inodes));
	if (!ex->inodes)
		return cli_fail(ex->cli, -ENOMEM, "memory");
	status = find_dest(ex, dest);
	if (status == CLI_OK)
		status = pump_open(&ex->pump, ex->cli, MAX(opts->jobs, 8), workers);
	if (status != CLI_OK)
		return status;
	rc = reader_open(&ex->reader, &ex->pump, ex->cont, MIN(64, MAX(8, opts->jobs)));
	if (rc < 0) {
		pump_close(&ex->pump);
		return cli_fail(ex->cli, rc, "memory");
	}
	return CLI_OK;
}

int export_run(struct cli *cli, const struct cli_path *source, const char *dest,
               const struct export_opts *opts)
{
	struct export ex = {.cli = cli,
	                    .source = source,
	                    .no_owner = geteuid() != 0,
	                    .can_link = !access("/proc/self/fd", X_OK)};
	struct pst_attr attr;
	int status = cli_path_open(cli, source, &ex.cont);

	if (status != CLI_OK)
		return status;
	list_init(&ex.links);
	list_init(&ex.dirs);
	status = export_open(&ex, source, dest, opts, &attr);
	if (status == CLI_OK) {
		run(&ex, &attr);
		status = ex.status;
		reader_close(&ex.reader);
		pump_close(&ex.pump);
	}
	inodes_free(&ex);
	mem_free(ex.dest);
	pst_cont_close(ex.cont);
	return status;
}
