/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ofi_bare - the baseline of the channel ofi: request and response on bare libfabric, as one would
 * write them by hand. Two processes, one endpoint each; the client keeps --depth requests of
 * --request bytes under way, the server answers each with --size bytes. No checks, no flow control, no limits.
 *
 *   ofi_bare PROVIDER [--host H] [--request N] [--size N] [--depth N] [--runtime S] [--json]
 *
 * Both ends wait as the channel does: they poll for a moment, and then sleep on the queue's descriptor.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>

#define DEPTH_MAX 256
#define SPIN_NS   20000
#define BATCH     16

struct end {
	struct fi_info *info;
	struct fid_fabric *fabric;
	struct fid_domain *domain;
	struct fid_av *av;
	struct fid_cq *cq;
	struct fid_ep *ep;
	struct fid_mr *mr;
	fi_addr_t peer;
	int fd;
	size_t size; /* of each receive */
	uint8_t *mem;
	struct fi_context2 ctx[DEPTH_MAX];
	struct fi_cq_msg_entry early[DEPTH_MAX]; /* came while a send was waiting */
	size_t early_count;
};

struct args {
	const char *provider, *host;
	size_t request, size, depth; /* bytes, bytes, requests under way */
	double runtime_s;
	bool json;
};

static void must(const char *what, ssize_t rc)
{
	if (rc >= 0)
		return;
	(void)fprintf(stderr, "ofi_bare: %s: %s\n", what, fi_strerror((int)-rc));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void info_get(struct end *e, const char *provider, const char *host)
{
	struct fi_info *h = fi_allocinfo();

	h->caps = FI_MSG | FI_RMA;
	h->mode = FI_CONTEXT | FI_CONTEXT2;
	h->ep_attr->type = FI_EP_RDM;
	h->domain_attr->mr_mode = FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY;
	h->domain_attr->threading = FI_THREAD_DOMAIN;
	h->domain_attr->control_progress = h->domain_attr->data_progress = FI_PROGRESS_MANUAL;
	h->domain_attr->resource_mgmt = FI_RM_ENABLED;
	h->tx_attr->msg_order = h->rx_attr->msg_order = FI_ORDER_SAS;
	h->tx_attr->inject_size = 16384;
	h->fabric_attr->prov_name = strdup(provider);
	must("fi_getinfo", fi_getinfo(FI_VERSION(1, 17), host, NULL, FI_SOURCE, h, &e->info));
	fi_freeinfo(h);
}

static void end_open(struct end *e, const char *provider, const char *host, size_t size)
{
	struct fi_av_attr av = {.type = FI_AV_TABLE, .count = 1};
	struct fi_cq_attr cq = {.format = FI_CQ_FORMAT_MSG, .wait_obj = FI_WAIT_FD, .size = 4096};

	info_get(e, provider, host);
	e->size = size;
	must("fi_fabric", fi_fabric(e->info->fabric_attr, &e->fabric, NULL));
	must("fi_domain", fi_domain(e->fabric, e->info, &e->domain, NULL));
	must("fi_av_open", fi_av_open(e->domain, &av, &e->av, NULL));
	must("fi_cq_open", fi_cq_open(e->domain, &cq, &e->cq, NULL));
	must("FI_GETWAIT", fi_control(&e->cq->fid, FI_GETWAIT, &e->fd));
	must("fi_endpoint", fi_endpoint(e->domain, e->info, &e->ep, NULL));
	must("fi_ep_bind", fi_ep_bind(e->ep, &e->av->fid, 0));
	must("fi_ep_bind", fi_ep_bind(e->ep, &e->cq->fid, FI_TRANSMIT | FI_RECV));
	must("fi_enable", fi_enable(e->ep));
	e->mem = calloc(DEPTH_MAX, size);
	if (e->info->domain_attr->mr_mode & FI_MR_LOCAL)
		must("fi_mr_reg", fi_mr_reg(e->domain, e->mem, DEPTH_MAX * size, FI_RECV, 0, 0, 0,
		                            &e->mr, NULL));
}

static void receive(struct end *e, size_t slot)
{
	must("fi_recv", fi_recv(e->ep, e->mem + slot * e->size, e->size,
	                        e->mr ? fi_mr_desc(e->mr) : NULL, FI_ADDR_UNSPEC, &e->ctx[slot]));
}

/* Completions: at least one, but for the @end_ns. */
static ssize_t wait_some(struct end *e, struct fi_cq_msg_entry *got, uint64_t end_ns)
{
	struct fid *fid = &e->cq->fid;
	uint64_t spin_end = now_ns() + SPIN_NS;

	if (e->early_count) {
		*got = e->early[--e->early_count];
		return 1;
	}
	for (;;) {
		struct pollfd p = {.fd = e->fd, .events = POLLIN};
		ssize_t n = fi_cq_read(e->cq, got, BATCH);

		if (n != -FI_EAGAIN)
			return n;
		if (now_ns() < spin_end)
			continue;
		if (now_ns() >= end_ns)
			return 0;
		if (fi_trywait(e->fabric, &fid, 1) == 0)
			(void)poll(&p, 1, 100);
	}
}

/* Copied by libfabric, no completion. */
static void send_now(struct end *e, const void *buf, size_t len)
{
	ssize_t rc;

	while ((rc = fi_inject(e->ep, buf, len, e->peer)) == -FI_EAGAIN) {
		ssize_t n = fi_cq_read(e->cq, &e->early[e->early_count], 1);

		e->early_count += n > 0;
	}
	must("fi_inject", rc);
}

static size_t slot_of(const struct end *e, const struct fi_cq_msg_entry *entry)
{
	return (size_t)((struct fi_context2 *)entry->op_context - e->ctx);
}

static void names_swap(struct end *e, int in, int out)
{
	uint8_t mine[64] = {0}, theirs[64];
	size_t len = sizeof(mine);

	must("fi_getname", fi_getname(&e->ep->fid, mine, &len));
	if (write(out, mine, sizeof(mine)) != sizeof(mine) ||
	    read(in, theirs, sizeof(theirs)) != sizeof(theirs))
		exit(1);
	if (fi_av_insert(e->av, theirs, 1, &e->peer, 0, NULL) != 1)
		must("fi_av_insert", -EINVAL);
}

static void serve(const struct args *a, int in, int out)
{
	struct end e = {0};
	uint8_t *answer = calloc(1, a->size);
	struct fi_cq_msg_entry got[BATCH];
	ssize_t n;

	end_open(&e, a->provider, a->host, a->request);
	for (size_t i = 0; i < DEPTH_MAX; i++)
		receive(&e, i);
	names_swap(&e, in, out);
	/* Until the client has closed its pipe and all is silent. */
	while ((n = wait_some(&e, got, now_ns() + 2000000000u)) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			size_t slot = slot_of(&e, &got[i]);

			memcpy(answer, e.mem + slot * a->request, 8);
			send_now(&e, answer, a->size);
			receive(&e, slot);
		}
	}
	_exit(0);
}

