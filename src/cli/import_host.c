/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * import_host - the workers' side of an import: scanning directories, looking at names in batches,
 * reading small files whole and large ones in chunks.
 *
 * A file that changes while it is read is read again, twice; then it is given up with a message,
 * since what was read is no version that ever was.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdatomic.h>
#include <unistd.h>

#include "cli/import.h"

#define READ_ATTEMPTS 3

static const char what_own[] = "the store lies in it; left out";
static const char what_vanished[] = "it vanished while it was imported";
static const char what_changed[] = "it changed while it was read; not stored";
static const char what_socket[] = "a socket; skipped";
static const char what_dir[] = "a directory; give -r";

/* --- content memory --- */

void *import_chunk_get(struct import *im)
{
	void *chunk;

	pthread_mutex_lock(&im->lock);
	while (im->chunks_free == 0)
		pthread_cond_wait(&im->room, &im->lock);
	chunk = im->chunk[--im->chunks_free];
	pthread_mutex_unlock(&im->lock);
	return chunk;
}

void import_chunk_put(struct import *im, void *chunk)
{
	pthread_mutex_lock(&im->lock);
	im->chunk[im->chunks_free++] = chunk;
	pthread_cond_broadcast(&im->room);
	pthread_mutex_unlock(&im->lock);
}

static int data_get(struct import_item *it, size_t len)
{
	struct import *im = it->import;

	it->len = len;
	if (len > IMPORT_MALLOC) {
		it->chunked = true;
		it->data = import_chunk_get(im);
		return 0;
	}
	pthread_mutex_lock(&im->lock);
	while (im->malloced > IMPORT_BUDGET)
		pthread_cond_wait(&im->room, &im->lock);
	im->malloced += len;
	pthread_mutex_unlock(&im->lock);
	it->data = mem_alloc(len + 1);
	if (it->data)
		return 0;
	pthread_mutex_lock(&im->lock);
	im->malloced -= len;
	pthread_mutex_unlock(&im->lock);
	return -ENOMEM;
}

void import_data_put(struct import_item *it)
{
	struct import *im = it->import;

	if (!it->data)
		return;
	if (it->chunked) {
		import_chunk_put(im, it->data);
	} else {
		mem_free(it->data);
		pthread_mutex_lock(&im->lock);
		im->malloced -= it->len;
		pthread_cond_broadcast(&im->room);
		pthread_mutex_unlock(&im->lock);
	}
	it->data = NULL;
}

/* --- files with several names --- */

/* The entry of this file; true when the caller is the first that asks. NULL: no memory. */
static struct import_inode *inode_claim(struct import *im, const struct stat *st, bool *ret_first)
{
	uint64_t h = hash_u64((uint64_t)st->st_ino ^ (uint64_t)st->st_dev << 40);
	struct import_inode *n, **bucket = &im->inodes[h & im->inode_mask];

	*ret_first = false;
	pthread_mutex_lock(&im->lock);
	for (n = *bucket; n; n = n->next)
		if (n->host_ino == st->st_ino && n->dev == st->st_dev)
			break;
	if (!n) {
		n = mem_calloc(1, sizeof(*n));
		if (n) {
			n->dev = st->st_dev;
			n->host_ino = st->st_ino;
			list_init(&n->waiting);
			n->next = *bucket;
			*bucket = n;
			*ret_first = true;
		}
	}
	pthread_mutex_unlock(&im->lock);
	return n;
}

/* --- looking at one name --- */

static int error_item(struct import_item *it, int rc, const char *what)
{
	it->kind = IMPORT_ERROR;
	it->status = rc;
	it->host_error = true;
	it->what = rc == -ENOENT && !what && !it->host ? what_vanished : what;
	return rc;
}

static bool has_holes(const struct stat *st)
{
	return (uint64_t)st->st_blocks * 512 < (uint64_t)st->st_size;
}

/* Content and attributes of the open file as one version: 0, -EAGAIN when it changed, or an error.
 */
