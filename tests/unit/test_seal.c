/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Messages of sealed channels: two ends with this program's hand between them, which changes, repeats,
 * leaves out and reorders what passes.
 */
#include "seal_world.h"

/* --- messages --- */

static void both_ways(void **state)
{
	struct world *w = *state;
	char text[16];

	w->epoch_max = 7; /* new keys every seven messages */
	world_connect(w);
	for (unsigned i = 0; i < 100; i++) {
		(void)snprintf(text, sizeof(text), "number %u", i);
		assert_int_equal(end_say(&w->client, text), 0);
		world_pass(&w->client);
		end_heard(&w->server, text);
		assert_int_equal(end_say(&w->server, text), 0);
		world_pass(&w->server);
		end_heard(&w->client, text);
	}
	assert_int_equal(end_say(&w->client, ""), 0);
	world_pass(&w->client);
	assert_int_equal(w->server.len, 0);
	assert_int_equal(w->server.got, 101);
}

/* The longest, in pieces; one more is too long. */
static void longest(void **state)
{
	struct world *w = *state;
	uint8_t *buf = malloc(16 * KIB);
	struct iovec iov[3];

	world_connect(w);
	for (unsigned i = 0; i < 16 * KIB; i++)
		buf[i] = (uint8_t)(i * 7);
	iov[0] = (struct iovec){buf, 1};
	iov[1] = (struct iovec){buf + 1, 0};
	iov[2] = (struct iovec){buf + 1, w->client.c->msg_max - 1};
	assert_int_equal(chan_send(w->client.c, iov, 3), 0);
	world_pass(&w->client);
	assert_int_equal(w->server.len, w->client.c->msg_max);
	assert_memory_equal(w->server.data, buf, w->server.len);
	iov[2].iov_len++;
	assert_int_equal(chan_send(w->client.c, iov, 3), -EMSGSIZE);
	free(buf);
}

/* Nothing of the token's secret, and nothing of what is said, passes in clear. */
static void nothing_in_clear(void **state)
{
	struct world *w = *state;
	uint8_t token[40];
	struct hand_msg *m;

	assert_int_equal(cap_token_bytes(w->token, strlen(w->token), token), 0);
	assert_int_equal(world_begin(w, w->token), 0);
	m = list_first(&w->client.h.sent, struct hand_msg, link);
	assert_int_equal(m->len, SEAL_BEGIN_LEN);
	assert_null(memmem(m->data, m->len, token + 24, 16));
	assert_non_null(memmem(m->data, m->len, token, 24));
	world_pass(&w->client);
	world_pass(&w->server);
	assert_int_equal(end_say(&w->client, "something that is secret"), 0);
	m = list_first(&w->client.h.sent, struct hand_msg, link);
	assert_null(memmem(m->data, m->len, "secret", 6));
}

/* --- the hand in between --- */

/* Whatever byte of whichever message is changed: it is noticed, and not handed up. */
static void each_byte(void **state)
{
	struct world *w = *state;
	uint32_t len = 1;

	for (uint32_t at = 0; at < len; at++) {
		struct hand_msg *m;

		world_connect(w);
		assert_int_equal(end_say(&w->client, "one"), 0);
		world_pass(&w->client);
		assert_int_equal(end_say(&w->client, "pay 100 to the right one"), 0);
		m = hand_take(&w->client.h);
		len = m->len;
		m->data[at] ^= (uint8_t)(1u << (at % 8));
		hand_give(&w->client.h, m);
		free(m);
		assert_int_equal(w->server.got, 1);
		assert_int_equal(w->server.down, -EBADMSG);
		assert_true(w->server.c->why[0]);
		assert_int_equal(end_say(&w->server, "too late"), -EBADMSG);
		world_over(w);
	}
	assert_int_equal(len, 24 + SEAL_OVER);
}

