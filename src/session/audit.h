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
	AUDIT_CHANNEL, /* refused before anybody said who he is */
	AUDIT_AUTH,    /* an identity was accepted or not */
	AUDIT_CONTROL, /* a call that manages the server: may who asks do that? */
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

struct cap_info;
struct qos;

/* What is 0, NULL or "" is not written. Nothing that it points to is kept. */
struct audit_event {
	enum audit_what what;
	int status;       /* 0: granted; else why not */
	uint64_t time_ns; /* since 1970 */
	uint64_t session;
	uint64_t cap;         /* one that exists, and that was verified where it was shown */
	uint32_t claims;      /* the number in a token that could not be verified */
	const uint32_t *caps; /* several, instead of cap */
	uint32_t cap_count;   /* of these */
	uint64_t count;
	uint64_t ino, dir;
	uint32_t tenant, cont;
	uint8_t opcode;   /* AUDIT_REQUEST */
	const char *who;  /* the client, or who asked */
	const char *peer; /* where that one is */
	const char *name; /* what was named; may hold any byte */
	uint32_t name_len;
	const char *name2; /* the other one */
	uint32_t name2_len;
	const char *why; /* a sentence, where the error alone says little */
	const struct cap_info *
	        grant; /* AUDIT_GRANT, _RENEW, _REVOKE: the whole capability, or what is known of it */
	const struct qos *limits; /* AUDIT_TENANT */
	uint64_t lost;            /* lines before this one that could not be written */
};

#define AUDIT_LINE_MAX (16 * KIB) /* no event is longer, its line's end included */

const char *audit_what_name(enum audit_what what);
/* "read", "file-open"; "?": no op that a client can ask for. */
const char *audit_op_name(uint8_t opcode);
/* One line without its end, JSON whatever bytes are in the event (docs/operating.md says what is in it);
 * returns its length, as snprintf() does. */
size_t audit_format(const struct audit_event *e, char *buf, size_t cap);

struct audit_file;

/*
 * Appends to the file @path, made with mode 0600 if it is not there. Lines that can't be written
 * (a full disk) are counted, and the first one is logged; the next that can says how many there were.
 * -errno with a sentence.
 */
int audit_file_open(struct audit_file **ret_f, const char *path, struct pst_err *err);
/* For session_opts.audit: @arg is the struct audit_file. */
void audit_file_write(void *arg, const struct audit_event *e);
/* After the file was renamed: opens @path anew. On failure it goes on with the old one. */
int audit_file_reopen(struct audit_file *f, struct pst_err *err);
uint64_t audit_file_lost(const struct audit_file *f); /* lines since it was opened; of NULL: 0 */
void audit_file_close(struct audit_file *f);

#endif
