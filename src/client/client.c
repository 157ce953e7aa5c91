/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client - opening, turning and closing. A threaded client's store is made, run and closed by its
 * reactor thread, outside of any turn of the loop, since opening and closing turn the loop
 * themselves.
 */
#include "client/client.h"

#include <semaphore.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "client/stack.h"
#include "fabric/fabric.h"
#include "wire/wire.h"

#define MEM_REGIONS_DEFAULT 64
#define EXPLAIN_NS          (2 * NSEC_PER_SEC) /* that a server has to say why */

struct client_start {
	struct pst_client *client;
	struct loop_opts loop_opts;
	client_make_store *make;
	void *arg;
	struct pst_err *err;
	int status;
	sem_t up;
};

void pst_client_opts_default(struct pst_client_opts *opts, size_t size)
{
	struct pst_client_opts all = {0};
	struct loop_opts loop;

	loop_opts_default(&loop);
	all.spin_ns = loop.spin_ns;
	all.mem_regions_max = MEM_REGIONS_DEFAULT;
	all.size = size;
	if (size > sizeof(all)) {
		memset((char *)opts + sizeof(all), 0, size - sizeof(all));
		size = sizeof(all);
	}
	memcpy(opts, &all, size);
}

/* The caller's options, whichever version it was built with. */
static int opts_take(struct pst_client_opts *ret_opts, const struct pst_client_opts *opts,
                     struct pst_err *err)
{
	const char *tail;

	pst_client_opts_default(ret_opts, sizeof(*ret_opts));
	if (!opts)
		return 0;
	if (opts->size < offsetof(struct pst_client_opts, drive))
		return err_set(err, -EINVAL, "client options: size is not set");
	tail = (const char *)opts + sizeof(*opts);
	for (size_t i = sizeof(*opts); i < opts->size; i++)
		if (*tail++)
			return err_set(err, -EINVAL,
			               "client options: the caller is newer than the library");
	memcpy(ret_opts, opts, MIN(opts->size, sizeof(*opts)));
	if (ret_opts->mem_regions_max == 0)
		ret_opts->mem_regions_max = MEM_REGIONS_DEFAULT;
	if (ret_opts->mem_regions_max > 65536)
		return err_set(err, -EINVAL, "client options: mem_regions_max is above 65536");
	return 0;
}

/* A page that is 1 here and 0 in a child after fork. */
static int alive_new(struct pst_client *c, struct pst_err *err)
{
	size_t len = (size_t)sysconf(_SC_PAGESIZE);
	uint8_t *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int rc;

	if (p == MAP_FAILED)
		return err_set(err, -errno, "no memory for a page");
	if (madvise(p, len, MADV_WIPEONFORK) < 0) {
		rc = -errno;
		munmap(p, len);
		return err_set(err, rc, "madvise(MADV_WIPEONFORK): %s", strerror(-rc));
	}
	*p = 1;
	c->alive = (const _Atomic uint8_t *)p;
	return 0;
}

static void client_dispose(struct pst_client *c)
{
	if (c->alive)
		munmap((void *)(uintptr_t)c->alive, (size_t)sysconf(_SC_PAGESIZE));
	sem_destroy(&c->stop_returned);
	mem_free(c->mem);
	mem_free(c);
}

static int client_alloc(struct pst_client **ret_client, const struct pst_client_opts *opts,
                        struct pst_err *err)
{
	struct pst_client *c = mem_calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return err_set(err, -ENOMEM, "no memory");
	sem_init(&c->stop_returned, 0, 0);
	c->threaded = !opts->drive;
	c->read_only = opts->read_only;
	c->op_timeout_ns = opts->op_timeout_ns;
	c->mem_max = opts->mem_regions_max;
	c->mem = mem_calloc(c->mem_max, sizeof(*c->mem));
	rc = c->mem ? alive_new(c, err) : err_set(err, -ENOMEM, "no memory");
	if (rc < 0) {
		client_dispose(c);
		return rc;
	}
	*ret_client = c;
	return 0;
}

/* What a store's channels leave behind when they are closed ends with a few turns. */
static void loop_end(struct loop *loop)
{
	fabric_finish(loop);
	loop_free(loop);
}

/* On the thread that will run the loop. */
static int client_up(struct client_start *s)
{
	struct pst_client *c = s->client;
	int rc = loop_new(&c->loop, &s->loop_opts, s->err);

	if (rc < 0)
		return rc;
	rc = s->make(&c->store, c->loop, s->arg, s->err);
	if (rc < 0) {
		loop_end(c->loop);
		return rc;
	}
	client_poller_start(c);
	return 0;
}

