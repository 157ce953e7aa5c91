/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Host names. getaddrinfo() blocks and can't be stopped, so a socket that needs it starts a thread
 * for it and forgets the thread when its deadline passes.
 *
 * A struct net_resolve has two owners: the loop's side and the thread. @lock decides who is last:
 *   - the thread posts its message while it holds the lock and finds @loop set; the message then
 *     frees, and the loop can't go away in the middle (it may not while calls are under way);
 *   - cancelled before that (@loop is NULL), the thread frees.
 */
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>

#include "net/net_int.h"

struct net_resolve {
	struct loop_msg msg;
	pthread_mutex_t lock;
	struct loop *loop; /* NULL: nobody wants to know any more; under @lock */
	bool cancelled;    /* the loop's */
	void (*done)(struct net_resolve *r, void *user);
	void *user;
	char *text;
	uint16_t default_port;
	int result;
	struct pst_err err;
	struct net_addr addrs[NET_ADDRS_MAX];
	unsigned count;
};

static int lookup_error(int code, int sys, const char *host, struct pst_err *err)
{
	switch (code) {
	case EAI_NONAME:
	case EAI_NODATA:
	case EAI_ADDRFAMILY:
		return err_set(err, -EHOSTUNREACH, "there is no host '%s'", host);
	case EAI_AGAIN:
		return err_set(err, -EAGAIN, "cannot look up host '%s' now: %s", host,
		               gai_strerror(code));
	case EAI_MEMORY:
		return err_set(err, -ENOMEM, "no memory to look up host '%s'", host);
	case EAI_SYSTEM:
		return err_set(err, sys ? -sys : -EIO, "cannot look up host '%s': %s", host,
		               strerror(sys));
	default:
		return err_set(err, -EHOSTUNREACH, "cannot look up host '%s': %s", host,
		               gai_strerror(code));
	}
}

static int look_up(struct net_addr ret_addrs[NET_ADDRS_MAX], unsigned *ret_count, const char *text,
                   uint16_t default_port, struct pst_err *err)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC};
	char host[NET_HOST_BYTES_MAX], service[8];
	struct addrinfo *list;
	unsigned n = 0;
	uint16_t port;
	int r;

	r = addr_split(text, default_port, host, &port, err);
	if (r)
		return r;
	snprintf(service, sizeof(service), "%u", port);
	r = getaddrinfo(host, service, &hints, &list);
	if (r)
		return lookup_error(r, errno, host, err);
	for (struct addrinfo *a = list; a && n < NET_ADDRS_MAX; a = a->ai_next) {
		if (a->ai_family != AF_INET && a->ai_family != AF_INET6)
			continue;
		memset(&ret_addrs[n], 0, sizeof(ret_addrs[n]));
		ret_addrs[n].len = a->ai_addrlen;
		memcpy(&ret_addrs[n].sa, a->ai_addr, a->ai_addrlen);
		n++;
	}
	freeaddrinfo(list);
	if (!n)
		return err_set(err, -EHOSTUNREACH, "host '%s' has no IP address", host);
	*ret_count = n;
	return 0;
}

int net_resolve(struct net_addr ret_addrs[NET_ADDRS_MAX], unsigned *ret_count, const char *text,
                uint16_t default_port, struct pst_err *err)
{
	int r = net_addr_parse(&ret_addrs[0], text, default_port, err);

	if (r == -EDESTADDRREQ)
		return look_up(ret_addrs, ret_count, text, default_port, err);
	if (!r)
		*ret_count = 1;
	return r;
}

static void resolve_free(struct net_resolve *r)
{
	pthread_mutex_destroy(&r->lock);
	mem_free(r->text);
	mem_free(r);
}

static void resolve_answer(struct loop_msg *m)
{
	struct net_resolve *r = container_of(m, struct net_resolve, msg);

	if (r->cancelled)
		resolve_free(r);
	else
		r->done(r, r->user);
}

static void *resolve_thread(void *arg)
{
	struct net_resolve *r = arg;
	bool ours;

	r->result = look_up(r->addrs, &r->count, r->text, r->default_port, &r->err);
	pthread_mutex_lock(&r->lock);
	ours = !r->loop;
	if (!ours)
		loop_post(r->loop, &r->msg);
	pthread_mutex_unlock(&r->lock);
	if (ours)
		resolve_free(r);
	return NULL;
}

static int thread_start(struct net_resolve *r)
{
	pthread_attr_t attr;
	sigset_t all, old;
	pthread_t thread;
	int rc;

	rc = pthread_attr_init(&attr);
	if (rc)
		return -rc;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	/* The application's signals are its own threads' business. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&thread, &attr, resolve_thread, r);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -rc;
}

int net_resolve_start(struct net_resolve **ret_r, struct loop *loop, const char *text,
                      uint16_t default_port, void (*done)(struct net_resolve *r, void *user),
                      void *user)
{
	struct net_resolve *r = mem_calloc(1, sizeof(*r));
	size_t len = strlen(text) + 1;
	int rc;

	if (!r)
		return -ENOMEM;
	r->text = mem_alloc(len);
	if (!r->text) {
		mem_free(r);
		return -ENOMEM;
	}
	memcpy(r->text, text, len);
	pthread_mutex_init(&r->lock, NULL);
	r->msg.run = resolve_answer;
	r->loop = loop;
	r->default_port = default_port;
	r->done = done;
	r->user = user;
	rc = thread_start(r);
	if (rc) {
		resolve_free(r);
		return rc;
	}
	*ret_r = r;
	return 0;
}

int net_resolve_take(struct net_resolve *r, struct net_addr *ret_addrs, unsigned *ret_count,
                     struct pst_err *err)
{
	int result = r->result;

	if (result) {
		err_set(err, result, "%s", r->err.text);
	} else {
		memcpy(ret_addrs, r->addrs, r->count * sizeof(*ret_addrs));
		*ret_count = r->count;
	}
	/* The thread may still be on its way out of the lock. */
	pthread_mutex_lock(&r->lock);
	pthread_mutex_unlock(&r->lock);
	resolve_free(r);
	return result;
}

void net_resolve_cancel(struct net_resolve *r)
{
	if (!r)
		return;
	r->cancelled = true;
	pthread_mutex_lock(&r->lock);
	r->loop = NULL;
	pthread_mutex_unlock(&r->lock);
	/* If it was posted its message frees it, in a later turn; else the thread does. */
}

static void answered(struct net_resolve *r, void *user)
{
	*(bool *)user = true;
}

int net_resolve_by(struct loop *loop, uint64_t deadline_ns,
                   struct net_addr ret_addrs[NET_ADDRS_MAX], unsigned *ret_count, const char *text,
                   uint16_t default_port, struct pst_err *err)
{
	int rc = net_addr_parse(&ret_addrs[0], text, default_port, err);
	struct net_resolve *r = NULL;
	bool done = false;

	if (rc == 0)
		*ret_count = 1;
	if (rc != -EDESTADDRREQ)
		return rc;
	rc = net_resolve_start(&r, loop, text, default_port, answered, &done);
	if (!r)
		return err_set(err, rc, "cannot look up '%s': %s", text, strerror(-rc));
	while (!done && loop_now(loop) < deadline_ns)
		(void)loop_turn(loop, MIN(deadline_ns - loop_now(loop), 100 * NSEC_PER_MSEC));
	if (done)
		return net_resolve_take(r, ret_addrs, ret_count, err);
	net_resolve_cancel(r);
	return err_set(err, -ETIMEDOUT, "the resolver does not answer for '%s'", text);
}
