/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * session - who is at the other end, and what they may do: authentication, capabilities, sealed
 * handles, replay slots, limits, fair shares. The design is docs/sessions-and-handles.md. It knows
 * nothing of how requests are carried: the wire's listener and the gRPC front both stand on it.
 *
 * A *table* belongs to a store (the whole stack: names on top) and keeps what must survive a
 * restart in a container of that store, which no client can see. A *session* is what the server
 * remembers of a client; a *connection* is one of the owner's channels, attached to at most one
 * session. A *capability* is what an operator granted; a session holds those that its client's
 * authentication gave it.
 *
 * A request's way through here, for its owner (the wire):
 *
 *   1. fill r->op from the message (opcode, cont, token, names, lengths; memory may come later),
 *      r->handle, r->go, r->stop;
 *   2. session_admit(conn, r):
 *        0             go on;
 *        -EINPROGRESS  r->go(r, status) will be called once, from a later turn: status 0: go on;
 *                      else answer it (the request is over, no session_end());
 *        else          answer it; nothing was kept. (-ECONNABORTED: the connection is fenced or cut
 *                      off: there is nobody to answer.)
 *   3. pull the payload, if there is any, and session_submit(r): r->op.done() runs once, maybe from
 *      inside. The op goes to the table's store as session_admit() left it: with tenant, ids,
 *      container and root set by the capability, whatever the message said.
 *   4. push the payload, and session_end(r): returns the status to answer with. (Not
 *      op.status: a request whose capability was revoked meanwhile answers that.) A request that was
 *      admitted and then not submitted ends there too, with its op.status set by the owner.
 *
 * stop() may come any time between 2 and 4, once: the owner cancels what it is doing for the
 * request (store_cancel() of a submitted op; a transfer), which then ends early, through 4. It calls
 * nothing of this room from inside stop().
 *
 * The owner may close a connection whenever it likes: session_conn_done() first. Requests that wait
 * are over (their go() runs from inside with -ECONNABORTED), those that were admitted go on, and end
 * through 4 as ever.
 *
 * Threads: all on the loop of the store. Nothing blocks but session_table_open().
 */
#ifndef SESSION_SESSION_H
#define SESSION_SESSION_H

#include "base/base.h"
#include "loop/loop.h"
#include "session/sched.h"
#include "store/store.h"

#define SESSION_HANDLE_BYTES 64
#define SESSION_SECRET_BYTES 16
#define SESSION_LEASE_NS     (60 * NSEC_PER_SEC)
#define SESSION_EXPIRY_NS    (3600 * NSEC_PER_SEC)
#define SESSION_CAPS_MAX     16   /* capabilities that one session holds */
#define SESSION_SLOTS_MAX    1024 /* of one session */
#define SESSION_TEXT_MAX     64   /* names of principals and tenants, NUL included */
#define CAP_PREFIX_MAX       256  /* NUL included */
#define CAP_RANGES_MAX       16
#define CAP_TOKEN_MAX        64 /* characters of a capability token, NUL included */

/* What a capability and a handle may allow. The low byte is the handle's; never renumber. */
#define RIGHT_READ     (1u << 0)
#define RIGHT_WRITE    (1u << 1)
#define RIGHT_APPEND   (1u << 2) /* appends only; implied by WRITE */
#define RIGHT_SETATTR  (1u << 3)
#define RIGHT_LIST     (1u << 4)
#define RIGHT_REMOVE   (1u << 5)
#define RIGHT_CREATE   (1u << 6)
#define RIGHT_SNAPSHOT (1u << 7)
#define RIGHT_ADMIN    (1u << 8) /* the container's properties; of all containers: the server */
#define RIGHTS_ALL     0x1ffu

struct session;
struct session_table;
struct session_req;
struct cap;
struct tenant;
struct handle_cache;

/* --- limits and shares --- */

/*
 * Limits, and a share of what there is. A request counts for depth_max and bytes_max from its admission to
 * session_end(): over tcp that is when the channel has taken its answer over, sent or not.
 */
