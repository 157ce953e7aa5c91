/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * auth - who calls, and the sessions that are attached here.
 *
 * Unix sockets. gRPC doesn't tell who is at the other end of one, so the connections are accepted
 * here, the kernel is asked, and gRPC gets the descriptor. A call knows its connection by gRPC's
 * name for it, "fd:NUMBER". So that a call that was in flight when its connection ended is not taken
 * for one of a newer connection, numbers are handed out in a circle: the same number comes again
 * only after thousands of others.
 */
#include <fcntl.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "front/grpc/grpc_int.h"

/* --- unix sockets --- */

static int high_fd(struct grpc_front *f, int fd)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, f->fd_next);

	if (high < 0 || high >= f->fd_end) {
		if (high >= 0)
			close(high);
		high = fcntl(fd, F_DUPFD_CLOEXEC, f->fd_first);
	}
	close(fd);
	if (high >= f->fd_end) {
		close(high);
		return -1;
	}
	f->fd_next = high + 1;
	return high;
}

static void unix_ready(struct loop_fd *lf, uint32_t revents)
{
	struct grpc_front *f = container_of(lf, struct grpc_front, listener);
	struct ucred cred;
	socklen_t len = sizeof(cred);
	int fd = accept4(lf->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0) {
		close(fd);
		return;
	}
	fd = high_fd(f, fd);
	if (fd < 0)
		return;
	f->peers[fd - f->fd_first] = (struct peer_cred){cred.uid, cred.gid, true};
	grpc_server_add_channel_from_fd(f->server, fd, f->plain);
}

/* Half of the descriptors that this process may have, up to 64 Ki. */
static int fds_reserve(struct grpc_front *f)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
		return -errno;
	if (rl.rlim_cur < 65536 && rl.rlim_max > rl.rlim_cur) {
		rl.rlim_cur = MIN(rl.rlim_max, 65536);
		(void)setrlimit(RLIMIT_NOFILE, &rl);
	}
	f->fd_end = (int)MIN(rl.rlim_cur, 1u << 17);
	f->fd_first = f->fd_next = f->fd_end / 2;
	f->peers = mem_calloc((size_t)(f->fd_end - f->fd_first), sizeof(*f->peers));
	return f->peers ? 0 : -ENOMEM;
}

int unix_listen(struct grpc_front *f, const char *path, struct pst_err *err)
{
	char addr[sizeof("unix:") + sizeof(((struct sockaddr_un *)0)->sun_path)];
	int rc = fds_reserve(f);

	if (rc)
		return err_set(err, rc, "descriptors for %s: %s", path, strerror(-rc));
	if ((size_t)snprintf(addr, sizeof(addr), "unix:%s", path) >= sizeof(addr))
		return err_set(err, -ENAMETOOLONG, "%s: too long for a socket's path", path);
	f->plain = grpc_insecure_server_credentials_create();
	rc = net_hold(&f->place, addr, 0, 0666, err);
	if (rc < 0)
		return rc;
	rc = net_hold_listen(f->place, 128, err);
	if (rc < 0)
		return rc;
	f->listener.fd = rc;
	f->listener.ready = unix_ready;
	rc = loop_fd_add(f->loop, &f->listener, POLLIN);
	if (rc)
		return err_set(err, rc, "%s: %s", path, strerror(-rc));
	f->listening = true;
	return 0;
}

static void unix_gone(struct loop_fd *lf)
{
	container_of(lf, struct grpc_front, listener)->listening = false;
}

void unix_close(struct grpc_front *f)
{
	if (f->listening)
		loop_fd_del(f->loop, &f->listener, unix_gone);
	while (f->listening)
		(void)loop_turn(f->loop, NSEC_PER_SEC);
	net_hold_free(f->place);
}

