/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_net_tls - whatever a peer sends into a TLS handshake, or after it. The first byte chooses the
 * side that is under test and how the rest is cut into pieces; bytes come from a bare socket, so
 * that nothing but the input decides what they are.
 */
#include <sys/socket.h>
#include <unistd.h>

#include "net/net.h"
#include "tls_certs.h"

#include "fuzz.h"

#define INPUT_MAX 65536

static struct net_tls *tls;
static struct loop *loop;
static unsigned gones, ends;

static void on_up(struct net_sock *s, int status)
{
	/* Nobody shakes hands by chance. */
	pst_assert(status < 0 && *net_sock_error(s));
	ends++;
}

static size_t on_data(struct net_sock *s, const void *bytes, size_t len)
{
	abort();
}

static void on_filled(struct net_sock *s)
{
	abort();
}

static void on_down(struct net_sock *s, int status)
{
	abort();
}

static void on_gone(void *user)
{
	gones++;
}

static const struct net_handlers handlers = {
        .up = on_up, .data = on_data, .filled = on_filled, .down = on_down, .gone = on_gone};

static void setup(void)
{
	struct net_tls_opts opts = {0};
	struct loop_opts lo;
	struct pst_err err;

	if (tls)
		return;
	(void)certs_make();
	opts.cert_file = certs_path("server.pem");
	opts.key_file = certs_path("server.key");
	opts.ca_file = certs_path("ca.pem");
	opts.need_cert = true;
	pst_assert(!net_tls_new(&tls, &opts, &err));
	certs_remove();
	loop_opts_default(&lo);
	pst_assert(!loop_new(&loop, &lo, &err));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct net_opts opts = {.tls_name = "server.test"};
	size_t piece, at = 1;
	struct net_sock *s;
	char drain[4096];
	int sv[2];

	if (size < 1 || size > INPUT_MAX)
		return 0;
	setup();
	opts.tls = tls;
	gones = ends = 0;
	piece = 1 + (size_t)(data[0] >> 1) * 13;
	pst_assert(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv));
	pst_assert(!net_sock_adopt(&s, loop, sv[0], data[0] & 1, &opts, &handlers, NULL, NULL));
	while (at < size && !ends) {
		const size_t n = MIN(piece, size - at);

		if (send(sv[1], data + at, n, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)n)
			break;
		at += n;
		pst_assert(loop_turn(loop, 0) >= 0);
		while (recv(sv[1], drain, sizeof(drain), MSG_DONTWAIT) > 0)
			;
	}
	(void)shutdown(sv[1], SHUT_WR);
	while (!ends)
		pst_assert(loop_turn(loop, NSEC_PER_SEC) >= 0);
	net_sock_close(s);
	net_finish(loop);
	pst_assert(gones == 1 && ends == 1);
	close(sv[1]);
	return 0;
}
