/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * seal_keys - what two ends of a sealed channel agree on, and how they use it.
 *
 * The handshake is a Diffie-Hellman exchange (X25519, RFC 7748) with fresh shares, mixed with the
 * token's secret, which both know and neither says:
 *
 *   early  = extract("penstock seal 1", token's secret)
 *   BEGIN's proof  = hmac(expand(early, "begin"), BEGIN before it)
 *   main   = extract(early, x25519(shares))
 *   script = sha256(BEGIN, ANSWER before its proof)
 *   ANSWER's proof = hmac(expand(main, "answer" script), script)
 *   secrets of the directions = expand(main, "client" script), expand(main, "server" script)
 *
 * extract and expand are HKDF's with SHA-256 (RFC 5869); no more than one block of it is ever needed.
 * An epoch's secret gives its key, the mask of its nonces, and the next epoch's secret; it is forgotten
 * with that.
 *
 * Contexts are made once, with the keys; sealing and opening allocate nothing.
 */
#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

#include "wire/codec.h"
#include "wire/seal_int.h"

#define MAGIC 0x314c5350u /* "PSL1" */

/* --- HKDF --- */

static void hmac(uint8_t ret_mac[32], const void *key, size_t key_len, const void *data, size_t len)
{
	unsigned n = 32;

	pst_assert(HMAC(EVP_sha256(), key, (int)key_len, data, len, ret_mac, &n) && n == 32);
}

void seal_hkdf_extract(uint8_t ret_key[32], const void *salt, size_t salt_len, const void *in,
                       size_t in_len)
{
	hmac(ret_key, salt, salt_len, in, in_len);
}

void seal_hkdf_expand(uint8_t *ret_out, size_t len, const uint8_t key[32], const void *info,
                      size_t info_len)
{
	uint8_t text[96], block[32];

	pst_assert(info_len < sizeof(text) && len <= sizeof(block));
	memcpy(text, info, info_len);
	text[info_len] = 1;
	hmac(block, key, 32, text, info_len + 1);
	memcpy(ret_out, block, len);
	OPENSSL_cleanse(block, sizeof(block));
}

/* With @label, and @script behind it if there is one. */
static void expand(uint8_t *ret_out, size_t len, const uint8_t key[32], const char *label,
                   const uint8_t *script)
{
	uint8_t info[64];
	struct wire_out out = {.at = info, .end = info + sizeof(info)};

	wire_put_bytes(&out, label, strlen(label));
	if (script)
		wire_put_bytes(&out, script, 32);
	pst_assert(!out.full);
	seal_hkdf_expand(ret_out, len, key, info, (size_t)(out.at - info));
}

/* --- shares --- */

int seal_share_make(struct seal_share *ret_s, const uint8_t secret[32])
{
	EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, secret, 32);
	size_t len = 32;
	int ok = key && EVP_PKEY_get_raw_public_key(key, ret_s->public, &len) == 1 && len == 32;

	EVP_PKEY_free(key);
	memcpy(ret_s->secret, secret, 32);
	return ok ? 0 : -ENOMEM;
}

/* -EBADF: the other's share is none that counts (all zero comes out). */
static int agree(uint8_t ret_shared[32], const struct seal_share *mine, const uint8_t theirs[32])
{
	EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, mine->secret, 32);
	EVP_PKEY *peer = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, theirs, 32);
	EVP_PKEY_CTX *ctx = key ? EVP_PKEY_CTX_new(key, NULL) : NULL;
	int rc = ctx && peer ? -EBADF : -ENOMEM;
	size_t len = 32;

	if (rc == -EBADF && EVP_PKEY_derive_init(ctx) == 1 &&
	    EVP_PKEY_derive_set_peer(ctx, peer) == 1 &&
	    EVP_PKEY_derive(ctx, ret_shared, &len) == 1 && len == 32)
		rc = 0;
	EVP_PKEY_CTX_free(ctx);
	EVP_PKEY_free(peer);
	EVP_PKEY_free(key);
	return rc;
}

/* --- the handshake --- */

static void early_make(uint8_t ret_early[32], const uint8_t secret[TOKEN_SECRET_BYTES])
{
	static const char salt[] = "penstock seal 1";

	seal_hkdf_extract(ret_early, salt, sizeof(salt) - 1, secret, TOKEN_SECRET_BYTES);
}