static int read_once(struct import_item *it, int fd, const struct stat *before)
{
	struct stat after;
	int rc = 0;

	if (it->len)
		rc = host_pread(fd, it->data, it->len, 0);
	if (rc == 0)
		rc = host_xattrs_read(fd, NULL, &it->xattrs);
	if (rc == 0 && fstat(fd, &after) < 0)
		rc = -errno;
	if (rc == 0 && host_changed(before, &after))
		rc = -ESTALE;
	return rc == -ESTALE ? -EAGAIN : rc;
}

/* Not blocking: it was a file a moment ago, and may be a FIFO that nobody writes to by now. */
static int open_host(const char *host)
{
	int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
	int fd = open(host, flags | O_NOATIME);

	if (fd < 0 && errno == EPERM) /* O_NOATIME is the owner's */
		fd = open(host, flags);
	return fd;
}

static int read_file(struct import_item *it, const char *host)
{
	int fd = open_host(host), rc = -EAGAIN;
	struct stat st;

	if (fd < 0)
		return error_item(it, -errno, NULL);
	for (int i = 0; rc == -EAGAIN && i < READ_ATTEMPTS; i++) {
		import_data_put(it);
		host_xattrs_done(&it->xattrs);
		it->len = 0;
		rc = host_stat_before(fd, &st);
		if (rc == -EAGAIN)
			continue;
		if (rc == 0 && !S_ISREG(st.st_mode))
			rc = -ENOENT; /* something else is at the name by now */
		if (rc < 0)
			break;
		host_attr(&st, &it->attr);
		if ((uint64_t)st.st_size > IMPORT_SMALL || has_holes(&st)) {
			it->kind = IMPORT_BIG;
			rc = 0;
			break;
		}
		rc = st.st_size ? data_get(it, (size_t)st.st_size) : 0;
		if (rc == 0)
			rc = read_once(it, fd, &st);
	}
	close(fd);
	if (rc == -EAGAIN)
		return error_item(it, rc, what_changed);
	return rc < 0 ? error_item(it, rc, NULL) : 0;
}

static int read_symlink(struct import_item *it, const char *host)
{
	ssize_t n;

	it->kind = IMPORT_SYMLINK;
	it->data = mem_alloc(PST_PATH_MAX + 1);
	if (!it->data)
		return error_item(it, -ENOMEM, NULL);
	n = readlink(host, it->data, PST_PATH_MAX);
	if (n < 0)
		return error_item(it, -errno, NULL);
	((char *)it->data)[n] = 0;
	pthread_mutex_lock(&it->import->lock);
	it->import->malloced += (uint64_t)n; /* as import_data_put() takes it off */
	pthread_mutex_unlock(&it->import->lock);
	it->len = (size_t)n;
	return 0;
}

/* A store that is put into itself would never come to an end. */
static bool is_own(const struct import *im, const struct stat *st)
{
	for (unsigned i = 0; i < im->own_count; i++)
		if (im->own[i].dev == st->st_dev && im->own[i].ino == st->st_ino)
			return true;
	return false;
}

static int look_by_type(struct import_item *it, const char *host, const struct stat *st)
{
	int rc;

	if (S_ISDIR(st->st_mode)) {
		it->kind = IMPORT_DIR;
		if (!it->import->recursive)
			return error_item(it, -EISDIR, what_dir);
	} else if (S_ISSOCK(st->st_mode)) {
		return error_item(it, 0, what_socket);
	} else if (is_own(it->import, st)) {
		return error_item(it, 0, what_own);
	} else if (st->st_nlink > 1) {
		it->inode = inode_claim(it->import, st, &it->first);
		if (!it->inode)
			return error_item(it, -ENOMEM, NULL);
		if (!it->first) {
			it->kind = IMPORT_LINK;
			return 0;
		}
	}
	if (S_ISREG(st->st_mode)) {
		it->kind = IMPORT_FILE;
		return read_file(it, host);
	}
	if (S_ISLNK(st->st_mode))
		rc = read_symlink(it, host);
	else
		rc = 0;
	if (rc == 0)
		rc = host_xattrs_read(-1, host, &it->xattrs);
	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode) || S_ISFIFO(st->st_mode))
		it->kind = IMPORT_SPECIAL;
	return rc < 0 && it->kind != IMPORT_ERROR ? error_item(it, rc, NULL) : rc;
}

