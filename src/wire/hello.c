/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hello - the messages that open a channel, and the events of a scrub.
 *
 *   HELLO                                     WELCOME
 *   OFFSET SIZE MEANING                       OFFSET SIZE MEANING
 *        0   16 note; at 4: "PST1"                 0   16 note; at 4: status
 *       16    1 oldest version spoken             16    1 1: the session was known
 *       17    7 zero                              17    7 zero
 *       24   16 which client                      24    8 session
 *       40    8 session                           32    4 number of this opening
 *       48   16 its secret                        36    4 of the one that HELLO's epoch is of
 *       64   16 store                             40   16 its secret
 *       80    8 epoch                             56   16 store
 *       88    4 slots                             72    8 epoch
 *       92    4 depth                             80    8 capability bits of the store
 *       96    2 length of the credential          88    4 slots
 *       98    2 length of the name                92    4 depth
 *      100    4 zero                              96    4 lease, ms
 *      104      credential, name                 100    4 expiry, s
 *                                               104    2 length of the text
 *                                                106    6 zero
 *                                                112      text: why not, or the server's name
 */
#include "wire/codec.h"

#define HELLO_FIXED   104u
#define WELCOME_FIXED 112u

static struct wire_out out_of(void *buf, uint32_t cap)
{
	return (struct wire_out){.at = buf, .end = (uint8_t *)buf + cap};
}

static struct wire_in in_of(const void *msg, uint32_t len)
{
	return (struct wire_in){.at = msg, .end = (const uint8_t *)msg + len};
}

static void note_put(struct wire_out *out, uint8_t kind, uint8_t version, uint32_t arg, uint64_t id)
{
	wire_put_8(out, kind);
	wire_put_8(out, version);
	wire_put_16(out, 0);
	wire_put_32(out, arg);
	wire_put_64(out, id);
}

static uint32_t ended(const struct wire_out *out, const void *buf)
{
	return out->full ? 0 : (uint32_t)(out->at - (const uint8_t *)buf);
}

uint32_t wire_hello_put(void *buf, uint32_t cap, const struct wire_hello *h)
{
	struct wire_out out = out_of(buf, cap);

	note_put(&out, WIRE_HELLO, h->version, WIRE_MAGIC, 0);
	wire_put_8(&out, h->version_min);
	wire_put_bytes(&out, (uint8_t[7]){0}, 7);
	wire_put_bytes(&out, h->client, 16);
	wire_put_64(&out, h->session);
	wire_put_bytes(&out, h->secret, 16);
	wire_put_bytes(&out, h->store, 16);
	wire_put_64(&out, h->epoch);
	wire_put_32(&out, h->slots);
	wire_put_32(&out, h->depth);
	wire_put_16(&out, (uint16_t)h->cred_len);
	wire_put_16(&out, (uint16_t)h->name_len);
	wire_put_32(&out, 0);
	wire_put_bytes(&out, h->cred, h->cred_len);
	wire_put_bytes(&out, h->name, h->name_len);
	return ended(&out, buf);
}

/* What has a secret is read aside, and wiped there: whoever asked has the only copy. */
static int hello_read(struct wire_hello *h, struct wire_in in)
{

	if (wire_get_8(&in) != WIRE_HELLO)
		return -EPROTO;
	h->version = wire_get_8(&in);
	wire_get_zero(&in, 2);
	if (wire_get_32(&in) != WIRE_MAGIC)
		return -EPROTO;
	wire_get_zero(&in, 8);
	h->version_min = wire_get_8(&in);
	if (in.bad)
		return -EPROTO;
	if (h->version < WIRE_VERSION_MIN || h->version_min > WIRE_VERSION)
		return -EPROTONOSUPPORT;
	wire_get_zero(&in, 7);
	wire_copy_bytes(&in, h->client, 16);
	h->session = wire_get_64(&in);
	wire_copy_bytes(&in, h->secret, 16);
	wire_copy_bytes(&in, h->store, 16);
	h->epoch = wire_get_64(&in);
	h->slots = wire_get_32(&in);
	h->depth = wire_get_32(&in);
	h->cred_len = wire_get_16(&in);
	h->name_len = wire_get_16(&in);
	wire_get_zero(&in, 4);
	h->cred = wire_get_bytes(&in, h->cred_len);
	h->name = wire_get_bytes(&in, h->name_len);
	/* A newer client may say more than is known here. */
	if (in.bad || h->name_len > WIRE_TEXT_MAX || h->version_min > h->version ||
	    (h->version <= WIRE_VERSION && in.at != in.end))
		return -EPROTO;
	return 0;
}

int wire_hello_get(struct wire_hello *ret_hello, const void *msg, uint32_t len)
{
	struct wire_hello h = {0};
	int rc = hello_read(&h, in_of(msg, len));

	if (rc == 0) {
		*ret_hello = h;
	} else if (rc == -EPROTONOSUPPORT) {
		ret_hello->version = h.version;
		ret_hello->version_min = h.version_min;
	}
	explicit_bzero(h.secret, sizeof(h.secret));
	return rc;
}

