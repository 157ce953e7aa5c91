/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * audit - see audit.h. Names in an event come from clients: every byte that is not plain ASCII is
 * escaped, so that nobody writes lines of his own into the log.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "session/audit.h"
#include "session/session.h"

#define TEXT_SHOWN 256 /* bytes of a text that are written */

const char *audit_what_name(enum audit_what what)
{
	static const char *const names[] = {
	        [AUDIT_CHANNEL] = "channel",
	        [AUDIT_AUTH] = "authenticate",
	        [AUDIT_CONTROL] = "control-call",
	        [AUDIT_SESSION_OPEN] = "session-open",
	        [AUDIT_SESSION_RESUME] = "session-resume",
	        [AUDIT_SESSION_CLOSE] = "session-close",
	        [AUDIT_SESSION_EXPIRE] = "session-expire",
	        [AUDIT_SESSION_CUT] = "session-cut",
	        [AUDIT_REQUEST] = "request",
	        [AUDIT_GRANT] = "capability-grant",
	        [AUDIT_RENEW] = "capability-renew",
	        [AUDIT_REVOKE] = "capability-revoke",
	        [AUDIT_KEY_ROTATE] = "key-rotate",
	        [AUDIT_TENANT] = "tenant-set",
	        [AUDIT_SUPPRESSED] = "suppressed",
	};

	return (unsigned)what < ARRAY_LEN(names) ? names[what] : "?";
}

const char *audit_op_name(uint8_t opcode)
{
	static const char *const names[] = {
	        [PST_OP_CONT_CREATE] = "container-create",
	        [PST_OP_CONT_OPEN] = "container-open",
	        [PST_OP_CONT_LIST] = "container-list",
	        [PST_OP_CONT_GET] = "container-get",
	        [PST_OP_CONT_SET] = "container-set",
	        [PST_OP_CONT_DESTROY] = "container-destroy",
	        [PST_OP_SNAP_CREATE] = "snapshot-create",
	        [PST_OP_SNAP_OPEN] = "snapshot-open",
	        [PST_OP_SNAP_LIST] = "snapshot-list",
	        [PST_OP_SNAP_DESTROY] = "snapshot-destroy",
	        [PST_OP_READ] = "read",
	        [PST_OP_WRITE] = "write",
	        [PST_OP_BATCH] = "batch",
	        [PST_OP_STAT] = "stat",
	        [PST_OP_OBJ_LIST] = "object-list",
	        [PST_OP_KV_GET] = "kv-get",
	        [PST_OP_KV_LIST] = "kv-list",
	        [PST_OP_FLUSH] = "flush",
	        [PST_OP_EXTENTS] = "extents",
	        [PST_OP_LOOKUP] = "lookup",
	        [PST_OP_CREATE] = "create",
	        [PST_OP_MKDIR] = "mkdir",
	        [PST_OP_SYMLINK] = "symlink",
	        [PST_OP_LINK] = "link",
	        [PST_OP_UNLINK] = "unlink",
	        [PST_OP_RMDIR] = "rmdir",
	        [PST_OP_RENAME] = "rename",
	        [PST_OP_READDIR] = "readdir",
	        [PST_OP_READLINK] = "readlink",
	        [PST_OP_GETATTR] = "getattr",
	        [PST_OP_SETATTR] = "setattr",
	        [PST_OP_GETXATTR] = "getxattr",
	        [PST_OP_SETXATTR] = "setxattr",
	        [PST_OP_LISTXATTR] = "listxattr",
	        [PST_OP_REMOVEXATTR] = "removexattr",
	        [PST_OP_FILE_OPEN] = "file-open",
	        [PST_OP_FILE_CLOSE] = "file-close",
	        [PST_OP_FILE_READ] = "file-read",
	        [PST_OP_FILE_WRITE] = "file-write",
	        [PST_OP_FSYNC] = "fsync",
	        [PST_OP_STATFS] = "statfs",
	        [PST_OP_STATUS] = "status",
	        [PST_OP_SCRUB] = "scrub",
	        [PST_OP_WATCH] = "watch",
	        [PST_OP_FIGURES] = "figures",
	};

	return opcode < ARRAY_LEN(names) && names[opcode] ? names[opcode] : "?";
}

struct text {
	char *buf;
	size_t cap, len;
};

static void put(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void put(struct text *t, const char *fmt, ...)
{
	size_t room = t->len < t->cap ? t->cap - t->len : 0;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(room ? t->buf + t->len : NULL, room, fmt, ap);
	va_end(ap);
	t->len += n > 0 ? (size_t)n : 0;
}

/* The inside of a string. */
static void put_bytes(struct text *t, const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c < 0x20 || c > 0x7e || c == '"' || c == '\\')
			put(t, "\\u%04x", c);
		else
			put(t, "%c", c);
	}
}