static void item_job_done(struct job *j)
{
	import_arrived(container_of(j, struct import_item, job));
}

/* As cp would make it: with the permissions that the umask leaves, owned by who runs this, now. */
static void look_at_input(struct import_item *it)
{
	mode_t mask = umask(0);
	struct timespec now;

	umask(mask);
	clock_gettime(CLOCK_REALTIME, &now);
	host_attr(&(struct stat){.st_mode = S_IFREG | (0666 & ~mask),
	                         .st_uid = geteuid(),
	                         .st_gid = getegid(),
	                         .st_nlink = 1,
	                         .st_mtim = now,
	                         .st_atim = now},
	          &it->attr);
	it->kind = IMPORT_BIG;
	it->input = true;
}

/* Looks at one name and sends what it finds. @host may be NULL: in @dir. Takes @host and @name. */
static void look(struct import *im, struct import_dir *dir, char *host, char *name)
{
	struct import_item *it = mem_calloc(1, sizeof(*it));
	char *path = host ? host : cli_join(dir->host, name);
	struct stat st;

	pst_assert(it && path); /* a few hundred bytes: there is no way to go on without */
	it->import = im;
	it->dir = dir;
	it->host = host;
	it->name = name;
	it->job.done = item_job_done;
	if (host && import_is_input(host)) {
		look_at_input(it);
	} else if (lstat(path, &st) < 0) {
		error_item(it, -errno, NULL);
	} else {
		host_attr(&st, &it->attr);
		look_by_type(it, path, &st);
	}
	if (!host)
		mem_free(path);
	jobs_emit(im->pump.jobs, &it->job);
}

/* --- batches of names --- */

struct batch {
	struct job job;
	struct import *import;
	struct import_dir *dir;
	struct list link; /* in import->held */
	unsigned count;
	char *host; /* for one that is named by the user */
	char *name[IMPORT_BATCH];
};

static void batch_run(struct job *j)
{
	struct batch *b = container_of(j, struct batch, job);

	for (unsigned i = 0; i < b->count; i++) {
		if (atomic_load_explicit(&b->import->stop, memory_order_relaxed)) {
			mem_free(b->name[i]);
			mem_free(b->host);
			continue;
		}
		look(b->import, b->dir, b->host, b->name[i]);
	}
}

static void batch_done(struct job *j)
{
	struct batch *b = container_of(j, struct batch, job);

	b->import->items -= b->count; /* its items count themselves */
	import_held(b->import);
	import_dir_put(b->dir);
	mem_free(b);
}

static struct batch *batch_new(struct import *im, struct import_dir *dir)
{
	struct batch *b = mem_calloc(1, sizeof(*b));

	if (b) {
		b->import = im;
		b->dir = dir;
		b->job.run = batch_run;
		b->job.done = batch_done;
	}
	return b;
}

void import_look(struct import *im, struct import_dir *dest, char *host, char *name)
{
	struct batch *b = batch_new(im, dest);

	pst_assert(b);
	b->host = host;
	b->name[b->count++] = name;
	dest->pending++;
	im->items += b->count;
	jobs_submit(im->pump.jobs, &b->job);
}

/* --- directories --- */

/*
 * The scan emits full batches as jobs of their own, so that a large directory is read by all
 * workers. Each keeps the directory open: counted by a message to the main thread that comes before
 * anything the batch finds, since the queue to it is in order.
 */
struct scan {
	struct job job;
	struct import_dir *dir;
	int status;
	const char *what;
};

struct opened {
	struct job job;
	struct batch *batch;
};

static void opened_done(struct job *j)
{
	struct opened *o = container_of(j, struct opened, job);

	o->batch->dir->pending++;
	list_push(&o->batch->import->held, &o->batch->link);
	import_held(o->batch->import);
	mem_free(o);
}

/* Not in the workers: one that slept here could be the one that has to stream a file first. */
void import_held(struct import *im)
{
	while (im->items < IMPORT_ITEMS_MAX && !list_empty(&im->held)) {
		struct batch *b = list_first(&im->held, struct batch, link);

		list_del(&b->link);
		im->items += b->count; /* until they arrive they count as if they had */
		jobs_submit(im->pump.jobs, &b->job);
	}
}

