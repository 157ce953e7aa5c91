/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sockets with TLS 1.3: the same streams, who the peer is, every way in which certificates, keys and
 * peers can be wrong, and a man in the middle who cuts and flips.
 */
#include <fcntl.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <unistd.h>

#include "net/net_int.h"

#include "net_util.h"
#include "tls_certs.h"

static struct net_tls *tls_of(const char *cert, const char *ca, bool need_cert, uint64_t rekey)
{
	char cert_file[32], key_file[32];
	struct net_tls_opts opts = {.need_cert = need_cert, .rekey_records = rekey};
	struct net_tls *tls;
	struct pst_err err;

	if (cert) {
		snprintf(cert_file, sizeof(cert_file), "%s.pem", cert);
		snprintf(key_file, sizeof(key_file), "%s.key", cert);
		opts.cert_file = certs_path(cert_file);
		opts.key_file = certs_path(key_file);
	}
	opts.ca_file = ca ? certs_path(ca) : NULL;
	if (net_tls_new(&tls, &opts, &err))
		fail_msg("%s", err.text);
	return tls;
}

/* --- streams --- */

static void stream(const char *addr, struct net_opts client, struct net_opts server, uint64_t seed,
                   uint64_t bytes, bool pauses, uint64_t rekey)
{
	struct pair p;

	client.tls = tls_of(NULL, "ca.pem", false, rekey);
	client.tls_name = "server.test";
	server.tls = tls_of("server", NULL, false, rekey);
	pair_open(&p, addr, &client, &server, seed);
	net_tls_free(client.tls);
	net_tls_free(server.tls);
	assert_true(net_sock_is_tls(p.a->s) && net_sock_is_tls(p.b->s));
	p.a->total_out = p.b->total_in = 1 + rng_below(&p.a->rng, bytes);
	p.b->total_out = p.a->total_in = 1 + rng_below(&p.a->rng, bytes);
	p.a->shut_after = p.b->shut_after = true;
	p.a->pauses = p.b->pauses = pauses;
	end_pump(p.a);
	end_pump(p.b);
	turn_until(p.loop, p.a->eofs && p.b->eofs, 60);
	assert_int_equal(p.a->in, p.a->total_in);
	assert_int_equal(p.b->in, p.b->total_in);
	assert_int_equal(p.a->bad + p.b->bad, 0);
	assert_int_equal(p.a->downs + p.b->downs, 0);
	pair_close(&p);
}

static void test_stream(void **state)
{
	const struct net_opts none = {0};

	for (uint64_t seed = 1; seed <= 6; seed++)
		stream("127.0.0.1:0", none, none, seed, 3 * MIB, seed % 2, 0);
	stream("unix-abstract:pst-net-tls", none, none, 9, 3 * MIB, false, 0);
}

static void test_stream_small_buffers(void **state)
{
	const struct net_opts small = {.send_buf = 1, .recv_buf = 100000, .queue_max = 1};
	const struct net_opts tiny = {.send_buf = 1, .recv_buf = 1, .queue_max = 3000};

	for (uint64_t seed = 10; seed < 13; seed++) {
		stream("127.0.0.1:0", small, small, seed, 1 * MIB, seed % 2, 0);
		stream("unix-abstract:pst-net-tls", tiny, tiny, seed, 300 * KIB, seed % 2, 0);
	}
}

static void test_stream_rekey(void **state)
{
	const struct net_opts none = {0};

	for (uint64_t rekey = 1; rekey <= 3; rekey++)
		stream("127.0.0.1:0", none, none, 20 + rekey, 1 * MIB, false, rekey);
}

