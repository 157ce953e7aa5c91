/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_fabric_ofi - what a client of the ofi channel, a stranger that knows its endpoint, and the network
 * between may do: the input is a program whose steps are first words, frames (of this channel's number
 * or not, in order or not), completions in any order and failed ones, refusals, and accesses to memory
 * by the keys that were shown. Behind the channel sits a server that begins the transfers that messages
 * name. libfabric is played by fake_ofi. Whatever comes, nothing is reached that is not shown, what was
 * opened is closed, and the listener takes the next client.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fabric_raw.h"
#include "fake_ofi.h"
#include "fuzz.h"
#include "raw_ofi.h"

#define STEPS_MAX 96

struct game {
	struct raw_server s;
	struct fake_ofi *f; /* the last that was opened */
	int side;
	uint64_t token; /* that frames must carry */
	uint32_t seq;
	bool closing; /* its window */
};

/* The server's first words, which say what number frames must carry. */
static bool hello_take(struct game *g)
{
	uint64_t end_ns = clock_mono_ns() + 10 * NSEC_PER_SEC;
	struct ofi_hello h;
	ssize_t n = -1;

	while (n < 0 && clock_mono_ns() < end_ns) {
		raw_turns(&g->s, 1);
		n = recv(g->side, &h, sizeof(h), MSG_DONTWAIT);
		if (n < 0 && errno != EAGAIN)
			return false;
	}
	if (n != sizeof(h) || le32_get(h.status))
		return false;
	g->token = le64_get(h.token);
	g->seq = 0;
	g->f = fake_ofi_last();
	return g->f;
}

static void frame(struct game *g, struct ofi_head *h, const void *payload, size_t len)
{
	uint8_t bytes[sizeof(*h) + 6000] = {0};

	memcpy(bytes, h, sizeof(*h));
	memcpy(bytes + sizeof(*h), payload, len);
	(void)fake_ofi_deliver(g->f, bytes, sizeof(*h) + len);
}

static struct ofi_head head(struct game *g, enum ofi_type type, size_t len)
{
	return (struct ofi_head){.token = le64_make(g->token),
	                         .seq = le32_make(g->seq++),
	                         .type = type,
	                         .len = le32_make((uint32_t)len)};
}

/* A frame of this channel's, most of it as it should be. */
static void frame_step(struct game *g, struct input *in)
{
	static const uint8_t zeroes[6000];
	uint8_t how = byte(in);
	size_t len = how & 1 ? byte(in) * 23u : 0;
	struct ofi_head h = head(g, byte(in) % 12, len);
	uint8_t slot = byte(in);

	h.credits = le16_make(how & 2 ? byte(in) : 0);
	h.window = le32_make(how & 4 && g->s.win_open ? g->s.win.desc.region : slot);
	if (how & 8) { /* before its turn, again, or not at all */
		h.seq = le32_make(g->seq - 1 + (uint32_t)(int8_t)byte(in));
		g->seq--;
	}
	if (how & 16)
		h.len = le32_make((uint32_t)len + byte(in));
	if (how & 32)
		h.token = le64_make(g->token + 1);
	frame(g, &h, zeroes, len);
}

static void stranger_step(struct game *g, struct input *in)
{
	uint8_t bytes[256];
	size_t len = byte(in);

	(void)take(in, bytes, len);
	(void)fake_ofi_deliver(g->f, bytes, len);
}

/* A message that names a window of the client's: the server asks for a transfer with it. */
static void desc_step(struct game *g, struct input *in)
{
	uint8_t how = byte(in);
	struct fabric_desc d = {
	        .key = byte(in), .addr = byte(in), .len = how & 1 ? 256 + byte(in) : 300000};
	struct ofi_head h = head(g, OFI_MSG, sizeof(d));

	d.region = byte(in) | (how & 2 ? OFI_WINDOW_LIST : 0);
	frame(g, &h, &d, sizeof(d));
}

static void complete_step(struct game *g, struct input *in)
{
	static const int errs[] = {EIO, FI_EACCES, FI_ETRUNC, FI_ECANCELED};
	uint8_t how = byte(in);
	unsigned nth = how & 1 ? byte(in) : 0;

	(void)fake_ofi_complete(g->f, nth, how & 6 ? 0 : errs[how >> 3 & 3], byte(in));
}

/* By the key that was shown, or another; what is taken back can't be reached. */
static void reach_step(struct game *g, struct input *in)
{
	uint8_t how = byte(in);
	uint64_t key = g->s.win.desc.key + (how & 1), addr = g->s.win.desc.addr + byte(in) * 300u;
	int rc = fake_ofi_reach(g->f, key, addr, byte(in) * 30u, how & 2, 0xee);

	pst_assert(rc < 0 || (g->s.win_open && !(how & 1)) || !g->s.win.desc.key);
}

static void side_step(struct game *g, struct input *in)
{
	uint8_t bytes[256];
	size_t len = byte(in);

	(void)take(in, bytes, len);
	if (len)
		(void)raw_send(g->side, bytes, len);
	else
		shutdown(g->side, SHUT_WR);
}

/* The server takes its window back, or leaves; or the side says something, or ends. */
static void end_step(struct game *g, struct input *in)
{
	uint8_t how = byte(in);

	if (how & 1 && g->s.c && g->s.win_open && !g->closing) {
		g->closing = true;
		chan_window_close(g->s.c, &g->s.win);
	} else if (how & 2) {
		chan_close(g->s.c);
		g->s.c = NULL;
	} else {
		side_step(g, in);
	}
}

static void step(struct game *g, struct input *in)
{
	uint8_t what = byte(in);

	switch (what % 10) {
	case 0:
		stranger_step(g, in);
		break;
	case 1:
	case 2:
		desc_step(g, in);
		break;
	case 3:
	case 4:
		complete_step(g, in);
		break;
	case 5:
		reach_step(g, in);
		break;
	case 6:
		fake_ofi_refuse(g->f, byte(in) & 15);
		break;
	case 7:
		end_step(g, in);
		break;
	default:
		frame_step(g, in);
		break;
	}
}

static void play(struct game *g, struct input *in)
{
	struct ofi_head ready;

	if (!hello_take(g))
		return;
	ready = head(g, OFI_READY, 0);
	frame(g, &ready, "", 0);
	for (unsigned i = 0; i < STEPS_MAX && in->len && g->f == fake_ofi_last(); i++) {
		step(g, in);
		raw_turns(&g->s, 1);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {.data = data, .len = size};
	struct ofi_hello hello = raw_ofi_hello("at home", 8);
	struct game *g = calloc(1, sizeof(*g));
	uint8_t how = byte(&in);

	pst_assert(g);
	fake_ofi_use(how & 1);
	raw_server_open(&g->s, "ofi", "127.0.0.1:0", true, 10 * NSEC_PER_SEC, 0);
	g->s.hurry = true;
	if (how & 2)
		(void)take(&in, &hello, sizeof(hello));
	g->side = raw_tcp(g->s.l->addr);
	if (raw_send(g->side, &hello, sizeof(hello)))
		play(g, &in);
	close(g->side);
	raw_turns(&g->s, 4);
	/* The next one is served. */
	g->side = raw_tcp(g->s.l->addr);
	hello = raw_ofi_hello("at home", 8);
	pst_assert(raw_send(g->side, &hello, sizeof(hello)));
	pst_assert(hello_take(g));
	close(g->side);
	raw_server_close(&g->s);
	pst_assert(fake_ofi_clean());
	free(g);
	return 0;
}
