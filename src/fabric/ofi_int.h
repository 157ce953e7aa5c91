/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ofi_int - the channel over libfabric: reliable datagram endpoints, one pair for each channel, in a
 * domain of its own, so that what one channel shows no other can reach. docs/fabric.md has the tables.
 *
 * A TCP connection beside it, the *side*, is where one listens and connects. The first words go over
 * it (who the endpoints are, the limits, a number that each frame must carry), and its end is how the
 * death of a process is noticed. Everything else goes over the endpoints: *frames*, a head of 32 bytes
 * and maybe a message, and transfers.
 *
 *   O1. Memory that an operation of libfabric uses is the provider's until its completion, or until
 *       fi_close() of the endpoint has returned. So transfers that are cut off end after that, and no
 *       sooner.
 *   O2. Closing a registration does not stop a write that has begun (seen on tcp). So a window is
 *       closed in this order: CLOSE is sent; the peer starts nothing new on it, waits for what it has
 *       under way, and answers CLOSED, which no write of its can overtake; the registration is closed;
 *       closed() runs. If no answer comes the channel dies, and its endpoint with it (O1).
 *   O3. A provider makes a connection that was lost anew, and says nothing of what was lost with it. So
 *       frames have numbers, and a gap, or any operation that fails, ends the channel.
 *   O4. Anybody who can reach the endpoint can send to it. A frame without this channel's number is
 *       dropped, and keys are random where the provider lets us choose them.
 *   O5. What can't be posted now (the provider says try again) waits in a queue, in order; what is in
 *       the queue is bounded by credits, windows and transfers.
 */
#ifndef FABRIC_OFI_INT_H
#define FABRIC_OFI_INT_H

#include "fabric/fabric_int.h"
#include "net/net.h"

/* After ours: they define container_of() where it is not. */
#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>

#define OFI_MAGIC   0x3149464f54532d50ull /* "P-STOFI1" */
#define OFI_VERSION 1
/* What ofi_rxm sends in one go; longer ones wait for their receiver, and shorter ones overtake them. */
#define OFI_FRAME_MAX    (16u * 1024)
#define OFI_MSG_LIMIT    (OFI_FRAME_MAX - 32)
#define OFI_INLINE_MAX   (16u * 1024)
#define OFI_INJECT_WANT  (16u * 1024) /* sent without a completion, if the provider can */
#define OFI_NOW_MAX      512 /* bytes of a frame that is: longer ones are copied once only, by us */
#define OFI_CHUNK_BYTES  (1u * 1024 * 1024)
#define OFI_IOV_MAX      4
#define OFI_WINDOWS_MAX  65536u
#define OFI_XFERS_LIMIT  4096u
#define OFI_CREDITS_MAX  4096u
#define OFI_RX_MORE      16 /* receives posted beyond the peer's credits, for frames that need none */
#define OFI_PIECES_MAX   64 /* of a window */
#define OFI_PROVIDER_MAX 32
#define OFI_NAME_MAX     64
#define OFI_REVOKED      64 /* windows that the peer closed, and we remember */

/* --- what is on the wire --- */

enum ofi_type {
	OFI_READY = 1,  /* the first frame of each end */
	OFI_MSG = 2,    /* payload: the message */
	OFI_CREDIT = 3, /* only for its credits */
	OFI_CLOSE = 4,  /* @window: nothing more, please; and say when nothing is under way */
	OFI_CLOSED = 5, /* @window: nothing is, and nothing will be */
	OFI_PING = 6,
	OFI_PONG = 7,
	OFI_BYE = 8, /* the end, on purpose */
};

struct ofi_head {
	le64 token; /* as the receiver gave */
	le32 seq;   /* 0, 1, 2, ... (O3) */
	le16 credits;
	uint8_t type;
	uint8_t zero;
	le32 len; /* of the payload */
	le32 window;
	uint8_t zero2[8];
};
_Static_assert(sizeof(struct ofi_head) == 32, "OFFSET table in docs/fabric.md");

/* On the side: the one that connects first, then the other. */
struct ofi_hello {
	le64 magic;
	le16 version;
	le16 name_len; /* 0: refused, for @status */
	le32 status;   /* an errno value */
	le32 msg_max, msg_credits, xfers_max, windows_max;
	le64 token;
	char provider[OFI_PROVIDER_MAX];
	le32 protocol; /* the provider's, of endpoints */
	uint8_t zero[12];
	uint8_t name[OFI_NAME_MAX]; /* of the endpoint, as the provider has it */
};
_Static_assert(sizeof(struct ofi_hello) == 152, "OFFSET table in docs/fabric.md");

/* A window of several pieces shows this table of them; what is not used is 0. */
struct ofi_piece {
	le64 key, addr, len;
};
struct ofi_table {
	struct ofi_piece at[OFI_PIECES_MAX];
};