/* What was queued before close arrives, and then a proper end. */
static void test_close_delivers(void **state)
{
	struct net_opts client = {.tls = tls_of(NULL, "ca.pem", false, 0)};
	struct net_opts server = {.tls = tls_of("server", NULL, false, 0)};
	struct pair p;

	pair_open(&p, "127.0.0.1:0", &client, &server, 1);
	p.a->total_out = 100 * MIB;
	end_pump(p.a);
	p.b->total_in = p.a->out; /* what its slots had room for */
	net_sock_close(p.a->s);
	p.a->s = NULL;
	turn_until(p.loop, p.b->eofs, 10);
	assert_int_equal(p.b->in, p.a->out);
	assert_int_equal(p.b->bad, 0);
	assert_int_equal(p.a->last_done, 0);
	net_sock_close(p.b->s);
	p.b->s = NULL;
	turn_until(p.loop, p.a->gones && p.b->gones, 1);
	pair_close(&p);
	net_tls_free(client.tls);
	net_tls_free(server.tls);
}

/* --- who is there --- */

static void test_mutual(void **state)
{
	struct net_opts client = {.tls = tls_of("client", "ca.pem", false, 0)};
	struct net_opts server = {.tls = tls_of("server", "ca.pem", true, 0)};
	const struct net_cert *c;
	struct pair p;

	pair_open(&p, "127.0.0.1:0", &client, &server, 1);
	c = net_sock_peer(p.b->s)->cert;
	assert_non_null(c);
	assert_string_equal(c->name, "client one");
	assert_int_equal(c->san_count, 4);
	assert_string_equal(c->sans[0], "DNS:a.test");
	assert_string_equal(c->sans[1], "DNS:b.test");
	assert_string_equal(c->sans[2], "URI:spiffe://test/client");
	assert_string_equal(c->sans[3], "IP:10.1.2.3");
	c = net_sock_peer(p.a->s)->cert;
	assert_non_null(c);
	assert_string_equal(c->name, "server.test");
	assert_string_equal(c->sans[2], "IP:::1");
	pair_close(&p);
	/* Asked for, but not insisted on. */
	net_tls_free(client.tls);
	net_tls_free(server.tls);
	client.tls = tls_of(NULL, "ca.pem", false, 0);
	server.tls = tls_of("server", "ca.pem", false, 0);
	pair_open(&p, "127.0.0.1:0", &client, &server, 1);
	assert_null(net_sock_peer(p.b->s)->cert);
	pair_close(&p);
	net_tls_free(client.tls);
	net_tls_free(server.tls);
}

/* --- bad files --- */