struct qos {
	uint32_t weight;       /* share against other tenants; 0: 1 */
	uint32_t depth_max;    /* requests admitted and not ended; 0: the table's */
	uint64_t bytes_max;    /* of payload that these hold in memory; 0: the table's */
	uint64_t bytes_per_s;  /* 0: no limit */
	uint64_t ops_per_s;    /* 0: no limit */
	uint32_t sessions_max; /* 0: the table's */
	uint32_t reserved;
};
/* What people may ask for, where they set one: less would serve nobody, more is a slip. */
#define TENANT_ID_MAX     (UINT32_MAX - 1)
#define TENANT_WEIGHT_MAX 1000u
#define QOS_DEPTH_MAX     (1u << 20)
#define QOS_BYTES_MIN     MIB
#define QOS_BYTES_MAX     (1024 * GIB)
#define QOS_RATE_MIN      4096u /* bytes per second: a block */
#define QOS_OPS_MAX       1000000000u
#define QOS_SESSIONS_MAX  (1u << 20)

/* --- the table --- */

struct audit_event;

struct session_opts {
	uint32_t sessions_max;  /* 0: 4096 */
	uint32_t caps_max;      /* 0: 65536 */
	uint32_t slots_default; /* 0: 64 */
	uint64_t lease_ns;      /* silence that costs a session what it holds open; 0:
	                           SESSION_LEASE_NS */
	uint64_t expiry_ns;     /* silence that ends it; 0: SESSION_EXPIRY_NS */
	uint64_t handle_ns;     /* life of a handle; 0: an hour */
	uint32_t refusals_max;  /* forged handles and bad tokens before it is cut off; 0: 64 */
	uint32_t opens_max;     /* inodes that a session holds open; 0: 16384 */
	struct qos session;     /* of each session; zero fields: depth 1024, 256 MiB */
	struct qos tenant;      /* of each tenant without settings; depth 4096, 1 GiB */
	uint32_t running_max;   /* requests between admission and end, of all; 0: 512 */
	uint64_t running_bytes; /* 0: 256 MiB */
	uint32_t owner_uid;     /* this user may do everything over a unix socket */
	bool open_access;       /* whoever comes may do everything: --insecure */
	/* Hears of everything that was granted or refused; may be NULL. Must not call back. */
	void (*audit)(void *arg, const struct audit_event *e);
	void *audit_arg;
	uint64_t sim_seed; /* in simulation: numbers and secrets follow from it */
	/* Test-only, with -DPST_TEST_FAULTS: a planted bug (enum session_plant). */
	unsigned plant;
};

enum session_plant {
	SESSION_PLANT_NONE,
	SESSION_PLANT_NO_FENCE,      /* an old connection's requests are taken, given up or not */
	SESSION_PLANT_SERVE_REVOKED, /* the capability's epoch is not looked at */
	SESSION_PLANT_REEXECUTE,     /* tokens are stripped: a repeat is executed again */
	SESSION_PLANT_RENAME_TWICE,  /* the same, of RENAMEs alone */
	SESSION_PLANT_WATCH_LATE,    /* a watch tells of what comes, not of what came before it */
};

/*
 * Makes the table on @store, which must outlive it, and loads (or makes) its container: turns the
 * loop until that is done, so never from a callback. -EROFS, -EIO, -EBADMSG (what lies there is
 * damaged), -ENOTSUP (the store lacks batches), -ENOMEM, with a sentence.
 */
int session_table_open(struct session_table **ret_t, struct store *store,
                       const struct session_opts *opts, struct pst_err *err);
/* All connections are done and all requests ended (asserted). Turns the loop until what is under way
 * to the store has ended. Sessions stay in the store, for the next start. Accepts NULL. */
void session_table_close(struct session_table *t);
struct store *session_table_store(const struct session_table *t);
/* Of the store, as it was when the table was opened: what clients check on reconnect. */
void session_table_identity(const struct session_table *t, uint8_t ret_uuid[16],
                            uint64_t *ret_epoch);
/*
 * The number that was drawn when this store was opened for the @epoch-th time: two copies of a store that were
 * opened equally often have different ones. Kept in the store. OPENING_UNKNOWN: too long ago, or there was
 * no space to keep it; OPENING_NONE: no table was opened in that epoch.
 */
#define OPENING_UNKNOWN 0u
#define OPENING_NONE    1u
uint32_t session_table_opening(const struct session_table *t, uint64_t epoch);

/* --- authentication: an identity is gathered before the session is opened --- */