/* The same of the beginning: it is refused, here or there, or ends with the first message. */
static void each_byte_of_the_beginning(void **state)
{
	struct world *w = *state;

	for (uint32_t at = 0; at < SEAL_BEGIN_LEN; at++) {
		struct hand_msg *m;

		assert_int_equal(world_begin(w, w->token), 0);
		m = hand_take(&w->client.h);
		if (at) { /* with another kind it is no beginning */
			m->data[at] ^= 0x10;
			hand_give(&w->client.h, m);
			assert_true(w->accepted < 0);
		}
		free(m);
		world_over(w);
	}
	for (uint32_t at = 0; at < SEAL_ANSWER_LEN; at++) {
		struct hand_msg *m;

		assert_int_equal(world_begin(w, w->token), 0);
		world_pass(&w->client);
		m = hand_take(&w->server.h);
		m->data[at] ^= 0x80;
		hand_give(&w->server.h, m);
		free(m);
		assert_true(w->client.up < 0);
		assert_true(w->client.c->why[0]);
		assert_int_equal(w->client.got, 0);
		world_over(w);
	}
}

enum trick { DROP, REPEAT, SWAP, CUT, GROW, BACK, TRICKS };

static void tricks(void **state)
{
	struct world *w = *state;

	for (int t = 0; t < TRICKS; t++) {
		struct hand_msg *m[3];

		world_connect(w);
		for (unsigned i = 0; i < 3; i++) {
			assert_int_equal(end_say(&w->client, "a message like all"), 0);
			m[i] = hand_take(&w->client.h);
		}
		hand_give(&w->client.h, m[0]);
		assert_int_equal(w->server.got, 1);
		switch (t) {
		case DROP:
		case SWAP:
			hand_give(&w->client.h, m[2]);
			break;
		case REPEAT:
			hand_give(&w->client.h, m[0]);
			break;
		case CUT:
			m[1]->len--;
			hand_give(&w->client.h, m[1]);
			break;
		case GROW:
			m[1]->data[m[1]->len++] = 0;
			hand_give(&w->client.h, m[1]);
			break;
		case BACK: /* to whom it came from */
			w->client.h.c.handlers->msg(&w->client.h.c, m[1]->data, m[1]->len);
			break;
		}
		assert_int_equal(w->server.got, 1);
		assert_int_equal(t == BACK ? w->client.down : w->server.down, -EBADMSG);
		for (unsigned i = 0; i < 3; i++)
			free(m[i]);
		world_over(w);
	}
}

/* A channel that was recorded is worth nothing: not to a server, and not to a client. */
static void replayed(void **state)
{
	struct world *w = *state;
	struct hand_msg *b, *m;

	assert_int_equal(world_begin(w, w->token), 0);
	b = hand_take(&w->client.h);
	hand_give(&w->client.h, b);
	world_pass(&w->server);
	assert_int_equal(end_say(&w->client, "do it"), 0);
	m = hand_take(&w->client.h);
	hand_give(&w->client.h, m);
	assert_int_equal(w->server.got, 1);
	world_over(w);
	assert_int_equal(world_begin(w, w->token), 0);
	hand_give(&w->client.h, b); /* the server answers, and knows no better */
	assert_int_equal(w->accepted, 0);
	hand_give(&w->client.h, m);
	assert_int_equal(w->server.got, 0);
	assert_int_equal(w->server.down, -EBADMSG);
	free(b);
	free(m);
}

static void wrong_tokens(void **state)
{
	struct world *w = *state;
	char mixed[CAP_TOKEN_MAX];
	unsigned before;

	assert_int_equal(world_begin(w, "token"), -EBADF);
	/* The head of one capability's, the secret of another's. */
	memcpy(mixed, w->token, CAP_TOKEN_MAX);
	memcpy(mixed + 4 + 32, w->other + 4 + 32, 22);
	before = w->audited;
	assert_int_equal(world_begin(w, mixed), 0);
	(void)mem_alloc_fail_at(1, true); /* it costs no memory, and nothing else to speak of */
	world_pass(&w->client);
	assert_int_equal(mem_alloc_fail_at(0, false), 0);
	assert_int_equal(w->accepted, -EBADF);
	assert_int_equal(w->audited, before + 1);
	assert_int_equal(w->audited_last, -EBADF);
	world_over(w);
	/* What the server sends then. */
	assert_int_equal(world_begin(w, mixed), 0);
	{
		struct hand_msg m;

		m.len = seal_refusal(m.data, -EBADF, "no such \033 token");
		hand_give(&w->server.h, &m);
	}
	assert_int_equal(w->client.up, -EBADF);
	assert_string_equal(w->client.c->why, "refused: no such ? token");
}