static const struct peer_cred *cred_of(const struct gcall *c)
{
	const struct grpc_front *f = c->front;
	int fd, end = 0;

	if (!f->peers || !c->peer || sscanf(c->peer, "fd:%d%n", &fd, &end) != 1 || c->peer[end] ||
	    fd < f->fd_first || fd >= f->fd_end || !f->peers[fd - f->fd_first].known)
		return NULL;
	return &f->peers[fd - f->fd_first];
}

/* Where the caller is, for the audit. */
static const char *call_peer(const struct gcall *c)
{
	return cred_of(c) ? "unix" : c->peer ? c->peer : "";
}

/* --- identities --- */

static int token_identify(struct gcall *c, struct ident *ret_id)
{
	int rc = -EBADF;

	if (c->bearer_len <= sizeof(c->bearer))
		rc = session_auth_token(c->front->table, ret_id, c->bearer, c->bearer_len);
	switch (rc) {
	case 0:
		return 0;
	case -EKEYREVOKED:
		return call_fail(c, rc, "authorization: the capability of that token was revoked");
	case -EKEYEXPIRED:
		return call_fail(c, rc, "authorization: that token has expired");
	default:
		return call_fail(c, rc, "authorization: that token is none of this server's");
	}
}

int call_identify(struct gcall *c, struct ident *ret_id)
{
	struct session_table *t = c->front->table;
	const struct peer_cred *cred = cred_of(c);
	int rc = -EACCES, got;
	bool named;

	memset(ret_id, 0, sizeof(*ret_id));
	ret_id->peer = call_peer(c);
	/* Who shows a token acts by it alone: it may say less than what the caller is. */
	if (c->bearer_bad)
		return call_fail(c, -EBADF, "authorization: it is \"Bearer TOKEN\", once");
	if (c->bearer_len)
		return token_identify(c, ret_id);
	if (c->cert[0]) {
		got = session_auth_cert(t, ret_id, c->cert);
		rc = rc && !got ? 0 : rc;
	}
	if (cred) {
		got = session_auth_peer(t, ret_id, cred->uid, cred->gid);
		rc = rc && !got ? 0 : rc;
	}
	named = ret_id->who[0]; /* what is said of open access is no name */
	if (rc && !session_auth_open(t, ret_id))
		rc = 0;
	if (!rc)
		return 0;
	if (named)
		return call_fail(c, rc, "%s: %s has no capability here", method_name(c),
		                 ret_id->who);
	return call_fail(c, rc,
	                 "%s: this call does not show who asks: by a token (authorization: Bearer "
	                 "TOKEN), a certificate, or the unix socket",
	                 method_name(c));
}

int call_admin(struct gcall *c)
{
	int rc = call_identify(c, &c->ident);

	if (rc)
		return rc;
	rc = session_auth_admin(c->front->table, &c->ident, c->method->path);
	return rc ? call_fail(c, rc,
	                      "%s: it takes the right admin on all containers, which %s has not",
	                      method_name(c), c->ident.who[0] ? c->ident.who : "this caller")
	          : 0;
}

/* --- sessions --- */

static void fsession_free(struct fsession *s)
{
	if (s->calls || !s->gone)
		return;
	list_del(&s->link);
	mem_free_secret(s, sizeof(*s));
}

void fsession_end(struct fsession *s)
{
	if (s->gone)
		return;
	s->gone = true;
	session_conn_done(&s->conn);
	fsession_free(s);
}

static void fsession_cut(struct session_conn *conn, int why)
{
	struct fsession *s = container_of(conn, struct fsession, conn);

	s->why = why;
	fsession_end(s);
}

struct fsession *fsession_new(struct grpc_front *f)
{
	struct fsession *s = mem_calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->front = f;
	s->calls = 1; /* and so conn.between_calls is false */
	s->last_ns = loop_now(f->loop);
	list_push(&f->sessions, &s->link);
	session_conn_init(&s->conn, f->table, fsession_cut);
	return s;
}