static void begin_proof(uint8_t ret_proof[32], const uint8_t early[32],
                        const uint8_t begin[SEAL_BEGIN_LEN])
{
	uint8_t key[32];

	expand(key, sizeof(key), early, "begin", NULL);
	hmac(ret_proof, key, sizeof(key), begin, SEAL_BEGIN_LEN - 32);
	OPENSSL_cleanse(key, sizeof(key));
}

int seal_begin_make(uint8_t begin[SEAL_BEGIN_LEN],
                    const uint8_t token[TOKEN_HEAD_BYTES + TOKEN_SECRET_BYTES],
                    const struct seal_share *mine)
{
	struct wire_out out = {.at = begin, .end = begin + SEAL_BEGIN_LEN};
	uint8_t early[32];

	wire_put_8(&out, WIRE_SEAL_BEGIN);
	wire_put_8(&out, SEAL_VERSION);
	wire_put_16(&out, 0);
	wire_put_32(&out, MAGIC);
	wire_put_bytes(&out, token, TOKEN_HEAD_BYTES);
	wire_put_bytes(&out, mine->public, 32);
	early_make(early, token + TOKEN_HEAD_BYTES);
	begin_proof(out.at, early, begin);
	OPENSSL_cleanse(early, sizeof(early));
	return 0;
}

bool seal_begins(const void *msg, uint32_t len)
{
	return len && *(const uint8_t *)msg == WIRE_SEAL_BEGIN;
}

int seal_begin_check(const void *msg, uint32_t len)
{
	struct wire_in in = {.at = msg, .end = (const uint8_t *)msg + len};
	uint8_t version;

	(void)wire_get_8(&in);
	version = wire_get_8(&in);
	wire_get_zero(&in, 2);
	if (wire_get_32(&in) != MAGIC || in.bad)
		return -EPROTO;
	if (version != SEAL_VERSION)
		return -EPROTONOSUPPORT;
	return len == SEAL_BEGIN_LEN ? 0 : -EPROTO;
}

const uint8_t *seal_token_head(const void *begin)
{
	return (const uint8_t *)begin + 8;
}

int seal_begin_proved(const uint8_t begin[SEAL_BEGIN_LEN], const uint8_t secret[TOKEN_SECRET_BYTES])
{
	uint8_t early[32], proof[32];
	int rc;

	early_make(early, secret);
	begin_proof(proof, early, begin);
	OPENSSL_cleanse(early, sizeof(early));
	rc = CRYPTO_memcmp(proof, begin + SEAL_BEGIN_LEN - 32, sizeof(proof)) ? -EBADF : 0;
	OPENSSL_cleanse(proof,
	                sizeof(proof)); /* if it is wrong: the one that would have been good */
	return rc;
}

/*
 * What follows from the shares and the token's secret: the proof that ANSWER has to carry, and the
 * directions' secrets.
 */
static int finish(uint8_t ret_proof[32], struct seal_secrets *ret_s,
                  const uint8_t begin[SEAL_BEGIN_LEN], const uint8_t answer[SEAL_ANSWER_LEN],
                  const uint8_t early[32], const struct seal_share *mine, const uint8_t theirs[32])
{
	uint8_t both[SEAL_BEGIN_LEN + SEAL_ANSWER_LEN - 32], script[32], shared[32], key[32];
	int rc = agree(shared, mine, theirs);

	if (rc < 0) {
		OPENSSL_cleanse(shared, sizeof(shared));
		return rc;
	}
	memcpy(both, begin, SEAL_BEGIN_LEN);
	memcpy(both + SEAL_BEGIN_LEN, answer, SEAL_ANSWER_LEN - 32);
	pst_assert(SHA256(both, sizeof(both), script));
	seal_hkdf_extract(key, early, 32, shared, sizeof(shared)); /* main */
	expand(ret_s->client, 32, key, "client", script);
	expand(ret_s->server, 32, key, "server", script);
	expand(shared, 32, key, "answer", script);
	hmac(ret_proof, shared, 32, script, sizeof(script));
	OPENSSL_cleanse(shared, sizeof(shared));
	OPENSSL_cleanse(key, sizeof(key));
	return 0;
}