static void write_file(const char *name, const char *text)
{
	FILE *f = fopen(certs_path(name), "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void test_bad_files(void **state)
{
	static const struct {
		const char *cert, *key, *ca;
		bool need;
		int code;
		const char *says;
	} bad[] = {
	        {"nosuch.pem", "server.key", NULL, false, -ENOENT, "nosuch.pem: No such file"},
	        {"server.pem", "nosuch.key", NULL, false, -ENOENT, "nosuch.key: No such file"},
	        {"server.pem", "server.key", "nosuch", false, -ENOENT, "nosuch: No such file"},
	        {"empty", "server.key", NULL, false, -EINVAL, "empty"},
	        {"junk", "server.key", NULL, false, -EINVAL, "no certificate in"},
	        {"server.key", "server.key", NULL, false, -EINVAL, "no certificate in"},
	        {"server.pem", "junk", NULL, false, -EINVAL, "no private key in"},
	        {"server.pem", "server.pem", NULL, false, -EINVAL, "no private key in"},
	        {"server.pem", "server.key", "junk", false, -EINVAL, "of an authority in"},
	        {"server.pem", "client.key", NULL, false, -EKEYREJECTED, "not that of"},
	        {"server.pem", "locked.key", NULL, false, -EINVAL, "encrypted"},
	        {"server.pem", NULL, NULL, false, -EINVAL, "needs its key"},
	        {NULL, "server.key", NULL, false, -EINVAL, "needs its key"},
	        {"server.pem", "server.key", NULL, true, -EINVAL, "needs an authority"},
	        {"old.pem", "old.key", NULL, false, -EKEYEXPIRED, "expired at"},
	        {"early.pem", "early.key", NULL, false, -EKEYEXPIRED, "not valid before"},
	};

	write_file("empty", "");
	write_file("junk", "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIBAjAK\n");
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		const struct net_tls_opts opts = {
		        .cert_file = bad[i].cert ? certs_path(bad[i].cert) : NULL,
		        .key_file = bad[i].key ? certs_path(bad[i].key) : NULL,
		        .ca_file = bad[i].ca ? certs_path(bad[i].ca) : NULL,
		        .need_cert = bad[i].need,
		};
		struct net_tls *tls = NULL;
		struct pst_err err = {0};

		assert_int_equal(net_tls_new(&tls, &opts, &err), bad[i].code);
		assert_null(tls);
		if (!strstr(err.text, bad[i].says))
			fail_msg("%u: '%s' lacks '%s'", i, err.text, bad[i].says);
	}
}

static void test_bad_opts(void **state)
{
	static const struct net_accept none;
	struct net_opts opts = {.tls = tls_of(NULL, "ca.pem", false, 0)};
	struct loop *loop = net_loop();
	struct end *e = end_new(loop, 1, 1, 2);
	struct net_listener *l = NULL;
	struct pst_err err;

	assert_int_equal(net_listen(&l, loop, "127.0.0.1:0", 0, &opts, &none, NULL, &err), -EINVAL);
	assert_non_null(strstr(err.text, "needs a certificate"));
	assert_int_equal(net_sock_connect(&e->s, loop, "unix:/x", &opts, &end_handlers, e, &err),
	                 -EINVAL);
	assert_non_null(strstr(err.text, "needs the name"));
	opts.zerocopy_min = 1;
	assert_int_equal(
	        net_sock_connect(&e->s, loop, "127.0.0.1:1", &opts, &end_handlers, e, &err),
	        -EINVAL);
	assert_non_null(strstr(err.text, "zero-copy"));
	net_finish(loop);
	assert_int_equal(e->gones, 0);
	net_tls_free(opts.tls);
	end_free(e);
	loop_free(loop);
}

/* --- bad peers --- */

struct meet {
	const char *server_cert, *server_ca, *client_cert, *client_ca, *name;
	bool need;
	int client, server; /* their codes */
	const char *client_says, *server_says;
};

static void meet(const struct meet *m)
{
	struct net_opts client = {.tls = tls_of(m->client_cert, m->client_ca, false, 0),
	                          .tls_name = m->name};
	struct net_opts server = {.tls = tls_of(m->server_cert, m->server_ca, m->need, 0)};
	struct loop *loop = net_loop();
	struct end *a = end_new(loop, 1, 1, 2), *b = end_new(loop, 2, 2, 1);
	struct host h;
	int status;

	host_open(&h, loop, "127.0.0.1:0", &server);
	host_expect(&h, b);
	a->total_out = 100000; /* more than is needed to find out */
	end_connect(a, h.addr, &client);
	/* The server judges the client's certificate after the client is up. */
	turn_until(loop, h.failed && (a->up_status || a->downs), 5);
	status = a->up_status ? a->up_status : a->down_status;
	assert_null(b->s);
	if (status != m->client || !strstr(a->error, m->client_says))
		fail_msg("client: %d '%s', not %d '%s'", status, a->error, m->client,
		         m->client_says);
	if (h.failed_status != m->server || !strstr(h.failed_text, m->server_says))
		fail_msg("server: %d '%s', not %d '%s'", h.failed_status, h.failed_text, m->server,
		         m->server_says);
	net_sock_close(a->s);
	turn_until(loop, !net_listener_conns(h.l), 5);
	net_listener_close(h.l);
	net_finish(loop);
	net_tls_free(client.tls);
	net_tls_free(server.tls);
	end_free(a);
	end_free(b);
	loop_free(loop);
}

static void test_bad_certs(void **state)
{
	static const struct meet bad[] = {
	        {"server", NULL, NULL, "other_ca.pem", NULL, false, -EKEYREJECTED, -EKEYREJECTED,
	         "of no authority in", "refuses our certificate"},
	        {"server", NULL, NULL, "ca.pem", "other.test", false, -EKEYREJECTED, -EKEYREJECTED,
	         "not for the name 'other.test'", "refuses our certificate"},
	        {"client", NULL, NULL, "ca.pem", NULL, false, -EKEYREJECTED, -EKEYREJECTED,
	         "not for the name '127.0.0.1", "refuses our certificate"},
	        {"server", "ca.pem", NULL, "ca.pem", NULL, true, -ENOKEY, -ENOKEY,
	         "wants a certificate of ours", "has shown no certificate"},
	        {"server", "ca.pem", "stranger", "ca.pem", NULL, true, -EKEYREJECTED, -EKEYREJECTED,
	         "refuses our certificate", "of no authority in"},
	        {"server", "ca.pem", "stranger", "ca.pem", NULL, false, -EKEYREJECTED,
	         -EKEYREJECTED, "refuses our certificate", "of no authority in"},
	};

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
		meet(&bad[i]);
}

static void test_expired(void **state)
{
	static const struct meet expired = {
	        "brief", NULL,         NULL,          "ca.pem",      NULL,
	        false,   -EKEYEXPIRED, -EKEYREJECTED, "has expired", "certificate expired"};
	struct net_opts server = {0};
	struct net_opts client = {.tls = tls_of(NULL, "ca.pem", false, 0)};
	struct loop *loop = net_loop();
	struct end *a = end_new(loop, 1, 1, 2);
	struct host h;

	certs_brief(2);
	server.tls = tls_of("brief", NULL, false, 0);
	host_open(&h, loop, "127.0.0.1:0", &server);
	/* Until it has: this is about a certificate that runs out while the server runs. */
	usleep(3200000);
	end_connect(a, h.addr, &client);
	turn_until(loop, h.failed, 5);
	assert_int_equal(a->up_status, expired.client);
	assert_non_null(strstr(a->error, expired.client_says));
	assert_non_null(strstr(a->error, ": it was valid until "));
	assert_non_null(strstr(a->error, " GMT"));
	assert_int_equal(h.failed_status, expired.server);
	assert_non_null(strstr(h.failed_text, expired.server_says));
	net_sock_close(a->s);
	net_listener_close(h.l);
	net_finish(loop);
	net_tls_free(server.tls);
	net_tls_free(client.tls);
	end_free(a);
	loop_free(loop);
}

/* Bytes of a client that allows nothing newer than TLS 1.2. */
static size_t old_hello(uint8_t *buf, size_t len)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *ssl;
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
	int n;

	SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
	ssl = SSL_new(ctx);
	SSL_set_bio(ssl, in, out);
	SSL_set_connect_state(ssl);
	assert_true(SSL_do_handshake(ssl) < 0);
	n = BIO_read(out, buf, (int)len);
	assert_true(n > 0);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	return (size_t)n;
}

