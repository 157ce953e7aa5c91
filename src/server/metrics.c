/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * metrics - figures taken on the loop, and the HTTP door. metrics.h says why there is a thread.
 *
 *  1. Everything but what stands behind the lock belongs to the loop.
 *  2. The HTTP thread asks by m->msg (at most one is in the inbox: m->asked), and waits for a copy
 *     that was taken after it asked, for ANSWER_NS: a loop that does not turn is told as 503.
 *  3. The store's own figures come by an op of its, so a snapshot may take some turns; whoever asks
 *     meanwhile shares it.
 */
#include "server/metrics.h"

#include <errno.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/net.h"
#include "session/audit.h"

#define ANSWER_NS        (2 * NSEC_PER_SEC)
#define CONNS_MAX        64u
#define CONNS_PER_IP_MAX 16u
#define CONN_BYTES       (16u * 1024) /* of a request's head, and buffers */
#define CONN_TIMEOUT_S   10u
#define RETRY_NS         NSEC_PER_MSEC

struct metrics {
	struct server *s;
	struct loop *loop;
	uint64_t started_ns;

	/* the loop's */
	struct metrics_snapshot snap;
	struct pst_op op;
	struct loop_timer retry; /* the store was busy */
	bool collecting, http_waits;
	struct list asking; /* struct pst_op: PST_OP_FIGURES */

	/* the lock's */
	pthread_mutex_t lock;
	pthread_cond_t fresh;
	struct metrics_snapshot shared;
	uint64_t shared_ns; /* 0: never */
	bool asked, closing;

	struct loop_msg msg;
	struct MHD_Daemon *daemon;
	char addr[NET_ADDR_TEXT_MAX];
};

/* --- taking figures --- */

static void take_class(struct metrics_class *to, const struct wire_class_figures *from)
{
	uint64_t sum = 0;
	unsigned b = 0;

	*to = (struct metrics_class){.count = from->latency.count,
	                             .sum_ns = from->latency.sum,
	                             .errors = from->errors,
	                             .bytes_in = from->bytes_in,
	                             .bytes_out = from->bytes_out};
	memcpy(to->phase_ns, from->phase_ns, sizeof(to->phase_ns));
	for (unsigned i = 0; i < METRICS_EDGES; i++) {
		unsigned end = hist_bucket(1ull << (METRICS_EDGE_FIRST + i));

		for (; b < end; b++)
			sum += from->latency.bucket[b];
		to->below[i] = sum;
	}
}

static bool take_tenant(void *arg, const struct tenant_figures *f)
{
	struct metrics_snapshot *s = arg;

	if (s->tenants < METRICS_TENANTS)
		s->tenant[s->tenants++] = *f;
	else
		s->tenants_more++;
	return true;
}

/* The first is this loop's. */
static void take_reactors(struct metrics_snapshot *snap, const struct server *s)
{
	snap->reactors = 1 + s->reactor_count;
	snap->reactor[0] =
	        (struct metrics_reactor){s->core_count ? s->cores[0] : CORE_ANY, thread_cpu_ns()};
	for (unsigned i = 0; i < s->reactor_count; i++)
		snap->reactor[i + 1] = (struct metrics_reactor){loop_thread_core(s->reactor[i]),
		                                                loop_thread_cpu_ns(s->reactor[i])};
}

static void take(struct metrics *m)
{
	struct metrics_snapshot *s = &m->snap;
	const struct wire_listener *l = m->s->listener;

	s->uptime_s = (double)(loop_now(m->loop) - m->started_ns) / 1e9;
	take_reactors(s, m->s);
	wire_listener_figures(l, &s->wire);
	for (unsigned i = 0; i < WIRE_CLASSES; i++)
		take_class(&s->class[i], wire_listener_class(l, i));
	s->channels = wire_listener_channels(l, s->channel);
	session_table_figures(m->s->table, &s->table);
	s->audit_lost = audit_file_lost(m->s->audit);
	s->tenants = s->tenants_more = 0;
	tenant_list(m->s->table, UINT32_MAX, take_tenant, s);
}

/* --- giving them away --- */

static void give_op(struct metrics *m, struct pst_op *op)
{
	char *text;
	int64_t len = metrics_text(&m->snap, &text);

	op->status = len < 0 ? (int)len : 0;
	if (len > (int64_t)op->val_cap)
		op->status = -E2BIG;
	if (op->status == 0) {
		memcpy(op->val, text, (size_t)len);
		op->ret_len = (uint64_t)len;
	}
	if (len >= 0)
		mem_free(text);
	op->done(op);
}

