/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tcp_host - NVMe/TCP as a host speaks it, in the shape of a transport: towards the driver (host.h)
 * it is a controller with registers, doorbells and queues in memory. It takes entries from the
 * submission rings, sends them as capsules, and writes completions into the completion rings; so all
 * of the driver (timeouts, aborts, resets, the inline hot path) works on TCP as on anything else.
 * The memory is this process's own, and data goes between it and the socket without a copy.
 *
 *   association                  made by
 *   DOWN       -> CONNECTING     CC.EN is 1 (or the first connect): tcp_assoc_begin()
 *   CONNECTING -> READY          Connect, CAP and VS
 *   READY      -> ENABLING       CC.EN is 1: Property Set
 *   ENABLING   -> LIVE           CSTS.RDY, Identify: CSTS.RDY here, too
 *   any        -> CLOSING        CC.EN goes to 0, or a failure: all sockets are aborted
 *   CLOSING    -> DOWN           nothing refers to them any more: CSTS.RDY is 0
 *
 *  C1  CSTS.RDY is 0 only when no socket is left that could write into a caller's memory.
 *  C2  What is wrong with a connection asks the driver for a reset (t.failed); while CC.EN is 1 and
 *      there is no association, another try is made, later and later.
 *  C3  Ids on the wire are slots of ours, checked before anything is believed; bytes go only where
 *      a command that is under way has asked for them, in order.
 */
#ifndef NVME_TCP_HOST_H
#define NVME_TCP_HOST_H

#include "net/net.h"
#include "nvme/device.h"
#include "nvme/tcp_pdu.h"

#define TCP_PIECES_MAX   130u /* of one command's memory */
#define TCP_QUEUES_MAX   NVME_HOST_QUEUES_MAX
#define TCP_INTERNAL     4u                  /* slots of the admin queue that are ours */
#define TCP_SETUP_NS     (10 * NSEC_PER_SEC) /* of a queue: connection to Connect's answer */
#define TCP_RETRY_MIN_NS (100 * NSEC_PER_MSEC)
#define TCP_RETRY_MAX_NS (5 * NSEC_PER_SEC)
#define TCP_NS_KNOWN     256u

struct tcp_host;
struct tcp_queue;

struct tcp_slot {
	struct tcp_queue *q;
	struct list link;
	uint16_t index; /* the id on the wire */
	uint16_t cid;   /* the driver's */
	bool busy, answered, bad_digest, h2c_busy;
	uint8_t dir, lba_shift;
	/* Ours: runs instead of a completion entry. @cqe NULL: the connection is gone. */
	void (*internal)(struct tcp_host *h, struct tcp_slot *s, const struct nvme_cqe *cqe);
	uint32_t len, moved; /* bytes of data, and how many have gone or come */
	unsigned pieces, sends;
	struct nvme_cqe cqe;
	uint32_t r2t_left, r2t_off; /* that was asked for and not sent */
	uint16_t ttag;
	le32 ddgst;
	struct net_send send, h2c;
	struct iovec data[TCP_PIECES_MAX], tx[TCP_PIECES_MAX + 2];
	union {
		struct nvme_tcp_cmd cmd;
		uint8_t cmd_room[sizeof(struct nvme_tcp_cmd) + TCP_HEADER_ROOM];
	};
	union {
		struct nvme_tcp_data h2c_pdu;
		uint8_t h2c_room[sizeof(struct nvme_tcp_data) + TCP_HEADER_ROOM];
	};
};

enum tcp_queue_state { TQ_CONNECTING, TQ_ICREQ, TQ_CONNECT, TQ_LIVE, TQ_CLOSED };

struct tcp_queue {
	struct tcp_host *h;
	struct net_sock *sock; /* NULL once closed */
	uint8_t state;
	bool gone;
	uint16_t qid;
	uint32_t size; /* entries of the rings */
	/* rings, ours to read and to write */
	const struct nvme_cmd *sq;
	struct nvme_cqe *cq;
	uint32_t head, cq_tail, phase;
	uint32_t icd_max;
	struct tcp_rules rules;
	uint32_t maxh2c;
	struct tcp_slot *slot;
	uint32_t slots, used;
	struct list free;
	/* being received */
	struct tcp_slot *rx;
	uint32_t rx_off, rx_len, rx_done;
	bool rx_ddgst, rx_last, rx_success;
	uint8_t rx_trash;
	le32 rx_digest;
	uint32_t rx_crc;
	struct loop_timer setup;
	struct nvme_connect_data connect;
	/* The driver's Create or Delete I/O Submission Queue that waits for us: its cid. */
	uint16_t waiter;
	bool has_waiter, deleting;
	uint16_t error; /* status of a Connect that failed */
};

