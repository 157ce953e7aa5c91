/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * seal - the sealed channel: its beginning, its messages and its end. seal_int.h has the formats.
 *
 *   client: seal_connect() sends BEGIN; ANSWER's proof holds -> up(0)
 *   server: seal_accept(): BEGIN's proof holds -> ANSWER is sent, and it is up. That the client is there
 *           now, and no recording of it, is known with its first message that opens.
 *
 * Rules:
 *  1. No nonce is used twice: each encryption takes the next number, also when what it made is thrown
 *     away because there was no credit for it.
 *  2. A message counts, for both ends, when the channel below took it: that count is in its tag, so one
 *     that is missing, repeated or out of order does not open.
 *  3. Nothing is handed up before its tag was compared. What does not open ends the channel.
 *  4. Keys change between messages only, one epoch at a time.
 *  5. A structure lives until its owner closed it and the last window, transfer, handler and posted
 *     message of it are gone.
 *  6. A server makes neither keys nor memory for a beginning whose proof does not hold: anybody may send
 *     any number of those.
 */
#include <openssl/crypto.h>
#include <stdio.h>
#include <sys/random.h>

#include "base/iov.h"
#include "wire/codec.h"
#include "wire/seal_int.h"

#define WINDOWS 256u
#define XFERS   128u

/* --- making and freeing --- */

static void chan_free(struct seal_chan *s)
{
	seal_way_done(&s->tx);
	seal_way_done(&s->rx);
	OPENSSL_cleanse(s->token_secret, sizeof(s->token_secret));
	OPENSSL_cleanse(&s->share, sizeof(s->share));
	mem_free(s->out);
	mem_free_secret(s->in, s->in_len); /* the last message: a welcome has a secret */
	mem_free(s->piece);
	mem_free(s->window_all);
	mem_free(s->xfer_all);
	mem_free(s);
}

void seal_put(struct seal_chan *s)
{
	if (!--s->refs)
		chan_free(s);
}

static int memory(struct seal_chan *s)
{
	unsigned windows = s->client ? WINDOWS : 0, xfers = s->client ? 0 : XFERS;

	s->out = mem_alloc(s->inner->msg_max);
	s->in = mem_alloc(s->inner->msg_max);
	s->in_len = s->inner->msg_max;
	s->piece = s->client ? mem_alloc(SEAL_PIECE) : NULL;
	s->window_all = mem_calloc(windows + 1, sizeof(*s->window_all));
	s->xfer_all = mem_calloc(xfers + 1, sizeof(*s->xfer_all));
	if (!s->out || !s->in || (s->client && !s->piece) || !s->window_all || !s->xfer_all)
		return -ENOMEM;
	for (unsigned i = 0; i < windows; i++) {
		s->window_all[i].s = s;
		list_push(&s->windows, &s->window_all[i].link);
	}
	for (unsigned i = 0; i < xfers; i++) {
		s->xfer_all[i].s = s;
		list_push(&s->xfers, &s->xfer_all[i].link);
	}
	return 0;
}

static const struct chan_ops seal_ops;

/* As @inner is, but for what sealing changes. */
static void look_like(struct seal_chan *s, const struct chan *inner)
{
	s->c = (struct chan){
	        .ops = &seal_ops,
	        .provider = inner->provider,
	        .loop = inner->loop,
	        .handlers = inner->handlers,
	        .user = inner->user,
	        .traits = (inner->traits & ~(FABRIC_LENT | FABRIC_ROOM)) | FABRIC_PRIVATE |
	                  FABRIC_SEALED,
	        .msg_max = inner->msg_max - SEAL_OVER,
	        .inline_max = inner->inline_max,
	        .xfers_max = MIN(inner->xfers_max, XFERS),
	        .peer = inner->peer,
	        .count = inner->count,
	};
	if (s->client)
		s->c.traits |= FABRIC_ANY_MEMORY; /* windows lie in memory of ours */
}

static int chan_new(struct seal_chan **ret_s, struct chan *inner, bool client)
{
	struct seal_chan *s;

	if (inner->msg_max < WIRE_MSG_MIN + SEAL_OVER)
		return -EMSGSIZE;
	s = mem_calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->refs = 1;
	s->inner = inner;
	s->client = client;
	list_init(&s->windows);
	list_init(&s->xfers);
	list_init(&s->queued);
	if (memory(s) < 0) {
		seal_put(s);
		return -ENOMEM;
	}
	look_like(s, inner);
	*ret_s = s;
	return 0;
}

static int random_secret(uint8_t secret[32], const uint8_t *given)
{
	if (given) {
		memcpy(secret, given, 32);
		return 0;
	}
	return getrandom(secret, 32, 0) == 32 ? 0 : -EIO;
}

