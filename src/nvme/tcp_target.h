/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tcp_target - NVMe/TCP as a target speaks it: a port of target.h. tcp_target.c has the port and
 * associations (a host's controller with its connections), tcp_conn.c a connection and the life of
 * a command, tcp_fabrics.c Connect, properties and discovery.
 *
 *   a command                         made by
 *   FREE       -> ICD                  its data come in its capsule: conn_command()
 *              -> BUFFER               it needs memory, and there is none now
 *              -> DATA                 R2T was sent: data come in PDUs of their own; conn_h2c()
 *              -> READY                to be carried out: cmd_run()
 *   READY      -> WORKING              the controller has it; or waits for the controller's room
 *   WORKING    -> SENDING              its answer is queued: cmd_answer()
 *   SENDING    -> FREE                 the kernel has taken all of it
 *
 *  T1  Data goes from the device's buffer to the socket, and from the socket into it: a command
 *      has its buffer until its answer was taken, and nobody copies.
 *  T2  A connection is freed when its socket is gone and none of its commands is in use; an
 *      association when all of its connections are, and its controller is quiet.
 *  T3  What a host may hold is bounded: commands by the queue's size (a host that sends more is not
 *      read until one has ended), memory by the port's pools.
 */
#ifndef NVME_TCP_TARGET_H
#define NVME_TCP_TARGET_H

#include "net/net.h"
#include "nvme/target_int.h"
#include "nvme/tcp_pdu.h"

#define TCP_CLASSES      3u
#define TCP_CMDS_MAX     1024u               /* of one connection */
#define TCP_GREETING_NS  (10 * NSEC_PER_SEC) /* from accept() to a Connect that went well */
#define TCP_KATO_MAX_MS  3600000u
#define TCP_ADMIN_SQ_MIN 31u /* SQSIZE of the admin queue at least (Base 6.3) */

struct tcp_conn;
struct tcp_assoc;

enum tcp_cmd_state { CMD_FREE, CMD_ICD, CMD_BUFFER, CMD_DATA, CMD_READY, CMD_WORKING, CMD_SENDING };

struct tcp_cmd {
	struct nvme_capsule k;
	struct tcp_conn *conn;
	struct list link; /* free; or waiting for memory, or for the controller */
	uint16_t index;   /* the transfer tag */
	uint8_t state, cls;
	bool digest_bad;
	uint32_t received; /* of k.len, data to the controller */
	unsigned sends;    /* PDUs that the kernel has not yet */
	struct net_send data_send, r2t_send;
	struct iovec iov[4], r2t_iov;
	le32 ddgst;
	union {
		struct nvme_tcp_data data;
		uint8_t data_room[sizeof(struct nvme_tcp_data) + TCP_HEADER_ROOM];
	};
	union {
		struct nvme_tcp_resp resp;
		uint8_t resp_room[sizeof(struct nvme_tcp_resp) + TCP_HEADER_ROOM];
	};
	union {
		struct nvme_tcp_r2t r2t;
		uint8_t r2t_room[sizeof(struct nvme_tcp_r2t) + TCP_HEADER_ROOM];
	};
};

enum tcp_conn_state { CONN_GREETING, CONN_ICED, CONN_LIVE, CONN_CLOSING };

struct tcp_conn {
	struct tcp_port *port;
	struct tcp_assoc *assoc; /* from Connect on */
	struct net_sock *sock;   /* NULL once closed */
	bool sock_gone, no_sq_flow, starved;
	uint8_t state;
	uint16_t qid;
	uint32_t depth; /* commands at once */
	struct tcp_rules rules;
	struct tcp_cmd *cmd[TCP_CMDS_MAX];
	uint32_t cmds, used;
	struct list free;
	/* What is being received: data of a command. */
	struct tcp_cmd *rx;
	uint32_t rx_len;
	bool rx_ddgst;
	le32 rx_digest;
	struct loop_timer greeting;
	struct list link, assoc_link;
};

/* A host's controller and its connections. */
struct tcp_assoc {
	struct target_host host;
	struct tcp_port *port;
	struct list conns;
	struct list waiting; /* commands: the controller had no room */
	uint8_t hostid[16];
	bool ending, discovery;
	void *log; /* discovery: the page */
	size_t log_bytes;
	struct loop_poller poller;
};

struct tcp_port {
	struct target_port port;
	struct net_listener *listener;
	struct nvme_subsys *discovery;
	struct mem_pool *pool[TCP_CLASSES];
	uint32_t buf_bytes[TCP_CLASSES];
	struct list waiting[TCP_CLASSES]; /* commands */
	struct list conns;
	bool stopping;
};

/* --- tcp_conn.c --- */

bool tcp_conn_accept(struct tcp_port *p, struct net_sock *s);
/* Ends it, now. Its commands end as they may. */
void tcp_conn_close(struct tcp_conn *conn);
/* Frees one that is closed, when nothing refers to it any more. */
void tcp_conn_free_maybe(struct tcp_conn *conn);
/* Carries @c out: its data are there. */
void tcp_cmd_run(struct tcp_cmd *c);
/* @c ends with k.cqe. */
void tcp_cmd_answer(struct tcp_cmd *c);
/* The same with a status and dword 0, for what the controller does not see. */
void tcp_cmd_fail(struct tcp_cmd *c, uint16_t status, uint32_t dw0);

/* --- tcp_fabrics.c --- */

/* A Fabrics command, with its data. */
void tcp_fabrics(struct tcp_cmd *c);

/* --- tcp_target.c --- */

/* An association for the host of @conn. 0, or an NVMe status. */
uint16_t tcp_assoc_new(struct tcp_conn *conn, const struct nvme_connect_data *d, uint32_t kato_ms,
                       struct tcp_assoc **ret_assoc);
void tcp_assoc_end(struct tcp_assoc *a);
void tcp_assoc_join(struct tcp_assoc *a, struct tcp_conn *conn, uint16_t qid);
/* A buffer of at least @len bytes; NULL: none now. */
void *tcp_buf_get(struct tcp_port *p, uint32_t len, uint8_t *ret_cls);
void tcp_buf_put(struct tcp_port *p, void *buf, uint8_t cls);
uint8_t tcp_buf_class(const struct tcp_port *p, uint32_t len);

#endif
