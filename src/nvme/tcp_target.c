/* SPDX-License-Identifier: BSD-3-Clause */
/* The NVMe/TCP port of a target: its listener, its memory, associations, discovery. */
#include <stdio.h>

#include "nvme/tcp_target.h"

static const uint32_t class_bytes[TCP_CLASSES] = {TCP_ICD_ADMIN, 128 * 1024, 0 /* MDTS */};
static const unsigned class_count[TCP_CLASSES] = {1024, 128, 64};

static struct tcp_port *self(struct target_port *p)
{
	return container_of(p, struct tcp_port, port);
}

/* --- memory --- */

uint8_t tcp_buf_class(const struct tcp_port *p, uint32_t len)
{
	uint8_t cls = 0;

	while (p->buf_bytes[cls] < len)
		cls++;
	pst_assert(cls < TCP_CLASSES); /* MDTS was checked */
	return cls;
}

void *tcp_buf_get(struct tcp_port *p, uint32_t len, uint8_t *ret_cls)
{
	*ret_cls = tcp_buf_class(p, len);
	return mem_pool_get(p->pool[*ret_cls]);
}

static int pools_make(struct tcp_port *p)
{
	uint32_t mdts = 4096u << p->port.target->opts.ctrlr.mdts;

	for (unsigned i = 0; i < TCP_CLASSES; i++) {
		int rc;

		p->buf_bytes[i] = class_bytes[i] ? class_bytes[i] : MAX(mdts, 4096u);
		rc = mem_pool_new(&p->pool[i], MEM_HOST, p->buf_bytes[i], class_count[i]);
		if (rc)
			return rc;
		list_init(&p->waiting[i]);
	}
	return 0;
}

/* --- discovery (Base 5.16.1.23) --- */

/* "1.2.3.4:4420" and "[::1]:4420" as an entry has them. */
static void entry_address(struct nvme_discovery_entry *e, const struct net_addr *a)
{
	char text[NET_ADDR_TEXT_MAX];
	const char *host = net_addr_print(a, text, sizeof(text));
	char *colon = strrchr(text, ':');

	e->adrfam = a->sa.ss_family == AF_INET6 ? NVME_ADRFAM_IPV6 : NVME_ADRFAM_IPV4;
	snprintf(e->trsvcid, sizeof(e->trsvcid), "%u", net_addr_port(a));
	if (!colon)
		return;
	*colon = '\0';
	if (host[0] == '[') {
		host++;
		text[strlen(text) - 1] = '\0';
	}
	snprintf(e->traddr, sizeof(e->traddr), "%.250s", host);
}

static unsigned tcp_ports(const struct nvme_target *t)
{
	const struct target_port *p;
	unsigned n = 0;

	list_for_each (p, &t->port_list, link)
		n += !strcmp(p->ops->kind, "tcp");
	return n;
}

/* The log for who came in by @conn, whose port it sees at the address that it used. */
static int log_make(struct tcp_assoc *a, const struct tcp_conn *conn)
{
	const struct nvme_target *t = a->port->port.target;
	unsigned n = tcp_ports(t), i = 0;
	struct nvme_discovery_log *log;
	struct nvme_discovery_entry *e;
	const struct target_port *p;

	a->log_bytes = sizeof(*log) + n * sizeof(*e);
	a->log = mem_calloc(1, a->log_bytes);
	if (!a->log)
		return -ENOMEM;
	log = a->log;
	log->genctr = le64_make(1);
	log->numrec = le64_make(n);
	e = (struct nvme_discovery_entry *)(void *)((char *)a->log + sizeof(*log));
	list_for_each (p, &t->port_list, link) {
		const struct tcp_port *tp;

		if (strcmp(p->ops->kind, "tcp") != 0)
			continue;
		tp = container_of(p, const struct tcp_port, port);
		e[i].trtype = NVME_TRTYPE_TCP;
		e[i].subtype = NVME_SUBTYPE_NVM;
		e[i].treq = NVME_TREQ_NO_SQ_FLOW; /* a secure channel: not specified */
		e[i].portid = le16_make((uint16_t)p->number);
		e[i].cntlid = le16_make(NVME_CNTLID_DYNAMIC);
		e[i].asqsz = le16_make(TCP_ADMIN_SQ_MIN + 1);
		snprintf(e[i].subnqn, sizeof(e[i].subnqn), "%s", t->nqn);
		entry_address(&e[i], tp == a->port ? net_sock_local(conn->sock)
		                                   : net_listener_addr(tp->listener));
		i++;
	}
	return 0;
}

static const void *log_get(void *arg, size_t *ret_len)
{
	const struct tcp_assoc *a = arg;

	*ret_len = a->log_bytes;
	return a->log;
}

/* --- associations --- */

void tcp_assoc_join(struct tcp_assoc *a, struct tcp_conn *conn, uint16_t qid)
{
	conn->assoc = a;
	conn->qid = qid;
	list_push(&a->conns, &conn->assoc_link);
}

