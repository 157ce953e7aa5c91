/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * audit - see audit.h. Names in an event come from clients: every byte that is not plain ASCII is
 * escaped, so that nobody writes lines of his own into the log.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "session/audit.h"

#define NAME_SHOWN 256 /* bytes of a name that are written */

const char *audit_what_name(enum audit_what what)
{
	static const char *const names[] = {
	        [AUDIT_AUTH] = "authenticate",
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

static void put_string(struct text *t, const char *key, const char *s, size_t len)
{
	put(t, ",\"%s\":\"", key);
	for (size_t i = 0; i < MIN(len, (size_t)NAME_SHOWN); i++) {
		unsigned char c = (unsigned char)s[i];

		if (c < 0x20 || c > 0x7e || c == '"' || c == '\\')
			put(t, "\\u%04x", c);
		else
			put(t, "%c", c);
	}
	put(t, "\"%s", len > NAME_SHOWN ? ",\"cut\":true" : "");
}

static void put_number(struct text *t, const char *key, uint64_t n)
{
	if (n)
		put(t, ",\"%s\":%llu", key, (unsigned long long)n);
}

size_t audit_format(const struct audit_event *e, char *buf, size_t cap)
{
	struct text t = {.buf = buf, .cap = cap};

	put(&t, "{\"time\":%llu.%09u,\"event\":\"%s\"",
	    (unsigned long long)(e->time_ns / NSEC_PER_SEC), (unsigned)(e->time_ns % NSEC_PER_SEC),
	    audit_what_name(e->what));
	put(&t, ",\"result\":\"%s\"", e->status ? "refused" : "granted");
	if (e->status)
		put(&t, ",\"error\":\"%s\"",
		    strerrorname_np(-e->status) ? strerrorname_np(-e->status) : "?");
	if (e->who && e->who[0])
		put_string(&t, "who", e->who, strlen(e->who));
	put_number(&t, "tenant", e->tenant);
	if (e->session)
		put(&t, ",\"session\":\"%016llx\"", (unsigned long long)e->session);
	put_number(&t, "capability", e->cap);
	put_number(&t, "container", e->cont);
	put_number(&t, "op", e->opcode);
	put_number(&t, "inode", e->ino);
	put_number(&t, "count", e->count);
	if (e->name_len)
		put_string(&t, "name", e->name, e->name_len);
	put(&t, "}");
	return t.len;
}

/* --- the file --- */

struct audit_file {
	int fd;
	uint64_t lost;
	bool told;
	char path[];
};

static int open_path(const char *path, struct pst_err *err)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	return fd >= 0 ? fd : err_set(err, -errno, "audit log %s: %s", path, strerror(errno));
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
	*ret_f = f;
	return 0;
}

/* One write per line, so that lines of several writers never mix. */
void audit_file_write(void *arg, const struct audit_event *e)
{
	struct audit_file *f = arg;
	char line[8 * KIB];
	size_t len = audit_format(e, line, sizeof(line) - 1);

	pst_assert(len < sizeof(line) - 1);
	line[len] = '\n';
	if (write(f->fd, line, len + 1) == (ssize_t)(len + 1))
		return;
	f->lost++;
	if (!f->told)
		log_error("audit log %s: can't be written: %s", f->path, strerror(errno));
	f->told = true;
}

int audit_file_reopen(struct audit_file *f, struct pst_err *err)
{
	int fd = open_path(f->path, err);

	if (fd < 0)
		return fd;
	close(f->fd);
	f->fd = fd;
	f->told = false;
	return 0;
}

uint64_t audit_file_lost(const struct audit_file *f)
{
	return f->lost;
}

void audit_file_close(struct audit_file *f)
{
	if (!f)
		return;
	close(f->fd);
	mem_free(f);
}