struct ident {
	char who[SESSION_TEXT_MAX]; /* "uid:1000", "cert:NAME", "token:7": for the audit */
	const char *peer; /* where that is, for the audit too; NULL, or valid while this is used */
	uint32_t tenant;
	uint32_t uid, gid;
	uint32_t cap_count;
	uint32_t cap[SESSION_CAPS_MAX];
	uint16_t cap_rights[SESSION_CAPS_MAX]; /* what a token left of it */
};

/* All may be called in turn on one identity (zeroed at first): what they give adds up, as far as it is
 * of one tenant. Who shows a token is to act by it alone, so that it can limit. Each returns 0, -EACCES
 * (it gives nothing; another may), or what is said at it. Refusals are audited. */
int session_auth_peer(struct session_table *t, struct ident *id, uint32_t uid, uint32_t gid);
/* @name: of a certificate that TLS verified. One that is not plain text (text_plain()) is nobody's. */
int session_auth_cert(struct session_table *t, struct ident *id, const char *name);
/* A capability token's text. -EBADF: not one of ours, or forged; -EKEYEXPIRED; -EKEYREVOKED. */
int session_auth_token(struct session_table *t, struct ident *id, const char *text, size_t len);
/*
 * For channels that are sealed with what a token has and does not show (wire/seal.h). A token is its head,
 * which says which one it is, and a secret that follows from it by the capability's key.
 * cap_token_bytes() takes a text apart: -EBADF. session_token_secret(): the secret that belongs to a
 * head, whether the token still counts or not (who shows it is told); -EBADF, -EKEYREVOKED: there is
 * none; audited. session_token_forged(): to be audited: who showed that head does not know its
 * secret. @peer: where that is (NULL: not known).
 */
#define TOKEN_HEAD_BYTES   24
#define TOKEN_SECRET_BYTES 16
int cap_token_bytes(const char *text, size_t len,
                    uint8_t ret_bytes[TOKEN_HEAD_BYTES + TOKEN_SECRET_BYTES]);
int session_token_secret(struct session_table *t, const char *peer,
                         const uint8_t head[TOKEN_HEAD_BYTES],
                         uint8_t ret_secret[TOKEN_SECRET_BYTES]);
void session_token_forged(struct session_table *t, const char *peer,
                          const uint8_t head[TOKEN_HEAD_BYTES]);
/* Random bytes, or in simulation what follows from its seed. 0, or -errno. */
int session_random(struct session_table *t, void *buf, size_t len);
/* For whoever it is: everything of a table with open_access; what is anyone's, unless the identity has a name, and
 * got that with it. Else -EACCES. */
int session_auth_open(struct session_table *t, struct ident *id);

/* May it manage the server (the right ADMIN on all containers)? */
bool session_ident_is_admin(const struct session_table *t, const struct ident *id);
/* The same, for the call that it makes (@what): 0 or -EACCES; audited, whichever it is. */
int session_auth_admin(struct session_table *t, const struct ident *id, const char *what);

/* --- connections --- */

/* Embedded in the owner's connection. */
struct session_conn {
	struct session *session; /* NULL: none yet, or not any more */
	struct session_table *table;
	/* Where its client is, for the audit; the owner sets it after session_conn_init(), if it likes, and
	 * keeps it until session_conn_done(). */
	const char *peer;
	/* The session was resumed on another connection (-ESTALE), closed, or cut off (-EPROTO,
	 * -EACCES, -EKEYREVOKED): the owner closes the connection. Called once, from inside
	 * of calls for other connections or from a turn, or from inside session_admit(), which then
	 * returns -ECONNABORTED. */
	void (*cut)(struct session_conn *c, int why);
	/* The owner's to set: nobody is at the other end now, it keeps the session for the next call. It may be
	 * ended, and cut (-ESTALE), when another needs the place. */
	bool between_calls;
	/* private */
	bool sealed; /* by the token with this head */
	uint8_t token[TOKEN_HEAD_BYTES];
	struct session_open *opening;
	struct handle_cache *cache;
	struct list link;
	uint32_t last_cont; /* found without a handle */
	const struct cap *last_cap;
	uint32_t last_rights;
};

void session_conn_init(struct session_conn *c, struct session_table *t,
                       void (*cut)(struct session_conn *c, int why));
void session_conn_done(struct session_conn *c);
/*
 * Its channel is sealed by the token with that head, and so it is for what that token gives: sessions of
 * this one capability, with no right that the token does not have. Others are neither opened nor resumed
 * on it: -EACCES.
 */
