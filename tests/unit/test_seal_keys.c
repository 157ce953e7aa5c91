/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The keys of sealed channels: golden bytes (made by another implementation of docs/wire-format.md, 8), and
 * when keys end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "wire/seal_int.h"

/* --- golden bytes --- */

static size_t unhex(const char *hex, uint8_t *out)
{
	size_t n = strlen(hex) / 2;

	for (size_t i = 0; i < n; i++) {
		unsigned b;

		assert_int_equal(sscanf(hex + 2 * i, "%2x", &b), 1);
		out[i] = (uint8_t)b;
	}
	return n;
}

static void same(const void *bytes, size_t len, const char *hex)
{
	uint8_t want[256];

	assert_true(strlen(hex) / 2 <= sizeof(want));
	assert_int_equal(len, unhex(hex, want));
	assert_memory_equal(bytes, want, len);
}

/* RFC 5869, A.1: the first block. */
static void hkdf(void **state)
{
	uint8_t in[32], salt[16], info[16], key[32], out[32];
	size_t n = unhex("0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", in);
	size_t k = unhex("000102030405060708090a0b0c", salt);

	seal_hkdf_extract(key, salt, k, in, n);
	same(key, 32, "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5");
	n = unhex("f0f1f2f3f4f5f6f7f8f9", info);
	seal_hkdf_expand(out, 32, key, info, n);
	same(out, 32, "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf");
}

#define GOLDEN_BEGIN                                                       \
	"0b01000050534c310100ff015151515107000000010000000000000000000000" \
	"07a37cbc142093c8b755dc1b10e86cb426374ad16aa853ed0bdfc0b2b86d1c7c" \
	"337460ee7ab44dd68b4416a84c4f53b7a2c55005223f1ae4b05eab0bbd673201"
#define GOLDEN_ANSWER                                                      \
	"0c010000000000005869aff450549732cbaaed5e5df9b30a6da31cb0e5742bad" \
	"5ad4a1a768f1a67b0d6786cb21cb461f1e36c9f03720049e287d1b720f1e13cd" \
	"342bb743087554e0"

/* A message as seal.c makes it, without a channel. */
static size_t golden_msg(struct seal_way *w, const char *text, uint64_t before, uint8_t *out)
{
	struct iovec iov = {(void *)(uintptr_t)text, strlen(text)};
	uint8_t aad[SEAL_HEAD_LEN + 8] = {WIRE_SEALED, SEAL_VERSION};
	uint64_t number;

	assert_int_equal(seal_way_next(w, &number), 0);
	for (unsigned i = 0; i < 8; i++) {
		aad[8 + i] = (uint8_t)(number >> (8 * i));
		aad[16 + i] = (uint8_t)(before >> (8 * i));
	}
	memcpy(out, aad, SEAL_HEAD_LEN);
	assert_int_equal(seal_encrypt(w, number, aad, sizeof(aad), &iov, 1, out + SEAL_HEAD_LEN,
	                              out + SEAL_HEAD_LEN + iov.iov_len),
	                 0);
	return iov.iov_len + SEAL_OVER;
}

static void golden(void **state)
{
	uint8_t token[40] = {1, 0, 0xff, 1, 0x51, 0x51, 0x51, 0x51, 7, 0, 0, 0, 1};
	uint8_t begin[SEAL_BEGIN_LEN], answer[SEAL_ANSWER_LEN], secret[32], out[128];
	struct seal_share client, server;
	struct seal_secrets a, b;
	struct seal_way c, s;

	for (unsigned i = 0; i < 16; i++)
		token[24 + i] = (uint8_t)(0xa0 + i);
	for (unsigned i = 0; i < 32; i++)
		secret[i] = (uint8_t)(1 + i);
	assert_int_equal(seal_share_make(&client, secret), 0);
	for (unsigned i = 0; i < 32; i++)
		secret[i] = (uint8_t)(33 + i);
	assert_int_equal(seal_share_make(&server, secret), 0);
	assert_int_equal(seal_begin_make(begin, token, &client), 0);
	same(begin, sizeof(begin), GOLDEN_BEGIN);
	assert_int_equal(seal_begin_check(begin, sizeof(begin)), 0);
	assert_int_equal(seal_answer_make(answer, &a, begin, token + 24, &server), 0);
	same(answer, sizeof(answer), GOLDEN_ANSWER);
	assert_int_equal(seal_answer_take(&b, begin, answer, token + 24, &client), 0);
	assert_memory_equal(&a, &b, sizeof(a));

	assert_int_equal(seal_way_init(&c, true, a.client, 0), 0);
	assert_int_equal(seal_way_init(&s, true, a.server, 0), 0);
	same(out, golden_msg(&c, "a message of the client", 0, out),
	     "0d0100000000000000000000000000005d6be5db565ca1f8e41fb2e5dd26503f"
	     "7be0216fae6ba4a3aeee38b22f723b6a6a855cc61dcb55");
	{
		static const uint8_t aad[24] = {WIRE_SEAL_PAYLOAD, [8] = 1, [16] = 23};
		struct iovec iov = {(void *)(uintptr_t) "a payload of the client", 23};
		struct chan_mark m;

		assert_int_equal(seal_way_next(&c, &m.number), 0);
		assert_int_equal(seal_encrypt(&c, m.number, aad, sizeof(aad), &iov, 1, out, m.tag),
		                 0);
		same(out, 23, "82b709e864cabe3aff0619f7154c3fe0066fd86019299f");
		seal_mark_put(out, &m);
		same(out, SEAL_MARK_BYTES, "0100000000000000cbcf3b7e74303df3522d108c5e1ac7cf");
	}
	assert_int_equal(seal_way_turn(&c), 0);
	same(out, golden_msg(&c, "and one under new keys", 1, out),
	     "0d010000000000000000000000000100a92ab883dd76e290db4a40c29f8fe8d8"
	     "6b4704abd482094253866336f58f7c83930184aaf44e");
	same(out, golden_msg(&s, "a message of the server", 0, out),
	     "0d0100000000000000000000000000001bee8cd39a9219d962ed5424c7bc4b6a"
	     "44f4e517b4097b3106c4a1cb59f16322db89ecd624b2e1");
	seal_way_done(&c);
	seal_way_done(&s);
}

/* A key is never used without end. */
static void worn_out(void **state)
{
	uint8_t secret[32] = {1};
	struct seal_way w;
	uint64_t number;

	assert_int_equal(seal_way_init(&w, true, secret, 0), 0);
	assert_false(seal_way_worn(&w));
	w.count = 1ull << 24;
	assert_true(seal_way_worn(&w));
	w.count = 0;
	w.bytes = 1ull << 36;
	assert_true(seal_way_worn(&w));
	w.count = SEAL_COUNT_MAX;
	assert_int_equal(seal_way_next(&w, &number), -EKEYEXPIRED);
	assert_int_equal(seal_way_turn(&w), 0);
	assert_int_equal(seal_way_next(&w, &number), 0);
	assert_int_equal(number, 1ull << 48);
	w.epoch = UINT16_MAX;
	assert_int_equal(seal_way_turn(&w), -EKEYEXPIRED);
	seal_way_done(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(hkdf),
	        cmocka_unit_test(golden),
	        cmocka_unit_test(worn_out),
	};

	return cmocka_run_group_tests_name("seal_keys", tests, NULL, NULL);
}
