/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * auth - from what a connection shows to an identity: peer credentials, certificates, capability
 * tokens. An identity is a list of capabilities: those that a token names, and those whose subject the
 * client is.
 *
 * A token is sealed with a key of its capability, not of the server, so that it lives as long as that
 * and goes with it. It says at most what its capability says.
 */
#include <openssl/crypto.h>
#include <stdio.h>

#include "session/session_int.h"

#define TOKEN_HEAD     "pst1"
#define TOKEN_HEAD_LEN 4
#define TOKEN_BODY_LEN 54 /* base64url of 40 bytes, without padding */
#define TOKEN_MACED    offsetof(struct token_bytes, mac)

_Static_assert(TOKEN_HEAD_LEN + TOKEN_BODY_LEN < CAP_TOKEN_MAX, "a token's text fits");

/* --- base64url --- */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void encode(const uint8_t *in, size_t len, char *out)
{
	uint32_t acc = 0;
	unsigned bits = 0;

	for (size_t i = 0; i < len; i++) {
		acc = acc << 8 | in[i];
		for (bits += 8; bits >= 6; bits -= 6)
			*out++ = digits[(acc >> (bits - 6)) & 63];
	}
	if (bits)
		*out++ = digits[(acc << (6 - bits)) & 63];
	*out = 0;
}

/* Exactly @len bytes out of @text_len digits; what is left over must be zero bits: one text each. */
static int decode(const char *text, size_t text_len, uint8_t *out, size_t len)
{
	uint32_t acc = 0;
	unsigned bits = 0;
	size_t n = 0;

	for (size_t i = 0; i < text_len; i++) {
		const char *d = text[i] ? strchr(digits, text[i]) : NULL;

		if (!d)
			return -EBADF;
		acc = acc << 6 | (uint32_t)(d - digits);
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			if (n == len)
				return -EBADF;
			out[n++] = (uint8_t)(acc >> bits);
		}
	}
	return n == len && !(acc & ((1u << bits) - 1)) ? 0 : -EBADF;
}

/* --- tokens --- */

int cap_token(struct session_table *t, uint64_t id, uint32_t rights, char ret_text[CAP_TOKEN_MAX])
{
	const struct cap *c = cap_find(t, id);
	struct token_bytes b = {.version = 1};
	int err;

	if (!c || c->revoked || id == OWNER_CAP)
		return -ENOENT;
	b.rights = le16_make((uint16_t)(rights & c->info.rights));
	memcpy(b.store, t->uuid, sizeof(b.store));
	b.cap = le32_make((uint32_t)id);
	b.cap_epoch = le32_make(c->info.epoch);
	err = mac_16(t, c->key, &b, TOKEN_MACED, b.mac);
	if (!err) {
		memcpy(ret_text, TOKEN_HEAD, TOKEN_HEAD_LEN + 1);
		encode((const uint8_t *)&b, sizeof(b), ret_text + TOKEN_HEAD_LEN);
	}
	OPENSSL_cleanse(&b, sizeof(b));
	return err;
}

int cap_token_bytes(const char *text, size_t len,
                    uint8_t ret_bytes[TOKEN_HEAD_BYTES + TOKEN_SECRET_BYTES])
{
	uint8_t bytes[TOKEN_HEAD_BYTES + TOKEN_SECRET_BYTES];
	int err = -EBADF;

	_Static_assert(sizeof(bytes) == sizeof(struct token_bytes),
	               "head and secret are all of it");
	_Static_assert(TOKEN_HEAD_BYTES == TOKEN_MACED, "the secret is the MAC");
	if (len == TOKEN_HEAD_LEN + TOKEN_BODY_LEN && !memcmp(text, TOKEN_HEAD, TOKEN_HEAD_LEN))
		err = decode(text + TOKEN_HEAD_LEN, TOKEN_BODY_LEN, bytes, sizeof(bytes));
	if (!err)
		memcpy(ret_bytes, bytes, sizeof(bytes));
	OPENSSL_cleanse(bytes, sizeof(bytes));
	return err;
}

static bool head_ok(const struct session_table *t, const struct token_bytes *b)
{
	static const uint8_t zero[sizeof(b->zero2)];

	return b->version == 1 && !b->zero && !memcmp(b->zero2, zero, sizeof(zero)) &&
	       !memcmp(b->store, t->uuid, sizeof(b->store));
}

/* What a token says, as far as it could be verified. */
struct shown {
	struct cap *cap; /* that made it; NULL: that is not known */
	uint32_t rights; /* at most that one's */
	uint32_t claims; /* the number that it says; 0: it is none of this store's */
};