void session_conn_sealed(struct session_conn *c, const uint8_t head[TOKEN_HEAD_BYTES]);
/* May a session of this identity be on it? */
bool session_conn_takes(const struct session_conn *c, const struct ident *id);

/* Opening a session; embedded by the owner until done(). */
struct session_open {
	/* in */
	struct session_conn *conn; /* to be attached; must have no session */
	struct ident ident;
	uint32_t slots; /* wanted; 0: the default. Out: as granted */
	void (*done)(struct session_open *o, int status);
	/* out */
	uint64_t number;
	uint8_t secret[SESSION_SECRET_BYTES];
	uint64_t lease_ns, expiry_ns;
	/* private */
	struct session *session;
};
/*
 * Returns 0, and then done() runs once, from a later turn, when the session's record is durable (@o
 * must last until then; its connection, or session_conn_done(), too): 0; -ECONNABORTED: the
 * connection was done first (the session is closed again); the store's errors. Or returns why not:
 * -EACCES: the identity has no capability, or not that of a sealed channel; -EAGAIN: sessions_max, and
 * none could be ended to make room (crowd.c); -EDQUOT: the tenant's, likewise; -EINVAL: slots, or it has a session; -ENOMEM.
 */
int session_open(struct session_open *o);
/*
 * Attaches @c to the session @number, if @secret is its: the connection before is cut (-ESTALE), and
 * no request of its is admitted any more. 0; -ESTALE: no such session (expired, or of another
 * store); -EACCES: wrong secret, or not of the capability that sealed the channel.
 */
int session_resume(struct session_conn *c, uint64_t number,
                   const uint8_t secret[SESSION_SECRET_BYTES]);
/*
 * Ends the session that @c is attached to: its requests are stopped, what it holds open is let go,
 * its replay answers are forgotten. The connection is left without a session (not cut).
 */
int session_close(struct session_conn *c);
/* Refused for what the channel is, before its client said who it is: for the audit. @why: a sentence. */
void session_conn_refused(struct session_conn *c, int status, const char *why);
/* Its client breaks the rules of what carries its requests, and the owner hangs up: for the audit. */
void session_conn_broke(struct session_conn *c, int why);
/* The client was heard of (a keep-alive): its lease begins anew. Requests do the same. */
void session_touch(struct session_conn *c);

uint64_t session_number(const struct session *s);
uint32_t session_slots(const struct session *s);
const struct ident *session_ident(const struct session *s);
/* Does this session see that container in a list? And all of it, or a directory alone? */
bool session_sees(const struct session *s, uint32_t cont);
bool session_sees_whole(const struct session *s, uint32_t cont);
bool session_is_admin(const struct session *s); /* as session_ident_is_admin() */

/* --- requests --- */

enum session_req_state {
	REQ_NONE,    /* not admitted, or ended */
	REQ_PARKED,  /* an earlier one with its token is still running */
	REQ_QUEUED,  /* waits for its turn */
	REQ_RUNNING, /* admitted */
};

/* Embedded in the owner's request, zeroed at first; reusable after its end. */
struct session_req {
	struct pst_op op;
	const uint8_t *handle; /* SESSION_HANDLE_BYTES, or NULL; read during session_admit() only */
	void (*go)(struct session_req *r, int status);
	void (*stop)(struct session_req *r); /* NULL: store_cancel() */
	/* private from here on */
	uint8_t state; /* enum session_req_state */
	bool mutates, submitted, stopped, probe, answered, slotted, holds, closes, watching;
	bool asking; /* watch.c */
	bool narrow; /* narrow.c; with what its owner had there: */
	void (*done)(struct pst_op *op);
	int stop_status;
	uint32_t rights; /* that it was admitted by */
	struct session *session;
	struct session_conn *conn;
	struct cap *cap;
	struct list link;   /* session's requests */
	struct list doomed; /* of those that run.c is stopping; next NULL: on no such list */
	struct sched_item item;
	uint64_t bytes;
	uint64_t queued_ns;
	bool (*entry)(struct pst_op *op, const struct pst_entry *e);
};