static int keys(struct seal_chan *s, struct seal_secrets *secrets)
{
	int rc = seal_way_init(&s->tx, true, s->client ? secrets->client : secrets->server,
	                       s->epoch_max);

	if (rc == 0)
		rc = seal_way_init(&s->rx, false, s->client ? secrets->server : secrets->client,
		                   s->epoch_max);
	OPENSSL_cleanse(secrets, sizeof(*secrets));
	return rc;
}

/* --- its end --- */

/* Tells the owner, once; the channel below is left alone until the owner closes this one. */
static void fail(struct seal_chan *s, int status, const char *why)
{
	bool was_up = s->state == SEAL_UP;

	if (s->state == SEAL_DOWN)
		return;
	s->state = SEAL_DOWN;
	s->error = status;
	if (why != s->c.why)
		(void)snprintf(s->c.why, sizeof(s->c.why), "%s", why);
	seal_queued_end(s, status);
	if (was_up)
		s->c.handlers->down(&s->c, status);
	else
		s->c.handlers->up(&s->c, status);
}

static void seal_close(struct chan *c)
{
	struct seal_chan *s = seal_of(c);
	struct chan *inner = s->inner;

	s->state = SEAL_DOWN;
	s->error = s->error ? s->error : -ECANCELED;
	s->inner = NULL;
	seal_queued_end(s, -ECANCELED);
	chan_close(inner);
	seal_put(s);
}

/* --- room --- */

static void wake_run(struct loop_msg *m)
{
	struct seal_chan *s = container_of(m, struct seal_chan, wake);

	s->waking = false;
	if (s->broken && s->state == SEAL_UP) {
		fail(s, s->broken,
		     s->broken == -EKEYEXPIRED ? "its keys are used up" : "it can't seal any more");
	} else if (s->want_ready && s->state == SEAL_UP) {
		s->want_ready = false;
		s->c.handlers->ready(&s->c);
	}
	seal_put(s);
}

void seal_broke(struct seal_chan *s, int why)
{
	s->broken = why;
	s->want_ready = true;
	seal_wake(s);
}

void seal_wake(struct seal_chan *s)
{
	if (!s->want_ready || s->waking || s->state != SEAL_UP)
		return;
	s->waking = true;
	s->refs++;
	s->wake.run = wake_run;
	loop_post(s->c.loop, &s->wake);
}

/* BEGIN or ANSWER, if it is due. True: it is not any more. */
static bool first_go(struct seal_chan *s)
{
	struct iovec iov = {s->out, s->first_len};

	/* Of a channel that is down its down() tells. */
	if (s->first_len && chan_send(s->inner, &iov, 1) != -EAGAIN)
		s->first_len = 0;
	return !s->first_len;
}

static void on_ready(struct chan *in)
{
	struct seal_chan *s = in->user;

	s->refs++;
	if (first_go(s) && s->state == SEAL_UP && seal_queued_go(s) && s->state == SEAL_UP) {
		s->want_ready = false;
		s->c.handlers->ready(&s->c);
	}
	seal_put(s);
}

/* --- sending --- */

static void head_put(uint8_t head[SEAL_HEAD_LEN + 8], uint64_t number, uint64_t before)
{
	struct wire_out out = {.at = head, .end = head + SEAL_HEAD_LEN + 8};

	wire_put_8(&out, WIRE_SEALED);
	wire_put_8(&out, SEAL_VERSION);
	wire_put_bytes(&out, (uint8_t[6]){0}, 6);
	wire_put_64(&out, number);
	wire_put_64(&out, before);
}

static int seal_msg(struct seal_chan *s, const struct iovec *iov, unsigned count, uint64_t len)
{
	uint8_t aad[SEAL_HEAD_LEN + 8];
	uint64_t number = 0;
	int rc = seal_way_worn(&s->tx) ? seal_way_turn(&s->tx) : 0; /* 4. */

	if (rc == 0)
		rc = seal_way_next(&s->tx, &number); /* 1. */
	if (rc < 0)
		return rc;
	head_put(aad, number, s->tx.messages);
	memcpy(s->out, aad, SEAL_HEAD_LEN);
	return seal_encrypt(&s->tx, number, aad, sizeof(aad), iov, count, s->out + SEAL_HEAD_LEN,
	                    s->out + SEAL_HEAD_LEN + len);
}

static int seal_send(struct chan *c, const struct iovec *iov, unsigned count)
{
	struct seal_chan *s = seal_of(c);
	uint64_t len = iov_sum(iov, count);
	struct iovec sealed;
	int rc;

	if (unlikely(s->state != SEAL_UP))
		return s->state == SEAL_DOWN ? s->error : -ENOTCONN;
	if (len > c->msg_max)
		return -EMSGSIZE;
	if (s->first_len || !list_empty(&s->queued)) {
		s->want_ready = true;
		return -EAGAIN;
	}
	rc = seal_msg(s, iov, count, len);
	if (unlikely(rc < 0)) {
		seal_broke(s, rc);
		return rc;
	}
	sealed = (struct iovec){s->out, len + SEAL_OVER};
	rc = chan_send(s->inner, &sealed, 1);
	if (likely(rc == 0))
		s->tx.messages++; /* 2. */
	else if (rc == -EAGAIN)
		s->want_ready = true;
	s->c.count = s->inner->count;
	return rc;
}

