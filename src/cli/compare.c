/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * compare - see compare.h. The main thread walks the store and reads; workers read the host's files
 * and compare. Names that only the host has are found when a directory is left: by then every name
 * that the store has was struck off its list.
 */
#include "cli/compare.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/hostfile.h"
#include "cli/reader.h"
#include "cli/storex.h"
#include "cli/walk.h"

#define FILES_MAX   1024
#define WORKERS_MAX 4
#define HASH        4096

/* Host inodes with several names, and the inode that the store has for them. */
struct pair {
	dev_t dev;
	ino_t host;
	uint64_t ino;
	struct pair *next;
};

struct compare {
	struct cli *cli;
	struct pump pump;
	struct reader reader;
	struct progress progress;
	struct pst_cont *cont;
	const struct cli_path *source;
	const char *host; /* NULL: only read */
	struct compare_result *r;
	struct pair **pairs;
	uint64_t under_way;
};

/* Names of a directory on the host, sorted; those that the store has are marked. */
struct host_names {
	char **name;
	bool *seen;
	size_t count;
};

struct compare_file {
	struct reader_file reader;
	struct compare *cmp;
	struct walk_dir *dir;
	char *path;
	char *host; /* NULL: only read */
	/* Workers: */
	pthread_mutex_t lock;
	int fd, host_status;
	uint64_t differs_at; /* UINT64_MAX: nowhere yet */
};

/* --- messages --- */

static void differ(struct compare *cmp, const char *path, const char *what)
{
	cmp->r->differences++;
	progress_clear(&cmp->progress);
	if (!cmp->cli->json)
		printf("%s%s: %s\n", cmp->source->cont, path, what);
	else
		fprintf(stderr, "%s%s: %s\n", cmp->source->cont, path, what);
}

/* The path from the container's root, as people write it. */
static char *store_path(const struct compare *cmp, const struct walk_dir *d, const char *name)
{
	char *dir = d ? cli_join(cmp->source->path, d->path) : cli_join(cmp->source->path, "");
	char *path = dir ? cli_join(dir, name) : NULL, *full = path ? cli_join(":/", path) : NULL;

	mem_free(dir);
	mem_free(path);
	return full ? full : cli_join("", ":/");
}

static char *host_path(const struct compare *cmp, const struct walk_dir *d, const char *name)
{
	char *dir = d ? cli_join(cmp->host, d->path) : cli_join(cmp->host, "");
	char *path = dir ? cli_join(dir, name) : NULL;

	mem_free(dir);
	pst_assert(path);
	return path;
}

static void error(struct compare *cmp, const char *where, const char *what, int rc)
{
	cmp->r->errors++;
	progress_clear(&cmp->progress);
	cli_fail(cmp->cli, rc, "%s%s%s%s", where[0] == ':' ? cmp->source->cont : "", where,
	         what ? ": " : "", what ? what : "");
}

/* The host's side failed: cli_why()'s words are about the store. */
static void error_host(struct compare *cmp, const char *host, const char *what, int rc)
{
	cmp->r->errors++;
	progress_clear(&cmp->progress);
	cli_fail(cmp->cli, 0, "%s%s%s: %s", host, what ? ": " : "", what ? what : "",
	         strerror(-rc));
}

/* --- attributes --- */

static bool xattr_same(const struct host_xattr *a, const struct host_xattrs *in)
{
	for (unsigned i = 0; i < in->count; i++)
		if (strcmp(a->name, in->item[i].name) == 0)
			return a->val_len == in->item[i].val_len &&
			       memcmp(a->val, in->item[i].val, a->val_len) == 0;
	return false;
}

static void compare_xattrs(struct compare *cmp, const char *path, const char *host, uint64_t ino)
{
	struct host_xattrs a = {0}, b = {0};
	bool same;
	int rc = store_xattrs_read(cmp->cont, ino, &a);

	if (rc < 0) {
		error(cmp, path, "extended attributes", rc);
		return;
	}
	rc = host_xattrs_read(-1, host, &b);
	if (rc < 0)
		error_host(cmp, host, "extended attributes", rc);
	same = a.count == b.count;
	for (unsigned i = 0; same && i < a.count; i++)
		same = xattr_same(&a.item[i], &b);
	if (rc == 0 && !same)
		differ(cmp, path, "extended attributes differ");
	host_xattrs_done(&a);
	host_xattrs_done(&b);
}