int seal_answer_make(uint8_t answer[SEAL_ANSWER_LEN], struct seal_secrets *ret_s,
                     const uint8_t begin[SEAL_BEGIN_LEN], const uint8_t secret[TOKEN_SECRET_BYTES],
                     const struct seal_share *mine)
{
	struct wire_out out = {.at = answer, .end = answer + SEAL_ANSWER_LEN};
	uint8_t early[32];
	int rc;

	early_make(early, secret);
	wire_put_8(&out, WIRE_SEAL_ANSWER);
	wire_put_8(&out, SEAL_VERSION);
	wire_put_16(&out, 0);
	wire_put_32(&out, 0);
	wire_put_bytes(&out, mine->public, 32);
	rc = finish(out.at, ret_s, begin, answer, early, mine, begin + 32);
	OPENSSL_cleanse(early, sizeof(early));
	return rc;
}

int seal_answer_take(struct seal_secrets *ret_s, const uint8_t begin[SEAL_BEGIN_LEN],
                     const uint8_t answer[SEAL_ANSWER_LEN],
                     const uint8_t secret[TOKEN_SECRET_BYTES], const struct seal_share *mine)
{
	struct seal_secrets s;
	uint8_t early[32], proof[32];
	int rc;

	early_make(early, secret);
	rc = finish(proof, &s, begin, answer, early, mine, answer + 8);
	if (rc == 0 && CRYPTO_memcmp(proof, answer + SEAL_ANSWER_LEN - 32, sizeof(proof)))
		rc = -EBADF;
	if (rc == 0)
		*ret_s = s;
	OPENSSL_cleanse(&s, sizeof(s));
	OPENSSL_cleanse(early, sizeof(early));
	OPENSSL_cleanse(proof, sizeof(proof));
	return rc;
}

uint32_t seal_refusal(uint8_t buf[512], int status, const char *text)
{
	struct wire_out out = {.at = buf, .end = buf + 512};
	uint32_t len = (uint32_t)MIN(strlen(text), WIRE_TEXT_MAX);

	wire_put_8(&out, WIRE_SEAL_ANSWER);
	wire_put_8(&out, SEAL_VERSION);
	wire_put_16(&out, (uint16_t)len);
	wire_put_32(&out, (uint32_t)status);
	wire_put_bytes(&out, (uint8_t[64]){0}, 64);
	wire_put_bytes(&out, text, len);
	return (uint32_t)(out.at - buf);
}

/* --- the keys of a direction --- */

static int way_key(struct seal_way *w)
{
	uint8_t key[32];
	int ok;

	expand(key, sizeof(key), w->secret, "key", NULL);
	expand(w->iv[0], sizeof(w->iv[0]), w->secret, "iv", NULL);
	expand(w->secret, sizeof(w->secret), w->secret, "next", NULL);
	ok = w->seals ? EVP_EncryptInit_ex2(w->ctx[0], EVP_aes_256_gcm(), key, w->iv[0], NULL)
	              : EVP_DecryptInit_ex2(w->ctx[0], EVP_aes_256_gcm(), key, w->iv[0], NULL);
	OPENSSL_cleanse(key, sizeof(key));
	return ok == 1 ? 0 : -ENOMEM;
}

int seal_way_init(struct seal_way *w, bool seals, const uint8_t secret[32], uint64_t count_max)
{
	*w = (struct seal_way){.seals = seals, .count_max = count_max ? count_max : SEAL_EPOCH_MAX};
	memcpy(w->secret, secret, sizeof(w->secret));
	w->ctx[0] = EVP_CIPHER_CTX_new();
	w->ctx[1] = seals ? NULL : EVP_CIPHER_CTX_new();
	if (!w->ctx[0] || (!seals && !w->ctx[1]))
		return -ENOMEM;
	return way_key(w);
}

void seal_way_done(struct seal_way *w)
{
	EVP_CIPHER_CTX_free(w->ctx[0]);
	EVP_CIPHER_CTX_free(w->ctx[1]);
	OPENSSL_cleanse(w, sizeof(*w));
}

int seal_way_turn(struct seal_way *w)
{
	if (w->epoch == UINT16_MAX)
		return -EKEYEXPIRED;
	if (!w->seals) { /* payloads sealed before it may still be on their way */
		EVP_CIPHER_CTX *old = w->ctx[1];

		w->ctx[1] = w->ctx[0];
		w->ctx[0] = old;
		memcpy(w->iv[1], w->iv[0], sizeof(w->iv[1]));
		w->has_before = true;
	}
	w->epoch++;
	w->count = w->bytes = 0;
	return way_key(w);
}

