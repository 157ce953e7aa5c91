/* SPDX-License-Identifier: BSD-3-Clause */
/* tls_certs - certificates and keys for tests, made anew in a folder of their own. */
#ifndef TESTS_TLS_CERTS_H
#define TESTS_TLS_CERTS_H

#include <stdbool.h>

/*
 * Files, all in certs_dir(): NAME.pem and NAME.key. Aborts when OpenSSL fails.
 *   ca, other_ca       authorities
 *   server             "server.test", 127.0.0.1, ::1, spiffe://test/server; of ca
 *   client             "client one" with several names; of ca
 *   stranger           the same as client; of other_ca
 *   old                expired; of ca
 *   early              not valid yet; of ca
 *   brief              server.test, as certs_brief() says; of ca
 *   locked.key         server's key, encrypted
 */
const char *certs_make(void);
void certs_remove(void);
/* "DIR/NAME", valid until eight calls later. */
const char *certs_path(const char *name);
/* Makes "brief" valid for @seconds from now. */
void certs_brief(int seconds);

#endif