/* --- receiving --- */

/* Into s->in. 0, or -EBADMSG. */
static int open_msg(struct seal_chan *s, const uint8_t *data, uint32_t len)
{
	uint8_t aad[SEAL_HEAD_LEN + 8];
	struct wire_in in = {.at = data + 8, .end = data + SEAL_HEAD_LEN};
	EVP_CIPHER_CTX *ctx;
	uint64_t number;
	int rc;

	if (len < SEAL_OVER || len > s->inner->msg_max)
		return -EBADMSG;
	number = wire_get_64(&in);
	if (number >> 48 == s->rx.epoch + 1u && seal_way_turn(&s->rx) < 0)
		return -EBADMSG;
	if (number >> 48 != s->rx.epoch)
		return -EBADMSG;
	head_put(aad, number, s->rx.messages);
	if (memcmp(aad, data, SEAL_HEAD_LEN))
		return -EBADMSG;
	rc = seal_open_begin(&s->rx, number, aad, sizeof(aad), &ctx);
	if (rc == 0)
		rc = seal_open_piece(ctx, s->in, data + SEAL_HEAD_LEN, len - SEAL_OVER);
	return rc == 0 ? seal_open_end(ctx, data + len - SEAL_TAG_LEN) : rc;
}

static void message(struct seal_chan *s, const void *data, uint32_t len)
{
	s->c.count = s->inner->count;
	if (unlikely(open_msg(s, data, len) < 0)) {
		fail(s, -EBADMSG, "what came was changed on its way, or is not of this channel");
		return;
	}
	s->rx.messages++;
	s->c.handlers->msg(&s->c, s->in, len - SEAL_OVER);
}

/* The server does not want it. Nobody vouches for that: it may as well be somebody between. */
static void refused(struct seal_chan *s, const uint8_t *msg, uint32_t len)
{
	struct wire_in in = {.at = msg + 2, .end = msg + SEAL_ANSWER_LEN};
	uint32_t text_len = wire_get_16(&in);
	int status = (int32_t)wire_get_32(&in);
	char text[WIRE_TEXT_MAX + 1];

	if (text_len != len - SEAL_ANSWER_LEN || text_len > WIRE_TEXT_MAX || status > 0 ||
	    status < -4095) {
		fail(s, -EPROTO, "its answer to a sealed beginning is malformed");
		return;
	}
	for (uint32_t i = 0; i < text_len; i++) {
		char ch = (char)msg[SEAL_ANSWER_LEN + i];

		text[i] = ch < ' ' || ch == 0x7f ? '?' : ch;
	}
	text[text_len] = 0;
	(void)snprintf(s->c.why, sizeof(s->c.why), "refused: %.200s", text);
	fail(s, status, s->c.why);
}

static void answered(struct seal_chan *s, const uint8_t *msg, uint32_t len)
{
	static const uint8_t good[8] = {WIRE_SEAL_ANSWER, SEAL_VERSION};
	struct seal_secrets secrets;
	int rc = -EPROTO;

	if (len >= SEAL_ANSWER_LEN && !memcmp(msg, good, 2) && memcmp(msg + 4, good + 4, 4)) {
		refused(s, msg, len);
		return;
	}
	if (len == SEAL_ANSWER_LEN && !memcmp(msg, good, sizeof(good)))
		rc = seal_answer_take(&secrets, s->begin, msg, s->token_secret, &s->share);
	if (rc == 0)
		rc = keys(s, &secrets);
	if (rc < 0) {
		fail(s, rc,
		     rc == -EPROTO
		             ? "it does not answer to a sealed beginning: no Penstock server, "
		               "or one of another version"
		     : rc == -EBADF ? "it does not know the token: it is not the server that gave "
		                      "it, or somebody stands between"
		                    : strerror(-rc));
		return;
	}
	OPENSSL_cleanse(&s->share, sizeof(s->share));
	OPENSSL_cleanse(s->token_secret, sizeof(s->token_secret));
	s->state = SEAL_UP;
	s->c.handlers->up(&s->c, 0);
}

static void on_msg(struct chan *in, const void *data, uint32_t len)
{
	struct seal_chan *s = in->user;

	s->refs++;
	if (likely(s->state == SEAL_UP))
		message(s, data, len);
	else if (s->state == SEAL_BEGINNING)
		answered(s, data, len);
	seal_put(s);
}

