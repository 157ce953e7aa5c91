/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * TLS between a socket's queues and its descriptor. OpenSSL reads through a BIO of our own straight
 * from the socket, many records at a time, into its buffer; it writes into a buffer that is lent by
 * the loop, which leaves in one call when it is full or there is no more to encrypt. What is small
 * shares a record. A send is done when it is encrypted.
 *
 * Nothing here waits, and no byte of OpenSSL's reaches a socket but by tls_flush().
 */
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>

#include "net/net_int.h"

#define RECORD_BYTES SSL3_RT_MAX_PLAIN_LENGTH
/* With header, tag, type, and what a key update before it takes. */
#define RECORD_ROOM (RECORD_BYTES + 512)
#define SEND_ROUNDS 16 /* then it is another socket's turn */

struct sock_tls {
	struct net_tls *tls;
	SSL *ssl;
	struct tls_out *out; /* NULL: nothing to send */
	uint64_t records;    /* with the present key */
	int error;           /* errno of the BIO's last failure, or 0 */
	struct pst_err late; /* a failure behind bytes that were to be given out first */
	bool goodbye;        /* close_notify is out, or on its way */
	struct net_cert *cert;
};

/* --- the BIO --- */

static int bio_read(BIO *bio, char *buf, int len)
{
	struct net_sock *s = BIO_get_data(bio);
	ssize_t r;

	BIO_clear_retry_flags(bio);
	s->count.recvs++;
	do
		r = recv(s->fd, buf, (size_t)len, MSG_DONTWAIT);
	while (r < 0 && errno == EINTR);
	if (r > 0)
		return (int)r;
	if (!r) {
		s->tls->error = 0;
		return 0;
	}
	if (errno == EAGAIN)
		BIO_set_retry_read(bio);
	else
		s->tls->error = errno;
	return -1;
}

static int bio_write(BIO *bio, const char *buf, int len)
{
	struct net_sock *s = BIO_get_data(bio);
	struct tls_out *out = s->tls->out;

	BIO_clear_retry_flags(bio);
	if (!out) {
		out = part_out_get(s->part);
		if (!out) {
			s->tls->error = ENOMEM;
			return -1;
		}
		out->len = out->off = 0;
		s->tls->out = out;
	}
	if (TLS_OUT_BYTES - out->len < (size_t)len) {
		/* Only a peer that makes us answer, and doesn't read the answers. */
		s->tls->error = ENOBUFS;
		return -1;
	}
	memcpy(out->data + out->len, buf, (size_t)len);
	out->len += (size_t)len;
	return len;
}

static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
	return cmd == BIO_CTRL_FLUSH;
}

static pthread_once_t bio_once = PTHREAD_ONCE_INIT;
static BIO_METHOD *bio_method;

static void bio_make(void)
{
	BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "penstock");

	if (m && BIO_meth_set_read(m, bio_read) && BIO_meth_set_write(m, bio_write) &&
	    BIO_meth_set_ctrl(m, bio_ctrl))
		bio_method = m;
	else
		BIO_meth_free(m);
}

/* --- birth and death --- */

static bool set_name(SSL *ssl, const char *name)
{
	uint8_t addr[sizeof(struct in6_addr)];

	if (inet_pton(AF_INET, name, addr) == 1 || inet_pton(AF_INET6, name, addr) == 1)
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return SSL_set1_host(ssl, name) == 1 && SSL_set_tlsext_host_name(ssl, name) == 1;
}

/* Keeps the certificate that was refused, for tls_explain(): OpenSSL does not. */
static int verified(int ok, X509_STORE_CTX *store)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	X509 *cert = X509_STORE_CTX_get_current_cert(store);

	if (!ok && cert && !SSL_get_app_data(ssl) && X509_up_ref(cert) &&
	    !SSL_set_app_data(ssl, cert))
		X509_free(cert);
	return ok;
}

