/* SPDX-License-Identifier: BSD-3-Clause */
/* What went wrong with TLS, in words that an operator can act on. */
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "net/net_int.h"

char *tls_time(const void *asn1_time, char *buf, size_t buf_len)
{
	BIO *bio = BIO_new(BIO_s_mem());
	int n = 0;

	if (bio && ASN1_TIME_print(bio, asn1_time) == 1)
		n = BIO_read(bio, buf, (int)buf_len - 1);
	buf[MAX(n, 0)] = '\0';
	BIO_free(bio);
	return buf;
}

/* The certificate that was refused: the peer's own, or one above it. */
static int explain_verify(struct pst_err *err, SSL *ssl, const struct net_tls *tls, const char *who)
{
	const long result = SSL_get_verify_result(ssl);
	X509 *cert = SSL_get_app_data(ssl); /* as verified() kept it */
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	char when[64] = "a time that is unknown";
	int r;

	switch (result) {
	case X509_V_ERR_CERT_HAS_EXPIRED:
		if (cert)
			tls_time(X509_get0_notAfter(cert), when, sizeof(when));
		r = err_set(err, -EKEYEXPIRED,
		            "the certificate of %s, or one above it, has expired: it was valid "
		            "until %s",
		            who, when);
		break;
	case X509_V_ERR_CERT_NOT_YET_VALID:
		if (cert)
			tls_time(X509_get0_notBefore(cert), when, sizeof(when));
		r = err_set(err, -EKEYEXPIRED,
		            "the certificate of %s, or one above it, is not valid yet: it will be "
		            "from %s",
		            who, when);
		break;
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_CERT_SIGNATURE_FAILURE:
		r = err_set(err, -EKEYREJECTED, "the certificate of %s is of no authority in %s",
		            who, tls->ca_file);
		break;
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		r = err_set(err, -EKEYREJECTED, "the certificate of %s is not for the name '%s'",
		            who, name ? name : who);
		break;
	default:
		r = err_set(err, -EKEYREJECTED, "the certificate of %s is refused: %s", who,
		            X509_verify_cert_error_string(result));
		break;
	}
	return r;
}

/* The peer told us why it goes. */
static int explain_alert(struct pst_err *err, int alert, const char *who)
{
	const char *text = SSL_alert_desc_string_long(alert);

	switch (alert) {
	case SSL_AD_BAD_CERTIFICATE:
	case SSL_AD_UNSUPPORTED_CERTIFICATE:
	case SSL_AD_CERTIFICATE_REVOKED:
	case SSL_AD_CERTIFICATE_EXPIRED:
	case SSL_AD_CERTIFICATE_UNKNOWN:
	case SSL_AD_UNKNOWN_CA:
	case SSL_AD_ACCESS_DENIED:
		return err_set(err, -EKEYREJECTED, "%s refuses our certificate: %s", who, text);
	case TLS13_AD_CERTIFICATE_REQUIRED:
		return err_set(err, -ENOKEY, "%s wants a certificate of ours, and got none", who);
	case SSL_AD_PROTOCOL_VERSION:
		return err_set(err, -EPROTO, "%s speaks another version of TLS than 1.3", who);
	default:
		return err_set(err, -EPROTO, "%s ended TLS: %s", who, text);
	}
}

int tls_explain(struct pst_err *err, void *ssl, const struct net_tls *tls, bool handshake,
                const char *who)
{
	const unsigned long code = ERR_peek_error();
	const int reason = ERR_GET_REASON(code);
	const char *text = ERR_reason_error_string(code);

	if (ERR_GET_LIB(code) != ERR_LIB_SSL)
		return err_set(err, -EPROTO, "TLS with %s failed: %s", who,
		               text ? text : "no reason given");
	if (reason > SSL_AD_REASON_OFFSET)
		return explain_alert(err, reason - SSL_AD_REASON_OFFSET, who);
	switch (reason) {
	case SSL_R_CERTIFICATE_VERIFY_FAILED:
		return explain_verify(err, ssl, tls, who);
	case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
		return err_set(err, -ENOKEY, "%s has shown no certificate", who);
	case SSL_R_UNSUPPORTED_PROTOCOL:
	case SSL_R_VERSION_TOO_LOW:
		return err_set(err, -EPROTO, "%s speaks another version of TLS than 1.3", who);
	case SSL_R_WRONG_VERSION_NUMBER:
	case SSL_R_HTTP_REQUEST:
	case SSL_R_HTTPS_PROXY_REQUEST:
	case SSL_R_RECORD_LENGTH_MISMATCH:
	case SSL_R_PACKET_LENGTH_TOO_LONG:
		if (handshake)
			return err_set(err, -EPROTO, "%s doesn't speak TLS", who);
		break;
	default:
		break;
	}
	return err_set(err, -EPROTO, "TLS with %s failed: %s", who,
	               text ? text : "no reason given");
}
