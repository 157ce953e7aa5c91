/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * server - what `penstock serve` runs: a store, its sessions, and the listeners in front of them,
 * on one loop. It knows nothing of the command line.
 */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include "fabric/fabric.h"
#include "loop/loop.h"
#include "loop/thread.h"
#include "session/session.h"
#include "store/store.h"
#include "wire/place.h"
#include "wire/wire.h"

#define SERVER_LISTEN_MAX  8
#define SERVER_DOORS_MAX   16
#define SERVER_ADDRS_MAX   (2 * SERVER_LISTEN_MAX + 2) /* the control plane's, the metrics' */
#define SERVER_TENANTS_MAX 256                         /* set by the configuration */

#define SERVER_LISTEN_DEFAULT "127.0.0.1:" WIRE_PORT

struct audit_file;
struct metrics;
struct grpc_front;
struct net_hold;

/* A tenant's settings, made durable when the server starts. */
struct server_tenant {
	uint32_t id;
	char name[SESSION_TEXT_MAX];
	struct qos qos;
};

struct server_opts {
	const char *store;  /* "local:DEV..." */
	const char *config; /* the file that these are from, or NULL */
	/*
	 * "0,2-5": one reactor on each of these cores, among which the engine's shards are parted. The
	 * first of them is the server's loop, on the thread that opens it, with the doors and sessions.
	 * NULL: that one alone, on whatever core.
	 */
	const char *cores;
	bool poll; /* the other reactors never sleep either */
	/* HOST:PORT; none: 127.0.0.1:7440. Port 0: any that is free. */
	const char *listen[SERVER_LISTEN_MAX];
	unsigned listen_count;
	const char *channels; /* "pipe,tcp": which; NULL: all that this build has, but ofi */
	const char *socket;   /* of the pipe; NULL: beside the first port */
	bool insecure;        /* whoever comes may do everything */
	/* "auto", "required", "off" (wire/seal.h); NULL: auto. Not required with @insecure. */
	const char *seal;
	/* PEM files. With a certificate and its key tcp speaks TLS and nothing else; with an authority
	 * too, clients must show a certificate of it. Not with @insecure. */
	const char *tls_cert, *tls_key, *tls_ca;
	/* Of the control plane: HOST:PORT; "none"; NULL: the port after the first of tcp. Its unix
	 * socket lies beside the pipe's. */
	const char *control;
	const char *metrics;          /* HOST:PORT of the metrics, or NULL: none */
	const char *audit_log;        /* a file, or NULL: none; stays until the server is closed */
	const char *log_level;        /* error, warning, info, debug; NULL: warning */
	struct server_tenant *tenant; /* the caller's, read by server_open() */
	unsigned tenant_count;
	struct session_opts session;
	struct wire_listener_opts listener;
	struct fabric_opts fabric;
};

struct server_door {
	const char *provider;
	const char *addr; /* as it was given out: with the port that was chosen */
	bool tls;
	bool sealed; /* whoever comes that way must seal, or be refused */
};

struct server_file;
struct server_files {
	struct server_file *at;
	unsigned count, room, devices;
};

struct server {
	struct loop *loop;
	int cores[CORES_MAX];
	unsigned core_count;                    /* 0: no list was given */
	struct loop_thread *reactor[CORES_MAX]; /* on cores[i + 1] */
	unsigned reactor_count;
	struct store *store;
	struct session_table *table;
	struct wire_listener *listener;
	struct net_tls *tls; /* NULL: none */
	enum seal_policy seal;
	struct server_door door[SERVER_DOORS_MAX];
	unsigned door_count;
	char socket[256];
	char ofi[64]; /* the provider of ofi; "": none */
	struct audit_file *audit;
	const char *audit_log;
	struct server_files files; /* that the audit log must not be */
	struct metrics *metrics;
	struct grpc_front *control; /* NULL: none */
	char control_addr[300], control_socket[WIRE_PLACE_MAX];
};

/* What goes behind its provider for people: "+tls", "+sealed" or "". */
const char *server_door_cover(const struct server_door *d);
/* "error", "warning", "info", "debug". */
bool server_log_level(const char *text, enum pst_log_level *ret_level);
/* From here on log lines go to the standard error output, as a journal or a person reads them. */
void server_log_start(enum pst_log_level level);

/*
 * What can be said of the options without opening a device, a port or a socket: 0, or -EINVAL, -EPERM,
 * -ENOENT, ..., with a sentence, and *@ret_at is the text that it is about (of @opts, or @devices: the
 * pointer itself; NULL: of several, or none). @devices: of opts->store. Looks at files; opens only TLS's; loads
 * libfabric if ofi is wanted. Any thread.
 */
int server_check(const struct server_opts *opts, const char *const *devices, unsigned device_count,
                 const char **ret_at, struct pst_err *err);

/*
 * Opens the store and its doors; what is in use is found out before the store is opened. Turns the loop. -EPERM: an address that others can reach, without
 * sealing, TLS or @insecure; the errors of stack_open(), session_table_open() and fabric_listen(), with a sentence.
 * On failure nothing stays open.
 */
