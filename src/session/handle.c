/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handle - sealing handles and verifying them: docs/sessions-and-handles.md, 3. Nothing of a handle is
 * believed before its MAC was verified, but for the fields that choose the key. What was verified is
 * cached by its connection under all of its 64 bytes, so it costs a comparison from then on; that the
 * capability is good is looked at each time (admit.c).
 */
#include <openssl/core_names.h>
#include <openssl/crypto.h>

#include "session/session_int.h"

#define MACED offsetof(struct handle_bytes, mac)

/* --- MACs --- */

void hkey_done(struct hkey *k)
{
	EVP_MAC_CTX_free(k->mac);
	OPENSSL_cleanse(k, sizeof(*k));
}

static int mac_init(EVP_MAC_CTX *ctx, const uint8_t key[32])
{
	char digest[] = "SHA256";
	const OSSL_PARAM params[] = {
	        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
	        OSSL_PARAM_construct_end(),
	};

	return EVP_MAC_init(ctx, key, 32, params) == 1 ? 0 : -ENOMEM;
}

int hkey_set(struct session_table *t, struct hkey *k, uint16_t number, const uint8_t key[32])
{
	EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(t->hmac);

	if (!ctx || mac_init(ctx, key)) {
		EVP_MAC_CTX_free(ctx);
		return -ENOMEM;
	}
	k->mac = ctx;
	k->number = number;
	memcpy(k->key, key, sizeof(k->key));
	return 0;
}

int mac_16(struct session_table *t, const uint8_t key[32], const void *data, size_t len,
           uint8_t ret_mac[16])
{
	uint8_t full[32];
	size_t n;

	if (mac_init(t->scratch, key) || EVP_MAC_update(t->scratch, data, len) != 1 ||
	    EVP_MAC_final(t->scratch, full, &n, sizeof(full)) != 1)
		return -ENOMEM;
	memcpy(ret_mac, full, 16);
	OPENSSL_cleanse(full, sizeof(full)); /* of a token it is the secret */
	return 0;
}

/* The session's number goes into the MAC and not into the handle, and so does the view. */
static int handle_mac(const struct hkey *k, const struct session *s, const struct handle_bytes *h,
                      uint64_t view, uint8_t ret_mac[16])
{
	const le64 number[2] = {le64_make(s->number), le64_make(view)};
	uint8_t full[32];
	size_t n;

	if (EVP_MAC_init(k->mac, NULL, 0, NULL) != 1 ||
	    EVP_MAC_update(k->mac, (const uint8_t *)h, MACED) != 1 ||
	    EVP_MAC_update(k->mac, (const uint8_t *)number, sizeof(number)) != 1 ||
	    EVP_MAC_final(k->mac, full, &n, sizeof(full)) != 1)
		return -ENOMEM;
	memcpy(ret_mac, full, 16);
	OPENSSL_cleanse(full, sizeof(full)); /* of a forged handle it is what the forger lacks */
	return 0;
}

/* --- handles --- */

/* In seconds since 2020. A clock that stands before lets handles live until then. */
static uint32_t expiry_of(const struct session_table *t, const struct cap *cap)
{
	uint64_t end = loop_real_now(t->loop) + t->opts.handle_ns, s;

	if (cap->info.expiry_ns)
		end = MIN(end, cap->info.expiry_ns);
	/* Rounded up: a short life is not none at all. The capability's own end is looked at too. */
	s = DIV_ROUND_UP(end, NSEC_PER_SEC);
	return s > HANDLE_TIME_0 ? (uint32_t)MIN(s - HANDLE_TIME_0, UINT32_MAX) : 0;
}

int handle_seal(struct session *s, const struct cap *cap, uint32_t rights, uint32_t cont,
                struct pst_oid oid, uint64_t view, uint8_t ret_handle[SESSION_HANDLE_BYTES])
{
	struct session_table *t = s->table;
	struct handle_bytes h = {
	        .version = HANDLE_VERSION,
	        .rights = (uint8_t)rights,
	        .key_number = le16_make(t->key[0].number),
	        .cont = le32_make(cont),
	        .cap = le32_make((uint32_t)cap->info.id),
	        .oid_hi = le64_make(oid.hi),
	        .oid_lo = le64_make(oid.lo),
	        .cap_epoch = le32_make(cap->info.epoch),
	        .expiry_s = le32_make(expiry_of(t, cap)),
	};
	int rc;