/*
 * See the head of this file. A handle is optional where the op names a container that one of the
 * session's capabilities covers; it is needed to name a file by its number under a capability with
 * a prefix (a directory's number is checked on its way up; FILE_CLOSE lets go of what the session
 * holds, and of nothing else). GETATTR and FILE_OPEN take a handle that expired less than a day ago:
 * their answer has the new one.
 *
 * Of the token: what sessions-and-handles.md 1.1 says. -ESTALE: an older sequence number, or one that
 * was asked about and given up; -EPROTO: a gap, a bad slot, another session's number: the session is
 * cut off; parked (-EINPROGRESS) while the same request still runs.
 * Of the handle: -EBADF: forged, or malformed, or of another session; -ESTALE: of another store;
 * -EKEYEXPIRED; -EKEYREVOKED.
 * Of the capability: -EACCES: none that covers it, or a right is missing; -EKEYEXPIRED,
 * -EKEYREVOKED; -EPERM: a user or group id outside its map.
 * Of limits: -EAGAIN: the session's or tenant's depth or bytes are used up: the client did not keep
 * to its credits; -ENFILE: opens_max.
 */
int session_admit(struct session_conn *c, struct session_req *r);
/* A request was answered without being shown to session_admit(): its token's number is used. */
void session_skip(struct session_conn *c, const struct pst_token *token);
void session_submit(struct session_req *r);
/* Of one that was submitted: it ends soon, as store_cancel() says. From anywhere. */
void session_cancel(struct session_req *r);
int session_end(struct session_req *r);

/*
 * The handle that belongs in the answer of an op that ended with 0: of CONT_OPEN, CONT_CREATE and
 * SNAP_OPEN one for the container (or the capability's part of it); of LOOKUP, GETATTR, CREATE,
 * MKDIR, SYMLINK, LINK and FILE_OPEN one for the inode. Before session_end(). -ENOENT: it gives
 * none.
 */
int session_handle(struct session_req *r, uint8_t ret_handle[SESSION_HANDLE_BYTES]);
/* The one of an entry of its list, which has the number @ino. */
int session_handle_entry(struct session_req *r, uint64_t ino,
                         uint8_t ret_handle[SESSION_HANDLE_BYTES]);
/* Is the number of a file not enough by the capability that it was admitted by? Then its answer
 * has to bring handles. */
bool session_wants_handles(const struct session_req *r);

/* --- capabilities --- */

enum cap_map {
	CAP_MAP_ANY,    /* whatever ids the client says */
	CAP_MAP_SQUASH, /* always uid and gid */
	CAP_MAP_RANGES, /* those in ranges; without a wish: the first of the first */
};

struct cap_range {
	uint32_t first, last;
};

struct cap_info {
	uint64_t id;    /* out of a grant */
	uint32_t epoch; /* out */
	uint32_t tenant;
	uint32_t cont;                    /* 0: all containers */
	char cont_name[PST_NAME_MAX + 1]; /* out; in a grant: see cont */
	uint32_t rights;
	char subject
	        [SESSION_TEXT_MAX];  /* who has it without a token: "uid:N", "gid:N", "cert:NAME",
	                                   "anyone"; "": nobody */
	char prefix[CAP_PREFIX_MAX]; /* as granted; "": all of it */
	uint64_t root_ino;           /* out: the directory that the prefix meant; 0: all */
	uint64_t expiry_ns;          /* since 1970; 0: never */
	uint64_t ctime_ns;           /* out */
	uint32_t uid, gid;           /* squash */
	uint8_t map;                 /* enum cap_map */
	uint8_t range_count;
	struct cap_range range[CAP_RANGES_MAX]; /* of uids and gids alike */
	uint64_t bytes_per_s, ops_per_s;        /* 0: the tenant's */
};

/* A change to what the table keeps; embedded by the caller until done(). */
struct cap_op {
	struct cap_info info;
	char token[CAP_TOKEN_MAX]; /* out of grant and renew */
	const char *by;            /* who asks, for the audit; valid until done() */
	const char *by_peer;       /* where that is; NULL: not known */
	void (*done)(struct cap_op *o, int status);
	/* private */
	struct session_table *table;
	struct cap *cap;
	int status;
	void (*next)(struct cap_op *o);
	struct pst_op op;
	struct pst_cont_info cont_info;
	struct list link;
};

