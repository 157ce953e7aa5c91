/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "raw_client.h"

#include "fabric/sim.h"

/* --- the channel --- */

static void on_up(struct chan *c, int status)
{
	struct raw_client *r = c->user;

	assert_int_equal(status, 0);
	r->up = true;
}

static void head_make(uint8_t head[SEAL_HEAD_LEN + 8], uint64_t number, uint64_t before)
{
	struct wire_out out = {.at = head, .end = head + SEAL_HEAD_LEN + 8};

	wire_put_8(&out, WIRE_SEALED);
	wire_put_8(&out, SEAL_VERSION);
	wire_put_bytes(&out, (uint8_t[6]){0}, 6);
	wire_put_64(&out, number);
	wire_put_64(&out, before);
}

static void open_it(struct raw_client *r, const uint8_t *data, uint32_t len)
{
	struct wire_in in = {.at = data + 8, .end = data + SEAL_HEAD_LEN};
	uint8_t aad[SEAL_HEAD_LEN + 8];
	uint64_t number = wire_get_64(&in);
	EVP_CIPHER_CTX *ctx;

	assert_true(len >= SEAL_OVER);
	head_make(aad, number, r->rx.messages++);
	assert_int_equal(seal_open_begin(&r->rx, number, aad, sizeof(aad), &ctx), 0);
	r->len = len - SEAL_OVER;
	assert_int_equal(seal_open_piece(ctx, r->msg, data + SEAL_HEAD_LEN, r->len), 0);
	assert_int_equal(seal_open_end(ctx, data + len - SEAL_TAG_LEN), 0);
}

static void on_msg(struct chan *c, const void *data, uint32_t len)
{
	struct raw_client *r = c->user;

	assert_true(len <= sizeof(r->msg));
	r->got = true;
	if (r->sealed) {
		open_it(r, data, len);
		return;
	}
	memcpy(r->msg, data, len);
	r->len = len;
}

static void on_ready(struct chan *c)
{
}

static void on_down(struct chan *c, int status)
{
	((struct raw_client *)c->user)->down = true;
}

static const struct chan_handlers handlers = {
        .up = on_up, .msg = on_msg, .ready = on_ready, .down = on_down};

void raw_connect(struct raw_client *r, struct loop *loop)
{
	static struct sim_knobs knobs;
	struct fabric_opts opts = {.seed = 5, .sim = &knobs};
	struct pst_err err = {0};

	memset(r, 0, offsetof(struct raw_client, xfer_ns));
	r->loop = loop;
	sim_knobs_draw(&knobs, 5);
	if (r->xfer_ns)
		knobs.xfer_max_ns = r->xfer_ns;
	knobs.traits |= FABRIC_ANY_MEMORY;
	assert_int_equal(fabric_connect(&r->c, loop, "sim", "here", &opts, &handlers, r, &err), 0);
	while (!r->up)
		(void)loop_turn(loop, NSEC_PER_MSEC);
}

void raw_hang_up(struct raw_client *r)
{
	if (r->c)
		chan_close(r->c);
	seal_way_done(&r->tx);
	seal_way_done(&r->rx);
	r->c = NULL;
	for (unsigned i = 0; i < 200; i++)
		(void)loop_turn(r->loop, NSEC_PER_MSEC);
}

void raw_send(struct raw_client *r, const void *bytes, uint32_t len)
{
	struct iovec iov = {(void *)(uintptr_t)bytes, len};
	int rc;

	while ((rc = chan_send(r->c, &iov, 1)) == -EAGAIN)
		(void)loop_turn(r->loop, NSEC_PER_MSEC);
	assert_true(rc == 0 || r->down);
}

bool raw_wait(struct raw_client *r)
{
	for (unsigned i = 0; !r->got && !r->down; i++) {
		assert_true(i < 100000);
		(void)loop_turn(r->loop, NSEC_PER_MSEC);
	}
	return r->got;
}

/* A message of the protocol, sealed if the channel is. */
static void say(struct raw_client *r, const void *bytes, uint32_t len)
{
	struct iovec iov = {(void *)(uintptr_t)bytes, len};
	uint8_t aad[SEAL_HEAD_LEN + 8], *out;
	uint64_t number;

	r->got = false;
	if (!r->sealed) {
		raw_send(r, bytes, len);
		return;
	}
	out = malloc(len + SEAL_OVER);
	assert_non_null(out);
	assert_int_equal(seal_way_next(&r->tx, &number), 0);
	head_make(aad, number, r->tx.messages++);
	memcpy(out, aad, SEAL_HEAD_LEN);
	assert_int_equal(seal_encrypt(&r->tx, number, aad, sizeof(aad), &iov, 1,
	                              out + SEAL_HEAD_LEN, out + SEAL_HEAD_LEN + len),
	                 0);
	if (!r->first_len) {
		assert_true(len + SEAL_OVER <= sizeof(r->first));
		r->first_len = len + SEAL_OVER;
		memcpy(r->first, out, r->first_len);
	}
	raw_send(r, out, len + SEAL_OVER);
	free(out);
}

/* --- the beginning --- */