/* Was it made with the capability's key? Whether it still counts is another question. */
static int token_verify(struct session_table *t, const struct token_bytes *b, const struct cap *c)
{
	uint8_t mac[16];
	int err = mac_16(t, c->key, b, TOKEN_MACED, mac);

	if (!err && CRYPTO_memcmp(mac, b->mac, sizeof(mac)))
		err = -EBADF;
	OPENSSL_cleanse(mac, sizeof(mac));
	return err;
}

/* Of one whose head is good. */
static int token_look(struct session_table *t, const struct token_bytes *b, struct shown *ret)
{
	struct cap *c = cap_find(t, le32_get(b->cap));
	int err;

	ret->claims = le32_get(b->cap);
	/* It may have been: its key is gone, nobody can tell. */
	if (!c || c->info.id == OWNER_CAP)
		return -EKEYREVOKED;
	err = token_verify(t, b, c);
	if (err)
		return err;
	ret->cap = c;
	ret->rights = le16_get(b->rights) & c->info.rights;
	if (le32_get(b->cap_epoch) != c->info.epoch)
		return -EKEYREVOKED;
	return cap_good(c, loop_real_now(t->loop));
}

/* @ret_shown is filled as far as it goes, whatever is returned. */
static int token_open(struct session_table *t, const char *text, size_t len,
                      struct shown *ret_shown)
{
	struct token_bytes b;
	int err = cap_token_bytes(text, len, (uint8_t *)&b);

	*ret_shown = (struct shown){0};
	if (!err && !head_ok(t, &b))
		err = -EBADF;
	if (!err)
		err = token_look(t, &b, ret_shown);
	OPENSSL_cleanse(&b, sizeof(b));
	return err;
}

/* --- identities --- */

static void tell_event(struct session_table *t, struct audit_event *e)
{
	e->what = AUDIT_AUTH;
	if (e->status)
		t->fig.refused++;
	audit_tell(t, e);
}

/* Who comes with what it is: all that it has by that, and by what came before. */
static void tell(struct session_table *t, const struct ident *id, int status)
{
	struct audit_event e = {
	        .status = status,
	        .who = id->who,
	        .peer = id->peer,
	};

	if (!status && id->cap_count == 1) {
		e.cap = id->cap[0];
	} else if (!status) {
		e.caps = id->cap;
		e.cap_count = id->cap_count;
	}
	tell_event(t, &e);
}

/* A head alone proves nothing: what it says is a claim. */
static void tell_head(struct session_table *t, const char *peer, const struct token_bytes *b,
                      int status)
{
	struct audit_event e = {
	        .status = status,
	        .who = "token:?",
	        .peer = peer,
	        .claims = head_ok(t, b) ? le32_get(b->cap) : 0,
	};

	tell_event(t, &e);
}

int session_token_secret(struct session_table *t, const char *peer,
                         const uint8_t head[TOKEN_HEAD_BYTES],
                         uint8_t ret_secret[TOKEN_SECRET_BYTES])
{
	struct token_bytes b;
	const struct cap *c;
	int err = 0;

	memcpy(&b, head, TOKEN_HEAD_BYTES);
	c = cap_find(t, le32_get(b.cap));
	if (!head_ok(t, &b))
		err = -EBADF;
	else if (!c || c->info.id == OWNER_CAP)
		err = -EKEYREVOKED; /* as token_look() */
	else
		err = mac_16(t, c->key, head, TOKEN_HEAD_BYTES, ret_secret);
	if (err)
		tell_head(t, peer, &b, err);
	return err;
}

void session_conn_sealed(struct session_conn *c, const uint8_t head[TOKEN_HEAD_BYTES])
{
	c->sealed = true;
	memcpy(c->token, head, sizeof(c->token));
}

bool session_conn_takes(const struct session_conn *c, const struct ident *id)
{
	struct token_bytes b;

	if (likely(!c->sealed))
		return true;
	memcpy(&b, c->token, sizeof(c->token));
	return id->cap_count == 1 && id->cap[0] == le32_get(b.cap) &&
	       !(id->cap_rights[0] & ~le16_get(b.rights));
}

void session_token_forged(struct session_table *t, const char *peer,
                          const uint8_t head[TOKEN_HEAD_BYTES])
{
	struct token_bytes b;

	memcpy(&b, head, TOKEN_HEAD_BYTES);
	tell_head(t, peer, &b, -EBADF);
}

/* One session, one tenant. */
static int ident_add(struct ident *id, const struct cap *c, uint32_t rights)
{
	for (uint32_t i = 0; i < id->cap_count; i++)
		if (id->cap[i] == c->info.id) {
			id->cap_rights[i] |= (uint16_t)rights;
			return 0;
		}
	if (id->cap_count == SESSION_CAPS_MAX || (id->cap_count && id->tenant != c->info.tenant))
		return -EACCES;
	if (!id->cap_count) {
		id->tenant = c->info.tenant;
		if (c->info.map == CAP_MAP_SQUASH) {
			id->uid = c->info.uid;
			id->gid = c->info.gid;
		}
	}
	id->cap[id->cap_count] = (uint32_t)c->info.id;
	id->cap_rights[id->cap_count++] = (uint16_t)rights;
	return 0;
}