/*
 * These return 0, and then done() runs once, from a later turn, when it is durable; or an error that
 * was found at once.
 *
 * Grants what o->info says (a prefix is taken from the root, absolute or not). 0: o->info and o->token are
 * filled; -EINVAL: rights, map, subject, an expiry in the past, a prefix with all containers, text that is
 * not plain (text_plain()); -ENOENT: no such container; -ENOTDIR, -ENOENT: the prefix is not a directory;
 * -EAGAIN: caps_max; the store's errors.
 */
int cap_grant(struct session_table *t, struct cap_op *o);
/* Capability o->info.id gets the expiry o->info.expiry_ns; handles and sessions go on. -ENOENT; -EINVAL: that is
 * in the past; -EPERM: the owner's; -EBUSY: another change of it is under way. */
int cap_renew(struct session_table *t, struct cap_op *o);
/*
 * Ends capability o->info.id. From now on no request passes; those under way are stopped. done()
 * when that is durable and the last of them has ended. -ENOENT; -EPERM: the owner's.
 * Should the store fail, it stays revoked until the restart.
 */
int cap_revoke(struct session_table *t, struct cap_op *o);
/* Calls @fn in the order of ids for those above @after; false ends it. */
void cap_list(struct session_table *t, uint64_t after,
              bool (*fn)(void *arg, const struct cap_info *info), void *arg);
int cap_get(struct session_table *t, uint64_t id, struct cap_info *ret_info);
/* Is that a subject that a capability can be granted to? "uid:N", "gid:N" (as the server writes N: it compares
 * text), "cert:COMMON-NAME", "anyone", or "": nobody. */
bool cap_subject_ok(const char *s);
/* The bearer token of a capability, with at most @rights. It lives as long as that: what is to end
 * sooner is granted for as long. */
int cap_token(struct session_table *t, uint64_t id, uint32_t rights, char ret_text[CAP_TOKEN_MAX]);

/* Puts a new handle key in place: the one before it still verifies. done() when it is durable. */
int session_key_rotate(struct session_table *t, struct cap_op *o);

/* As many requests run as may, and others wait for that. */
bool session_run_full(const struct session_table *t);

/* --- tenants --- */

struct tenant_figures {
	uint32_t id;
	char name[SESSION_TEXT_MAX];
	struct qos qos; /* as in force */
	uint32_t sessions;
	uint32_t running, queued; /* requests */
	uint64_t running_bytes;
	uint64_t ops, bytes_in, bytes_out, errors, refused;
	uint64_t queue_ns, queue_max_ns; /* that requests waited for their turn: sum, longest */
	uint64_t throttled;              /* requests that a rate made wait */
};

/* Settings of tenant @id (made when it is new). 0, and done() when durable; or at once -EINVAL (its number, its
 * weight, or a name that is not plain: text_plain()), -EAGAIN (too many), -ENOMEM. */
struct tenant_op {
	uint32_t id;
	char name[SESSION_TEXT_MAX];
	struct qos qos;
	const char *by, *by_peer; /* as cap_op's */
	void (*done)(struct tenant_op *o, int status);
	struct session_table *table; /* private */
	struct tenant *tenant;
};
int tenant_set(struct session_table *t, struct tenant_op *o);
/* In the order of ids, those above @after (UINT32_MAX: from the first). */
void tenant_list(struct session_table *t, uint32_t after,
                 bool (*fn)(void *arg, const struct tenant_figures *f), void *arg);

/* --- figures --- */

struct session_figures {
	uint64_t number;
	const char *who;
	uint32_t tenant;
	bool connected;
	uint32_t running, queued, opens;
	uint64_t ops, bytes_in, bytes_out, errors, refused;
	uint64_t idle_ns;
};

struct table_figures {
	uint32_t sessions, conns, caps;
	uint32_t running, queued;
	uint64_t running_bytes;
	uint64_t ops, errors, refused, fenced, cut_off, resumed, expired, displaced, opened, closed;
	uint64_t handle_hits, handle_misses; /* of the connections' caches */
	uint64_t replayed;                   /* changes that came again, as far as slots remember */
};

void session_table_figures(const struct session_table *t, struct table_figures *ret_f);
/* In the order of numbers, those above @after. 0 or -ENOMEM. */
int session_list(struct session_table *t, uint64_t after,
                 bool (*fn)(void *arg, const struct session_figures *f), void *arg);

#endif