static int client_down(struct pst_client *c)
{
	int rc;

	client_mem_free_all(c);
	loop_poller_del(c->loop, &c->poller);
	rc = store_close(c->store);
	loop_end(c->loop);
	return rc;
}

static void *reactor_main(void *arg)
{
	struct client_start *s = arg;
	struct pst_client *c = s->client;
	int rc = client_up(s);

	s->status = rc;
	sem_post(&s->up); /* @s is the opener's and gone from here on */
	if (rc < 0)
		return NULL;
	rc = loop_run(c->loop);
	/* loop_stop() may still be at the wake-up in the closing thread: the loop must outlive it.
	 */
	while (sem_wait(&c->stop_returned) < 0)
		pst_assert(errno == EINTR);
	c->close_status = client_down(c);
	if (rc < 0 && c->close_status == 0)
		c->close_status = rc;
	return NULL;
}

static int reactor_start(struct client_start *s)
{
	sigset_t all, old;
	int rc;

	sem_init(&s->up, 0, 0);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old); /* signals are the application's */
	rc = -pthread_create(&s->client->thread, NULL, reactor_main, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc < 0)
		return err_set(s->err, rc, "can't start a thread: %s", strerror(-rc));
	while (sem_wait(&s->up) < 0)
		pst_assert(errno == EINTR);
	if (s->status < 0)
		pthread_join(s->client->thread, NULL);
	sem_destroy(&s->up);
	return s->status;
}

int client_open_over(struct pst_client **ret_client, client_make_store *make, void *arg,
                     const struct pst_client_opts *user_opts, struct pst_err *err)
{
	struct client_start s = {.make = make, .arg = arg, .err = err};
	struct pst_client_opts opts;
	int rc = opts_take(&opts, user_opts, err);

	if (rc < 0)
		return rc;
	rc = client_alloc(&s.client, &opts, err);
	if (rc < 0)
		return rc;
	loop_opts_default(&s.loop_opts);
	s.loop_opts.spin_ns = opts.spin_ns;
	s.loop_opts.poll = opts.poll;
	rc = s.client->threaded ? reactor_start(&s) : client_up(&s);
	if (rc < 0) {
		client_dispose(s.client);
		return rc;
	}
	*ret_client = s.client;
	return 0;
}

struct open_arg {
	const char *uri;
	struct stack_opts opts;
};

static int make_stack(struct store **ret_store, struct loop *loop, void *arg, struct pst_err *err)
{
	struct open_arg *a = arg;

	return stack_open(ret_store, a->uri, loop, &a->opts, err);
}

int pst_client_open(struct pst_client **ret_client, const char *uri,
                    const struct pst_client_opts *opts, struct pst_err *err)
{
	struct open_arg a = {.uri = uri ? uri : getenv("PENSTOCK_STORE")};

	if (!a.uri || !a.uri[0])
		return err_set(err, -EINVAL, "no store named (PENSTOCK_STORE is not set)");
	if (opts && opts->size > offsetof(struct pst_client_opts, read_only))
		a.opts.read_only = opts->read_only;
	return client_open_over(ret_client, make_stack, &a, opts, err);
}

int pst_client_close(struct pst_client *c)
{
	int rc;

	if (!c)
		return 0;
	rc = client_check(c);
	if (rc < 0)
		return rc;
	if (atomic_load(&c->conts) || atomic_load(&c->queues))
		return -EBUSY;
	if (c->threaded) {
		pst_assert(!pthread_equal(c->thread, pthread_self()));
		loop_stop(c->loop);
		sem_post(&c->stop_returned);
		pthread_join(c->thread, NULL);
		rc = c->close_status;
	} else {
		pst_assert(list_empty(&c->busy) && c->inflight == 0);
		rc = client_down(c);
	}
	client_dispose(c);
	return rc;
}

int pst_client_turn(struct pst_client *c, uint64_t timeout_ns)
{
	int rc = client_check(c);

	if (rc < 0)
		return rc;
	if (c->threaded)
		return -EINVAL;
	c->woken = false;
	return loop_turn(c->loop, timeout_ns);
}

static void wake_run(struct loop_msg *m)
{
	struct pst_client *c = container_of(m, struct pst_client, wake);

	c->woken = true;
	atomic_store(&c->wake_posted, false);
}

int pst_client_wake(struct pst_client *c)
{
	int rc = client_check(c);

	if (rc < 0)
		return rc;
	if (c->threaded)
		return -EINVAL;
	if (!atomic_exchange(&c->wake_posted, true)) {
		c->wake.run = wake_run;
		loop_post(c->loop, &c->wake);
	}
	return 0;
}