static void raw_to_server(const void *bytes, size_t len, int code, const char *says)
{
	struct net_opts server = {.tls = tls_of("server", NULL, false, 0),
	                          .connect_ns = 200 * NSEC_PER_MSEC};
	struct loop *loop = net_loop();
	const struct sockaddr *sa;
	struct host h;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	host_open(&h, loop, "127.0.0.1:0", &server);
	sa = (const struct sockaddr *)&net_listener_addr(h.l)->sa;
	assert_int_equal(connect(fd, sa, net_listener_addr(h.l)->len), 0);
	if (len)
		assert_int_equal(send(fd, bytes, len, 0), len);
	turn_until(loop, h.failed, 5);
	if (h.failed_status != code || !strstr(h.failed_text, says))
		fail_msg("%d '%s', not %d '%s'", h.failed_status, h.failed_text, code, says);
	close(fd);
	turn_until(loop, !net_listener_conns(h.l), 5);
	net_listener_close(h.l);
	net_finish(loop);
	net_tls_free(server.tls);
	loop_free(loop);
}

static void test_no_tls_client(void **state)
{
	static const char http[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n", ours[64] = "PST1";
	uint8_t buf[4096];
	size_t n;

	raw_to_server(http, strlen(http), -EPROTO, "doesn't speak TLS");
	raw_to_server(ours, sizeof(ours), -EPROTO, "doesn't speak TLS");
	memset(buf, 0, sizeof(buf));
	raw_to_server(buf, sizeof(buf), -EPROTO, "TLS");
	memset(buf, 0xff, sizeof(buf));
	raw_to_server(buf, sizeof(buf), -EPROTO, "TLS");
	n = old_hello(buf, sizeof(buf));
	raw_to_server(buf, n, -EPROTO, "another version of TLS");
	raw_to_server(buf, n / 2, -ETIMEDOUT, "no TLS handshake within");
	raw_to_server(NULL, 0, -ETIMEDOUT, "no TLS handshake within");
}

/* Who only connects is in nobody's way, although he has a place until his handshake's deadline. */
static void test_silent_make_room(void **state)
{
	struct net_opts server = {.tls = tls_of("server", NULL, false, 0),
	                          .conns_max = 2,
	                          .connect_ns = 60 * NSEC_PER_SEC};
	struct net_opts client = {.tls = tls_of(NULL, "ca.pem", false, 0),
	                          .tls_name = "server.test"};
	struct loop *loop = net_loop();
	struct end *a = end_new(loop, 1, 1, 2), *b = end_new(loop, 1, 2, 1);
	struct host h;
	int fd[6];

	host_open(&h, loop, "127.0.0.1:0", &server);
	for (unsigned i = 0; i < ARRAY_LEN(fd); i++) {
		const struct net_addr *at = net_listener_addr(h.l);

		fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(fd[i], (const struct sockaddr *)&at->sa, at->len), 0);
	}
	host_expect(&h, b);
	end_connect(a, h.addr, &client);
	turn_until(loop, b->s, 20);
	assert_int_equal(net_listener_refused(h.l), 0);
	for (unsigned i = 0; i < ARRAY_LEN(fd); i++)
		close(fd[i]);
	net_sock_abort(a->s);
	net_sock_abort(b->s);
	net_listener_close(h.l);
	net_finish(loop);
	net_tls_free(server.tls);
	net_tls_free(client.tls);
	end_free(a);
	end_free(b);
	loop_free(loop);
}