static void measure(const struct args *a, int in, int out)
{
	struct fi_cq_msg_entry got[BATCH];
	uint8_t *request = calloc(1, a->request);
	uint64_t begin, end, done = 0;
	struct end e = {0};

	end_open(&e, a->provider, a->host, a->size);
	for (size_t i = 0; i < DEPTH_MAX; i++)
		receive(&e, i);
	names_swap(&e, in, out);
	for (size_t i = 0; i < a->depth; i++)
		send_now(&e, request, a->request);
	begin = now_ns();
	end = begin + (uint64_t)(a->runtime_s * 1e9);
	while (now_ns() < end) {
		ssize_t n = wait_some(&e, got, end);

		must("the queue", n);
		for (ssize_t i = 0; i < n; i++) {
			receive(&e, slot_of(&e, &got[i]));
			send_now(&e, request, a->request);
		}
		done += (uint64_t)n;
	}
	printf(a->json ? "{\"provider\": \"%s\", \"size\": %zu, \"depth\": %zu, \"ops_s\": %.0f}\n"
	               : "%s bare, %zu B, depth %zu: %.0f/s\n",
	       a->provider, a->size, a->depth, (double)done * 1e9 / (double)(now_ns() - begin));
}

int main(int argc, char **argv)
{
	struct args a = {
	        .host = "127.0.0.1", .request = 64, .size = 4096, .depth = 32, .runtime_s = 2};
	int there[2], back[2];
	pid_t pid;

	if (argc < 2)
		return 2;
	a.provider = argv[1];
	for (int i = 2; i < argc; i++) {
		const char *next = i + 1 < argc ? argv[i + 1] : "";

		if (!strcmp(argv[i], "--json"))
			a.json = true;
		else if (!strcmp(argv[i], "--host") && ++i)
			a.host = next;
		else if (!strcmp(argv[i], "--request") && ++i)
			a.request = strtoull(next, NULL, 10);
		else if (!strcmp(argv[i], "--size") && ++i)
			a.size = strtoull(next, NULL, 10);
		else if (!strcmp(argv[i], "--depth") && ++i)
			a.depth = strtoull(next, NULL, 10);
		else if (!strcmp(argv[i], "--runtime") && ++i)
			a.runtime_s = strtod(next, NULL);
		else
			return 2;
	}
	if (a.request < 8 || a.size < 8 || !a.depth || a.depth > DEPTH_MAX || pipe(there) ||
	    pipe(back))
		return 2;
	(void)setenv("FI_UNIVERSE_SIZE", "2", 0); /* as the channel does: for small devices */
	pid = fork();
	if (pid == 0)
		serve(&a, there[0], back[1]);
	measure(&a, back[0], there[1]);
	(void)fflush(stdout);
	waitpid(pid, NULL, 0);
	return 0;
}
