/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * session_util - what the tests of the session room share: a table on the names layer on the engine,
 * in simulated time, that can be closed, cut and opened again; clients that open and resume sessions
 * and run ops through them; the audit's last words.
 *
 * Between table and store lies a door that holds ops back until a test lets them through.
 */
#ifndef TESTS_UNIT_SESSION_UTIL_H
#define TESTS_UNIT_SESSION_UTIL_H

#include "eng_util.h"
#include "fs/fs.h"
#include "session/audit.h"
#include "session/session_int.h"

#define SX_EVENTS 64

struct sx {
	struct eng eng;
	struct store bottom; /* the engine, which survives the layers above */
	struct store door;
	struct store *fs;
	struct session_table *t;
	struct session_opts opts;
	struct pst_err err;
	/* the door */
	bool (*hold)(const struct pst_op *op); /* NULL: open */
	struct list held;
	unsigned held_count;
	uint64_t passed[256]; /* ops that went through, by opcode */
	bool busy;            /* takes nothing */
	/* below the names layer: the first op that it wants is held */
	bool (*hold_below)(const struct pst_op *op);
	struct pst_op *held_below;
	/* the audit */
	unsigned events;
	struct audit_event event[SX_EVENTS];
	char who[SX_EVENTS][SESSION_TEXT_MAX];
	char line[AUDIT_LINE_MAX]; /* of the last one, as it goes into the file */
	unsigned refused;          /* events with a status */
};

void sx_start(struct sx *x); /* set x->opts before */
void sx_stop(struct sx *x);  /* table and layers */
void sx_end(struct sx *x);
void sx_restart(struct sx *x); /* closes all, opens all */
void sx_cut(struct sx *x);     /* the same after a power cut, with all connections gone */
int sx_try_open(struct sx *x);
void sx_turn(struct sx *x);               /* until nothing happens */
void sx_sleep(struct sx *x, uint64_t ns); /* lets virtual time pass */
void sx_release(struct sx *x);            /* opens the door */
void sx_release_below(struct sx *x);
uint64_t sx_records(struct sx *x);               /* of the engine's log: what was changed */
const struct audit_event *sx_last(struct sx *x); /* event */
bool sx_audited(struct sx *x, enum audit_what what, int status); /* among those since sx_forget() */
void sx_forget(struct sx *x);

/* Capabilities, waited for. */
int sx_grant(struct sx *x, const struct cap_info *info, struct cap_op *ret_op);
int sx_revoke(struct sx *x, uint64_t id);
int sx_renew(struct sx *x, uint64_t id, uint64_t expiry_ns);
int sx_rotate(struct sx *x);
int sx_tenant(struct sx *x, uint32_t id, const char *name, const struct qos *q);
uint32_t sx_cont(struct sx *x, const char *name, uint8_t layout);

/* A client: one session, one connection at a time. */
struct client {
	struct sx *x;
	struct session_conn conn;
	uint64_t number, seq;
	uint8_t secret[SESSION_SECRET_BYTES];
	uint32_t slots;
	bool linked;
	int cut;                           /* why its connection was cut; 0: it was not */
	const uint8_t *handle;             /* for the next ops, or NULL */
	uint8_t got[SESSION_HANDLE_BYTES]; /* by the last op */
	bool has_got;
	bool tokens; /* mutations carry tokens of slot 0 */
};

/* A request of it under way. */
struct creq {
	struct session_req r;
	struct client *c;
	int status; /* 1: not ended */
	int admit;
	bool went, done;
	struct iovec iov;
};

void client_link(struct client *c, struct sx *x);
void client_unlink(struct client *c);
int client_open_as(struct client *c, struct sx *x, const struct ident *id);
int client_open_token(struct client *c, struct sx *x, const char *token);
int client_open_owner(struct client *c, struct sx *x);
int client_resume(struct client *c);
int client_bye(struct client *c); /* closes the session and the connection */

/* Begins a request: @q->r.op is set. */
void creq_start(struct creq *q, struct client *c);
int creq_wait(struct creq *q);
int client_run(struct client *c, struct pst_op *op); /* a whole request; outputs go into @op */
int client_create(struct client *c, uint32_t cont, const char *name, const char *text,
                  uint64_t *ret_ino);
int client_read(struct client *c, uint32_t cont, uint64_t ino, char *buf, size_t len);
int client_write(struct client *c, uint32_t cont, uint64_t ino, const char *text);
int client_lookup(struct client *c, uint32_t cont, const char *name, uint64_t *ret_ino);

#endif