void tcp_assoc_end(struct tcp_assoc *a)
{
	struct tcp_conn *conn;

	if (a->ending)
		return;
	a->ending = true;
	log_info("nvme: %s: controller %u: host %s has left", a->port->port.address,
	         nvme_ctrlr_cntlid(a->host.ctrlr), a->host.nqn);
	list_for_each (conn, &a->conns, assoc_link)
		tcp_conn_close(conn);
}

/* Connections that have ended leave; 1 for each. */
static int conns_leave(struct tcp_assoc *a)
{
	struct tcp_conn *conn, *tmp;
	int did = 0;

	list_for_each_safe (conn, tmp, &a->conns, assoc_link) {
		if (!conn->sock_gone || conn->used)
			continue;
		if (conn->qid)
			nvme_ctrlr_disconnect(a->host.ctrlr, conn->qid);
		list_del(&conn->assoc_link);
		conn->assoc = NULL;
		tcp_conn_free_maybe(conn);
		did++;
	}
	return did;
}

static void assoc_free(struct tcp_assoc *a)
{
	loop_poller_del(a->port->port.target->loop, &a->poller);
	target_host_end(&a->host);
	mem_free(a->log);
	mem_free(a);
}

static int ending_poll(struct tcp_assoc *a)
{
	bool quiet = nvme_ctrlr_quiet(a->host.ctrlr);
	int did = conns_leave(a);

	if (!quiet || !list_empty(&a->conns))
		return did;
	assoc_free(a);
	return did + 1;
}

/* A controller that was disabled has no I/O queues (Base 3.6.1.2). */
static void io_queues_end(struct tcp_assoc *a)
{
	struct tcp_conn *conn;

	list_for_each (conn, &a->conns, assoc_link) {
		if (conn->qid)
			tcp_conn_close(conn);
	}
}

static int waiting_run(struct tcp_assoc *a)
{
	struct list todo;
	struct list *n;
	int did = 0;

	list_init(&todo);
	list_splice(&todo, &a->waiting);
	while ((n = list_pop(&todo))) {
		struct tcp_cmd *c = list_entry(n, struct tcp_cmd, link);

		tcp_cmd_run(c);
		did++;
		if (!list_empty(&a->waiting)) { /* no room again */
			list_splice(&a->waiting, &todo);
			return did - 1;
		}
	}
	return did;
}

static int assoc_poll(struct loop_poller *p)
{
	struct tcp_assoc *a = container_of(p, struct tcp_assoc, poller);
	struct nvme_ctrlr *c = a->host.ctrlr;
	int did;

	if (a->ending)
		return ending_poll(a);
	did = nvme_ctrlr_poll(c) + conns_leave(a);
	if (unlikely(!list_empty(&a->waiting)))
		did += waiting_run(a);
	if (nvme_ctrlr_reg_read(c, NVME_REG_CSTS, 4) & NVME_CSTS_CFS) {
		tcp_assoc_end(a); /* keep alive, or a fault: the association ends with it */
		return did + 1;
	}
	if (!(nvme_ctrlr_reg_read(c, NVME_REG_CC, 4) & NVME_CC_EN))
		io_queues_end(a);
	return did;
}

static bool assoc_may_sleep(struct loop_poller *p)
{
	struct tcp_assoc *a = container_of(p, struct tcp_assoc, poller);
	const struct tcp_conn *conn;

	list_for_each (conn, &a->conns, assoc_link) {
		if (conn->sock_gone && !conn->used)
			return false;
	}
	if (a->ending)
		return !nvme_ctrlr_quiet(a->host.ctrlr) || !list_empty(&a->conns);
	return nvme_ctrlr_may_sleep(a->host.ctrlr);
}

static int ctrlr_make(struct tcp_assoc *a, uint32_t kato_ms, struct pst_err *err)
{
	struct nvme_target *t = a->port->port.target;
	struct nvme_ctrlr_opts o;

	target_ctrlr_opts(t, &o);
	o.fabrics = true;
	o.icd_bytes = TCP_ICD_ADMIN;
	o.kato_ms = MIN(kato_ms, TCP_KATO_MAX_MS);
	memcpy(o.host_id, a->hostid, sizeof(o.host_id));
	o.arg = a;
	if (!a->discovery)
		return target_host_begin(&a->host, &o, err);
	o.discovery = log_get;
	o.queues_max = 1;
	o.depth_max = 8;
	return nvme_ctrlr_new(&a->host.ctrlr, a->port->discovery, &o, err);
}

uint16_t tcp_assoc_new(struct tcp_conn *conn, const struct nvme_connect_data *d, uint32_t kato_ms,
                       struct tcp_assoc **ret_assoc)
{
	struct tcp_port *p = conn->port;
	struct tcp_assoc *a;
	struct pst_err err = {0};
	int rc;

