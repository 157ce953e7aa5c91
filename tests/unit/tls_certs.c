/* SPDX-License-Identifier: BSD-3-Clause */
#include <dirent.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tls_certs.h"

#define DAY (24l * 3600)

static char dir[] = "/tmp/pst-tls-XXXXXX";
static X509 *ca, *other_ca;
static EVP_PKEY *ca_key, *other_key;
static long serial = 1;

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "tls_certs: %s failed\n", what);
	abort();
}

const char *certs_path(const char *name)
{
	static char paths[8][320];
	static unsigned next;
	char *p = paths[next++ % 8];

	snprintf(p, sizeof(paths[0]), "%s/%s", dir, name);
	return p;
}

static FILE *create(const char *name, const char *suffix)
{
	char file[64];
	FILE *f;

	snprintf(file, sizeof(file), "%s%s", name, suffix);
	f = fopen(certs_path(file), "w");
	must(f, "fopen");
	return f;
}

static void write_cert(const char *name, X509 *cert)
{
	FILE *f = create(name, ".pem");

	must(PEM_write_X509(f, cert) == 1, "PEM_write_X509");
	fclose(f);
}

static void write_key(const char *name, EVP_PKEY *key, const char *password)
{
	FILE *f = create(name, ".key");

	must(PEM_write_PrivateKey(f, key, password ? EVP_aes_128_cbc() : NULL, NULL, 0, NULL,
	                          (void *)password) == 1,
	     "PEM_write_PrivateKey");
	fclose(f);
}

static void add_ext(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *ext;

	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	must(ext && X509_add_ext(cert, ext, -1) == 1, "X509_add_ext");
	X509_EXTENSION_free(ext);
}

static X509 *make(const char *cn, const char *sans, long from_s, long until_s, EVP_PKEY *key,
                  X509 *issuer, EVP_PKEY *issuer_key)
{
	X509 *cert = X509_new();
	X509_NAME *name = X509_get_subject_name(cert);

	must(X509_set_version(cert, 2) == 1, "X509_set_version");
	ASN1_INTEGER_set(X509_get_serialNumber(cert), serial++);
	X509_gmtime_adj(X509_getm_notBefore(cert), from_s);
	X509_gmtime_adj(X509_getm_notAfter(cert), until_s);
	must(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)cn, -1,
	                                -1, 0) == 1,
	     "X509_NAME_add_entry_by_txt");
	X509_set_issuer_name(cert, X509_get_subject_name(issuer ? issuer : cert));
	must(X509_set_pubkey(cert, key) == 1, "X509_set_pubkey");
	add_ext(cert, issuer ? issuer : cert, NID_basic_constraints,
	        issuer ? "critical,CA:FALSE" : "critical,CA:TRUE");
	if (sans)
		add_ext(cert, issuer, NID_subject_alt_name, sans);
	must(X509_sign(cert, issuer ? issuer_key : key, EVP_sha256()) > 0, "X509_sign");
	return cert;
}

static void issue(const char *file, const char *cn, const char *sans, long from_s, long until_s,
                  bool other)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = make(cn, sans, from_s, until_s, key, other ? other_ca : ca,
	                  other ? other_key : ca_key);

	write_cert(file, cert);
	write_key(file, key, NULL);
	if (!strcmp(file, "server"))
		write_key("locked", key, "secret");
	X509_free(cert);
	EVP_PKEY_free(key);
}

#define SERVER_SANS "DNS:server.test,IP:127.0.0.1,IP:::1,URI:spiffe://test/server"
#define CLIENT_SANS "DNS:a.test,DNS:b.test,email:x@test,URI:spiffe://test/client,IP:10.1.2.3"

void certs_brief(int seconds)
{
	issue("brief", "server.test", SERVER_SANS, -DAY, seconds, false);
}

const char *certs_make(void)
{
	must(mkdtemp(dir), "mkdtemp");
	ca_key = EVP_EC_gen("P-256");
	other_key = EVP_EC_gen("P-256");
	ca = make("test authority", NULL, -DAY, DAY, ca_key, NULL, NULL);
	other_ca = make("another authority", NULL, -DAY, DAY, other_key, NULL, NULL);
	write_cert("ca", ca);
	write_cert("other_ca", other_ca);
	issue("server", "server.test", SERVER_SANS, -DAY, DAY, false);
	issue("client", "client one", CLIENT_SANS, -DAY, DAY, false);
	issue("stranger", "client one", CLIENT_SANS, -DAY, DAY, true);
	issue("old", "server.test", SERVER_SANS, -2 * DAY, -DAY, false);
	issue("early", "server.test", SERVER_SANS, DAY, 2 * DAY, false);
	return dir;
}

void certs_remove(void)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.')
			unlink(certs_path(e->d_name));
	if (d)
		closedir(d);
	rmdir(dir);
	X509_free(ca);
	X509_free(other_ca);
	EVP_PKEY_free(ca_key);
	EVP_PKEY_free(other_key);
}
