/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * session_int - what the files of the session room share.
 *
 * What is kept. The table's container is named SYS_CONT_NAME, of layout object; a name with a colon
 * can't be made or opened through the public API, and requests for it are refused. All is in one
 * object, {SYS_OID_HI, 1}, as key-values, each written by one batch; numbers in keys are big-endian,
 * so that lists come in order:
 *
 *   'K' number(2)   struct key_rec: a handle key; the two with the greatest numbers are in use
 *   'C' id(8)       struct cap_rec
 *   'S' number(8)   struct session_rec
 *   'T' id(4)       struct tenant_rec
 *   'n'             le64: the next capability's id; ids are never used again
 *   'O' epoch(8)    struct opening_rec: of the last OPENINGS_MAX openings
 */
#ifndef SESSION_SESSION_INT_H
#define SESSION_SESSION_INT_H

#include <openssl/evp.h>

#include "fs/fs.h"
#include "session/audit.h"
#include "session/session.h"

#define SYS_CONT_NAME ":penstock"
#define SYS_OID_HI    0x7073742e73797331ull /* "pst.sys1" */
#define SYS_VAL_MAX   1024
#define SYS_MUTS      4

#define OWNER_CAP     1u /* made at each start: all containers, all rights */
#define TENANTS_MAX   4096
#define OPENINGS_MAX  256 /* numbers of the store's openings that are kept */
#define SESSION_HASH  1024
#define CONN_HANDLES  128  /* cached by a connection; a power of two */
#define AUDIT_PER_S   1000 /* refusals told one by one */
#define RENEW_GRACE_S (24 * 3600)

#ifdef PST_TEST_FAULTS
#define SESSION_PLANTED(t, bug) (unlikely((t)->opts.plant == (bug)))
#else
#define SESSION_PLANTED(t, bug) false
#endif

/* --- records --- */

/*
 * A handle key.              A tenant.
 * OFFSET SIZE MEANING        OFFSET SIZE MEANING
 *      0   32 the key             0    1 version: 1
 *     32    8 made, ns            1    3 zero
 *                                 4    4 id
 *                                 8   64 name, zeroes behind it
 *                                72    4 weight
 *                                76    4 depth_max
 *                                80    8 bytes_max
 *                                88    8 bytes_per_s
 *                                96    8 ops_per_s
 *                               104    4 sessions_max
 *                               108    4 zero
 */
struct key_rec {
	uint8_t key[32];
	le64 ctime_ns;
};
struct tenant_rec {
	uint8_t version, zero[3];
	le32 id;
	char name[SESSION_TEXT_MAX];
	le32 weight, depth_max;
	le64 bytes_max, bytes_per_s, ops_per_s;
	le32 sessions_max, zero2;
};
struct opening_rec {
	le32 number; /* random, above OPENING_NONE */
};
_Static_assert(sizeof(struct opening_rec) == 4, "an opening's record is 4 bytes");
_Static_assert(sizeof(struct key_rec) == 40, "a key's record is 40 bytes");
_Static_assert(sizeof(struct tenant_rec) == 112, "a tenant's record is 112 bytes");

/*
 * A session.
 * OFFSET SIZE MEANING
 *      0    1 version: 1
 *      1    1 1: it is being ended, and its answers may be forgotten already
 *      2    2 zero
 *      4    4 slots
 *      8    8 number
 *     16   32 SHA-256 of the secret
 *     48    4 tenant
 *     52    4 uid
 *     56    4 gid
 *     60    4 capabilities
 *     64   64 who, zeroes behind it
 *    128  128 per capability: id (4), rights (4)
 */
struct session_rec {
	uint8_t version, ending, zero[2];
	le32 slots;
	le64 number;
	uint8_t secret_hash[32];
	le32 tenant, uid, gid, cap_count;
	char who[SESSION_TEXT_MAX];
	struct {
		le32 id, rights;
	} cap[SESSION_CAPS_MAX];
};
_Static_assert(sizeof(struct session_rec) == 256, "a session's record is 256 bytes");