static void put_text(struct text *t, const char *key, const char *s, size_t len)
{
	if (!s || !len)
		return;
	put(t, ",\"%s\":\"", key);
	put_bytes(t, s, MIN(len, (size_t)TEXT_SHOWN));
	put(t, "\"");
	if (len > TEXT_SHOWN)
		put(t, ",\"%s_cut\":true", key);
}

static void put_string(struct text *t, const char *key, const char *s)
{
	put_text(t, key, s, s ? strlen(s) : 0);
}

static void put_number(struct text *t, const char *key, uint64_t n)
{
	if (n)
		put(t, ",\"%s\":%llu", key, (unsigned long long)n);
}

static void put_time(struct text *t, const char *key, uint64_t ns)
{
	put(t, "\"%s\":%llu.%09u", key, (unsigned long long)(ns / NSEC_PER_SEC),
	    (unsigned)(ns % NSEC_PER_SEC));
}

/* --- a capability, as far as it is known: what was asked for may be anything --- */

static void put_rights(struct text *t, uint32_t rights)
{
	static const char *const names[] = {"read",   "write",  "append",   "setattr", "list",
	                                    "remove", "create", "snapshot", "admin"};
	const char *between = "";

	put(t, ",\"rights\":[");
	for (unsigned i = 0; i < 32; i++)
		if (rights >> i & 1) {
			if (i < ARRAY_LEN(names))
				put(t, "%s\"%s\"", between, names[i]);
			else
				put(t, "%s\"bit %u\"", between, i);
			between = ",";
		}
	put(t, "]");
}

/* As capability grant --ids takes it. */
static void put_ids(struct text *t, const struct cap_info *i)
{
	put(t, ",\"ids\":\"");
	if (i->map == CAP_MAP_ANY)
		put(t, "any");
	else if (i->map == CAP_MAP_SQUASH)
		put(t, "%u:%u", i->uid, i->gid);
	for (unsigned k = 0; i->map == CAP_MAP_RANGES && k < MIN(i->range_count, CAP_RANGES_MAX);
	     k++)
		put(t, "%s%u-%u", k ? "," : "", i->range[k].first, i->range[k].last);
	put(t, "\"");
}

static void put_grant(struct text *t, const struct cap_info *i)
{
	if (i->rights) {
		put_rights(t, i->rights);
		if (!i->cont && !i->cont_name[0])
			put(t, ",\"all_containers\":true");
		put_text(t, "container_name", i->cont_name,
		         strnlen(i->cont_name, sizeof(i->cont_name)));
		put_text(t, "prefix", i->prefix, strnlen(i->prefix, sizeof(i->prefix)));
		put_text(t, "subject", i->subject, strnlen(i->subject, sizeof(i->subject)));
		put_ids(t, i);
		put_number(t, "bytes_per_s", i->bytes_per_s);
		put_number(t, "ops_per_s", i->ops_per_s);
	}
	put(t, ",");
	put_time(t, "expires", i->expiry_ns);
}

static void put_limits(struct text *t, const struct qos *q)
{
	put_number(t, "weight", q->weight);
	put_number(t, "depth", q->depth_max);
	put_number(t, "bytes", q->bytes_max);
	put_number(t, "bytes_per_s", q->bytes_per_s);
	put_number(t, "ops_per_s", q->ops_per_s);
	put_number(t, "sessions", q->sessions_max);
}

/* --- a line --- */

static void put_who(struct text *t, const struct audit_event *e)
{
	put_string(t, "who", e->who);
	put_string(t, "peer", e->peer);
	put_number(t, "tenant", e->tenant);
	if (e->session)
		put(t, ",\"session\":\"%016llx\"", (unsigned long long)e->session);
	put_number(t, "capability", e->cap);
	put_number(t, "claims", e->claims);
	if (!e->cap_count)
		return;
	put(t, ",\"capabilities\":[");
	for (uint32_t i = 0; i < e->cap_count; i++)
		put(t, "%s%u", i ? "," : "", e->caps[i]);
	put(t, "]");
}

static void put_what(struct text *t, const struct audit_event *e)
{
	put_number(t, "container", e->cont);
	if (e->opcode)
		put(t, ",\"op\":%u,\"op_name\":\"%s\"", e->opcode, audit_op_name(e->opcode));
	put_number(t, "inode", e->ino);
	put_number(t, "dir", e->dir);
	put_number(t, "count", e->count);
	put_text(t, "name", e->name, e->name_len);
	put_text(t, "name2", e->name2, e->name2_len);
	if (e->grant)
		put_grant(t, e->grant);
	if (e->limits)
		put_limits(t, e->limits);
	put_string(t, "why", e->why);
	put_number(t, "lost", e->lost);
}