/* fabric_desc.region: which window it is, for CLOSE; and whether key and addr are a table's. */
#define OFI_WINDOW_LIST (1u << 31)

/* --- libfabric itself: what it exports; the rest are calls through its objects --- */

extern struct ofi_lib {
	struct fi_info *(*dupinfo)(const struct fi_info *info); /* NULL: a new one */
	void (*freeinfo)(struct fi_info *info);
	int (*getinfo)(uint32_t version, const char *node, const char *service, uint64_t flags,
	               const struct fi_info *hints, struct fi_info **ret_info);
	int (*fabric)(struct fi_fabric_attr *attr, struct fid_fabric **ret_fabric, void *context);
	const char *(*strerror)(int err);
} ofi_lib;
/* Loads it, once; any thread, blocks while it does. -ENOTSUP with a sentence: it isn't there. Whoever has
 * an ofi_fab has loaded it. */
int ofi_lib_load(struct pst_err *err);

/* --- libfabric, once per loop and address --- */

struct ofi_fab {
	struct list link;
	char provider[OFI_PROVIDER_MAX];
	struct net_addr local; /* its port is 0 */
	struct fi_info *info;
	struct fid_fabric *fabric;
};

/* What a loop has of it. */
struct ofi_part {
	struct loop_part part;
	struct loop *loop;
	unsigned held;
	struct list fabs;
	struct list chans; /* whose local registrations end with their regions */
	struct list regions;
	struct mem_domain domain;
};

struct ofi_ep {
	struct ofi_fab *fab;
	struct fid_domain *domain;
	struct fid_av *av;
	struct fid_cq *cq;
	struct fid_ep *ep; /* NULL: closed (O1) */
	fi_addr_t peer;
	int fd; /* that wakes; -1: there is none, and the channel is polled */
	bool local_keys, virt_addr, prov_key;
	uint64_t done_flag; /* what a write's completion has to wait for */
	size_t inject_max, iov_max;
};

int ofi_part_get(struct ofi_part **ret_p, struct loop *loop); /* holds it; -ENOMEM */
void ofi_part_put(struct ofi_part *p);
/* "tcp" for "tcp;ofi_rxm", and so on. -EINVAL with a sentence. */
int ofi_provider_name(char ret_name[OFI_PROVIDER_MAX], const char *text, struct pst_err *err);
/* fabric_provider.check: libfabric knows each layer of opts->provider by its name. */
int ofi_check(const struct fabric_opts *opts, struct pst_err *err);
/* Lets libfabric start its providers, once in a process, so that no peer's deadline pays for it: verbs reads
 * the kernel's whole list of symbols. BLOCKS for 0.1 s, and for seconds where the processor is slow; the
 * loop's clock is read anew. -ENOTSUP with a sentence. */
int ofi_start(struct loop *loop, const char *provider, struct pst_err *err);
/* For endpoints at @local. BLOCKS when it is asked for the first time: for 0.1 s and more. -ENOTSUP,
 * -ENOMEM, with a sentence. */
int ofi_fab_get(struct ofi_fab **ret_f, struct ofi_part *p, const char *provider,
                const struct net_addr *local, struct pst_err *err);
int ofi_ep_open(struct ofi_ep *e, struct ofi_fab *f);
void ofi_ep_stop(
        struct ofi_ep *e); /* nothing of ours is used any more (O1); accepts a half-made one */
void ofi_ep_close(struct ofi_ep *e); /* all registrations are closed before */
int ofi_mr_open(struct fid_mr **ret_mr, struct ofi_ep *e, const void *at, size_t len,
                uint64_t access);
void ofi_mr_close(struct fid_mr *mr); /* accepts NULL */
int ofi_errno(ssize_t rc);            /* libfabric's own codes become -EIO */

/* --- the channel --- */

struct ofi;

/* What libfabric gives back with a completion; the first member of all that is posted. */
enum ofi_kind { OFI_RX, OFI_TX, OFI_JOB };
struct ofi_ctx {
	struct fi_context2 fi;
	enum ofi_kind kind;
};

struct ofi_rx {
	struct ofi_ctx ctx;
	uint8_t *buf;
};

/* A frame that waits, or that the provider has. */
struct ofi_tx {
	struct ofi_ctx ctx;
	struct list link; /* in o->txq, or o->tx_spare */
	uint32_t len;     /* of the message */
	uint8_t *buf;     /* head and message */
};

/* A local registration, where the provider wants them. */
struct ofi_local {
	struct list link; /* in o->locals */
	struct mem_region *region;
	struct fid_mr *mr;
};

