/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_seal - hostile bytes at both ends of a sealed channel.
 *
 * The first byte chooses. 0: they are a server's first message; 1: the same, with the proof mended, so that it is
 * believed; 2: an answer to a client; 3: messages to a channel that is up, a length of two bytes before
 * each: what they are is judged by their tags, so none may be handed up; 4: the same, sealed as by the peer
 * itself, so all must be; 5: the mark and the bytes of a payload. Nothing may crash, be read beyond
 * its end, or be left behind.
 */
#include "fuzz.h"

#include "hand.h"
#include "model_store.h"
#include "wire/seal_int.h"

static struct loop *loop;
static struct session_table *table;
static struct wire_bufs bufs;
static char token[CAP_TOKEN_MAX];
static uint8_t token_bytes[TOKEN_HEAD_BYTES + TOKEN_SECRET_BYTES];

static struct hand client, server;
static struct chan *client_chan, *server_chan;
static unsigned got, ups;
static int up_status;

/* --- what there is once --- */

static bool granted;

static void cap_granted(struct cap_op *o, int status)
{
	pst_assert(!status);
	granted = true;
}

static void world_make(void)
{
	static const unsigned counts[WIRE_BUF_CLASSES] = {1};
	struct cap_op op = {.info = {.rights = RIGHTS_ALL}, .done = cap_granted};
	struct session_opts so = {.sim_seed = 1};
	struct loop_opts lo;
	static struct store *store;

	loop_opts_default(&lo);
	lo.sim = true;
	lo.sim_start_ns = NSEC_PER_SEC;
	pst_assert(!loop_new(&loop, &lo, NULL));
	pst_assert(!model_store_new(&store, loop, NULL));
	pst_assert(!session_table_open(&table, store, &so, NULL));
	pst_assert(!wire_bufs_init(&bufs, MEM_HOST, counts));
	pst_assert(!cap_grant(table, &op));
	while (!granted)
		(void)loop_turn(loop, NSEC_PER_MSEC);
	memcpy(token, op.token, sizeof(token));
	pst_assert(!cap_token_bytes(token, strlen(token), token_bytes));
}

/* --- the ends --- */

static void on_up(struct chan *c, int status)
{
	ups++;
	up_status = status;
}
static void on_msg(struct chan *c, const void *data, uint32_t len)
{
	const volatile uint8_t *p = data;

	for (uint32_t i = 0; i < len; i++)
		(void)p[i];
	got++;
}
static void on_ready(struct chan *c)
{
}
static void on_down(struct chan *c, int status)
{
	pst_assert(status < 0);
}
static const struct chan_handlers handlers = {
        .up = on_up, .msg = on_msg, .ready = on_ready, .down = on_down};

static void first(struct chan *c, const void *data, uint32_t len)
{
	c->handlers = &handlers;
	if (seal_begins(data, len))
		(void)seal_accept(&server_chan, c, table, data, len);
}
static const struct chan_handlers first_handlers = {.msg = first};

static void begin(void)
{
	static const uint8_t secret[32] = {7};
	struct seal_opts o = {.token = token, .bufs = &bufs, .random = secret, .epoch_max = 3};

	hand_init(&client, &server, loop);
	hand_init(&server, &client, loop);
	server.c.handlers = &first_handlers;
	client_chan = server_chan = NULL;
	got = ups = 0;
	pst_assert(!seal_connect(&client_chan, &client.c, &o, &handlers, NULL));
}

static void pass(struct hand *h)
{
	struct hand_msg *m = hand_take(h);

	hand_give(h, m);
	free(m);
}

static void connected(void)
{
	begin();
	pass(&client);
	pass(&server);
	pst_assert(ups == 1 && !up_status && server_chan);
}

static void over(void)
{
	chan_close(client_chan);
	chan_close(server_chan);
	hand_done(&client);
	hand_done(&server);
	for (unsigned i = 0; i < 3; i++)
		(void)loop_turn(loop, NSEC_PER_MSEC);
}

static void say(struct hand *to, const uint8_t *data, size_t len)
{
	struct hand_msg *m = malloc(sizeof(*m));

	m->len = (uint32_t)MIN(len, sizeof(m->data));
	memcpy(m->data, data, m->len);
	hand_give(to->peer, m);
	free(m);
}

/* --- the cases --- */

static void to_server(const uint8_t *data, size_t size, bool mend)
{
	struct hand_msg *b;

	begin();
	b = hand_take(&client);
	if (mend && size >= SEAL_BEGIN_LEN) { /* a share of the input's, a proof that fits */
		struct seal_share share = {{0}, {0}};

		memcpy(share.public, data + 32, 32);
		pst_assert(!seal_begin_make(b->data, token_bytes, &share));
		say(&server, b->data, SEAL_BEGIN_LEN);
		data += SEAL_BEGIN_LEN;
		size -= SEAL_BEGIN_LEN;
	}
	free(b);
	say(&server, data, size);
	pst_assert(!server_chan || !got);
	over();
}

static void to_client(const uint8_t *data, size_t size)
{
	begin();
	say(&client, data, size);
	pst_assert(ups == 1 && up_status < 0 && client_chan->why[0]);
	for (const char *p = client_chan->why; *p; p++)
		pst_assert((unsigned char)*p >= ' ' && *p != 0x7f);
	over();
}

static void messages(const uint8_t *data, size_t size, bool sealed)
{
	unsigned said = 0;

	connected();
	while (size > 2) {
		size_t len = MIN((size_t)(data[0] | data[1] << 8), size - 2);
		struct iovec iov = {(void *)(uintptr_t)(data + 2), len};

		if (!sealed) {
			say(&server, data + 2, len);
		} else if (len <= client_chan->msg_max) {
			pst_assert(!chan_send(client_chan, &iov, 1));
			pass(&client);
			said++;
		}
		data += 2 + len;
		size -= 2 + len;
	}
	pst_assert(got == said);
	over();
}

static void window_closed(struct chan_window *w)
{
}

static void payload(const uint8_t *data, size_t size)
{
	uint8_t mem[256];
	struct iovec iov = {mem, sizeof(mem)};
	struct chan_window w = {
	        .iov = &iov, .iov_count = 1, .rights = FABRIC_PEER_WRITES, .closed = window_closed};

	if (size < SEAL_MARK_BYTES + 2)
		return;
	connected();
	memset(mem, 0x5a, sizeof(mem));
	pst_assert(!chan_window_open(client_chan, &w));
	seal_mark_get(&w.mark[1], data);
	w.mark_len = data[SEAL_MARK_BYTES] + 256ull * (data[SEAL_MARK_BYTES + 1] & 1);
	data += SEAL_MARK_BYTES + 2;
	size -= SEAL_MARK_BYTES + 2;
	memcpy(list_first(&client.windows, struct chan_window, link)->iov[0].iov_base, data,
	       MIN(size, sizeof(mem)));
	chan_window_close(client_chan, &w);
	pst_assert(!w.mark_len || w.status == -EBADMSG);
	over();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!loop)
		world_make();
	if (!size)
		return 0;
	switch (data[0] % 6) {
	case 0:
	case 1:
		to_server(data + 1, size - 1, data[0] % 6 == 1);
		break;
	case 2:
		to_client(data + 1, size - 1);
		break;
	case 3:
	case 4:
		messages(data + 1, size - 1, data[0] % 6 == 4);
		break;
	case 5:
		payload(data + 1, size - 1);
		break;
	}
	return 0;
}