static void give_http(struct metrics *m)
{
	pthread_mutex_lock(&m->lock);
	m->shared = m->snap;
	m->shared_ns = clock_mono_ns();
	m->asked = false;
	pthread_cond_broadcast(&m->fresh);
	pthread_mutex_unlock(&m->lock);
}

static void collected(struct pst_op *op)
{
	struct metrics *m = container_of(op, struct metrics, op);
	struct list asking, *n;

	m->snap.store_status = op->status;
	m->collecting = false;
	take(m);
	list_init(&asking);
	list_splice(&asking, &m->asking);
	if (m->http_waits) {
		m->http_waits = false;
		give_http(m);
	}
	while ((n = list_pop(&asking)))
		give_op(m, list_entry(n, struct pst_op, link));
}

static void collect_submit(struct metrics *m)
{
	m->op = (struct pst_op){
	        .opcode = PST_OP_STATUS, .status_out = &m->snap.store, .done = collected};
	switch (store_submit(m->s->store, &m->op)) {
	case PST_DONE:
		collected(&m->op);
		break;
	case PST_QUEUED:
		break;
	case PST_BUSY:
		if (loop_timer_arm(m->loop, &m->retry, loop_now(m->loop) + RETRY_NS) < 0) {
			m->op.status = -ENOMEM;
			collected(&m->op);
		}
		break;
	}
}

static void retry_fired(struct loop_timer *t)
{
	collect_submit(container_of(t, struct metrics, retry));
}

static void collect(struct metrics *m)
{
	if (m->collecting)
		return;
	m->collecting = true;
	collect_submit(m);
}

static void http_asked(struct loop_msg *msg)
{
	struct metrics *m = container_of(msg, struct metrics, msg);

	m->http_waits = true;
	collect(m);
}

void metrics_figures(void *arg, struct pst_op *op)
{
	struct server *s = arg;
	struct metrics *m = s->metrics;

	list_push(&m->asking, &op->link);
	collect(m);
}

/* --- HTTP: its own thread --- */

/* A copy that is fresh: 0, or -ETIMEDOUT. */
static int http_snapshot(struct metrics *m, struct metrics_snapshot *ret_s)
{
	uint64_t now = clock_mono_ns(), from = now > METRICS_FRESH_NS ? now - METRICS_FRESH_NS : 0;
	uint64_t until = now + ANSWER_NS;
	struct timespec ts = {.tv_sec = (time_t)(until / NSEC_PER_SEC),
	                      .tv_nsec = (long)(until % NSEC_PER_SEC)};
	int rc = 0;

	pthread_mutex_lock(&m->lock);
	while (rc == 0 && !m->closing && (!m->shared_ns || m->shared_ns < from)) {
		if (!m->asked) {
			m->asked = true;
			m->msg.run = http_asked;
			loop_post(m->loop, &m->msg);
		}
		rc = -pthread_cond_timedwait(&m->fresh, &m->lock, &ts);
	}
	if (m->closing)
		rc = -ETIMEDOUT;
	if (rc == 0)
		*ret_s = m->shared;
	pthread_mutex_unlock(&m->lock);
	return rc;
}

static enum MHD_Result answer(struct MHD_Connection *c, unsigned code, struct MHD_Response *r,
                              const char *type)
{
	enum MHD_Result rc;

	if (!r)
		return MHD_NO;
	(void)MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	rc = MHD_queue_response(c, code, r);
	MHD_destroy_response(r);
	return rc;
}

static enum MHD_Result answer_text(struct MHD_Connection *c, unsigned code, const char *text)
{
	union {
		const char *in;
		void *out;
	} u = {.in = text}; /* the library doesn't write there, and doesn't say so */

	return answer(c, code,
	              MHD_create_response_from_buffer(strlen(text), u.out, MHD_RESPMEM_PERSISTENT),
	              "text/plain; charset=utf-8");
}

static enum MHD_Result answer_metrics(struct metrics *m, struct MHD_Connection *c)
{
	struct metrics_snapshot *s = mem_alloc(sizeof(*s));
	int64_t len = -ENOMEM;
	char *text = NULL;
	int rc = s ? http_snapshot(m, s) : -ENOMEM;

	if (rc == 0)
		len = metrics_text(s, &text);
	mem_free(s);
	if (rc == -ETIMEDOUT)
		return answer_text(c, MHD_HTTP_SERVICE_UNAVAILABLE, "the server does not answer\n");
	if (len < 0)
		return MHD_NO;
	return answer(
	        c, MHD_HTTP_OK,
	        MHD_create_response_from_buffer_with_free_callback((size_t)len, text, mem_free),
	        "text/plain; version=0.0.4; charset=utf-8");
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *c, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_len, void **ctx)
{
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return answer_text(c, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET\n");
	if (!strcmp(url, "/metrics"))
		return answer_metrics(arg, c);
	return answer_text(c, MHD_HTTP_NOT_FOUND, "there is only /metrics\n");
}

static void on_log(void *arg, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));