static void client_to_raw(const char *answer, int code, const char *says)
{
	struct net_opts opts = {.tls = tls_of(NULL, "ca.pem", false, 0),
	                        .tls_name = "server.test",
	                        .connect_ns = (answer ? 20000 : 200) * NSEC_PER_MSEC};
	struct bare b;
	char buf[4096];

	bare_open(&b, true, &opts, &end_handlers);
	assert_int_equal(b.e->ups, 0);
	assert_true(loop_turn(b.loop, 0) >= 0);
	if (answer) {
		turn_until(b.loop, recv(b.fd, buf, sizeof(buf), MSG_DONTWAIT) > 0, 10);
		assert_int_equal(send(b.fd, answer, strlen(answer), 0), strlen(answer));
	}
	if (answer && !*answer) {
		close(b.fd);
		b.fd = -1;
	}
	turn_until(b.loop, b.e->ups, 5);
	if (b.e->up_status != code || !strstr(b.e->error, says))
		fail_msg("%d '%s', not %d '%s'", b.e->up_status, b.e->error, code, says);
	assert_true(net_sock_write(b.e->s, &(struct iovec){"x", 1}, 1) == code);
	bare_close(&b);
	net_tls_free(opts.tls);
}

static void test_no_tls_server(void **state)
{
	client_to_raw("220 mail.test ESMTP\r\n", -EPROTO, "doesn't speak TLS");
	client_to_raw("", -ECONNRESET, "during the TLS handshake");
	client_to_raw(NULL, -ETIMEDOUT, "no TLS handshake within 0.2 s");
}

