/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * audit - what was granted and refused, and to whom: the event, and a writer to a file, one JSON
 * object a line.
 */
#ifndef SESSION_AUDIT_H
#define SESSION_AUDIT_H

#include "base/base.h"

/* The order is not written anywhere: names are. */
enum audit_what {
	AUDIT_AUTH, /* an identity was accepted or not */
	AUDIT_SESSION_OPEN,
	AUDIT_SESSION_RESUME,
	AUDIT_SESSION_CLOSE,
	AUDIT_SESSION_EXPIRE,
	AUDIT_SESSION_CUT,
	AUDIT_REQUEST, /* refused */
	AUDIT_GRANT,
	AUDIT_RENEW,
	AUDIT_REVOKE,
	AUDIT_KEY_ROTATE,
	AUDIT_TENANT,
	AUDIT_SUPPRESSED, /* as many refusals (in count) were not told one by one */
};

struct audit_event {
	enum audit_what what;
	int status;       /* 0: granted; else why not */
	uint64_t time_ns; /* since 1970 */
	uint64_t session;
	uint64_t cap;
	uint64_t count;
	uint64_t ino;
	uint32_t tenant, cont;
	uint8_t opcode;   /* AUDIT_REQUEST */
	const char *who;  /* the client, or who asked; "" if not known */
	const char *name; /* what was named; may hold any byte but NUL; "" */
	uint32_t name_len;
};

const char *audit_what_name(enum audit_what what);
/* One line without its end; returns its length, as snprintf() does. */
size_t audit_format(const struct audit_event *e, char *buf, size_t cap);

struct audit_file;

/*
 * Appends to the file @path, made with mode 0600 if it is not there. Lines that can't be written
 * (a full disk) are counted, and the first one is logged. -errno with a sentence.
 */
int audit_file_open(struct audit_file **ret_f, const char *path, struct pst_err *err);
/* For session_opts.audit: @arg is the struct audit_file. */
void audit_file_write(void *arg, const struct audit_event *e);
/* After the file was renamed: opens @path anew. On failure it goes on with the old one. */
int audit_file_reopen(struct audit_file *f, struct pst_err *err);
uint64_t audit_file_lost(const struct audit_file *f);
void audit_file_close(struct audit_file *f);

#endif
