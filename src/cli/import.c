/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * import - see import.h: the frame, directories, what is told and counted.
 */
#include "cli/import.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOG_BUF_BYTES (256u << 10)
#define HASH_MIN      4096
#define WORKERS_MAX   4

/* --- messages, log --- */

void import_complain(struct import *im, const char *host, const char *what, int rc)
{
	progress_clear(&im->progress);
	/* Not cli_why()'s words: they are about the store. */
	cli_fail(im->cli, 0, "%s: %s", host, what ? what : strerror(-rc));
	im->status = CLI_FAILED;
}

char *import_item_path(const struct import_item *it)
{
	return cli_join(it->dir->path, it->name);
}

char *import_item_host(const struct import_item *it)
{
	return it->host ? cli_join("", it->host) : cli_join(it->dir->host, it->name);
}

static void log_flush(struct import *im)
{
	size_t at = 0;

	while (at < im->log_len) {
		ssize_t n = write(im->log_fd, im->log_buf + at, im->log_len - at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			cli_fail(im->cli, 0, "writing the log: %s", strerror(errno));
			im->status = CLI_FAILED;
			break;
		}
		at += (size_t)n;
	}
	im->log_len = 0;
}

/* CONTAINER:/path, with a newline in it as \n. */
static void log_path(struct import *im, const char *path)
{
	char *out;

	if (im->log_fd < 0)
		return;
	if (im->log_len + 2 * strlen(path) + PST_NAME_MAX + 8 > LOG_BUF_BYTES)
		log_flush(im);
	out = im->log_buf + im->log_len;
	out += sprintf(out, "%s:/", im->cont_name);
	for (const char *c = path; *c; c++) {
		if (*c == '\n')
			*out++ = '\\';
		*out++ = *c == '\n' ? 'n' : *c;
	}
	*out++ = '\n';
	im->log_len = (size_t)(out - im->log_buf);
}

/* --- items --- */

static bool ends_all(int rc)
{
	return rc == -ENOSPC || rc == -EDQUOT || rc == -EIO || rc == -EROFS || rc == -ESHUTDOWN;
}

static void tell_failed(struct import_item *it)
{
	struct import *im = it->import;
	bool stopped = atomic_load(&im->stop);
	char *text = it->host_error ? import_item_host(it) : import_item_path(it);

	if (stopped && (it->status == -ECANCELED || ends_all(it->status))) {
		im->skipped++; /* the reason was told once */
	} else if (it->host_error) {
		import_complain(im, text ? text : it->name, it->what, it->status);
	} else {
		progress_clear(&im->progress);
		cli_fail(im->cli, it->what ? 0 : it->status, "%s:/%s%s%s", im->cont_name,
		         text ? text : it->name, it->what ? ": " : "", it->what ? it->what : "");
		if (ends_all(it->status)) {
			atomic_store(&im->stop, true);
			cli_fail(im->cli, 0, "giving up: nothing more can be stored");
		}
	}
	im->status = CLI_FAILED;
	mem_free(text);
}

/* It is durable. */
static void count_durable(struct import_item *it)
{
	struct import *im = it->import;

	if (it->kind == IMPORT_FILE || it->kind == IMPORT_BIG) {
		im->files++;
		im->bytes += it->attr.size_bytes;
		if (it->kind == IMPORT_FILE) /* large ones are counted by the chunk */
			im->progress.done_bytes += it->attr.size_bytes;
	} else if (it->kind == IMPORT_DIR) {
		im->dirs++;
	} else {
		im->others++;
	}
	if (it->path) {
		im->progress.done_items++;
		log_path(im, it->path);
	}
}

/* Those that wait for the first name of their file can go on, one way or the other. */
static void inode_ended(struct import_item *it)
{
	struct import_inode *inode = it->inode;
	struct list *l;

	inode->ended = true;
	inode->ino = it->status == 0 ? it->ino : 0;
	while ((l = list_pop(&inode->waiting)))
		import_make(list_entry(l, struct import_item, link));
}

static void item_free(struct import_item *it)
{
	struct import *im = it->import;

	mem_free(it->path);
	mem_free(it->host);
	mem_free(it->name);
	mem_free(it);
	im->items--;
	import_held(im);
}

/* What it held while it was made; the directory may be finished by this. */
static void item_release(struct import_item *it)
{
	if (it->inode && it->first)
		inode_ended(it);
	import_data_put(it);
	host_xattrs_done(&it->xattrs);
	import_dir_put(it->dir);
	it->dir = NULL;
}