/*
 * A capability.
 * OFFSET SIZE MEANING              OFFSET SIZE MEANING
 *      0    1 version: 1               56    8 made, ns since 1970
 *      1    1 map                      64    8 bytes_per_s
 *      2    1 ranges                   72    8 ops_per_s
 *      3    1 zero                     80   32 key of its tokens
 *      4    4 epoch                   112   64 subject, zeroes behind it
 *      8    8 id                      176  256 prefix, zeroes behind it
 *     16    4 tenant                  432  256 container's name, zeroes behind it
 *     20    4 container               688  128 ranges: first (4), last (4)
 *     24    4 rights
 *     28    4 uid, 32 4 gid
 *     36    4 zero
 *     40    8 root inode
 *     48    8 expiry, ns since 1970
 */
struct cap_rec {
	uint8_t version, map, range_count, zero;
	le32 epoch;
	le64 id;
	le32 tenant, cont, rights, uid, gid, zero2;
	le64 root_ino, expiry_ns, ctime_ns, bytes_per_s, ops_per_s;
	uint8_t key[32];
	char subject[SESSION_TEXT_MAX];
	char prefix[CAP_PREFIX_MAX];
	char cont_name[PST_NAME_MAX + 1];
	struct {
		le32 first, last;
	} range[CAP_RANGES_MAX];
};
_Static_assert(sizeof(struct cap_rec) == 816, "a capability's record is 816 bytes");
_Static_assert(sizeof(struct cap_rec) <= SYS_VAL_MAX, "records fit in a write");

/*
 * A handle; docs/sessions-and-handles.md, 3.
 */
struct handle_bytes {
	uint8_t version, rights;
	le16 key_number;
	uint8_t store[4];
	le16 server, replica;
	le32 map_epoch;
	le32 cont;
	le32 cap;
	le64 oid_hi, oid_lo;
	le32 cap_epoch;
	le32 expiry_s; /* since HANDLE_TIME_0 */
	uint8_t mac[16];
};
_Static_assert(sizeof(struct handle_bytes) == SESSION_HANDLE_BYTES, "a handle is 64 bytes");
_Static_assert(offsetof(struct handle_bytes, mac) == 48, "the MAC is its last 16 bytes");
#define HANDLE_VERSION 1
#define HANDLE_TIME_0  1577836800ull /* 2020-01-01 00:00 UTC, since 1970 */

/*
 * A capability token, before its text form ("pst1" and base64url without padding):
 * OFFSET SIZE MEANING
 *      0    1 version: 1
 *      1    1 zero
 *      2    2 rights: at most these
 *      4    4 first 4 bytes of the store's UUID
 *      8    4 capability
 *     12    4 its epoch
 *     16    8 zero
 *     24   16 HMAC-SHA-256 over bytes 0..23 under the capability's key, its first 16 bytes
 */
struct token_bytes {
	uint8_t version, zero;
	le16 rights;
	uint8_t store[4];
	le32 cap, cap_epoch;
	uint8_t zero2[8];
	uint8_t mac[16];
};
_Static_assert(sizeof(struct token_bytes) == 40, "a capability token is 40 bytes");

/* --- in memory --- */

/* What requests come to. */
struct counts {
	uint64_t ops, errors, bytes_in, bytes_out;
};

struct tenant {
	uint32_t id;
	char name[SESSION_TEXT_MAX];
	struct qos qos; /* as in force */
	struct sched_flow flow;
	uint32_t sessions;
	uint32_t running, queued;
	uint64_t running_bytes; /* of both */
	uint64_t refused, queue_ns, queue_max_ns, throttled;
	struct counts count; /* as far as its sessions have told: counts_tell() */
};

struct cap {
	struct cap_info info;
	uint8_t key[32];
	bool revoked;
	bool busy;     /* a change of it is on its way to the store */
	uint32_t reqs; /* how many were admitted by it, and have not ended */
	struct bucket bucket;
	struct cap_op *revoker; /* waits until there are none */
	bool deleted;           /* from the store */
};

struct slot {
	uint64_t seq; /* the last one that was let through */
	struct session_req *running, *parked;
	uint32_t cont; /* what that one was: a repeat is the same */
	uint8_t opcode;
	bool known; /* false: after a restart, until it is used */
	bool given_up;
};

struct held_ino { /* an inode that a session holds open; ino 0: a free place */
	uint64_t ino;
	uint32_t cont;
};

