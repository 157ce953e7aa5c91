/* SPDX-License-Identifier: BSD-3-Clause */
/* TLS contexts: certificates, keys and authorities from files, and every reason why they won't do. */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdio.h>

#include "net/net_int.h"

#define REKEY_RECORDS (1ull << 23) /* AES-GCM: well below the 2^24.5 of RFC 8446, 5.5 */
/* Seven whole records: below what malloc() would map anew for each batch. */
#define READ_AHEAD (7 * (16 * KIB + 22) + 16)
/* The one with the shorter key first: it is as good as the others for all that we know, and faster. */
#define CIPHERS "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"

static const char *openssl_reason(void)
{
	const char *reason = ERR_reason_error_string(ERR_peek_error());

	return reason ? reason : "no reason given";
}

/* OpenSSL's own words for a file that isn't there are none that a person should read. */
static int readable(const char *path, const char *what, struct pst_err *err)
{
	FILE *f = fopen(path, "re");

	if (!f)
		return err_set(err, -errno, "cannot read the %s %s: %s", what, path,
		               strerror(errno));
	if (fgetc(f) == EOF) {
		int error = ferror(f) ? errno : EINVAL;

		fclose(f);
		return err_set(err, -error, "cannot read the %s %s: %s", what, path,
		               error == EINVAL ? "the file is empty" : strerror(error));
	}
	fclose(f);
	return 0;
}

static int check_validity(SSL_CTX *ctx, const char *path, struct pst_err *err)
{
	const X509 *cert = SSL_CTX_get0_certificate(ctx);
	const ASN1_TIME *from = X509_get0_notBefore(cert), *until = X509_get0_notAfter(cert);
	char when[64];

	if (X509_cmp_current_time(until) < 0)
		return err_set(err, -EKEYEXPIRED, "our certificate %s expired at %s", path,
		               tls_time(until, when, sizeof(when)));
	if (X509_cmp_current_time(from) > 0)
		return err_set(err, -EKEYEXPIRED, "our certificate %s is not valid before %s", path,
		               tls_time(from, when, sizeof(when)));
	return 0;
}

/* A key that wants a password: nobody is there to be asked. */
static int no_password(char *buf, int size, int rwflag, void *arg)
{
	*(bool *)arg = true;
	return -1;
}

static int load_key(SSL_CTX *ctx, const struct net_tls_opts *opts, struct pst_err *err)
{
	bool encrypted = false;
	int r = readable(opts->key_file, "key", err), ok;

	if (r)
		return r;
	SSL_CTX_set_default_passwd_cb(ctx, no_password);
	SSL_CTX_set_default_passwd_cb_userdata(ctx, &encrypted);
	ok = SSL_CTX_use_PrivateKey_file(ctx, opts->key_file, SSL_FILETYPE_PEM);
	SSL_CTX_set_default_passwd_cb_userdata(ctx, NULL);
	if (encrypted)
		return err_set(err, -EINVAL,
		               "the key %s is encrypted, and nobody can be asked for "
		               "its password",
		               opts->key_file);
	if (ok == 1 && SSL_CTX_check_private_key(ctx) == 1)
		return 0;
	if (ERR_GET_REASON(ERR_peek_error()) == X509_R_KEY_VALUES_MISMATCH ||
	    ERR_GET_REASON(ERR_peek_error()) == X509_R_KEY_TYPE_MISMATCH)
		return err_set(err, -EKEYREJECTED, "the key %s is not that of the certificate %s",
		               opts->key_file, opts->cert_file);
	return err_set(err, -EINVAL, "there is no private key in %s: %s", opts->key_file,
	               openssl_reason());
}

static int load_cert(SSL_CTX *ctx, const struct net_tls_opts *opts, struct pst_err *err)
{
	int r;

	if (!opts->cert_file != !opts->key_file)
		return err_set(err, -EINVAL,
		               "a certificate needs its key, and a key its certificate");
	if (!opts->cert_file)
		return 0;
	r = readable(opts->cert_file, "certificate", err);
	if (r)
		return r;
	if (SSL_CTX_use_certificate_chain_file(ctx, opts->cert_file) != 1)
		return err_set(err, -EINVAL, "there is no certificate in %s: %s", opts->cert_file,
		               openssl_reason());
	r = load_key(ctx, opts, err);
	return r ? r : check_validity(ctx, opts->cert_file, err);
}

static int load_ca(SSL_CTX *ctx, const struct net_tls_opts *opts, struct pst_err *err)
{
	STACK_OF(X509_NAME) * names;
	int r;

	if (!opts->ca_file) {
		if (opts->need_cert)
			return err_set(err, -EINVAL, "to ask for certificates needs an authority");
		SSL_CTX_set_default_verify_paths(ctx);
		return 0;
	}
	r = readable(opts->ca_file, "authority", err);
	if (r)
		return r;
	if (SSL_CTX_load_verify_file(ctx, opts->ca_file) != 1)
		return err_set(err, -EINVAL, "there is no certificate of an authority in %s: %s",
		               opts->ca_file, openssl_reason());
	/* A server tells its clients whose certificates it takes. */
	names = SSL_load_client_CA_file(opts->ca_file);
	if (names)
		SSL_CTX_set_client_CA_list(ctx, names);
	return 0;
}

static SSL_CTX *ctx_new(void)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());

	if (!ctx)
		return NULL;
	if (SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_ciphersuites(ctx, CIPHERS) != 1 ||
	    /* Nobody resumes: a session lives as long as its connection. */
	    SSL_CTX_set_num_tickets(ctx, 0) != 1) {
		SSL_CTX_free(ctx);
		return NULL;
	}
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
	                              SSL_MODE_RELEASE_BUFFERS);
	/* Many records in one system call. */
	SSL_CTX_set_read_ahead(ctx, 1);
	SSL_CTX_set_default_read_buffer_len(ctx, READ_AHEAD);
	return ctx;
}

int net_tls_new(struct net_tls **ret_tls, const struct net_tls_opts *opts, struct pst_err *err)
{
	struct net_tls *tls = mem_calloc(1, sizeof(*tls));
	int r;

	ERR_clear_error();
	if (tls)
		tls->ctx = ctx_new();
	if (!tls || !tls->ctx) {
		mem_free(tls);
		ERR_clear_error();
		return err_set(err, -ENOMEM, "no memory for TLS");
	}
	atomic_init(&tls->refs, 1);
	tls->has_cert = opts->cert_file;
	tls->has_ca = opts->ca_file;
	tls->need_cert = opts->need_cert;
	tls->rekey_records = opts->rekey_records ? opts->rekey_records : REKEY_RECORDS;
	snprintf(tls->ca_file, sizeof(tls->ca_file), "%s",
	         opts->ca_file ? opts->ca_file : "the system's list");
	r = load_cert(tls->ctx, opts, err);
	if (!r)
		r = load_ca(tls->ctx, opts, err);
	ERR_clear_error();
	if (r) {
		net_tls_free(tls);
		return r;
	}
	*ret_tls = tls;
	return 0;
}

struct net_tls *tls_ref(struct net_tls *tls)
{
	/* Whoever refers to it now keeps it from going away: no order is needed. */
	atomic_fetch_add_explicit(&tls->refs, 1, memory_order_relaxed);
	return tls;
}

void net_tls_free(struct net_tls *tls)
{
	/* The last one sees what the others did before they let go. */
	if (!tls || atomic_fetch_sub_explicit(&tls->refs, 1, memory_order_acq_rel) != 1)
		return;
	SSL_CTX_free(tls->ctx);
	mem_free(tls);
}