/* Two names of one file on one side must be two names of one file on the other. */
static void compare_inodes(struct compare *cmp, const char *path, const struct stat *st,
                           uint64_t ino)
{
	struct pair **bucket = &cmp->pairs[hash_u64(st->st_ino) % HASH], *p;

	for (p = *bucket; p; p = p->next) {
		if (p->host != st->st_ino || p->dev != st->st_dev)
			continue;
		if (p->ino != ino)
			differ(cmp, path, "not the same file as its other names");
		return;
	}
	p = mem_calloc(1, sizeof(*p));
	if (p) {
		*p = (struct pair){st->st_dev, st->st_ino, ino, *bucket};
		*bucket = p;
	}
}

static void compare_target(struct compare *cmp, const char *path, const char *host, uint64_t ino)
{
	char a[PST_PATH_MAX + 1], b[PST_PATH_MAX + 1];
	uint32_t len = 0;
	int rc = pst_fs_readlink(cmp->cont, ino, NULL, a, PST_PATH_MAX, &len);
	ssize_t n = readlink(host, b, sizeof(b));

	if (rc < 0)
		error(cmp, path, NULL, rc);
	else if (n != (ssize_t)len || memcmp(a, b, len) != 0)
		differ(cmp, path, "points to another place");
}

/* True when content is worth comparing. */
static bool compare_attrs(struct compare *cmp, const char *path, const char *host,
                          const struct pst_attr *a)
{
	struct pst_attr b;
	struct stat st;

	if (lstat(host, &st) < 0) {
		if (errno == ENOENT || errno == ENOTDIR)
			differ(cmp, path, "only in the store");
		else
			error_host(cmp, host, NULL, -errno);
		return false;
	}
	host_attr(&st, &b);
	if ((a->mode & S_IFMT) != (b.mode & S_IFMT)) {
		differ(cmp, path, "another type");
		return false;
	}
	if (a->mode != b.mode)
		differ(cmp, path, "mode differs");
	if (a->uid != b.uid || a->gid != b.gid)
		differ(cmp, path, "owner differs");
	if (a->mtime_ns != b.mtime_ns)
		differ(cmp, path, "modification time differs");
	if ((S_ISCHR(a->mode) || S_ISBLK(a->mode)) && a->rdev != b.rdev)
		differ(cmp, path, "device number differs");
	if (S_ISLNK(a->mode))
		compare_target(cmp, path, host, a->ino);
	compare_xattrs(cmp, path, host, a->ino);
	if (!S_ISDIR(a->mode) && st.st_nlink > 1)
		compare_inodes(cmp, path, &st, a->ino);
	if (S_ISREG(a->mode) && a->size_bytes != b.size_bytes) {
		differ(cmp, path, "size differs");
		return false;
	}
	return true;
}

/* --- workers: content --- */