struct session {
	struct session_table *table;
	struct list link;  /* in its bucket of table->hash, while it is open */
	struct list every; /* in table->every, from first to last */
	uint64_t number;
	uint8_t secret_hash[32];
	struct ident ident;
	struct {
		struct cap *cap; /* NULL: revoked */
		uint32_t rights;
	} cap[SESSION_CAPS_MAX];
	struct tenant *tenant;
	struct sched_flow flow;
	struct session_conn *conn;
	struct slot *slot;
	uint32_t slots;
	struct list reqs;
	uint32_t running, queued; /* queued: parked ones too */
	uint64_t running_bytes;
	uint32_t watches;
	struct held_ino *held;
	uint32_t held_count, held_room, opens_coming;
	uint32_t refusals; /* that count */
	uint64_t last_ns;
	uint32_t holder; /* whose it is: crowd_holder() */
	bool ending, recorded, finished;
	uint64_t forget_shard;
	uint64_t refused;
	struct counts count;
	struct counts told; /* of these: what its tenant knows */
};

struct hkey {
	uint16_t number;
	uint8_t key[32];
	EVP_MAC_CTX *mac; /* NULL: no such key */
};

struct cached {
	uint8_t bytes[SESSION_HANDLE_BYTES];
	const struct cap *cap; /* NULL: a free place */
	uint64_t expiry_ns;
	struct pst_oid oid;
	uint64_t view;
	uint32_t cont, rights;
};
struct handle_cache {
	struct cached entry[CONN_HANDLES];
};

/* --- watch.c: who waits for changes --- */

#define WATCH_PLACES      1024
#define WATCH_SESSION_MAX 64 /* armed at a time, of one session */

struct watch_place {
	uint64_t last;     /* number of the last change here: watch.c */
	struct list armed; /* struct session_req, by item.link */
};
struct watches {
	struct watch_place *place;
	struct list fired;
	uint32_t count;   /* asking, armed and fired */
	uint64_t next_ns; /* the first deadline, or before it */
	struct loop_timer timer;
};

int watch_init(struct session_table *t);   /* -ENOMEM */
void watch_begin(struct session_table *t); /* the epoch is known */
void watch_done(struct session_table *t);  /* nothing is armed (asserted) */
void watch_arm(struct session_req *r);     /* a running one */
void watch_stop(struct session_req *r);    /* -ECANCELED, unless it has ended; from anywhere */
void watch_changed(struct session_table *t, const struct pst_op *op); /* it ended well */
void watch_recheck(struct session_table *t);                          /* an end came nearer */
int watch_poll(struct session_table *t);

/* Of lines in the audit log. */
struct audit_budget {
	uint64_t second;
	uint32_t count, suppressed;
};

struct session_table {
	struct store *store;
	struct loop *loop;
	struct session_opts opts;
	uint8_t uuid[16];
	uint64_t epoch;
	struct {
		uint64_t epoch;
		uint32_t number;
	} opening[OPENINGS_MAX]; /* in order of epochs */
	unsigned opening_count;
	uint32_t sys_cont;
	EVP_MAC *hmac;
	EVP_MAC_CTX *scratch; /* for keys of capabilities */
	struct hkey key[2];   /* [0] seals */
	struct rng rng;       /* in simulation */
	struct cap **cap;     /* in order of ids; _room: how many fit */
	uint32_t cap_count, cap_room, caps_coming;
	struct list
	        revoking; /* struct cap_op: deleted in the store, their requests may still run */
	uint64_t next_cap;
	struct tenant **tenant; /* in order of ids */
	uint32_t tenant_count;
	struct list hash[SESSION_HASH];
	uint32_t session_count;
	struct list conns;
	uint32_t conn_count;
	struct list every; /* session */
	uint32_t ending;   /* sessions */
	struct sched sched;
	uint32_t running;
	uint64_t running_bytes;
	struct watches watches;
	struct list busy;                /* requests that the store did not take, by item.link */
	struct list sys_busy, sys_ended; /* struct sys_op */
	uint32_t sys_count;
	struct loop_poller poller;
	struct loop_timer sweep, rate;
	bool pump; /* there may be a request to start */
	bool closing_down;
	struct audit_budget audit_strangers, audit_known;
	struct table_figures fig;
};