static void on_down(struct chan *in, int status)
{
	struct seal_chan *s = in->user;

	s->refs++;
	if (s->state == SEAL_BEGINNING && !in->why[0])
		fail(s, status,
		     "it hung up at a sealed beginning: it does not seal (--seal off, or older)");
	else
		fail(s, status, in->why);
	seal_put(s);
}

static const struct chan_handlers handlers = {
        .msg = on_msg,
        .ready = on_ready,
        .down = on_down,
};

static void seal_flush(struct chan *c)
{
	struct seal_chan *s = seal_of(c);

	if (s->state == SEAL_UP)
		chan_flush(s->inner);
}

static const struct chan_ops seal_ops = {
        .send = seal_send,
        .write = seal_write,
        .read = seal_read,
        .window_open = seal_window_open,
        .window_close = seal_window_close,
        .close = seal_close,
        .flush = seal_flush,
        .room = fabric_room_always,
};

/* --- beginning --- */

int seal_connect(struct chan **ret_c, struct chan *inner, const struct seal_opts *opts,
                 const struct chan_handlers *h, void *user)
{
	uint8_t token[TOKEN_HEAD_BYTES + TOKEN_SECRET_BYTES], secret[32];
	struct seal_chan *s = NULL;
	int rc = cap_token_bytes(opts->token, strlen(opts->token), token);

	if (rc == 0)
		rc = random_secret(secret, opts->random);
	if (rc == 0)
		rc = chan_new(&s, inner, true);
	if (rc == 0)
		rc = seal_share_make(&s->share, secret);
	if (rc == 0) {
		seal_begin_make(s->begin, token, &s->share);
		memcpy(s->token_secret, token + TOKEN_HEAD_BYTES, TOKEN_SECRET_BYTES);
	}
	OPENSSL_cleanse(token, sizeof(token));
	OPENSSL_cleanse(secret, sizeof(secret));
	if (rc) {
		if (s)
			seal_put(s);
		return rc;
	}
	s->bufs = opts->bufs;
	s->epoch_max = opts->epoch_max;
	s->c.handlers = h;
	s->c.user = user;
	inner->handlers = &handlers;
	inner->user = s;
	*ret_c = &s->c;
	memcpy(s->out, s->begin, SEAL_BEGIN_LEN);
	s->first_len = SEAL_BEGIN_LEN;
	(void)first_go(s);
	return 0;
}

/* The secret of the token that BEGIN shows, if whoever sent it knows it: 6. */
static int accept_proof(uint8_t ret_secret[TOKEN_SECRET_BYTES], struct session_table *table,
                        const char *peer, const uint8_t *begin)
{
	int rc = session_token_secret(table, peer, seal_token_head(begin), ret_secret);

	if (rc == 0 && seal_begin_proved(begin, ret_secret) < 0) {
		rc = -EBADF;
		session_token_forged(table, peer, seal_token_head(begin));
	}
	return rc;
}

/* What follows from BEGIN: ANSWER in s->out, and the keys. */
static int accept_keys(struct seal_chan *s, struct session_table *table, const uint8_t *begin,
                       const uint8_t secret[TOKEN_SECRET_BYTES])
{
	struct seal_secrets secrets;
	struct seal_share share;
	uint8_t mine[32];
	int rc = session_random(table, mine, sizeof(mine));

	if (rc == 0)
		rc = seal_share_make(&share, mine);
	if (rc == 0)
		rc = seal_answer_make(s->out, &secrets, begin, secret, &share);
	if (rc == -EBADF)
		session_token_forged(table, s->inner->peer.addr, seal_token_head(begin));
	if (rc == 0)
		rc = keys(s, &secrets);
	OPENSSL_cleanse(&secrets, sizeof(secrets));
	OPENSSL_cleanse(mine, sizeof(mine));
	OPENSSL_cleanse(&share, sizeof(share));
	return rc;
}

int seal_accept(struct chan **ret_c, struct chan *inner, struct session_table *table,
                const void *msg, uint32_t len)
{
	uint8_t secret[TOKEN_SECRET_BYTES];
	struct seal_chan *s = NULL;
	int rc = seal_begin_check(msg, len);

	if (rc == 0)
		rc = accept_proof(secret, table, inner->peer.addr, msg);
	if (rc == 0)
		rc = chan_new(&s, inner, false);
	if (rc == 0)
		rc = accept_keys(s, table, msg, secret);
	OPENSSL_cleanse(secret, sizeof(secret));
	if (rc) {
		if (s)
			seal_put(s);
		return rc;
	}
	s->state = SEAL_UP;
	inner->handlers = &handlers;
	inner->user = s;
	*ret_c = &s->c;
	s->first_len = SEAL_ANSWER_LEN;
	(void)first_go(s);
	return 0;
}