static void flush_begin(struct import *im);

void import_item_end(struct import_item *it)
{
	struct import *im = it->import;

	if (it->kind == IMPORT_ERROR && it->status == 0) { /* left out on purpose */
		char *host = import_item_host(it);

		progress_clear(&im->progress);
		cli_note(im->cli, "penstock: put: %s: %s", host ? host : it->name, it->what);
		mem_free(host);
	} else if (it->status < 0) {
		tell_failed(it);
	} else {
		it->path = it->kind == IMPORT_DIR ? NULL : import_item_path(it);
		item_release(it);
		list_push(&im->made, &it->link);
		flush_begin(im);
		return;
	}
	item_release(it);
	item_free(it);
}

/* --- one flush after the other, as long as there is something to cover --- */

static int flush_start(struct pump_task *t, struct pst_cq *cq)
{
	struct import *im = container_of(t, struct import, flush);

	return pst_cont_flush_async(im->cont, cq, t);
}

/* What ends everything was told by who met it first. */
static void flush_failed(struct import *im, int rc)
{
	if (atomic_exchange(&im->stop, true))
		im->status = CLI_FAILED;
	else
		im->status = cli_fail(im->cli, rc, "%s: flushing", im->cont_name);
}

static void flush_done(struct pump_task *t, const struct pst_event *e)
{
	struct import *im = container_of(t, struct import, flush);
	struct list *l;

	while ((l = list_pop(&im->flushing))) {
		struct import_item *it = list_entry(l, struct import_item, link);

		if (e->status == 0)
			count_durable(it);
		else
			im->skipped++;
		item_free(it);
	}
	if (e->status < 0)
		flush_failed(im, e->status);
	im->flush_runs = false;
	flush_begin(im);
}

static void flush_begin(struct import *im)
{
	if (im->flush_runs || list_empty(&im->made))
		return;
	im->flush_runs = true;
	list_splice(&im->flushing, &im->made);
	im->flush.start = flush_start;
	im->flush.done = flush_done;
	pump_add(&im->pump, &im->flush);
}

void import_arrived(struct import_item *it)
{
	it->dir->pending++;
	it->import->items++;
	if (it->kind != IMPORT_ERROR &&
	    atomic_load_explicit(&it->import->stop, memory_order_relaxed))
		it->status = -ECANCELED;
	if (it->kind == IMPORT_ERROR || it->status < 0)
		import_item_end(it);
	else
		import_make(it);
}

/* --- directories --- */

struct import_dir *import_dir_new(struct import *im, struct import_dir *parent, char *host,
                                  const char *name)
{
	struct import_dir *d = mem_calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->path = cli_join(parent->path, name);
	if (!d->path) {
		mem_free(d);
		return NULL;
	}
	d->import = im;
	d->parent = parent;
	d->host = host;
	parent->pending++;
	return d;
}

static void dir_end(struct import_dir *d)
{
	struct import_dir *parent = d->parent;

	mem_free(d->host);
	mem_free(d->path);
	host_xattrs_done(&d->xattrs);
	mem_free(d);
	import_dir_put(parent);
}

/* Extended attributes one by one, then the rest: the times last, as all entries are in it. They
 * become durable with the flush at the end. */
static int dir_start(struct pump_task *t, struct pst_cq *cq)
{
	struct import_dir *d = container_of(t, struct import_dir, task);
	struct pst_cont *cont = d->import->cont;

	if (d->xattr_at < d->xattrs.count) {
		const struct host_xattr *x = &d->xattrs.item[d->xattr_at];

		return pst_fs_setxattr_async(cont, d->ino, NULL, x->name, x->val, x->val_len,
		                             PST_F_VOLATILE, cq, t);
	}
	return pst_fs_setattr_async(cont, d->ino, NULL, &d->attr, HOST_ATTRS, PST_F_VOLATILE, cq,
	                            t);
}

static void dir_done(struct pump_task *t, const struct pst_event *e)
{
	struct import_dir *d = container_of(t, struct import_dir, task);

	if (e->status < 0) {
		progress_clear(&d->import->progress);
		cli_fail(d->import->cli, e->status, "%s:/%s: attributes", d->import->cont_name,
		         d->path);
		d->import->status = CLI_FAILED;
		dir_end(d);
	} else if (d->xattr_at < d->xattrs.count) {
		d->xattr_at++;
		pump_add(&d->import->pump, t);
	} else {
		dir_end(d);
	}
}