/* An end that TLS doesn't vouch for may be an attacker's. */
static void test_cut(void **state)
{
	struct net_opts client = {.tls = tls_of(NULL, "ca.pem", false, 0)};
	struct net_opts server = {.tls = tls_of("server", NULL, false, 0)};
	struct pair p;

	pair_open(&p, "127.0.0.1:0", &client, &server, 1);
	p.a->total_out = p.b->total_in = 1000;
	end_pump(p.a);
	turn_until(p.loop, p.a->out == 1000 && !net_sock_queued(p.a->s), 5);
	assert_true(loop_turn(p.loop, 0) >= 0);
	assert_int_equal(shutdown(p.a->s->fd, SHUT_WR), 0);
	turn_until(p.loop, p.b->downs, 5);
	assert_int_equal(p.b->in, 1000);
	assert_int_equal(p.b->eofs, 0);
	assert_int_equal(p.b->down_status, -ECONNRESET);
	assert_non_null(strstr(p.b->error, "without an end"));
	pair_close(&p);
	net_tls_free(client.tls);
	net_tls_free(server.tls);
}

/* --- a man in the middle --- */

struct middle {
	struct loop *loop;
	struct end *end[2];
	int fd[2];           /* towards each end */
	uint64_t carried[2]; /* bytes that came from it */
	uint64_t flip[2], cut[2];
};

static void middle_open(struct middle *m, struct net_tls *client, struct net_tls *server)
{
	struct net_opts opts = {.tls_name = "server.test", .connect_ns = 2 * NSEC_PER_SEC};

	memset(m, 0, sizeof(*m));
	m->loop = net_loop();
	for (unsigned i = 0; i < 2; i++) {
		int sv[2];

		m->flip[i] = m->cut[i] = UINT64_MAX;
		m->end[i] = end_new(m->loop, 7 + i, 1 + i, 2 - i);
		m->end[i]->total_out = m->end[i]->total_in = 20000;
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
		m->fd[i] = sv[1];
		opts.tls = i ? server : client;
		assert_int_equal(net_sock_adopt(&m->end[i]->s, m->loop, sv[0], i, &opts,
		                                &end_handlers_no_eof, m->end[i], NULL),
		                 0);
	}
}

static void carry(struct middle *m, unsigned from)
{
	uint8_t buf[65536];
	ssize_t n;

	if (m->fd[from] < 0 || m->fd[!from] < 0)
		return;
	n = recv(m->fd[from], buf, sizeof(buf), MSG_DONTWAIT);
	if (n <= 0)
		return;
	if (m->flip[from] >= m->carried[from] && m->flip[from] < m->carried[from] + (uint64_t)n)
		buf[m->flip[from] - m->carried[from]] ^= 1;
	if (m->cut[from] < m->carried[from] + (uint64_t)n)
		n = (ssize_t)(m->cut[from] - m->carried[from]);
	m->carried[from] += (uint64_t)n;
	(void)send(m->fd[!from], buf, (size_t)n, MSG_NOSIGNAL);
	if (m->carried[from] == m->cut[from]) {
		for (unsigned i = 0; i < 2; i++) {
			close(m->fd[i]);
			m->fd[i] = -1;
		}
	}
}

/* Until all has come, or both sides are down. */
static void middle_run(struct middle *m)
{
	const uint64_t until = clock_mono_ns() + 5 * NSEC_PER_SEC;

	for (;;) {
		bool over = true;

		for (unsigned i = 0; i < 2; i++) {
			const struct end *e = m->end[i];

			carry(m, i);
			if (e->downs && m->fd[i] >= 0) { /* it has closed its side */
				close(m->fd[i]);
				m->fd[i] = -1;
				if (m->fd[!i] >= 0)
					(void)shutdown(m->fd[!i], SHUT_RDWR);
			}
			if (e->up_status && m->fd[!i] >= 0)
				(void)shutdown(m->fd[!i], SHUT_WR);
			over &= e->downs || e->up_status || e->in == e->total_in;
		}
		if (over)
			return;
		assert_true(loop_turn(m->loop, 0) >= 0);
		assert_true(clock_mono_ns() < until);
	}
}

static void middle_close(struct middle *m)
{
	for (unsigned i = 0; i < 2; i++) {
		net_sock_abort(m->end[i]->s);
		if (m->fd[i] >= 0)
			close(m->fd[i]);
	}
	net_finish(m->loop);
	for (unsigned i = 0; i < 2; i++)
		end_free(m->end[i]);
	loop_free(m->loop);
}