/* --- opening.c --- */

int opening_load(struct session_table *t, uint64_t epoch,
                 const struct opening_rec *r); /* -EBADMSG */
/* Draws this one's number and keeps it, once the others are loaded. Turns the loop. A store without space is
 * no error: then this one has none. */
int opening_begin(struct session_table *t, struct pst_err *err);

/* --- sys.c: ops of the table's own --- */

struct sys_op {
	struct pst_op op;
	struct session_table *t;
	struct list link;
	void (*done)(struct sys_op *o, int status); /* from the poller; then it is freed */
	void *arg;
	void *arg2;
	struct pst_mut mut[SYS_MUTS];
	uint8_t key[SYS_MUTS][9];
	uint8_t val[SYS_MUTS][SYS_VAL_MAX];
};
struct sys_op *sys_new(struct session_table *t, enum pst_opcode opcode,
                       void (*done)(struct sys_op *o, int status), void *arg); /* NULL: memory */
void sys_put(struct sys_op *o, uint8_t kind, uint64_t number, unsigned number_len, const void *val,
             uint32_t val_len);
void sys_del(struct sys_op *o, uint8_t kind, uint64_t number, unsigned number_len);
void sys_go(struct sys_op *o);
int sys_poll(struct session_table *t);
int sys_load(struct session_table *t, struct pst_err *err);

/* --- table.c --- */

struct tenant *tenant_find(struct session_table *t, uint32_t id);
struct tenant *tenant_get(struct session_table *t, uint32_t id, int *ret_err); /* made if new */
int tenant_load(struct session_table *t, const struct tenant_rec *r);
void qos_fill(struct qos *q, const struct qos *defaults);
void audit_tell(struct session_table *t, struct audit_event *e);
void audit_request(struct session_conn *c, const struct session_req *r, int status);
void table_wake(struct session_table *t); /* the poller has something to do */
void counts_tell(struct session *s); /* adds what it counted since the last time to its tenant's */

/* --- session.c --- */

struct session *session_find(struct session_table *t, uint64_t number);
int session_load(struct session_table *t, const struct session_rec *r);
/* Ends it: cuts its connection (if @why) and stops its requests. */
void session_finish(struct session *s, int why);
void session_maybe_gone(struct session *s);
void session_end_rest(struct session_table *t); /* those that a crash left half ended */
void session_free(struct session *s);
void session_sweep(struct session_table *t);

/* Tells the audit that it ends for its silence; @why: a sentence, where there is more to say, or NULL. */
void session_tell_expired(const struct session *s, const char *why);

/* --- crowd.c --- */

uint32_t crowd_holder(const struct ident *id);
/* May one more session be opened, of tenant @n (NULL: one without settings)? Ends another for it, where that is needed
 * and one may go. 0; -EAGAIN, -EDQUOT: as session_open(). */
int crowd_enter(struct session_table *t, const struct tenant *n);

/* held inodes */
bool held_find(const struct session *s, uint32_t cont, uint64_t ino);
int held_reserve(struct session *s); /* room for one more, beside those coming */
void held_add(struct session *s, uint32_t cont, uint64_t ino); /* after that; not there yet */
void held_del(struct session *s, uint32_t cont, uint64_t ino);
void held_let_go(struct session_table *t, uint32_t cont, uint64_t ino); /* the store's, once */
void held_release_all(struct session *s);

/* --- cap.c --- */

struct cap *cap_find(const struct session_table *t, uint64_t id);
int cap_load(struct session_table *t, const struct cap_rec *r);
int cap_add_owner(struct session_table *t);
void cap_free_all(struct session_table *t);
void cap_poll(struct session_table *t);
static inline int cap_good(const struct cap *c, uint64_t now_real_ns)
{
	if (unlikely(c->revoked))
		return -EKEYREVOKED;
	if (unlikely(c->info.expiry_ns && c->info.expiry_ns <= now_real_ns))
		return -EKEYEXPIRED;
	return 0;
}

/* --- handle.c --- */

int hkey_set(struct session_table *t, struct hkey *k, uint16_t number, const uint8_t key[32]);
void hkey_done(struct hkey *k);
/* First 16 bytes of HMAC-SHA-256 under @key over @data. */
int mac_16(struct session_table *t, const uint8_t key[32], const void *data, size_t len,
           uint8_t ret_mac[16]);