/* Calls of one session may come from anywhere: the audit hears of the last. */
void fsession_peer(struct fsession *s, const struct gcall *c)
{
	(void)snprintf(s->peer, sizeof(s->peer), "%s", call_peer(c));
	s->conn.peer = s->peer;
}

void fsession_put(struct fsession *s)
{
	s->calls--;
	s->conn.between_calls = !s->calls;
	s->last_ns = loop_now(s->front->loop);
	fsession_free(s);
}

/* A session that is attached never expires: those that are not used are let go. */
void fsessions_sweep(struct grpc_front *f)
{
	struct fsession *s, *tmp;

	list_for_each_safe (s, tmp, &f->sessions, link)
		if (!s->calls && loop_now(f->loop) - s->last_ns > 30 * NSEC_PER_SEC)
			fsession_end(s);
}

int call_session(struct gcall *c, const Penstock__V1__Session *m)
{
	struct grpc_front *f = c->front;
	struct fsession *s;
	int rc;

	if (!m)
		return call_fail(c, -EINVAL,
		                 "%ssession: %s takes one: OpenSession gives its number and secret",
		                 name_field(c), method_name(c));
	if (m->secret.len != SESSION_SECRET_BYTES)
		return call_fail(c, -EINVAL,
		                 "%ssession.secret: %zu bytes: it has %d, as OpenSession gave it",
		                 name_field(c), m->secret.len, SESSION_SECRET_BYTES);
	list_for_each (s, &f->sessions, link) {
		/* Of a wrong secret the session room hears below. */
		if (s->gone || s->number != m->number || !s->conn.session ||
		    CRYPTO_memcmp(s->secret, m->secret.data, sizeof(s->secret)))
			continue;
		s->calls++;
		s->conn.between_calls = false;
		fsession_peer(s, c);
		c->session = s;
		return 0;
	}
	s = fsession_new(f);
	if (!s)
		return -ENOMEM;
	fsession_peer(s, c);
	rc = session_resume(&s->conn, m->number, m->secret.data);
	if (rc) {
		s->calls = 0;
		fsession_end(s);
		return call_fail(c, rc,
		                 rc == -ESTALE
		                         ? "%ssession.number: there is no session %016llx: it was "
		                           "closed, it expired, or it is another store's"
		                 : rc == -EACCES ? "%ssession.secret: not that of session %016llx"
		                                 : "%ssession: %016llx can't be used now",
		                 name_field(c), (unsigned long long)m->number);
	}
	s->number = m->number;
	memcpy(s->secret, m->secret.data, sizeof(s->secret));
	c->session = s;
	return 0;
}

/* --- requests --- */

static void run_end(struct gcall *c, int status)
{
	struct fsession *s = c->session;

	c->session = NULL;
	if (status)
		why_request(c, status);
	c->finish(c, status);
	fsession_put(s);
}

static void run_done(struct pst_op *op)
{
	struct gcall *c = container_of(op, struct gcall, req.op);

	/* The answer may take the handle along. */
	c->has_handle = !op->status && !session_handle(&c->req, c->handle);
	run_end(c, session_end(&c->req));
}

static void run_go(struct session_req *r, int status)
{
	struct gcall *c = container_of(r, struct gcall, req);

	if (status)
		run_end(c, status);
	else
		session_submit(r);
}

void call_run(struct gcall *c, const Penstock__V1__Token *token,
              void (*finish)(struct gcall *c, int status))
{
	int rc;

	c->finish = finish;
	if (token && token->sequence)
		c->req.op.token = (struct pst_token){
		        .session = c->session->number, .slot = token->slot, .seq = token->sequence};
	c->req.go = run_go;
	c->req.op.done = run_done;
	rc = session_admit(&c->session->conn, &c->req);
	if (rc == -ECONNABORTED && c->session->why == -EPROTO)
		rc = -EPROTO; /* by what this call asked for: its caller is to hear of that */
	if (!rc)
		session_submit(&c->req);
	else if (rc != -EINPROGRESS)
		run_end(c, rc);
}