static void test_middle(void **state)
{
	struct net_tls *client = tls_of(NULL, "ca.pem", false, 0);
	struct net_tls *server = tls_of("server", NULL, false, 0);
	uint64_t all[2];
	struct middle m;

	middle_open(&m, client, server);
	middle_run(&m);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(m.end[i]->in, 20000);
		assert_int_equal(m.end[i]->bad, 0);
		all[i] = m.carried[i];
	}
	middle_close(&m);
	for (unsigned variant = 0; variant < 4; variant++) {
		const unsigned from = variant & 1;

		for (uint64_t at = 0; at < all[from]; at += at < 1500 ? 29 : 997) {
			middle_open(&m, client, server);
			if (variant & 2)
				m.flip[from] = at;
			else
				m.cut[from] = at;
			middle_run(&m);
			/* Whatever came is what was sent, and not all of it did. */
			assert_int_equal(m.end[0]->bad + m.end[1]->bad, 0);
			assert_true(m.end[!from]->in < 20000 || m.end[from]->in < 20000);
			middle_close(&m);
		}
	}
	net_tls_free(client);
	net_tls_free(server);
}

/* --- memory that is not there --- */

static void test_no_memory(void **state)
{
	struct net_tls *client = tls_of("client", "ca.pem", false, 0);
	struct net_tls *server = tls_of("server", "ca.pem", true, 0);

	for (uint64_t n = 1;; n++) {
		struct net_opts opts = {.tls_name = "server.test", .tls = client};
		struct loop *loop = net_loop();
		struct end *a = end_new(loop, 1, 1, 2), *b = end_new(loop, 2, 2, 1);
		uint64_t until = clock_mono_ns() + 3 * NSEC_PER_SEC;
		bool through = false;
		int sv[2];

		a->total_out = b->total_in = a->total_in = b->total_out = 50000;
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
		(void)mem_alloc_fail_at(n, false);
		if (net_sock_adopt(&a->s, loop, sv[0], false, &opts, &end_handlers_no_eof, a, NULL))
			a->s = NULL;
		opts.tls = server;
		if (net_sock_adopt(&b->s, loop, sv[1], true, &opts, &end_handlers_no_eof, b, NULL))
			b->s = NULL;
		while (a->s && b->s && !(a->up_status || b->up_status || a->downs || b->downs) &&
		       !(a->in == 50000 && b->in == 50000)) {
			assert_true(loop_turn(loop, NSEC_PER_MSEC) >= 0);
			assert_true(clock_mono_ns() < until);
			if (a->ups)
				end_pump(a);
			if (b->ups)
				end_pump(b);
		}
		assert_int_equal(a->bad + b->bad, 0);
		through = a->in == 50000 && b->in == 50000;
		net_sock_abort(a->s);
		net_sock_abort(b->s);
		net_finish(loop);
		through &= mem_alloc_fail_at(0, false) < n;
		end_free(a);
		end_free(b);
		loop_free(loop);
		if (through) {
			assert_true(n > 5);
			break;
		}
	}
	net_tls_free(client);
	net_tls_free(server);
}

static int setup(void **state)
{
	certs_make();
	return 0;
}

static int teardown(void **state)
{
	certs_remove();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_stream),
	        cmocka_unit_test(test_stream_small_buffers),
	        cmocka_unit_test(test_stream_rekey),
	        cmocka_unit_test(test_close_delivers),
	        cmocka_unit_test(test_mutual),
	        cmocka_unit_test(test_bad_files),
	        cmocka_unit_test(test_bad_opts),
	        cmocka_unit_test(test_bad_certs),
	        cmocka_unit_test(test_expired),
	        cmocka_unit_test(test_no_tls_client),
	        cmocka_unit_test(test_silent_make_room),
	        cmocka_unit_test(test_no_tls_server),
	        cmocka_unit_test(test_cut),
	        cmocka_unit_test(test_middle),
	        cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