/* All good capabilities with that subject; true: there was one. */
static bool add_subject(struct session_table *t, struct ident *id, const char *subject)
{
	uint64_t now = loop_real_now(t->loop);
	bool any = false;

	for (uint32_t i = 0; i < t->cap_count; i++) {
		const struct cap *c = t->cap[i];

		if (c->info.id != OWNER_CAP && !strcmp(c->info.subject, subject) &&
		    !cap_good(c, now) && !ident_add(id, c, c->info.rights))
			any = true;
	}
	return any;
}

static void name_ident(struct ident *id, const char *kind, const char *what)
{
	char text[SESSION_TEXT_MAX];

	if (!id->who[0])
		(void)snprintf(id->who, sizeof(id->who), "%s:%s", kind,
		               text_show(text, sizeof(text) - 8, what, strlen(what)));
}

int session_auth_peer(struct session_table *t, struct ident *id, uint32_t uid, uint32_t gid)
{
	char subject[SESSION_TEXT_MAX], number[16];
	bool any = false;

	(void)snprintf(number, sizeof(number), "%u", uid);
	name_ident(id, "uid", number);
	id->uid = uid;
	id->gid = gid;
	if (uid == t->opts.owner_uid)
		any |= !ident_add(id, cap_find(t, OWNER_CAP), RIGHTS_ALL);
	(void)snprintf(subject, sizeof(subject), "uid:%u", uid);
	any |= add_subject(t, id, subject);
	(void)snprintf(subject, sizeof(subject), "gid:%u", gid);
	any |= add_subject(t, id, subject);
	any |= add_subject(t, id, "anyone");
	tell(t, id, any ? 0 : -EACCES);
	return any ? 0 : -EACCES;
}

int session_auth_cert(struct session_table *t, struct ident *id, const char *name)
{
	char subject[SESSION_TEXT_MAX];
	bool any = false;

	name_ident(id, "cert", name);
	/* A name that is too long is nobody's (cut off it could be another one's), and so is one that is no text. */
	if (strlen(name) + sizeof("cert:") <= sizeof(subject) && text_plain(name, strlen(name))) {
		(void)snprintf(subject, sizeof(subject), "cert:%s", name);
		any |= add_subject(t, id, subject);
	}
	any |= add_subject(t, id, "anyone");
	tell(t, id, any ? 0 : -EACCES);
	return any ? 0 : -EACCES;
}

int session_auth_token(struct session_table *t, struct ident *id, const char *text, size_t len)
{
	struct audit_event e = {.peer = id->peer};
	char number[24] = "?";
	struct shown shown;
	int err = token_open(t, text, len, &shown);

	if (shown.cap)
		(void)snprintf(number, sizeof(number), "%llu",
		               (unsigned long long)shown.cap->info.id);
	if (!err)
		err = ident_add(id, shown.cap, shown.rights);
	name_ident(id, "token", number);
	e.status = err;
	e.who = id->who;
	e.cap = shown.cap ? shown.cap->info.id : 0;
	e.claims = shown.cap ? 0 : shown.claims;
	tell_event(t, &e);
	return err;
}

int session_auth_open(struct session_table *t, struct ident *id)
{
	bool known = id->who[0]; /* and was given what is anyone's, with its name */
	int err = t->opts.open_access ? ident_add(id, cap_find(t, OWNER_CAP), RIGHTS_ALL) : -EACCES;

	if (!known && add_subject(t, id, "anyone"))
		err = 0;
	/* Who has a name was told of with it: that nothing is open to everybody refuses nobody more. */
	if (!t->opts.open_access && known)
		return err;
	if (t->opts.open_access)
		name_ident(id, "open", "access");
	else
		(void)snprintf(id->who, sizeof(id->who), "anyone");
	tell(t, id, err);
	return err;
}

int session_auth_admin(struct session_table *t, const struct ident *id, const char *what)
{
	struct audit_event e = {.what = AUDIT_CONTROL,
	                        .status = session_ident_is_admin(t, id) ? 0 : -EACCES,
	                        .who = id->who,
	                        .peer = id->peer,
	                        .tenant = id->tenant,
	                        .cap = id->cap_count ? id->cap[0] : 0,
	                        .name = what,
	                        .name_len = (uint32_t)strlen(what)};

	if (e.status)
		t->fig.refused++;
	audit_tell(t, &e);
	return e.status;
}