size_t audit_format(const struct audit_event *e, char *buf, size_t cap)
{
	struct text t = {.buf = buf, .cap = cap};

	put(&t, "{");
	put_time(&t, "time", e->time_ns);
	put(&t, ",\"event\":\"%s\",\"result\":\"%s\"", audit_what_name(e->what),
	    e->status ? "refused" : "granted");
	if (e->status)
		put(&t, ",\"error\":\"%s\"",
		    strerrorname_np(-e->status) ? strerrorname_np(-e->status) : "?");
	put_who(&t, e);
	put_what(&t, e);
	put(&t, "}");
	return t.len;
}

/* --- the file --- */

struct audit_file {
	int fd;
	bool torn; /* it does not end with the end of a line */
	bool told;
	uint64_t lost, gap; /* lines: in all, and since the last one that was written */
	struct log_limit complaints;
	char path[];
};

static int open_path(const char *path, struct pst_err *err)
{
	/* NONBLOCK: a pipe's opening waits for somebody who reads. */
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
	              0600);
	int rc = fd < 0 ? -errno : 0;
	struct stat st = {0};

	(void)(rc ? stat(path, &st) : fstat(fd, &st));
	if (!S_ISFIFO(st.st_mode))
		return rc ? err_set(err, rc, "audit log %s: %s", path, strerror(-rc)) : fd;
	if (fd >= 0)
		close(fd);
	return err_set(err, -EINVAL,
	               "audit log %s: it is a pipe: who reads it would hold up the server", path);
}

/* Who was here before may have been stopped by a full disk. */
static bool ends_torn(const struct audit_file *f)
{
	struct stat st;
	char last = '\n';
	int fd = -1;

	if (fstat(f->fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0)
		fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return false;
	(void)!pread(fd, &last, 1, st.st_size - 1);
	close(fd);
	return last != '\n';
}

int audit_file_open(struct audit_file **ret_f, const char *path, struct pst_err *err)
{
	size_t len = strlen(path) + 1;
	struct audit_file *f = mem_calloc(1, sizeof(*f) + len);

	if (!f)
		return err_set(err, -ENOMEM, "no memory");
	f->fd = open_path(path, err);
	if (f->fd < 0) {
		int rc = f->fd;

		mem_free(f);
		return rc;
	}
	memcpy(f->path, path, len);
	f->torn = ends_torn(f);
	*ret_f = f;
	return 0;
}

/* How many of @len bytes came into the file, and why not all. */
static size_t write_all(int fd, const char *p, size_t len, int *ret_status)
{
	size_t done = 0;

	*ret_status = 0;
	while (done < len) {
		ssize_t n = write(fd, p + done, len - done);

		if (n > 0)
			done += (size_t)n;
		else if (n == 0 || errno != EINTR) {
			*ret_status = n ? -errno : -ENOSPC;
			break;
		}
	}
	return done;
}

static void line_lost(struct audit_file *f, const struct audit_event *e, int status)
{
	f->lost++;
	f->gap++;
	if (!f->told && log_may(&f->complaints, e->time_ns, 1)) {
		log_error("audit log %s: can't be written: %s", f->path, strerror(-status));
		f->told = true;
	}
}

static void line_written(struct audit_file *f)
{
	if (f->told)
		log_warn("audit log %s: written again; lines that are lost: %llu", f->path,
		         (unsigned long long)f->gap);
	f->told = false;
	f->gap = 0;
}

/* One write per line, so that lines of several writers never mix. What a full disk left of one gets an end
 * before the next: that one is whole, and says how many are missing. */
void audit_file_write(void *arg, const struct audit_event *e)
{
	struct audit_event whole = *e;
	struct audit_file *f = arg;
	char line[1 + AUDIT_LINE_MAX];
	size_t at = f->torn, len, done;
	int status;

	line[0] = '\n';
	whole.lost = f->gap;
	len = audit_format(&whole, line + at, AUDIT_LINE_MAX);
	pst_assert(len < AUDIT_LINE_MAX);
	len += at;
	line[len++] = '\n';
	done = write_all(f->fd, line, len, &status);
	if (done)
		f->torn = line[done - 1] != '\n';
	if (status)
		line_lost(f, e, status);
	else
		line_written(f);
}

int audit_file_reopen(struct audit_file *f, struct pst_err *err)
{
	int fd = open_path(f->path, err);

	if (fd < 0)
		return fd;
	close(f->fd);
	f->fd = fd;
	f->torn = ends_torn(f);
	f->told = false;
	return 0;
}

uint64_t audit_file_lost(const struct audit_file *f)
{
	return f ? f->lost : 0;
}

void audit_file_close(struct audit_file *f)
{
	if (!f)
		return;
	close(f->fd);
	mem_free(f);
}