uint32_t wire_welcome_put(void *buf, uint32_t cap, const struct wire_welcome *w)
{
	struct wire_out out = out_of(buf, cap);

	note_put(&out, WIRE_WELCOME, w->version, (uint32_t)w->status, 0);
	wire_put_8(&out, w->resumed);
	wire_put_bytes(&out, (uint8_t[7]){0}, 7);
	wire_put_64(&out, w->session);
	wire_put_32(&out, w->opening);
	wire_put_32(&out, w->opening_seen);
	wire_put_bytes(&out, w->secret, 16);
	wire_put_bytes(&out, w->store, 16);
	wire_put_64(&out, w->epoch);
	wire_put_64(&out, w->caps);
	wire_put_32(&out, w->slots);
	wire_put_32(&out, w->depth);
	wire_put_32(&out, w->lease_ms);
	wire_put_32(&out, w->expiry_s);
	wire_put_16(&out, (uint16_t)w->text_len);
	wire_put_bytes(&out, (uint8_t[6]){0}, 6);
	wire_put_bytes(&out, w->text, w->text_len);
	return ended(&out, buf);
}

static int welcome_read(struct wire_welcome *w, struct wire_in in)
{
	uint8_t resumed;

	if (wire_get_8(&in) != WIRE_WELCOME)
		return -EPROTO;
	w->version = wire_get_8(&in);
	wire_get_zero(&in, 2);
	w->status = (int32_t)wire_get_32(&in);
	wire_get_zero(&in, 8);
	resumed = wire_get_8(&in);
	wire_get_zero(&in, 7);
	w->session = wire_get_64(&in);
	w->opening = wire_get_32(&in);
	w->opening_seen = wire_get_32(&in);
	wire_copy_bytes(&in, w->secret, 16);
	wire_copy_bytes(&in, w->store, 16);
	w->epoch = wire_get_64(&in);
	w->caps = wire_get_64(&in);
	w->slots = wire_get_32(&in);
	w->depth = wire_get_32(&in);
	w->lease_ms = wire_get_32(&in);
	w->expiry_s = wire_get_32(&in);
	w->text_len = wire_get_16(&in);
	wire_get_zero(&in, 6);
	w->text = wire_get_bytes(&in, w->text_len);
	w->resumed = resumed == 1;
	if (in.bad || in.at != in.end || resumed > 1 || w->status > 0 || w->status < -4095 ||
	    w->text_len > WIRE_TEXT_MAX)
		return -EPROTO;
	if (w->status == 0 && (w->version < WIRE_VERSION_MIN || w->version > WIRE_VERSION ||
	                       !w->session || !w->depth))
		return -EPROTO;
	return 0;
}

int wire_welcome_get(struct wire_welcome *ret_welcome, const void *msg, uint32_t len)
{
	struct wire_welcome w = {0};
	int rc = welcome_read(&w, in_of(msg, len));

	if (rc == 0)
		*ret_welcome = w;
	explicit_bzero(w.secret, sizeof(w.secret));
	return rc;
}

/*
 * The body of a scrub's event: 48 bytes of figures, and for a bad block 40 more:
 *
 *   OFFSET SIZE MEANING
 *        0    4 container
 *        4    4 status
 *        8   16 object: hi, lo
 *       24    8 offset
 */
uint32_t wire_scrub_event_put(void *buf, uint32_t cap, uint8_t version, uint64_t id,
                              const struct pst_scrub_report *r, const struct wire_bad_block *bad)
{
	struct wire_out out = out_of(buf, cap);

	note_put(&out, WIRE_EVENT, version, !bad ? 48 : version == 1 ? 80 : 88, id);
	wire_scrub_put(&out, r);
	if (bad) {
		wire_put_32(&out, bad->cont);
		wire_put_32(&out, (uint32_t)bad->status);
		wire_put_64(&out, bad->oid.hi);
		wire_put_64(&out, bad->oid.lo);
		wire_put_64(&out, bad->off);
		if (version != 1)
			wire_put_64(&out, bad->view);
	}
	return ended(&out, buf);
}

int wire_scrub_event_get(const void *msg, uint32_t len, struct pst_scrub_report *r,
                         bool *ret_is_bad, struct wire_bad_block *ret_bad)
{
	struct wire_in in = in_of(msg, len);
	struct pst_scrub_report got = {0};
	uint32_t body;

	(void)wire_get_32(&in);
	body = wire_get_32(&in);
	(void)wire_get_64(&in);
	if (in.bad || body != wire_in_left(&in) || (body != 48 && body != 80 && body != 88))
		return -EPROTO;
	wire_scrub_get(&in, &got);
	*ret_is_bad = body > 48;
	if (*ret_is_bad) {
		ret_bad->cont = wire_get_32(&in);
		ret_bad->status = (int32_t)wire_get_32(&in);
		ret_bad->oid.hi = wire_get_64(&in);
		ret_bad->oid.lo = wire_get_64(&in);
		ret_bad->off = wire_get_64(&in);
		ret_bad->view = body == 88 ? wire_get_64(&in) : 0;
	}
	r->total_bytes = got.total_bytes;
	r->done_bytes = got.done_bytes;
	r->objects = got.objects;
	r->errors = got.errors;
	r->repaired = got.repaired;
	return 0;
}