void raw_seal(struct raw_client *r, const char *token)
{
	uint8_t bytes[TOKEN_HEAD_BYTES + TOKEN_SECRET_BYTES], secret[32] = {77};
	struct seal_secrets secrets;
	struct seal_share share;

	assert_int_equal(cap_token_bytes(token, strlen(token), bytes), 0);
	assert_int_equal(seal_share_make(&share, secret), 0);
	assert_int_equal(seal_begin_make(r->begin, bytes, &share), 0);
	raw_send(r, r->begin, SEAL_BEGIN_LEN);
	assert_true(raw_wait(r));
	assert_int_equal(r->len, SEAL_ANSWER_LEN);
	assert_int_equal(
	        seal_answer_take(&secrets, r->begin, r->msg, bytes + TOKEN_HEAD_BYTES, &share), 0);
	assert_int_equal(seal_way_init(&r->tx, true, secrets.client, 0), 0);
	assert_int_equal(seal_way_init(&r->rx, false, secrets.server, 0), 0);
	r->sealed = true;
}

int raw_hello(struct raw_client *r, const char *token, const struct wire_welcome *resume)
{
	struct wire_hello h = {.version = WIRE_VERSION,
	                       .version_min = WIRE_VERSION,
	                       .slots = 4,
	                       .depth = 16,
	                       .cred = token,
	                       .cred_len = token ? (uint32_t)strlen(token) : 0,
	                       .name = "raw",
	                       .name_len = 3};
	uint8_t msg[512];

	if (resume) {
		h.session = resume->session;
		memcpy(h.secret, resume->secret, sizeof(h.secret));
		memcpy(h.store, resume->store, sizeof(h.store));
		h.epoch = resume->epoch;
	}
	say(r, msg, wire_hello_put(msg, sizeof(msg), &h));
	if (!raw_wait(r))
		return -ECONNRESET;
	assert_int_equal(wire_welcome_get(&r->welcome, r->msg, r->len), 0);
	return r->welcome.status;
}

int raw_open(struct raw_client *r, struct loop *loop, const char *token)
{
	raw_connect(r, loop);
	return raw_hello(r, token, NULL);
}

/* --- requests --- */

static void desc_put(struct wire_out *out, const struct fabric_desc *d)
{
	struct wire_desc w = {.key = d->key,
	                      .addr = d->addr,
	                      .len = d->len,
	                      .kind = d->kind,
	                      .device = d->device,
	                      .region = d->region};
	uint8_t bytes[sizeof(w)];

	wire_desc_put(bytes, &w);
	wire_put_bytes(out, bytes, sizeof(bytes));
}

static void head_put(struct raw_client *r, uint8_t *msg, const struct raw_req *q, uint32_t body_len)
{
	const struct wire_req m = {
	        .kind = WIRE_REQ,
	        .version = WIRE_VERSION,
	        .opcode = q->opcode,
	        .what = (uint8_t)((q->seq ? WIRE_TOKEN : 0) | (q->window ? WIRE_WINDOW : 0) |
	                          (q->pull ? WIRE_PULL : 0) | (q->handle ? WIRE_HANDLE : 0)),
	        .id = ++r->id,
	        .slot = q->slot,
	        .seq = q->seq,
	        .cont = q->cont,
	        .len = q->len,
	        .oid_lo = q->ino,
	        .off = q->off,
	        .body_len = body_len};

	wire_req_put(msg, &m);
}

static int answer_take(struct raw_client *r, const struct raw_req *q)
{
	struct pst_op op = {.opcode = q->opcode, .muts = q->muts, .mut_count = q->mut_count};
	struct wire_in in = {.at = r->msg + sizeof(r->resp), .version = WIRE_VERSION};

	assert_true(r->len >= sizeof(r->resp));
	wire_resp_get(&r->resp, r->msg);
	assert_int_equal(r->resp.kind, WIRE_RESP);
	assert_int_equal(r->resp.id, r->id);
	in.end = in.at + r->resp.body_len;
	r->handle = NULL;
	if (!r->resp.status)
		assert_int_equal(wire_answer_get(&in, &op, &r->handle), 0);
	return r->resp.status;
}

/* What a batch writes or compares, behind the fields. */
static void payload_put(struct wire_out *out, const struct pst_op *op)
{
	struct iovec iov[8];
	int n = wire_batch_iov(op, iov, ARRAY_LEN(iov));

	assert_true(n >= 0);
	for (int i = 0; i < n; i++)
		wire_put_bytes(out, iov[i].iov_base, iov[i].iov_len);
}

void raw_ask(struct raw_client *r, const struct raw_req *q)
{
	static uint8_t msg[16 * KIB];
	struct wire_out out = {.at = msg + sizeof(struct wire_req),
	                       .end = msg + sizeof(msg),
	                       .version = WIRE_VERSION};
	struct pst_op op = {.opcode = q->opcode, .cont = q->cont, .ino = q->ino};
	struct raw_req batch = *q;
	const uint8_t *body;

	op.name = q->name;
	op.name_len = q->name ? (uint32_t)strlen(q->name) : 0;
	op.muts = q->muts;
	op.mut_count = q->mut_count;
	if (q->mut_count)
		batch.len = (uint32_t)wire_batch_payload(&op);
	if (q->window)
		desc_put(&out, q->window);
	if (q->handle)
		wire_put_bytes(&out, q->handle, WIRE_HANDLE_BYTES);
	body = out.at;
	if (wire_op_of(q->opcode)->takes && !q->window)
		assert_true(wire_body_put(&out, &op));
	head_put(r, msg, &batch, (uint32_t)(out.at - body));
	if (q->data && !q->pull)
		wire_put_bytes(&out, q->data, q->len);
	if (q->mut_count)
		payload_put(&out, &op);
	assert_false(out.full);
	say(r, msg, (uint32_t)(out.at - msg));
}

int raw_run(struct raw_client *r, const struct raw_req *q)
{
	raw_ask(r, q);
	return raw_wait(r) ? answer_take(r, q) : -ECONNRESET;
}