static int file_fd(struct compare_file *f)
{
	int fd;

	pthread_mutex_lock(&f->lock);
	if (f->fd < 0 && f->host_status == 0) {
		f->fd = open(f->host, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (f->fd < 0)
			f->host_status = -errno;
	}
	fd = f->fd;
	pthread_mutex_unlock(&f->lock);
	return fd;
}

static void chunk_run(struct job *j)
{
	static _Thread_local char buf[READER_CHUNK];
	struct reader_chunk *c = container_of(j, struct reader_chunk, job);
	struct compare_file *f = container_of(c->file, struct compare_file, reader);
	int fd = file_fd(f), rc;
	size_t at = 0;

	if (fd < 0)
		return;
	rc = host_pread(fd, buf, c->len, c->off);
	if (rc == 0 && memcmp(buf, c->buf, c->len) == 0)
		return;
	while (rc == 0 && buf[at] == ((char *)c->buf)[at])
		at++;
	pthread_mutex_lock(&f->lock);
	if (rc < 0)
		f->host_status = rc;
	else
		f->differs_at = MIN(f->differs_at, c->off + at);
	pthread_mutex_unlock(&f->lock);
}

/* --- main thread: content --- */

static void chunk_done(struct job *j)
{
	reader_chunk_put(container_of(j, struct reader_chunk, job));
}

static void file_chunk(struct reader_file *rf, struct reader_chunk *c)
{
	struct compare_file *f = container_of(rf, struct compare_file, reader);

	f->cmp->r->bytes += c->len;
	f->cmp->progress.done_bytes += c->len;
	if (!f->host) {
		reader_chunk_put(c);
		return;
	}
	c->job.run = chunk_run;
	c->job.done = chunk_done;
	jobs_submit(f->cmp->pump.jobs, &c->job);
}

static void file_tell(struct compare_file *f)
{
	char text[64];

	if (f->reader.status < 0) {
		snprintf(text, sizeof(text), "at byte %" PRIu64, f->reader.at_err);
		error(f->cmp, f->path, text, f->reader.status);
	} else if (f->host_status == -ESTALE) {
		differ(f->cmp, f->path, "the other side changed while it was read");
	} else if (f->host_status < 0) {
		error_host(f->cmp, f->host, NULL, f->host_status);
	} else if (f->differs_at != UINT64_MAX) {
		snprintf(text, sizeof(text), "content differs at byte %" PRIu64, f->differs_at);
		differ(f->cmp, f->path, text);
	}
}

static void file_end(struct reader_file *rf)
{
	struct compare_file *f = container_of(rf, struct compare_file, reader);
	struct compare *cmp = f->cmp;

	file_tell(f);
	if (f->fd >= 0)
		close(f->fd);
	cmp->r->files++;
	cmp->progress.done_items++;
	cmp->under_way--;
	if (f->dir)
		walk_let_go(f->dir);
	pthread_mutex_destroy(&f->lock);
	mem_free(f->path);
	mem_free(f->host);
	mem_free(f);
}

/* Takes @path and @host. */
static void file_start(struct compare *cmp, struct walk_dir *dir, char *path, char *host,
                       const struct pst_attr *a)
{
	struct compare_file *f = mem_calloc(1, sizeof(*f));

	pst_assert(f);
	f->cmp = cmp;
	f->dir = dir;
	f->path = path;
	f->host = host;
	f->fd = -1;
	f->differs_at = UINT64_MAX;
	pthread_mutex_init(&f->lock, NULL);
	f->reader.ino = a->ino;
	f->reader.size_bytes = a->size_bytes;
	/* To compare, holes are read as the zeroes that they are. */
	f->reader.sparse = !host && a->alloc_bytes < ALIGN_DOWN(a->size_bytes, 4096);
	f->reader.chunk = file_chunk;
	f->reader.end = file_end;
	if (dir)
		walk_hold(dir);
	cmp->under_way++;
	reader_add(&cmp->reader, &f->reader);
}

/* --- names that only the host has --- */

static int name_cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void names_free(struct host_names *n)
{
	for (size_t i = 0; i < n->count; i++)
		mem_free(n->name[i]);
	mem_free(n->name);
	mem_free(n->seen);
	mem_free(n);
}

static struct host_names *names_read(struct compare *cmp, const char *host)
{
	struct host_names *n = mem_calloc(1, sizeof(*n));
	DIR *dir = opendir(host);
	struct dirent *e = NULL;
	size_t cap = 0;

	pst_assert(n);
	/* What can't be listed may hold anything. That it is no directory has been told. */
	if (!dir && errno != ENOTDIR && errno != ENOENT)
		error(cmp, host, strerror(errno), 0);
	while (dir && (errno = 0, e = readdir(dir))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (n->count == cap) {
			cap = cap ? 2 * cap : 64;
			n->name = mem_realloc(n->name, cap * sizeof(*n->name));
			pst_assert(n->name);
		}
		n->name[n->count++] = cli_join("", e->d_name);
	}
	if (dir && errno)
		error(cmp, host, strerror(errno), 0);
	if (dir)
		closedir(dir);
	if (n->count)
		qsort(n->name, n->count, sizeof(*n->name), name_cmp);
	n->seen = mem_calloc(n->count ? n->count : 1, sizeof(*n->seen));
	pst_assert(n->seen);
	return n;
}

static void names_see(struct host_names *n, const char *name)
{
	char **found = n && n->count ? bsearch(&name, n->name, n->count, sizeof(*n->name), name_cmp)
	                             : NULL;

	if (found)
		n->seen[found - n->name] = true;
}

static void names_tell(struct compare *cmp, struct walk_dir *d)
{
	struct host_names *n = d->user;

	for (size_t i = 0; n && i < n->count; i++) {
		char *path, *host;
		struct stat st;

		if (n->seen[i])
			continue;
		path = store_path(cmp, d, n->name[i]);
		host = host_path(cmp, d, n->name[i]);
		if (lstat(host, &st) < 0 ? errno != ENOENT : !S_ISSOCK(st.st_mode))
			differ(cmp, path, "not in the store"); /* (put leaves sockets out) */
		mem_free(path);
		mem_free(host);
	}
	if (n)
		names_free(n);
	d->user = NULL;
}

/* --- the walk --- */

static void one(struct compare *cmp, struct walk_dir *d, const char *name, const struct pst_attr *a)
{
	char *path = store_path(cmp, d, name), *host = cmp->host ? host_path(cmp, d, name) : NULL;
	bool content = !host || compare_attrs(cmp, path, host, a);

	if (S_ISREG(a->mode) && content) {
		file_start(cmp, d, path, host, a);
		return;
	}
	if (!S_ISREG(a->mode))
		cmp->r->others++;
	mem_free(path);
	mem_free(host);
}

static void entry(struct walk_dir *d, const struct pst_dirent *e)
{
	names_see(d->user, e->name);
	one(d->walk->user, d, e->name, e->attr);
}

static bool enter(struct walk_dir *d)
{
	struct compare *cmp = d->walk->user;
	char *path, *host;
	bool in = true;

	cmp->r->dirs++;
	if (!cmp->host)
		return true;
	if (d->parent)
		names_see(d->parent->user, d->name);
	path = store_path(cmp, d, "");
	host = host_path(cmp, d, "");
	in = compare_attrs(cmp, path, host, &d->attr);
	if (in)
		d->user = names_read(cmp, host);
	mem_free(path);
	mem_free(host);
	return in;
}

static void leave(struct walk_dir *d)
{
	struct compare *cmp = d->walk->user;
	char *path;

	if (d->status < 0) {
		path = store_path(cmp, d, "");
		error(cmp, path, "listing", d->status);
		mem_free(path);
	}
	if (cmp->host)
		names_tell(cmp, d);
	walk_dir_end(d);
}

static bool full(struct walk *w)
{
	return ((struct compare *)w->user)->under_way >= FILES_MAX;
}

/* --- start and end --- */

static void run(struct compare *cmp, const struct pst_attr *a)
{
	struct walk w = {.pump = &cmp->pump,
	                 .cont = cmp->cont,
	                 .user = cmp,
	                 .enter = enter,
	                 .entry = entry,
	                 .leave = leave,
	                 .full = full};
	struct pst_cont_info info;
	int rc = 0;

	progress_start(&cmp->progress, cmp->cli, "verifying");
	cmp->pump.progress = &cmp->progress;
	if (!cmp->source->path[0] && !strchr(cmp->source->cont, '@') &&
	    pst_cont_get(cmp->cli->client, cmp->source->cont, &info) == 0)
		cmp->progress.total_bytes = info.logical_bytes;
	if (S_ISDIR(a->mode))
		rc = walk_run(&w, a);
	else
		one(cmp, NULL, "", a);
	pump_run(&cmp->pump);
	progress_end(&cmp->progress);
	if (rc < 0)
		error(cmp, cmp->source->text, NULL, rc);
	cmp->r->seconds = (double)(clock_mono_ns() - cmp->progress.start_ns) / 1e9;
}

static void pairs_free(struct compare *cmp)
{
	for (int i = 0; i < HASH; i++) {
		struct pair *p, *next;

		for (p = cmp->pairs[i]; p; p = next) {
			next = p->next;
			mem_free(p);
		}
	}
	mem_free(cmp->pairs);
}

int compare_run(struct cli *cli, const char *host, const struct cli_path *source, unsigned jobs,
                struct compare_result *ret_result)
{
	unsigned workers = (unsigned)MAX(1, MIN(WORKERS_MAX, sysconf(_SC_NPROCESSORS_ONLN)));
	struct compare cmp = {.cli = cli, .host = host, .source = source, .r = ret_result};
	int rc, status = cli_path_open(cli, source, &cmp.cont);
	struct pst_attr attr;
	struct stat there;

	if (status != CLI_OK)
		return status;
	cmp.pairs = mem_calloc(HASH, sizeof(struct pair *));
	pst_assert(cmp.pairs);
	rc = pst_fs_stat(cmp.cont, 0, source->path, PST_F_NOFOLLOW, &attr);
	if (host && lstat(host, &there) < 0)
		status = cli_fail(cli, 0, "%s: %s", host, strerror(errno));
	else if (rc < 0)
		status = cli_fail(cli, rc, "%s", source->text);
	else
		status = pump_open(&cmp.pump, cli, MAX(jobs, 8), host ? workers : 0);
	if (status == CLI_OK) {
		rc = reader_open(&cmp.reader, &cmp.pump, cmp.cont, MIN(64, MAX(8, jobs)));
		if (rc < 0) {
			status = cli_fail(cli, rc, "memory");
		} else {
			run(&cmp, &attr);
			reader_close(&cmp.reader);
			if (cmp.r->differences || cmp.r->errors)
				status = CLI_FAILED;
		}
		pump_close(&cmp.pump);
	}
	pairs_free(&cmp);
	pst_cont_close(cmp.cont);
	return status;
}