void import_dir_put(struct import_dir *d)
{
	pst_assert(d->pending > 0);
	if (--d->pending > 0 || !d->parent)
		return;
	if (d->finish && !atomic_load(&d->import->stop)) {
		d->task.start = dir_start;
		d->task.done = dir_done;
		pump_add(&d->import->pump, &d->task);
	} else {
		dir_end(d);
	}
}

/* --- start and end --- */

static int open_memory(struct import *im)
{
	void *chunks;
	int rc = pst_mem_alloc(im->cli->client, (size_t)IMPORT_CHUNKS * IMPORT_SMALL, &chunks);

	if (rc < 0)
		return cli_fail(im->cli, rc, "memory for %d chunks", IMPORT_CHUNKS);
	im->chunk_base = chunks;
	for (im->chunks_free = 0; im->chunks_free < IMPORT_CHUNKS; im->chunks_free++)
		im->chunk[im->chunks_free] =
		        im->chunk_base + (size_t)im->chunks_free * IMPORT_SMALL;
	im->inode_mask = HASH_MIN - 1;
	im->inodes = mem_calloc(HASH_MIN, sizeof(*im->inodes));
	return im->inodes ? CLI_OK : cli_fail(im->cli, -ENOMEM, "memory");
}

static void close_memory(struct import *im)
{
	for (size_t i = 0; im->inodes && i <= im->inode_mask; i++) {
		struct import_inode *n, *next;

		for (n = im->inodes[i]; n; n = next) {
			next = n->next;
			mem_free(n);
		}
	}
	mem_free(im->inodes);
	pst_mem_free(im->cli->client, im->chunk_base);
}

static void find_own(struct import *im)
{
	struct pst_store_status st;

	if (pst_client_status(im->cli->client, &st) < 0)
		return;
	for (unsigned i = 0; i < st.devices && i < PST_DEVICES_MAX; i++) {
		char *path = host_device_path(st.device[i].name);
		struct stat file;

		if (path && stat(path, &file) == 0)
			im->own[im->own_count++] = (struct host_file){file.st_dev, file.st_ino};
		mem_free(path);
	}
}

static int open_log(struct import *im, const char *path)
{
	im->log_fd = -1;
	if (!path)
		return CLI_OK;
	im->log_buf = mem_alloc(LOG_BUF_BYTES);
	if (!im->log_buf)
		return cli_fail(im->cli, -ENOMEM, "memory");
	im->log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	return im->log_fd < 0 ? cli_fail(im->cli, 0, "%s: %s", path, strerror(errno)) : CLI_OK;
}

bool import_is_input(const char *source)
{
	return strcmp(source, "-") == 0;
}

/* The last component of a source, without the slashes at its end; "." and "..": merged. */
static char *source_name(const char *source)
{
	size_t end = strlen(source), begin;

	while (end > 1 && source[end - 1] == '/')
		end--;
	for (begin = end; begin > 0 && source[begin - 1] != '/';)
		begin--;
	if (strcmp(source + begin, ".") == 0 || strcmp(source + begin, "..") == 0 ||
	    strcmp(source, "/") == 0)
		return cli_join("", "");
	return strndup(source + begin, end - begin);
}

/*
 * Where things go: im->dest, and *ret_name when the destination is not a directory but the name
 * that the one source gets.
 */
static int find_dest(struct import *im, const struct cli_path *dest, unsigned count,
                     char **ret_name)
{
	const char *base = cli_base_name(dest->path);
	struct pst_attr a;
	int rc = pst_fs_stat(im->cont, 0, dest->path, 0, &a);
	size_t len = strlen(dest->path);

	*ret_name = NULL;
	im->dest.import = im;
	if (rc == 0 && S_ISDIR(a.mode)) {
		while (len > 0 && dest->path[len - 1] == '/')
			len--;
		im->dest.path = strndup(dest->path, len);
		im->dest.ino = a.ino;
		return im->dest.path ? CLI_OK : cli_fail(im->cli, -ENOMEM, "memory");
	}
	if (rc < 0 && rc != -ENOENT)
		return cli_fail(im->cli, rc, "%s", dest->text);
	if (count > 1 || !base[0])
		return cli_fail(im->cli, rc == 0 ? -ENOTDIR : -ENOENT, "%s", dest->text);
	im->dest.path = strndup(dest->path, (size_t)(base - dest->path));
	*ret_name = cli_join("", base);
	if (!im->dest.path || !*ret_name)
		return cli_fail(im->cli, -ENOMEM, "memory");
	rc = pst_fs_stat(im->cont, 0, im->dest.path, 0, &a);
	if (rc == 0 && !S_ISDIR(a.mode))
		rc = -ENOTDIR;
	if (rc < 0)
		return cli_fail(im->cli, rc, "%s: the directory above it", dest->text);
	im->dest.ino = a.ino;
	return CLI_OK;
}