static int batch_send(struct batch *b)
{
	struct opened *o = mem_calloc(1, sizeof(*o));

	if (!o)
		return -ENOMEM;
	o->batch = b;
	o->job.done = opened_done;
	jobs_emit(b->import->pump.jobs, &o->job);
	return 0;
}

static void batch_drop(struct batch *b)
{
	for (unsigned i = 0; b && i < b->count; i++)
		mem_free(b->name[i]);
	mem_free(b);
}

static int scan_names(struct import_dir *d, DIR *dir)
{
	struct batch *b = NULL;
	struct dirent *e;
	int rc = 0;

	while (rc == 0 && (errno = 0, e = readdir(dir))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (!b)
			b = batch_new(d->import, d);
		if (!b || !(b->name[b->count] = cli_join("", e->d_name))) {
			rc = -ENOMEM;
			break;
		}
		if (++b->count == IMPORT_BATCH) {
			rc = batch_send(b);
			b = rc == 0 ? NULL : b;
		}
	}
	if (rc == 0)
		rc = -errno;
	if (rc == 0 && b) {
		rc = batch_send(b);
		b = rc == 0 ? NULL : b;
	}
	batch_drop(b);
	return rc;
}

static void scan_run(struct job *j)
{
	struct scan *s = container_of(j, struct scan, job);
	DIR *dir = opendir(s->dir->host);

	if (!dir) {
		s->status = -errno;
		return;
	}
	s->status = scan_names(s->dir, dir);
	closedir(dir);
}

static void scan_done(struct job *j)
{
	struct scan *s = container_of(j, struct scan, job);

	if (s->status < 0)
		import_complain(s->dir->import, s->dir->host,
		                s->status == -ENOENT ? what_vanished : NULL, s->status);
	import_dir_put(s->dir);
	mem_free(s);
}

void import_scan(struct import_dir *d)
{
	struct scan *s = mem_calloc(1, sizeof(*s));

	pst_assert(s);
	s->dir = d;
	s->job.run = scan_run;
	s->job.done = scan_done;
	d->pending++;
	jobs_submit(d->import->pump.jobs, &s->job);
}

/* --- large files --- */

static struct import_chunk *chunk_new(struct import_item *it, uint64_t off, size_t len)
{
	struct import_chunk *c = mem_calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->item = it;
	c->off = off;
	c->len = len;
	c->data = import_chunk_get(it->import);
	return c;
}

/* Sends it if it was filled. */
static int chunk_end(struct import_chunk *c, int rc)
{
	struct import *im = c->item->import;

	if (rc < 0) {
		import_chunk_put(im, c->data);
		mem_free(c);
		return rc;
	}
	c->job.done = import_chunk_arrived;
	jobs_emit(im->pump.jobs, &c->job);
	return 0;
}

static int send_chunk(struct import_item *it, int fd, uint64_t off, size_t len)
{
	struct import_chunk *c = chunk_new(it, off, len);

	return c ? chunk_end(c, host_pread(fd, c->data, len, off)) : -ENOMEM;
}

/* Reads until @len bytes or the end: how many, or a negative errno value. */
static ssize_t read_input(void *buf, size_t len)
{
	size_t at = 0;

	while (at < len) {
		ssize_t n = read(STDIN_FILENO, (char *)buf + at, len - at);

		if (n == 0)
			break;
		if (n < 0 && errno != EINTR)
			return -errno;
		at += n > 0 ? (size_t)n : 0;
	}
	return (ssize_t)at;
}