/* --- calls that concern the whole store --- */

int pst_client_flush(struct pst_client *c)
{
	struct request r;

	request_init(&r, c, PST_OP_FLUSH);
	return request_wait(&r);
}

static int status_by(struct pst_client *c, uint64_t deadline_ns,
                     struct pst_store_status *ret_status)
{
	struct pst_store_status status = {0};
	struct request r;
	int rc;

	request_init(&r, c, PST_OP_STATUS);
	r.op.deadline_ns = deadline_ns;
	r.op.status_out = &status;
	r.op.want_values = true;
	rc = request_wait(&r);
	if (rc == 0)
		*ret_status = status;
	return rc;
}

int pst_client_status(struct pst_client *c, struct pst_store_status *ret_status)
{
	return status_by(c, 0, ret_status);
}

int pst_client_figures(struct pst_client *c, char *buf, size_t cap, size_t *ret_len)
{
	struct request r;
	int rc;

	if (!buf || cap < 2)
		return -EINVAL;
	request_init(&r, c, PST_OP_FIGURES);
	r.op.val = buf;
	r.op.val_cap = (uint32_t)MIN(cap - 1, MIB);
	rc = request_wait(&r);
	if (rc < 0)
		return rc;
	buf[r.op.ret_len] = 0;
	if (ret_len)
		*ret_len = r.op.ret_len;
	return 0;
}

static void explain_full(const struct pst_store_status *st, struct pst_err *err)
{
	char used[32], size[32], limit[32];

	if (st->refused_last == PST_SCARCE_INDEX) {
		err_set(err, -ENOSPC,
		        "no memory left for the store's index: it takes %s, and its limit is %s "
		        "(option index_limit)",
		        format_size(st->index_bytes, used, sizeof(used)),
		        format_size(st->index_limit_bytes, limit, sizeof(limit)));
		return;
	}
	err_set(err, -ENOSPC, "no space left in the store for data: %s of %s are in use",
	        format_size(st->used_bytes, used, sizeof(used)),
	        format_size(st->size_bytes, size, sizeof(size)));
}

static int connected(struct pst_client *c, void *arg)
{
	struct remote_figures f = {0};

	if (!store_is_remote(c->store))
		return 0;
	remote_figures(c->store, &f);
	return f.provider ? 0 : -ENOTCONN;
}

int pst_client_explain(struct pst_client *c, int status, struct pst_err *ret_err)
{
	struct pst_store_status st = {0};
	int rc = client_check(c);

	/* A server that is gone is not waited for: it is why, as likely as not. */
	if (rc == 0)
		rc = client_call(c, connected, NULL);
	if (rc == 0)
		rc = status_by(c, clock_mono_ns() + EXPLAIN_NS, &st);
	if (rc < 0)
		return rc;
	if (st.stopped)
		err_set(ret_err, status, "%s: the store has stopped: %s", strerror(-status),
		        st.stopped_why);
	else if (status == -ENOSPC && st.refused_last != PST_SCARCE_NONE)
		explain_full(&st, ret_err);
	else
		err_set(ret_err, status, "%s", strerror(-status));
	return 0;
}

int pst_client_scrub_async(struct pst_client *c, struct pst_scrub_report *report, struct pst_cq *cq,
                           void *user_data)
{
	struct request *r;
	int rc = request_get(&r, c, cq, user_data, PST_OP_SCRUB);

	if (rc < 0)
		return rc;
	r->op.scrub = report;
	return request_go(r, 0);
}

/* --- running something on the loop's thread --- */

struct call {
	struct loop_msg msg;
	struct pst_client *client;
	int (*fn)(struct pst_client *c, void *arg);
	void *arg;
	int status;
	sem_t done;
};

static void call_run(struct loop_msg *m)
{
	struct call *call = container_of(m, struct call, msg);

	call->status = call->fn(call->client, call->arg);
	sem_post(&call->done);
}

int client_call(struct pst_client *c, int (*fn)(struct pst_client *c, void *arg), void *arg)
{
	struct call call = {.msg = {.run = call_run}, .client = c, .fn = fn, .arg = arg};

	if (!c->threaded)
		return fn(c, arg);
	pst_assert(!pthread_equal(c->thread, pthread_self()));
	sem_init(&call.done, 0, 0);
	loop_post(c->loop, &call.msg);
	while (sem_wait(&call.done) < 0)
		pst_assert(errno == EINTR);
	sem_destroy(&call.done);
	return call.status;
}