int server_open(struct server *s, struct loop *loop, const struct server_opts *opts,
                struct pst_err *err);
/* The files that somebody renamed to have them anew: of these there is the audit log. What can't be opened, or is a
 * file of the server's own by now, goes on as it was. The log says which it is. On the loop's thread, at any time from server_open()'s begin. */
void server_reopen(struct server *s);
const char *server_metrics_addr(const struct server *s); /* NULL: none */
/* Ends what is under way (for up to @wait_ns) and closes everything. Turns the loop. 0, or what
 * store_close() says. */
int server_close(struct server *s, uint64_t wait_ns);

/* --- tls.c: what the parts of the server share --- */

/* What @o says of sealing. -EINVAL, with a sentence. */
int server_seal(enum seal_policy *ret_policy, const struct server_opts *o, struct pst_err *err);
/* Reads the files of TLS that @o names; if it names none, *@ret_tls stays. With a sentence. */
int server_tls_new(struct net_tls **ret_tls, const struct server_opts *o, struct pst_err *err);
/* May a door be opened at @host, which the option @option named as @text? @data: one whose channels
 * can be sealed. -EPERM: others can reach it, and nothing keeps them from reading and changing what
 * passes there. */
int server_may_listen(const struct server_opts *o, const char *option, const char *text,
                      const char *host, bool data, struct pst_err *err);

/* --- addrs.c: where a server is to be --- */

enum server_addr_kind {
	SERVER_ADDR_TCP,
	SERVER_ADDR_OFI,
	SERVER_ADDR_CONTROL,
	SERVER_ADDR_METRICS,
};

struct server_addr {
	enum server_addr_kind kind;
	const char *option, *text; /* of the option that it is of, or follows from */
	char who[400];             /* for sentences: "--metrics HOST:PORT" */
	char addr[300];            /* HOST:PORT */
	unsigned port;             /* 0: the kernel's choice */
	const char *bound;         /* of tcp, once it listens: where */
	bool not_tcp;              /* a port of RDMA's: in the way of none of the others */
};

/* Those of one --listen after the other, tcp before ofi; the texts are @o's. */
struct server_addrs {
	struct server_addr at[SERVER_ADDRS_MAX];
	unsigned count;
	const char *looked_at; /* the text that a sentence is about */
};

/* -EINVAL, -EPERM, ... with a sentence. Looks nothing up. Any thread. */
int server_addrs(struct server_addrs *ret_a, const struct server_opts *o, struct pst_err *err);
/* Where channel @name stands in the list of channels, or NULL. */
const char *server_channel(const struct server_opts *o, const char *name);
/* Splits what @option says. An absent host is 127.0.0.1, an absent port the data plane's. -EINVAL, with a sentence. */
int server_host_port(char *host, size_t host_len, unsigned *ret_port, const char *option,
                     const char *text, struct pst_err *err);

/*
 * All of these addresses, the pipe's @socket ("": not known yet) and the control plane's beside it are the server's
 * from here on, and nobody is let in: what is in use is found out before a store is opened. Let go of them, then
 * listen. BLOCKS, and fails, as net_hold() does; then none is held.
 */
struct server_hold {
	struct net_hold *at[SERVER_ADDRS_MAX + 2];
	unsigned count;
};
int server_hold(struct server_hold *h, const struct server_opts *o, const char *socket,
                struct pst_err *err);
void server_hold_done(struct server_hold *h); /* also twice */

/* --- files.c: nothing that a server lives on is written to as something else --- */

/* The files of "DEV,DEV..." and of what else @o names, as they are now, join @f, which is zeroed at first. Errors with
 * a sentence: -EBUSY, a device is the same as one of another; those of bdev_files(). Any thread. */
int server_files_devices(struct server_files *f, const char *text, struct pst_err *err);
int server_files_others(struct server_files *f, const struct server_opts *o, struct pst_err *err);
void server_files_done(struct server_files *f);
/* May the audit log be at @path, the pipe's socket being at @socket (NULL: not known)? -EINVAL, with a sentence. */
int server_files_audit(const struct server_files *f, const char *path, const char *socket,
                       struct pst_err *err);
/* May the pipe's socket be at @path? Its lock and the control plane's socket are beside it. -EEXIST, with a sentence. */
int server_file_socket(const struct server_opts *o, const char *path, struct pst_err *err);
/* Is there a folder for @path, which the option named, where we may make files? With a sentence. */
int server_file_folder(const char *option, const char *path, struct pst_err *err);

/* --- control.c --- */

extern const bool server_control_built; /* or it is left out of this build */
bool server_has_control(const struct server_opts *o);

/* After the data plane's doors. With a sentence. */
int server_control_open(struct server *s, const struct server_opts *o, struct pst_err *err);
void server_control_close(struct server *s); /* turns the loop; also if it was never opened */

#endif