static const char what_nameless[] =
        "the standard input needs a name: CONTAINER:/path, where there is no directory";

static int start_sources(struct import *im, char **sources, unsigned count, char *name)
{
	for (unsigned i = 0; i < count; i++) {
		char *host, *own;

		if (!name && import_is_input(sources[i])) {
			import_complain(im, sources[i], what_nameless, 0);
			continue;
		}
		host = cli_join("", sources[i]);
		own = name ? name : source_name(sources[i]);
		name = NULL;
		if (!host || !own) {
			mem_free(host);
			mem_free(own);
			return cli_fail(im->cli, -ENOMEM, "memory");
		}
		import_look(im, &im->dest, host, own);
	}
	return im->status;
}

static void report(struct import *im)
{
	double seconds = (double)(clock_mono_ns() - im->progress.start_ns) / 1e9;
	char size[32], rate[32];

	if (im->cli->json) {
		int status = cli_print_json(
		        im->cli,
		        json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:f}", "ok", im->status == CLI_OK,
		                  "files", (json_int_t)im->files, "directories",
		                  (json_int_t)im->dirs, "others", (json_int_t)im->others, "bytes",
		                  (json_int_t)im->bytes, "not_tried", (json_int_t)im->skipped,
		                  "seconds", seconds));

		im->status = status == CLI_OK ? im->status : status;
		return;
	}
	if (!im->recursive && im->files + im->others <= 1)
		return;
	cli_note(im->cli,
	         "%" PRIu64 " file%s (%s), %" PRIu64 " director%s, %" PRIu64
	         " other%s in %.1f s: %.0f files/s, %s/s",
	         im->files, PLURAL(im->files), format_size(im->bytes, size, sizeof(size)), im->dirs,
	         im->dirs == 1 ? "y" : "ies", im->others, PLURAL(im->others), seconds,
	         (double)(im->files + im->others) / seconds,
	         format_size((uint64_t)((double)im->bytes / seconds), rate, sizeof(rate)));
	if (im->skipped)
		cli_note(im->cli, "%" PRIu64 " more were not tried", im->skipped);
}

static int run(struct import *im, char **sources, unsigned count, char *name)
{
	int rc;

	progress_start(&im->progress, im->cli, "importing");
	im->pump.progress = &im->progress;
	if (im->progress.on)
		import_count(im, sources, count);
	im->status = start_sources(im, sources, count, name);
	while (!pump_idle(&im->pump)) {
		pump_turn(&im->pump);
		if (im->log_len)
			log_flush(im);
	}
	if (im->log_len)
		log_flush(im);
	rc = pst_cont_flush(im->cont);
	progress_end(&im->progress);
	if (rc < 0)
		flush_failed(im, rc);
	report(im);
	return im->status;
}

int import_run(struct cli *cli, char **sources, unsigned count, const struct cli_path *dest,
               const struct import_opts *opts)
{
	struct import im = {.cli = cli, .cont_name = dest->cont, .recursive = opts->recursive};
	unsigned workers = (unsigned)MAX(1, MIN(WORKERS_MAX, sysconf(_SC_NPROCESSORS_ONLN)));
	char *name = NULL;
	int status;

	pthread_mutex_init(&im.lock, NULL);
	pthread_cond_init(&im.room, NULL);
	list_init(&im.held);
	list_init(&im.made);
	list_init(&im.flushing);
	status = cli_path_open(cli, dest, &im.cont);
	if (status != CLI_OK)
		return status;
	status = open_log(&im, opts->log_path);
	if (status == CLI_OK)
		status = open_memory(&im);
	if (status == CLI_OK)
		find_own(&im);
	if (status == CLI_OK)
		status = find_dest(&im, dest, count, &name);
	if (status == CLI_OK)
		status = pump_open(&im.pump, cli, opts->jobs,
		                   opts->jobs < workers ? opts->jobs : workers);
	if (status == CLI_OK) {
		status = run(&im, sources, count, name);
		pump_close(&im.pump);
	} else {
		mem_free(name);
	}
	close_memory(&im);
	mem_free(im.dest.path);
	mem_free(im.log_buf);
	if (im.log_fd >= 0)
		close(im.log_fd);
	pst_cont_close(im.cont);
	return status;
}
