/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * grpc_int - what the files of the gRPC front share.
 *
 * A call's life, and on which thread:
 *   WAITING   asked of gRPC, none has come                                     front
 *   READING   its message is awaited; cancelled after CLIENT_S                 front
 *   RUNNING   on the loop: the method's handler, and what it started           loop
 *   SENDING   the answer is on its way; cancelled after CLIENT_S               front
 *   gone      when the answer has gone out (or can't) and the call is closed   whoever is last
 *
 * References: one for the closing of the call, one for the way from WAITING to the end of SENDING.
 *
 * Two methods are streams. Reflection's stays on the front's thread, which reads and sends in turn. One of
 * Health/Watch (health.c) is the loop's once its message has come; it counts apart from other calls, which it
 * would keep out, and both its references are given back on the loop.
 */
#ifndef FRONT_GRPC_GRPC_INT_H
#define FRONT_GRPC_GRPC_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <grpc/support/log.h>
#include <grpc/support/time.h>

#include "front/grpc/grpc.h"
#include "net/net.h"
#include "control.pb-c.h"
#include "health.pb-c.h"
#include "reflection.pb-c.h"

#define HEALTH_SERVING GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
#define HEALTH_NOT     GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING
#define HEALTH_UNKNOWN GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN

#define CALLS_WAITING 16        /* asked of gRPC at a time */
#define CLIENT_S      20        /* a call without its message, or whose answer is not taken */
#define MESSAGE_MAX   (5 << 20) /* bytes of a request: content of a file, and its names */
#define PAGE_MAX      1000      /* entries of one answer */
#define WATCHERS_MAX  256       /* of the health; they don't count as calls */
#define STOP_S        1         /* for watchers to hear of the end */

#define SHOWN_MAX 64 /* of a name in a sentence, and a NUL */

struct gcall;

/* The file's text, the caller's to free; NULL: *ret_err says why, with a sentence. */
char *front_read_pem(const char *path, struct pst_err *err, int *ret_err);
void front_log(gpr_log_func_args *args); /* gRPC's own lines, into our log */

/* Runs on the loop. Ends by call_end(), now or later. */
typedef void call_handler(struct gcall *c);

enum method_kind {
	METHOD_CALL,      /* one message, one answer */
	METHOD_WATCH,     /* one message, answers as they come: health.c */
	METHOD_QUESTIONS, /* as many messages as answers: reflect.c */
};

struct method {
	char path[96]; /* "/penstock.v1.Server/OpenSession" */
	const ProtobufCMessageDescriptor *in;
	call_handler *handler; /* NULL of METHOD_QUESTIONS */
	enum method_kind kind;
};

enum call_step {
	CALL_NEW,
	CALL_MESSAGE,
	CALL_CLOSED,
	CALL_SENT,
	CALL_STREAM, /* an answer of a stream went out */
};

struct call_tag {
	struct gcall *call;
	enum call_step step;
};

/* A session that is attached here; the loop's. */
struct fsession {
	struct list link;
	struct grpc_front *front;
	struct session_conn conn;
	uint64_t number, last_ns;
	uint8_t secret[SESSION_SECRET_BYTES];
	char peer[96]; /* where its last call came from */
	unsigned calls;
	int why; /* it was cut off; 0: it was not */
	bool gone;
};

struct gcall {
	struct grpc_front *front;
	struct list link; /* front's, its thread's */
	grpc_call *call;
	grpc_call_details details;
	grpc_metadata_array meta;
	grpc_byte_buffer *payload, *reply;
	_Atomic int refs;
	int cancelled;
	/* Its client is waited for since then (monotonic, seconds): for its message, or to take an answer.
	 * 0: it is not. Nobody waits for watchers. */
	_Atomic int64_t awaited_s;
	bool begun;    /* a stream: its initial metadata has gone out */
	bool watching; /* counts among the watchers */
	struct call_tag tag[5];
	const struct method *method;
	ProtobufCMessage *in;
	char *peer;     /* gRPC's name of it */
	char cert[256]; /* "": none that was verified */
	char bearer[128];
	size_t bearer_len; /* 0: none; above sizeof(bearer): too long */
	bool bearer_bad;   /* "authorization" says something else */
	struct loop_msg msg;
	struct loop_msg closed_msg; /* a watcher's */
	bool sent_ok;               /* for msg: of its last answer */

	/* the loop's, while RUNNING */
	struct fsession *session;
	void (*finish)(struct gcall *c, int status);
	void *out; /* a reply that is being collected */
	size_t count;
	bool more;
	struct ident ident;
	union {
		struct session_open open;
		struct cap_op cap;
		struct tenant_op tenant;
	} u;
	struct session_req req;
	struct iovec iov;
	struct pst_cont_info cont;
	struct pst_snap_info snap;
	struct pst_store_status *status;
	char text[PST_PATH_MAX];
	char why[512]; /* it failed; "": strerror() has to do */
	uint8_t handle[SESSION_HANDLE_BYTES];
	bool has_handle;
	/* a watcher's */
	struct list watcher;
	bool known;   /* its service is served here */
	bool sending; /* an answer is on its way: no other one goes until CALL_STREAM */
	bool ending, closed;
	int told; /* the status that its client heard last; -1: none */
};

struct peer_cred {
	uint32_t uid, gid;
	bool known;
};

struct grpc_front {
	struct grpc_front_opts opts;
	char *strings[5]; /* the options' own */
	struct loop *loop;
	struct session_table *table;
	grpc_server *server;
	grpc_completion_queue *cq;
	grpc_server_credentials *plain;
	unsigned port;
	pthread_t thread;
	bool threaded;
	_Atomic bool stopping;

	/* the front's thread's */
	struct list calls;
	unsigned live, waiting, watching;

	/* the loop's */
	struct list sessions, watchers;
	struct loop_msg over; /* the thread's last word */
	struct loop_timer sweep;
	int health; /* of all services */
	struct pst_op health_op;
	struct pst_store_status *health_status;
	bool health_asked;
	struct net_hold *place; /* of the unix socket */
	struct loop_fd listener;
	bool listening;
	struct peer_cred *peers; /* by file descriptor */
	int fd_first, fd_end, fd_next;
};

/* --- server.c --- */

/* Sends the answer: @out (may be NULL if @status is not 0) is packed before it returns. The last thing
 * that is done with @c: the front's thread may have freed it by then. */
void call_end(struct gcall *c, int status, const ProtobufCMessage *out);
void call_unref(struct gcall *c);
/* The last thing that is sent, after c->reply if there is one. Any thread. */
void call_send(struct gcall *c, grpc_status_code code, const char *text);
/* A stream's: c->reply goes out, and when it has, CALL_STREAM comes. Any thread. */
void call_stream(struct gcall *c);
/* Packs @m into c->reply. */
void call_reply(struct gcall *c, const ProtobufCMessage *m);

/* --- why.c --- */

/* Keeps the sentence for call_end(), and returns @status. */
int call_fail(struct gcall *c, int status, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
/* The sentence for a request that went through a session, and failed. */
void why_request(struct gcall *c, int status);
const char *shown(char buf[SHOWN_MAX], const char *s);
const char *method_name(const struct gcall *c); /* without its service */
/* What stands before the name of a NameRequest's field: ReadDir has one inside. */
const char *name_field(const struct gcall *c);

/* --- strings.c --- */

/* 0, or -EINVAL: a string of the message in @data is not plain text, with a sentence. */
int strings_check(const ProtobufCMessageDescriptor *d, const uint8_t *data, size_t len,
                  struct pst_err *err);

/* --- methods.c --- */

const struct method *method_find(const char *path, size_t len);
void methods_init(void);
bool service_known(const char *name);

/* --- auth.c --- */

int unix_listen(struct grpc_front *f, const char *path, struct pst_err *err);
void unix_close(struct grpc_front *f);
/* Who asks: what its connection and its token give. 0 or -EACCES and others, if nothing does. */
int call_identify(struct gcall *c, struct ident *ret_id);
/* The same, and it has the right ADMIN on all containers. */
int call_admin(struct gcall *c);
/* The session that the message names, attached here. */
int call_session(struct gcall *c, const Penstock__V1__Session *m);
struct fsession *fsession_new(struct grpc_front *f);
void fsession_peer(struct fsession *s, const struct gcall *c);
void fsession_put(struct fsession *s); /* a call less */
void fsession_end(struct fsession *s); /* detaches it; freed when its calls have ended */
void fsessions_sweep(struct grpc_front *f);
/* Runs c->req.op in c->session; c->finish runs when it has ended. */
void call_run(struct gcall *c, const Penstock__V1__Token *token,
              void (*finish)(struct gcall *c, int status));

/* --- the handlers --- */

call_handler do_open_session, do_keep_alive, do_close_session, do_status, do_list_sessions,
        do_rotate;
call_handler do_create_container, do_get_container, do_set_container, do_destroy_container,
        do_list_containers, do_create_snapshot, do_get_snapshot, do_destroy_snapshot,
        do_list_snapshots;
call_handler do_name, do_read_dir;
call_handler do_grant, do_renew, do_revoke, do_list_capabilities, do_set_tenant, do_list_tenants;
call_handler do_health, do_watch;

/* --- health.c: on the loop --- */

/* Asks the store how it is, and tells watchers if that is news. */
void health_ask(struct grpc_front *f);
/* Messages of a watcher: an answer went out, or could not; the last thing did; its call is over. */
void watch_sent(struct loop_msg *m);
void watch_gone(struct loop_msg *m);
void watch_closed(struct loop_msg *m);
/* The server ends: they hear of it. */
void watchers_end(struct grpc_front *f);

/* --- reflect.c: on the front's thread --- */

/* The answer to one question, packed; NULL: no memory. */
grpc_byte_buffer *reflect_answer(const uint8_t *data, size_t len);

static inline void fill_endpoint(const struct grpc_endpoint *from, Penstock__V1__Endpoint *to)
{
	penstock__v1__endpoint__init(to);
	to->channel = (char *)(uintptr_t)from->channel;
	to->address = (char *)(uintptr_t)from->address;
	to->provider = (char *)(uintptr_t)from->provider;
	to->options = (char *)(uintptr_t)from->options;
	to->port = from->port;
	to->tls = from->tls;
	to->client_certificate = from->client_cert;
	to->sealing = from->seal_required ? PENSTOCK__V1__SEALING__SEALING_REQUIRED
	              : from->seal_taken  ? PENSTOCK__V1__SEALING__SEALING_TAKEN
	                                  : PENSTOCK__V1__SEALING__SEALING_REFUSED;
	to->version = from->version;
	to->version_min = from->version_min;
}

static inline void fill_endpoints(const struct grpc_front *f, Penstock__V1__Endpoint *e,
                                  Penstock__V1__Endpoint **list)
{
	for (unsigned i = 0; i < f->opts.endpoints; i++) {
		fill_endpoint(&f->opts.endpoint[i], &e[i]);
		list[i] = &e[i];
	}
}

#endif