static void on_log(void *arg, const char *fmt, va_list ap)
{
	char line[256];

	(void)vsnprintf(line, sizeof(line), fmt, ap);
	line[strcspn(line, "\n")] = 0;
	log_debug("metrics: %s", line);
}

/* --- opening --- */

/* A listening socket at @text; its address in m->addr. */
static int open_socket(struct metrics *m, const char *text, struct pst_err *err)
{
	struct net_addr addrs[NET_ADDRS_MAX], got = {.len = sizeof(got.sa)};
	unsigned count = 0;
	int fd, rc, one = 1;

	rc = net_resolve(addrs, &count, text, 0, err);
	if (rc < 0)
		return err_prefix(err, rc, "--metrics %s", text);
	fd = socket(addrs[0].sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(err, -errno, "--metrics %s: %s", text, strerror(errno));
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&addrs[0].sa, addrs[0].len) < 0 || listen(fd, 64) < 0 ||
	    getsockname(fd, (struct sockaddr *)&got.sa, &got.len) < 0) {
		rc = -errno;
		close(fd);
		return err_set(err, rc, "--metrics %s: %s", text, strerror(-rc));
	}
	(void)net_addr_print(&got, m->addr, sizeof(m->addr));
	return fd;
}

static int open_http(struct metrics *m, const char *text, struct pst_err *err)
{
	int fd = open_socket(m, text, err);

	if (fd < 0)
		return fd;
	m->daemon = MHD_start_daemon(
	        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ITC | MHD_USE_ERROR_LOG, 0, NULL, NULL,
	        on_request, m, MHD_OPTION_EXTERNAL_LOGGER, on_log, m, MHD_OPTION_LISTEN_SOCKET, fd,
	        MHD_OPTION_CONNECTION_LIMIT, CONNS_MAX, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
	        CONNS_PER_IP_MAX, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONN_BYTES,
	        MHD_OPTION_CONNECTION_TIMEOUT, CONN_TIMEOUT_S, MHD_OPTION_END);
	if (m->daemon)
		return 0;
	close(fd);
	return err_set(err, -ENOMEM, "--metrics %s: the HTTP server does not start", text);
}

static int init_lock(struct metrics *m)
{
	pthread_condattr_t attr;
	int rc = -pthread_condattr_init(&attr);

	if (rc < 0)
		return rc;
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	rc = -pthread_cond_init(&m->fresh, &attr);
	(void)pthread_condattr_destroy(&attr);
	if (rc < 0)
		return rc;
	rc = -pthread_mutex_init(&m->lock, NULL);
	if (rc < 0)
		(void)pthread_cond_destroy(&m->fresh);
	return rc;
}

void metrics_free(struct metrics *m)
{
	if (!m)
		return;
	pst_assert(!m->daemon && !m->collecting && list_empty(&m->asking));
	(void)pthread_mutex_destroy(&m->lock);
	(void)pthread_cond_destroy(&m->fresh);
	mem_free(m);
}

int metrics_start(struct metrics **ret_m, struct server *s, const char *addr, struct pst_err *err)
{
	struct metrics *m = mem_calloc(1, sizeof(*m));
	int rc = m ? init_lock(m) : -ENOMEM;

	if (rc < 0) {
		mem_free(m);
		return err_set(err, rc, "no memory for the metrics");
	}
	m->s = s;
	m->loop = s->loop;
	m->started_ns = loop_now(s->loop);
	m->retry.fired = retry_fired;
	list_init(&m->asking);
	rc = addr ? open_http(m, addr, err) : 0;
	if (rc < 0)
		metrics_free(m);
	else
		*ret_m = m;
	return rc;
}

const char *metrics_addr(const struct metrics *m)
{
	return m->daemon ? m->addr : NULL;
}

void metrics_quiet(struct metrics *m)
{
	if (!m)
		return;
	pthread_mutex_lock(&m->lock);
	m->closing = true;
	pthread_cond_broadcast(&m->fresh);
	pthread_mutex_unlock(&m->lock);
	if (m->daemon)
		MHD_stop_daemon(m->daemon); /* joins its thread */
	m->daemon = NULL;
	/* What it asked for may still be in the inbox, or on its way. */
	while (m->asked || m->collecting)
		(void)loop_turn(m->loop, RETRY_NS);
}