/* A server that does not know the token's secret can't make itself believed. */
static void wrong_server(void **state)
{
	struct world *w = *state;
	struct seal_secrets secrets;
	struct seal_share mine;
	uint8_t secret[32] = {9}, token[40];
	struct hand_msg *b, m;

	assert_int_equal(world_begin(w, w->token), 0);
	b = hand_take(&w->client.h);
	/* It makes up a secret, and a beginning that fits. */
	memcpy(token, b->data + 8, 24);
	memset(token + 24, 0, 16);
	assert_int_equal(seal_share_make(&mine, secret), 0);
	memcpy(mine.public, b->data + 32, 32);
	assert_int_equal(seal_begin_make(m.data, token, &mine), 0);
	memcpy(b->data, m.data, SEAL_BEGIN_LEN);
	assert_int_equal(seal_share_make(&mine, secret), 0);
	assert_int_equal(seal_answer_make(m.data, &secrets, b->data, token + 24, &mine), 0);
	m.len = SEAL_ANSWER_LEN;
	hand_give(&w->server.h, &m);
	assert_int_equal(w->client.up, -EBADF);
	free(b);
}

/* --- numbers --- */

/* Each encryption has a number of its own, also of messages that found no credit. */
static void numbers(void **state)
{
	struct world *w = *state;
	uint64_t last = 0;

	w->epoch_max = 10;
	world_connect(w);
	for (unsigned i = 0; i < 60; i++) {
		struct hand_msg *m;
		unsigned spent = 0;

		if (i % 3 == 1) {
			w->client.h.busy = 2;
			spent = 2;
			assert_int_equal(end_say(&w->client, "no room"), -EAGAIN);
			assert_int_equal(end_say(&w->client, "none yet"), -EAGAIN);
		}
		assert_int_equal(end_say(&w->client, "here it is"), 0);
		m = list_first(&w->client.h.sent, struct hand_msg, link);
		if (number_of(m) >> 48 == last >> 48 && i)
			assert_int_equal(number_of(m), last + 1 + spent);
		else if (i)
			assert_int_equal(number_of(m) >> 48, (last >> 48) + 1);
		last = number_of(m);
		world_pass(&w->client);
		end_heard(&w->server, "here it is");
	}
	assert_true(last >> 48 >= 6);
	assert_int_equal(w->server.got, 60);
}

/* When there are no more keys the channel ends, and says so. */
static void used_up(void **state)
{
	struct world *w = *state;
	struct seal_chan *s;

	world_connect(w);
	s = seal_of(w->client.c);
	s->tx.epoch = UINT16_MAX;
	s->tx.count = s->tx.count_max;
	assert_int_equal(end_say(&w->client, "one too many"), -EKEYEXPIRED);
	assert_int_equal(w->client.down, 1); /* not from inside */
	(void)loop_turn(w->loop, NSEC_PER_MSEC);
	assert_int_equal(w->client.down, -EKEYEXPIRED);
	assert_string_equal(w->client.c->why, "its keys are used up");
	assert_int_equal(end_say(&w->client, "too late"), -EKEYEXPIRED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        WORLD(both_ways),
	        WORLD(longest),
	        WORLD(nothing_in_clear),
	        WORLD(each_byte),
	        WORLD(each_byte_of_the_beginning),
	        WORLD(tricks),
	        WORLD(replayed),
	        WORLD(wrong_tokens),
	        WORLD(wrong_server),
	        WORLD(numbers),
	        WORLD(used_up),
	};

	return cmocka_run_group_tests_name("seal", tests, NULL, NULL);
}