enum tcp_assoc_state { TA_DOWN, TA_CONNECTING, TA_READY, TA_ENABLING, TA_LIVE, TA_CLOSING };

struct tcp_host {
	struct nvme_transport t;
	char addr[256], subnqn[NVME_NQN_BYTES], hostnqn[NVME_NQN_BYTES];
	bool hdgst, ddgst;
	uint32_t kato_ms;
	uint8_t state;
	bool first; /* the first association: a failure is told by nvme_tcp_connect() */
	int error;
	char sentence[256];
	uint16_t cntlid;
	/* registers */
	uint64_t cap, asq, acq;
	uint32_t vs, cc, csts, aqa;
	uint32_t cap_to; /* what we say, in 500 ms */
	uint32_t ioccsz;
	struct tcp_queue *queue[TCP_QUEUES_MAX + 1];
	/* Create I/O Completion Queue came first: its memory. */
	uint64_t cq_dma[TCP_QUEUES_MAX + 1];
	uint32_t cq_size[TCP_QUEUES_MAX + 1];
	uint32_t db[2 * (TCP_QUEUES_MAX + 1)];
	uint8_t ns_shift[TCP_NS_KNOWN]; /* log2 of blocks, by NSID; 0: not known */
	void *page;                     /* for our own Identify */
	struct loop_timer step, keep_alive, retry;
	uint64_t retry_ns;
	bool alive_pending, is_cut;
	unsigned top; /* highest I/O queue so far */
	struct tcp_wait *waiting;
};

/* --- tcp_host.c --- */

void tcp_host_fail(struct tcp_host *h, const char *why);
/* A completion entry of the driver's. */
void tcp_post(struct tcp_queue *q, uint16_t cid, const struct nvme_cqe *cqe);
/* @q has become live, or will never be. */
void tcp_queue_up(struct tcp_queue *q);
void tcp_queue_lost(struct tcp_queue *q);
/* Nothing refers to it any more. */
void tcp_queue_gone(struct tcp_queue *q);
/* What an answer tells us beside its command. */
void tcp_learn(struct tcp_host *h, const struct tcp_slot *s);
/* A command of ours on the admin queue, with data in @buf. False: no slot. */
bool tcp_internal(struct tcp_host *h, const struct nvme_cmd *cmd, void *buf, uint32_t len,
                  void (*done)(struct tcp_host *, struct tcp_slot *, const struct nvme_cqe *));

/* --- tcp_admin.c: admin commands that are not simply sent --- */

/* True: dealt with. */
bool tcp_admin_take(struct tcp_queue *q, const struct nvme_cmd *cmd);

/* --- tcp_queue.c --- */

int tcp_queue_new(struct tcp_host *h, uint16_t qid, uint32_t size, uint64_t sq, uint64_t cq,
                  struct tcp_queue **ret_q);
void tcp_queue_close(struct tcp_queue *q);
void tcp_queue_free(struct tcp_queue *q); /* it is gone */
int tcp_queue_poll(struct tcp_queue *q);
/* Sends s->cmd.cmd, whose data are described in @s. */
void tcp_slot_send(struct tcp_slot *s);
struct tcp_slot *tcp_slot_get(struct tcp_queue *q);

/* --- tcp_data.c --- */

/* Where the data of s->cmd.cmd lies, from its PRPs or SGL: s->data, pieces, len, dir. 0 or a status. */
uint16_t tcp_data_map(struct tcp_slot *s);

/* --- from outside --- */

int nvme_tcp_connect(struct nvme_transport **ret_t, const struct nvme_device *d, struct loop *loop,
                     struct pst_err *err);
/*
 * The discovery log of @addr: *ret_log, its header and entries, to be freed with mem_free(). Blocks.
 */
int nvme_tcp_discover(const char *addr, const char *hostnqn, struct loop *loop,
                      struct nvme_discovery_log **ret_log, uint64_t *ret_count,
                      struct pst_err *err);

#endif