static bool set_role(struct net_sock *s, SSL *ssl, const char *name)
{
	const struct net_tls *tls = s->opts.tls;

	if (s->server) {
		SSL_set_accept_state(ssl);
		if (tls->has_ca)
			SSL_set_verify(
			        ssl,
			        SSL_VERIFY_PEER |
			                (tls->need_cert ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
			        verified);
		return true;
	}
	SSL_set_connect_state(ssl);
	SSL_set_verify(ssl, SSL_VERIFY_PEER, verified);
	return set_name(ssl, name);
}

int sock_tls_new(struct net_sock *s, const char *name, struct pst_err *err)
{
	struct sock_tls *t;
	BIO *bio;

	if (s->server && !s->opts.tls->has_cert)
		return err_set(err, -EINVAL, "a TLS server needs a certificate and its key");
	if (!s->server && (!name || !*name))
		return err_set(err, -EINVAL, "TLS needs the name that the server has");
	t = mem_calloc(1, sizeof(*t));
	pthread_once(&bio_once, bio_make);
	bio = bio_method ? BIO_new(bio_method) : NULL;
	if (t)
		t->ssl = SSL_new(s->opts.tls->ctx);
	if (!t || !t->ssl || !bio || !set_role(s, t->ssl, name)) {
		BIO_free(bio);
		if (t)
			SSL_free(t->ssl);
		mem_free(t);
		ERR_clear_error();
		return err_set(err, -ENOMEM, "no memory for TLS");
	}
	BIO_set_data(bio, s);
	BIO_set_init(bio, 1);
	SSL_set_bio(t->ssl, bio, bio);
	t->tls = tls_ref(s->opts.tls);
	s->tls = t;
	return 0;
}

static void out_done(struct net_sock *s)
{
	if (s->tls->out)
		part_out_put(s->part, s->tls->out);
	s->tls->out = NULL;
}

void sock_tls_free(struct net_sock *s)
{
	struct sock_tls *t = s->tls;

	if (!t)
		return;
	out_done(s);
	X509_free(SSL_get_app_data(t->ssl));
	SSL_free(t->ssl);
	net_tls_free(t->tls);
	mem_free(t->cert);
	mem_free(t);
	s->tls = NULL;
}

/* --- failure --- */

static const char *who_of(const struct net_sock *s, char *buf, size_t buf_len)
{
	return s->target ? s->target : net_addr_print(&s->peer.addr, buf, buf_len);
}

/* Why an SSL call didn't succeed: 0 if it only has to wait, else a code and a sentence. */
static int tls_why(struct net_sock *s, int result, bool handshake, struct pst_err *err)
{
	struct sock_tls *t = s->tls;
	const int what = SSL_get_error(t->ssl, result);
	char buf[NET_ADDR_TEXT_MAX];
	const char *who = who_of(s, buf, sizeof(buf));
	int r;

	if (what == SSL_ERROR_WANT_READ || what == SSL_ERROR_WANT_WRITE)
		return 0;
	if (t->error == ENOMEM)
		r = err_set(err, -ENOMEM, "no memory for TLS");
	else if (t->error == ENOBUFS)
		r = err_set(err, -EPROTO, "%s asks for much and reads nothing", who);
	else if (t->error)
		r = sock_explain(err, -t->error);
	else if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING ||
	         what == SSL_ERROR_SYSCALL)
		r = err_set(err, -ECONNRESET,
		            handshake ? "%s closed the connection during the TLS handshake"
		                      : "%s cut the connection without an end to TLS",
		            who);
	else
		r = tls_explain(err, t->ssl, t->tls, handshake, who);
	ERR_clear_error();
	return r;
}

/* True if it only has to wait. Else the socket has failed. */
static bool tls_waits(struct net_sock *s, int result, bool handshake)
{
	struct pst_err err;
	int r = tls_why(s, result, handshake, &err);

	if (!r)
		return true;
	sock_tls_flush(s); /* the alert that says why to the peer */
	sock_fail(s, r, "%s", err.text);
	return false;
}

/* --- out --- */

/* Sends what is encrypted. True when all is gone. */
static bool out_send(struct net_sock *s)
{
	struct tls_out *out = s->tls->out;

	while (out && out->off < out->len) {
		ssize_t r;

		s->count.sends++;
		r = send(s->fd, out->data + out->off, out->len - out->off,
		         MSG_DONTWAIT | MSG_NOSIGNAL);
		if (r >= 0) {
			out->off += (size_t)r;
		} else if (errno == EAGAIN) {
			s->tx_blocked = true;
			return false;
		} else if (errno != EINTR) {
			s->tls->error = errno;
			return false;
		}
	}
	out_done(s);
	return true;
}

void sock_tls_flush(struct net_sock *s)
{
	if (s->fd >= 0)
		(void)out_send(s);
}