/* The size is known at the end. */
static int stream_input(struct import_item *it)
{
	uint64_t off = 0;
	ssize_t n;

	do {
		struct import_chunk *c = chunk_new(it, off, 0);
		int rc;

		if (!c)
			return -ENOMEM;
		n = read_input(c->data, IMPORT_SMALL);
		if (n > 0 && atomic_load_explicit(&it->import->stop, memory_order_relaxed))
			n = -ECANCELED;
		c->len = n > 0 ? (size_t)n : 0;
		rc = chunk_end(c, n > 0 ? 0 : n < 0 ? (int)n : -ENODATA);
		if (rc < 0 && rc != -ENODATA)
			return rc;
		off += n > 0 ? (uint64_t)n : 0;
	} while (n == IMPORT_SMALL);
	it->attr.size_bytes = off;
	return 0;
}

static int stream_data(struct import_item *it, int fd, uint64_t size)
{
	uint64_t off = 0, data, len;
	int rc = 0;

	while (rc == 0 && host_next_data(fd, off, size, &data, &len)) {
		for (off = data; rc == 0 && off < data + len;) {
			size_t n = (size_t)MIN(data + len - off, IMPORT_SMALL - off % IMPORT_SMALL);

			if (atomic_load_explicit(&it->import->stop, memory_order_relaxed))
				return -ECANCELED;
			rc = send_chunk(it, fd, off, n);
			off += n;
		}
	}
	return rc;
}

static int stream_file(struct import_item *it)
{
	char *host = import_item_host(it);
	struct stat before = {0}, after;
	int fd = -1, rc = host ? 0 : -ENOMEM;

	if (rc == 0)
		fd = open_host(host);
	if (rc == 0)
		rc = fd < 0 ? -errno : host_stat_before(fd, &before);
	if (rc == 0 && !S_ISREG(before.st_mode))
		rc = -ENOENT;
	if (rc == 0) {
		host_attr(&before, &it->attr);
		rc = stream_data(it, fd, it->attr.size_bytes);
	}
	if (rc == 0)
		rc = host_xattrs_read(fd, NULL, &it->xattrs);
	if (rc == 0 && fstat(fd, &after) < 0)
		rc = -errno;
	if (rc == -ESTALE || rc == -EAGAIN || (rc == 0 && host_changed(&before, &after))) {
		it->stream_what = what_changed;
		rc = -ESTALE;
	}
	if (rc == -ENOENT)
		it->stream_what = what_vanished;
	if (fd >= 0)
		close(fd);
	mem_free(host);
	return rc;
}

/* The item's job: its done() is the end of the file. */
static void stream_run(struct job *j)
{
	struct import_item *it = container_of(j, struct import_item, job);

	it->stream_status = it->input ? stream_input(it) : stream_file(it);
}

static void stream_done(struct job *j)
{
	struct import_item *it = container_of(j, struct import_item, job);

	it->streamed = true;
	if (it->stream_status < 0 && it->status == 0) {
		it->status = it->stream_status;
		it->what = it->stream_what;
		it->host_error = it->status != -ECANCELED;
	}
	import_make(it);
}

void import_stream(struct import_item *it)
{
	it->job.run = stream_run;
	it->job.done = stream_done;
	jobs_submit(it->import->pump.jobs, &it->job);
}

/* --- counting, for the progress line's total --- */

struct count {
	struct job job;
	struct import *import;
	unsigned n;
	char **sources;
};

static _Thread_local struct import *counting;

static int count_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	if (type == FTW_F && S_ISREG(st->st_mode))
		atomic_fetch_add(&counting->progress.total_bytes, (uint64_t)st->st_size);
	if (type == FTW_F || type == FTW_SL)
		atomic_fetch_add(&counting->progress.total_items, 1);
	return atomic_load(&counting->stop);
}

static void count_run(struct job *j)
{
	struct count *c = container_of(j, struct count, job);

	counting = c->import;
	for (unsigned i = 0; i < c->n; i++)
		nftw(c->sources[i], count_one, 64, FTW_PHYS);
}

static void count_done(struct job *j)
{
	mem_free(container_of(j, struct count, job));
}

void import_count(struct import *im, char **sources, unsigned n)
{
	struct count *c = mem_calloc(1, sizeof(*c));

	if (!c)
		return; /* only a total that is not shown */
	c->import = im;
	c->sources = sources;
	c->n = n;
	c->job.run = count_run;
	c->job.done = count_done;
	jobs_submit(im->pump.jobs, &c->job);
}