	if (!target_allows(p->port.target, d->hostnqn))
		return NVME_SC_CONNECT_HOST | NVME_STATUS_DNR;
	a = mem_calloc(1, sizeof(*a));
	if (!a)
		return NVME_SC_INTERNAL;
	a->port = p;
	a->host.port = &p->port;
	a->discovery = !strcmp(d->subnqn, NVME_DISCOVERY_NQN);
	memcpy(a->hostid, d->hostid, sizeof(a->hostid));
	snprintf(a->host.nqn, sizeof(a->host.nqn), "%s", d->hostnqn);
	list_init(&a->conns);
	list_init(&a->waiting);
	list_init(&a->host.link);
	rc = a->discovery ? log_make(a, conn) : 0;
	if (!rc)
		rc = ctrlr_make(a, kato_ms, &err);
	if (rc) {
		log_stranger(PST_LOG_WARN, "nvme: %s: no controller for %s: %s", p->port.address,
		             a->host.nqn, err.text);
		mem_free(a->log);
		mem_free(a);
		return rc == -ENOSPC ? NVME_SC_CONNECT_BUSY : NVME_SC_INTERNAL;
	}
	a->poller.poll = assoc_poll;
	a->poller.may_sleep = assoc_may_sleep;
	loop_poller_add(p->port.target->loop, &a->poller);
	list_push(&p->port.hosts, &a->host.link);
	log_info("nvme: %s: controller %u: host %s%s", p->port.address,
	         nvme_ctrlr_cntlid(a->host.ctrlr), a->host.nqn, a->discovery ? " (discovery)" : "");
	*ret_assoc = a;
	return 0;
}

/* --- the port --- */

static bool on_accept(struct net_listener *l, struct net_sock *s, void *user)
{
	struct tcp_port *p = user;

	return !p->stopping && tcp_conn_accept(p, s);
}

static void tcp_stop(struct target_port *tp)
{
	struct tcp_port *p = self(tp);
	struct tcp_conn *conn, *tmp;

	if (p->stopping)
		return;
	p->stopping = true;
	net_listener_close(p->listener);
	p->listener = NULL;
	list_for_each_safe (conn, tmp, &p->conns, link)
		tcp_conn_close(conn);
}

static void tcp_free(struct target_port *tp)
{
	struct tcp_port *p = self(tp);

	while (!list_empty(&p->conns)) {
		int rc = loop_turn(tp->target->loop, NSEC_PER_SEC);

		pst_assert(rc >= 0 || rc == -EINTR || rc == -EAGAIN || rc == -EBUSY);
	}
	net_finish(tp->target->loop);
	nvme_subsys_free(p->discovery);
	for (unsigned i = 0; i < TCP_CLASSES; i++)
		mem_pool_free(p->pool[i]);
	mem_free(p);
}

static const struct target_port_ops tcp_port_ops = {
        .kind = "tcp", .stop = tcp_stop, .free = tcp_free};

static int port_open(struct tcp_port *p, const char *addr, bool anywhere, struct pst_err *err)
{
	static const struct net_accept accept = {.accept = on_accept};
	struct nvme_subsys_opts so = {.nqn = NVME_DISCOVERY_NQN};
	struct nvme_target *t = p->port.target;
	struct net_opts no = {.queue_max = 256 * MIB};
	int rc = pools_make(p);

	if (rc)
		return err_set(err, rc, "memory for data");
	rc = nvme_subsys_new(&p->discovery, t->loop, &so, err);
	if (!rc)
		rc = net_listen(&p->listener, t->loop, addr, NVME_TCP_PORT, &no, &accept, p, err);
	if (rc)
		return rc;
	net_addr_print(net_listener_addr(p->listener), p->port.address, sizeof(p->port.address));
	if (!anywhere && !net_addr_is_loopback(net_listener_addr(p->listener)))
		return err_set(err, -EPERM,
		               "%s can be reached from other machines, and NVMe/TCP neither "
		               "encrypts nor asks who comes: only with --insecure",
		               p->port.address);
	return 0;
}

int nvme_target_listen_tcp(struct nvme_target *t, const char *addr, bool anywhere,
                           unsigned *ret_port, struct pst_err *err)
{
	struct tcp_port *p;
	int rc;

	if (t->ports == NVME_TARGET_PORTS_MAX)
		return err_set(err, -ENOSPC, "too many ports");
	p = mem_calloc(1, sizeof(*p));
	if (!p)
		return err_set(err, -ENOMEM, "out of memory");
	list_init(&p->conns);
	list_init(&p->port.hosts);
	p->port.target = t;
	p->port.ops = &tcp_port_ops;
	rc = port_open(p, addr, anywhere, err);
	if (rc) {
		tcp_stop(&p->port);
		tcp_free(&p->port);
		return rc;
	}
	rc = target_port_add(t, &p->port, false);
	pst_assert(!rc);
	if (ret_port)
		*ret_port = p->port.number;
	return 0;
}