struct ofi_window {
	struct chan_window *w; /* NULL: free */
	struct list link;      /* while closing: in o->closes, then in o->told */
	uint32_t id;
	uint32_t next_free;
	bool closing;
	uint64_t told_ns;
	struct fid_mr *mr; /* of the piece, or the table */
	struct fid_mr **piece_mr;
	struct ofi_table *table;
};

enum job_phase { JOB_DATA, JOB_TABLE };

struct ofi_job {
	struct ofi_ctx ctx;
	struct ofi *o;
	struct list link;    /* in o->jobs, or o->jobs_spare */
	struct list waiting; /* in o->blocked: to be posted (O5) */
	struct chan_xfer *x;
	enum job_phase phase;
	bool write, flying, revoked;
	uint64_t at;
	uint32_t chunk;
	struct fid_mr **mr; /* of memory of no region: one for each entry of x->iov */
	struct fid_mr *region_mr;
	struct ofi_table *table;
	struct fid_mr *table_mr; /* local */
};

enum ofi_state { OFI_CONNECTING, OFI_UP, OFI_DOWN, OFI_CLOSING };

/* Strangers: each that has said a good hello has an endpoint, of some 30 MiB. */
#define OFI_CROWD_MAX 256

struct ofi {
	struct chan c;
	enum ofi_state state;
	int status;
	struct fabric_opts opts;
	char provider[OFI_PROVIDER_MAX];
	struct ofi_part *part;
	struct list part_link;

	struct net_sock *sock; /* NULL: closed */
	bool sock_gone, fd_watched, fd_gone, polling, bye, ended;
	struct ofi_listener *listener; /* before it is up */
	struct loop_timer timer;       /* always armed */
	bool never_up;                 /* where it connected to: there is nothing to deliver */
	struct loop_poller poller;
	struct loop_fd wake;
	struct ofi_ep ep;

	uint64_t token_in, token_out;
	uint32_t seq_in, seq_out;
	struct ofi_rx **early; /* by number: frames that came before their turn */
	uint32_t early_count;
	uint64_t early_ns;
	uint32_t credits, credits_max, owed;
	bool want_ready, place_came;
	bool ready_due, credit_due, ping_due, pong_due, bye_due;
	uint64_t probe_ns;
	unsigned silent;
	bool heard;

	uint8_t *rx_slab, *tx_slab;
	size_t buf_bytes;
	struct fid_mr *rx_mr, *tx_mr;
	struct ofi_rx *rx;
	struct ofi_tx *tx;
	uint32_t rx_count, tx_count;
	struct list txq, tx_spare;
	struct list locals;

	struct ofi_window *windows; /* opts.windows_max of them, from the first use */
	uint32_t windows_count, windows_free, window_number;
	struct list closes, told;
	uint32_t *answers; /* ring: windows to answer CLOSED for */
	uint32_t answers_max, answers_at, answers_count;
	uint32_t revoked[OFI_REVOKED];
	unsigned revoked_at;

	struct list jobs, jobs_spare, blocked;
	uint32_t jobs_count;
};

static inline bool ofi_live(const struct ofi *o)
{
	return o->state == OFI_UP && !o->status;
}

/* ofi.c */
extern const struct chan_ops ofi_ops;
void ofi_broken(struct ofi *o, int status); /* down, later */
void ofi_soon(struct ofi *o);               /* the timer runs in a later turn */
void ofi_timer_fired(struct loop_timer *timer);
int ofi_poll(struct loop_poller *p);
bool ofi_may_sleep(struct loop_poller *p);
bool ofi_sleeps(struct loop_poller *p);
int ofi_buffers(struct ofi *o); /* makes them, and posts the receives */
void ofi_side_down(struct ofi *o, int status);

/* ofi_xfer.c */
int ofi_write(struct chan *c, struct chan_xfer *x);
int ofi_read(struct chan *c, struct chan_xfer *x);
void ofi_job_done(struct ofi_job *j, int status); /* its operation has completed */
void ofi_jobs_flush(struct ofi *o);               /* posts what waits */
void ofi_jobs_end(struct ofi *o, int status);     /* the endpoint is closed (O1) */

/* ofi_window.c */
int ofi_window_open(struct chan *c, struct chan_window *w);
void ofi_window_close(struct chan *c, struct chan_window *w);
void ofi_windows_end(struct ofi *o,
                     bool all); /* the endpoint is closed: those that are closing, or all */
int ofi_close_came(struct ofi *o, uint32_t id);
int ofi_closed_came(struct ofi *o, uint32_t id);
bool ofi_revoked(const struct ofi *o, uint32_t id);
int ofi_answer(struct ofi *o, uint32_t id); /* CLOSED is due; -EPROTO: too many */

/* ofi_connect.c */
extern struct fabric_provider ofi_provider;
int ofi_up(struct ofi *o); /* READY has come */
bool ofi_end(struct ofi *o);

#endif