int handle_seal(struct session *s, const struct cap *cap, uint32_t rights, uint32_t cont,
                struct pst_oid oid, uint64_t view, uint8_t ret_handle[SESSION_HANDLE_BYTES]);
/* Steps 1 to 3, and the capability's existence: the cached entry of a handle of @view, verified; or
 * -errno. It may have expired less than @grace_s ago. */
int handle_lookup(struct session_conn *c, const uint8_t *bytes, uint64_t view, uint64_t grace_s,
                  const struct cached **ret_entry);
void handle_caches_drop(struct session_table *t, const struct cap *cap); /* NULL: all */

/* --- slot.c --- */

/* 0: go on; -EINPROGRESS: parked; -ESTALE; -EPROTO. Takes the slot when it returns 0. */
int slot_judge(struct session *s, struct session_req *r);
void slot_end(struct session *s, struct session_req *r, int status);
void slot_forget(struct session *s, struct session_req *r);    /* it never ran */
void slot_skip(struct session *s, const struct pst_token *tk); /* it was refused */

/* --- narrow.c: answers without what is not their client's to know --- */

bool narrow_wants(const struct session *s, const struct session_req *r); /* it is admitted */
void narrow_begin(struct session_req *r);                                /* it is submitted */
void narrow_entry(const struct session *s, struct pst_cont_info *i);     /* of a list */

/* --- admit.c, run.c --- */

void req_stop(struct session_req *r, int status);
/* Requests that wait for their turn are over. */
void reqs_drop_waiting(struct session *s, const struct session_conn *only, int status);
/* Every request of a session, or by a capability, is stopped: req_stop(). */
void reqs_stop(struct session *s, int status);
void reqs_stop_cap(struct session_table *t, const struct cap *c, int status);
/* It is none of its session's and capability's any more. */
static inline void req_leave(struct session_req *r)
{
	struct session *s = r->session;
	struct cap *c = r->cap;

	list_del(&r->link);
	if (unlikely(r->doomed.next)) {
		list_del(&r->doomed);
		r->doomed.next = NULL;
	}
	r->cap = NULL;
	c->reqs--;
	if (unlikely(c->revoker)) /* who may wait for this */
		table_wake(s->table);
	s->running_bytes -= r->bytes;
	s->tenant->running_bytes -= r->bytes;
	r->state = REQ_NONE;
}
void req_held(struct session_req *r, int status); /* it ended: what the session holds then */
static inline bool run_room(const struct session_table *t)
{
	return t->running < t->opts.running_max && t->running_bytes < t->opts.running_bytes;
}
/* Nobody waits, and no rate is set anywhere on the way: sched_pass() in short. */
static inline bool run_unlimited(const struct session *s, const struct session_req *r)
{
	return !s->table->sched.queued && !bucket_limits(&r->cap->bucket) &&
	       !bucket_limits(&s->flow.bucket) && !bucket_limits(&s->tenant->flow.bucket);
}
static inline void run_start(struct session *s, struct session_req *r)
{
	r->state = REQ_RUNNING;
	s->running++;
	s->tenant->running++;
	s->table->running++;
	s->table->running_bytes += r->bytes;
}
int run_enter_limited(struct session *s, struct session_req *r, bool parked);
/* It starts (0), or waits for its turn (-EINPROGRESS), as it does anyway if it is to be @parked. */
static inline int run_enter(struct session *s, struct session_req *r, bool parked)
{
	if (unlikely(parked || !run_room(s->table) || !run_unlimited(s, r)))
		return run_enter_limited(s, r, parked);
	run_start(s, r);
	return 0;
}
/* One that ran has ended: there is room for others. */
static inline void run_leave(struct session *s, const struct session_req *r)
{
	s->running--;
	s->tenant->running--;
	s->table->running--;
	s->table->running_bytes -= r->bytes;
	if (unlikely(s->table->sched.queued))
		table_wake(s->table);
}
void run_unpark(struct session_req *r);
int run_poll(struct session_table *t);
void run_rate_fired(struct loop_timer *timer);

#endif