	memcpy(h.store, t->uuid, sizeof(h.store));
	rc = handle_mac(&t->key[0], s, &h, view, h.mac);
	if (!rc)
		memcpy(ret_handle, &h, sizeof(h));
	return rc;
}

static const struct hkey *key_of(const struct session_table *t, const struct handle_bytes *h)
{
	for (unsigned i = 0; i < ARRAY_LEN(t->key); i++)
		if (t->key[i].mac && t->key[i].number == le16_get(h->key_number))
			return &t->key[i];
	return NULL;
}

/* That of a container is for all of its views: which one is said by each request. */
static uint64_t view_of(const uint8_t *bytes, uint64_t view)
{
	static const uint8_t none[16];

	return memcmp(bytes + offsetof(struct handle_bytes, oid_hi), none, sizeof(none)) ? view : 0;
}

static int handle_open(struct session *s, const uint8_t *bytes, uint64_t view, uint64_t grace_s,
                       struct cached *ret_entry)
{
	struct session_table *t = s->table;
	struct handle_bytes h;
	const struct hkey *k;
	const struct cap *cap;
	uint64_t expiry_ns;
	uint8_t mac[16];
	bool same;
	int rc;

	memcpy(&h, bytes, sizeof(h));
	if (h.version != HANDLE_VERSION)
		return -EBADF;
	if (memcmp(h.store, t->uuid, sizeof(h.store)) || h.server || h.replica || h.map_epoch)
		return -ESTALE;
	k = key_of(t, &h);
	if (!k)
		return -EBADF;
	rc = handle_mac(k, s, &h, view, mac);
	if (rc)
		return rc;
	same = !CRYPTO_memcmp(mac, h.mac, sizeof(mac));
	OPENSSL_cleanse(mac, sizeof(mac));
	if (!same)
		return -EBADF;
	expiry_ns = (le32_get(h.expiry_s) + HANDLE_TIME_0) * NSEC_PER_SEC;
	if (expiry_ns + grace_s * NSEC_PER_SEC <= loop_real_now(t->loop))
		return -EKEYEXPIRED;
	cap = cap_find(t, le32_get(h.cap));
	if (!cap || cap->info.epoch != le32_get(h.cap_epoch))
		return -EKEYREVOKED;
	memcpy(ret_entry->bytes, bytes, SESSION_HANDLE_BYTES);
	ret_entry->cap = cap;
	ret_entry->view = view;
	ret_entry->expiry_ns = expiry_ns;
	ret_entry->oid = (struct pst_oid){le64_get(h.oid_hi), le64_get(h.oid_lo)};
	ret_entry->cont = le32_get(h.cont);
	ret_entry->rights = h.rights;
	return 0;
}

/* --- the cache of a connection: one place for each handle, by a word of its MAC --- */

int handle_lookup(struct session_conn *c, const uint8_t *bytes, uint64_t view, uint64_t grace_s,
                  const struct cached **ret_entry)
{
	struct cached fresh, *e;
	uint64_t word;
	int rc;

	if (unlikely(!c->cache)) {
		c->cache = mem_calloc(1, sizeof(*c->cache));
		if (!c->cache)
			return -ENOMEM;
	}
	view = view_of(bytes, view);
	memcpy(&word, bytes + MACED, sizeof(word));
	e = &c->cache->entry[word & (CONN_HANDLES - 1)];
	if (likely(e->cap && e->view == view && !memcmp(e->bytes, bytes, SESSION_HANDLE_BYTES))) {
		c->table->fig.handle_hits++;
		*ret_entry = e;
		return likely(e->expiry_ns + grace_s * NSEC_PER_SEC > loop_real_now(c->table->loop))
		               ? 0
		               : -EKEYEXPIRED;
	}
	c->table->fig.handle_misses++;
	rc = handle_open(c->session, bytes, view, grace_s, &fresh);
	if (rc)
		return rc;
	*e = fresh;
	*ret_entry = e;
	return 0;
}

void handle_caches_drop(struct session_table *t, const struct cap *cap)
{
	struct session_conn *c;

	list_for_each (c, &t->conns, link) {
		if (!cap || c->last_cap == cap)
			c->last_cap = NULL;
		for (unsigned i = 0; c->cache && i < CONN_HANDLES; i++)
			if (!cap || c->cache->entry[i].cap == cap)
				c->cache->entry[i].cap = NULL;
	}
}