int seal_way_next(struct seal_way *w, uint64_t *ret_number)
{
	if (w->count >= SEAL_COUNT_MAX)
		return -EKEYEXPIRED;
	*ret_number = (uint64_t)w->epoch << 48 | w->count++;
	return 0;
}

/* --- using them --- */

static void nonce_make(uint8_t nonce[12], const uint8_t iv[12], uint64_t number)
{
	uint64_t count = number & ((1ull << 48) - 1);

	memcpy(nonce, iv, 12);
	for (unsigned i = 0; i < 8; i++)
		nonce[11 - i] ^= (uint8_t)(count >> (8 * i));
}

int seal_encrypt(struct seal_way *w, uint64_t number, const uint8_t *aad, unsigned aad_len,
                 const struct iovec *iov, unsigned count, uint8_t *to, uint8_t tag[SEAL_TAG_LEN])
{
	EVP_CIPHER_CTX *ctx = w->ctx[0];
	uint8_t nonce[12], end[16];
	int n = 0, ok;

	pst_assert(w->seals && number >> 48 == w->epoch);
	nonce_make(nonce, w->iv[0], number);
	ok = EVP_EncryptInit_ex2(ctx, NULL, NULL, nonce, NULL) == 1 &&
	     EVP_EncryptUpdate(ctx, NULL, &n, aad, (int)aad_len) == 1;
	for (unsigned i = 0; ok && i < count; i++) {
		uint8_t *from = iov[i].iov_base, *at = to ? to : from;
		int len = (int)iov[i].iov_len;

		pst_assert(iov[i].iov_len <= INT32_MAX);
		if (!len)
			continue;
		ok = EVP_EncryptUpdate(ctx, at, &n, from, len) == 1;
		to = to ? to + len : NULL;
		w->bytes += (uint64_t)len;
	}
	ok = ok && EVP_EncryptFinal_ex(ctx, end, &n) == 1 &&
	     EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, SEAL_TAG_LEN, tag) == 1;
	return ok ? 0 : -EIO;
}

int seal_open_begin(struct seal_way *w, uint64_t number, const uint8_t *aad, unsigned aad_len,
                    EVP_CIPHER_CTX **ret_ctx)
{
	uint16_t epoch = (uint16_t)(number >> 48);
	unsigned which = epoch == w->epoch ? 0 : 1;
	uint8_t nonce[12];
	int n;

	pst_assert(!w->seals);
	if (which && (!w->has_before || epoch != w->epoch - 1))
		return -EBADMSG;
	nonce_make(nonce, w->iv[which], number);
	if (EVP_DecryptInit_ex2(w->ctx[which], NULL, NULL, nonce, NULL) != 1 ||
	    EVP_DecryptUpdate(w->ctx[which], NULL, &n, aad, (int)aad_len) != 1)
		return -EIO;
	*ret_ctx = w->ctx[which];
	return 0;
}

int seal_open_piece(EVP_CIPHER_CTX *ctx, uint8_t *to, const uint8_t *from, size_t len)
{
	int n;

	pst_assert(len <= INT32_MAX);
	return !len || EVP_DecryptUpdate(ctx, to, &n, from, (int)len) == 1 ? 0 : -EIO;
}

int seal_open_end(EVP_CIPHER_CTX *ctx, const uint8_t tag[SEAL_TAG_LEN])
{
	uint8_t copy[SEAL_TAG_LEN], end[16];
	int n;

	memcpy(copy, tag, sizeof(copy));
	if (EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, SEAL_TAG_LEN, copy) != 1)
		return -EIO;
	return EVP_DecryptFinal_ex(ctx, end, &n) == 1 ? 0 : -EBADMSG;
}

/* --- marks --- */

void seal_mark_put(uint8_t to[SEAL_MARK_BYTES], const struct chan_mark *m)
{
	struct wire_out out = {.at = to, .end = to + SEAL_MARK_BYTES};

	wire_put_64(&out, m->number);
	wire_put_bytes(&out, m->tag, sizeof(m->tag));
}

void seal_mark_get(struct chan_mark *ret_m, const uint8_t from[SEAL_MARK_BYTES])
{
	struct wire_in in = {.at = from, .end = from + SEAL_MARK_BYTES};

	ret_m->number = wire_get_64(&in);
	wire_copy_bytes(&in, ret_m->tag, sizeof(ret_m->tag));
}