static bool rekey_if_due(struct net_sock *s)
{
	struct sock_tls *t = s->tls;

	if (++t->records < t->tls->rekey_records)
		return true;
	t->records = 0;
	return SSL_key_update(t->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1;
}

/* Encrypts until the buffer is full or the queue empty. False when the socket has failed. */
static bool encrypt(struct net_sock *s)
{
	struct sock_tls *t = s->tls;

	while (!list_empty(&s->queue) && (!t->out || TLS_OUT_BYTES - t->out->len >= RECORD_ROOM)) {
		size_t len = 0, taken = 0;
		const void *p = send_peek(s, s->part->scratch, RECORD_BYTES, &len);
		int r;

		ERR_clear_error();
		if (!rekey_if_due(s)) {
			sock_fail(s, -EPROTO, "TLS can't make a new key");
			return false;
		}
		r = SSL_write_ex(t->ssl, p, len, &taken);
		if (r != 1)
			return tls_waits(s, r, false);
		send_advance(s, taken);
	}
	return true;
}

bool sock_tls_send(struct net_sock *s)
{
	struct sock_tls *t = s->tls;

	for (unsigned round = 0; !s->tx_blocked && sock_open(s); round++) {
		if (round == SEND_ROUNDS) {
			sock_wake(s);
			return false;
		}
		if (!encrypt(s))
			return false;
		if (list_empty(&s->queue) && s->tx_shutdown && !t->goodbye) {
			t->goodbye = true;
			(void)SSL_shutdown(t->ssl);
			ERR_clear_error();
		}
		if (!out_send(s)) {
			if (t->error && sock_open(s))
				send_failed(s, -t->error);
			return false;
		}
		if (list_empty(&s->queue))
			return true;
	}
	return false;
}

/* --- in --- */

/* One entry. Returns what came, and in *@ret_end why no more. */
static size_t read_one(struct net_sock *s, uint8_t *p, size_t len, int *ret_result)
{
	size_t got = 0;

	*ret_result = 1;
	while (got < len) {
		size_t n = 0;

		ERR_clear_error();
		*ret_result = SSL_read_ex(s->tls->ssl, p + got, len - got, &n);
		if (*ret_result != 1)
			break;
		got += n;
	}
	return got;
}

ssize_t sock_tls_recv(struct net_sock *s, const struct iovec *iov, unsigned count)
{
	SSL *ssl = s->tls->ssl;
	size_t got = 0;
	int result = 1;

	if (s->tls->late.code) {
		sock_tls_flush(s);
		sock_fail(s, s->tls->late.code, "%s", s->tls->late.text);
		errno = 0;
		return -1;
	}
	for (unsigned i = 0; i < count && result == 1; i++)
		got += read_one(s, iov[i].iov_base, iov[i].iov_len, &result);
	if (result == 1)
		return (ssize_t)got;
	if (SSL_get_error(ssl, result) == SSL_ERROR_ZERO_RETURN) {
		s->rx_ready |= got > 0; /* the end is met again, after what came before it */
		return (ssize_t)got;
	}
	if (got) {
		s->rx_ready |= tls_why(s, result, false, &s->tls->late) != 0;
		return (ssize_t)got;
	}
	errno = tls_waits(s, result, false) ? EAGAIN : 0;
	return -1;
}

/* --- the handshake --- */

static void copy_name(char to[NET_CERT_NAME_BYTES], const char *prefix, const void *from, int len)
{
	if (len < 0 || strlen(prefix) + (size_t)len >= NET_CERT_NAME_BYTES ||
	    memchr(from, '\0', (size_t)len))
		return;
	snprintf(to, NET_CERT_NAME_BYTES, "%s%.*s", prefix, len, (const char *)from);
}

static void common_name(struct net_cert *c, const X509 *cert)
{
	const X509_NAME *subject = X509_get_subject_name(cert);
	const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	unsigned char *utf8 = NULL;
	int len;

	if (at < 0)
		return;
	len = ASN1_STRING_to_UTF8(&utf8,
	                          X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
	if (len > 0)
		copy_name(c->name, "", utf8, len);
	OPENSSL_free(utf8);
}

static void alternative_name(struct net_cert *c, const GENERAL_NAME *name)
{
	char *to = c->sans[c->san_count], text[INET6_ADDRSTRLEN];
	const ASN1_STRING *v;
	int type;

	v = GENERAL_NAME_get0_value(name, &type);
	to[0] = '\0';
	if (type == GEN_DNS)
		copy_name(to, "DNS:", ASN1_STRING_get0_data(v), ASN1_STRING_length(v));
	else if (type == GEN_URI)
		copy_name(to, "URI:", ASN1_STRING_get0_data(v), ASN1_STRING_length(v));
	else if (type == GEN_IPADD && (ASN1_STRING_length(v) == 4 || ASN1_STRING_length(v) == 16) &&
	         inet_ntop(ASN1_STRING_length(v) == 4 ? AF_INET : AF_INET6,
	                   ASN1_STRING_get0_data(v), text, sizeof(text)))
		copy_name(to, "IP:", text, (int)strlen(text));
	c->san_count += *to != '\0';
}

static bool take_cert(struct net_sock *s)
{
	X509 *cert = SSL_get0_peer_certificate(s->tls->ssl);
	GENERAL_NAMES *names;
	struct net_cert *c;

	if (!cert)
		return true;
	c = mem_calloc(1, sizeof(*c));
	if (!c)
		return false;
	common_name(c, cert);
	names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	for (int i = 0; i < sk_GENERAL_NAME_num(names) && c->san_count < NET_CERT_SANS_MAX; i++)
		alternative_name(c, sk_GENERAL_NAME_value(names, i));
	GENERAL_NAMES_free(names);
	ERR_clear_error();
	s->tls->cert = c;
	s->peer.cert = c;
	return true;
}

void sock_tls_handshake(struct net_sock *s)
{
	struct sock_tls *t = s->tls;
	int r;

	if (s->tx_blocked)
		return;
	ERR_clear_error();
	r = SSL_do_handshake(t->ssl);
	if (r != 1 && !tls_waits(s, r, true))
		return;
	if (!out_send(s) && t->error) {
		sock_fail_errno(s, -t->error);
		return;
	}
	if (r != 1)
		return;
	if (!take_cert(s))
		sock_fail(s, -ENOMEM, "no memory for the peer's certificate");
	else
		sock_up(s);
}
