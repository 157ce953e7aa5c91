/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_wire - hostile bytes from both ends of a channel, on a tape.
 *
 * The first byte chooses. Its low two bits: 0: to a client, a remote store with an op of each kind under
 * way; else to a server, a listener on the names layer on the model, behind a good hello, or (1) without
 * one. 4: the good end speaks version 2 of the protocol, not 1. 8: the hello shows a token for a
 * directory, by which files are named by handles. The rest are messages, a length of two bytes before each.
 * What a fuzzer can't guess is mended: ids of requests, so that answers find someone, and handles, which only
 * the server can make (wire_to_server.c).
 *
 * Nothing may crash, be read beyond its end, or be left behind; whatever a server is told, its answers are
 * well-formed; and whatever a client is told, every op of its ends.
 */
#include "wire_ends.h"

enum {
	TO_CLIENT = 0,
	TO_SERVER_BARE = 1,
	DIRECTION = 3,
	VERSION_2 = 4,
	TOKEN = 8,
};

struct ends ends;

static void loop_make(void)
{
	struct loop_opts lo;

	loop_opts_default(&lo);
	lo.sim = true;
	lo.sim_start_ns = 1750000000 * NSEC_PER_SEC; /* handles count from 2020 on */
	pst_assert(!loop_new(&ends.loop, &lo, NULL));
}

void ends_turns(unsigned n)
{
	while (n-- > 0)
		(void)loop_turn(ends.loop, 2 * NSEC_PER_MSEC);
}

void ends_sleep(uint64_t ns)
{
	uint64_t until = loop_now(ends.loop) + ns;

	while (loop_now(ends.loop) < until)
		(void)loop_turn(ends.loop, until - loop_now(ends.loop));
}

uint32_t ends_next(struct input *in, uint8_t msg[MESSAGE_MAX])
{
	uint32_t len;

	if (in->len < 3)
		return 0;
	len = byte(in);
	len = (len | (uint32_t)byte(in) << 8) % MESSAGE_MAX;
	len = (uint32_t)MIN(len, in->len);
	(void)take(in, msg, len);
	return len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {.data = data, .len = size};
	uint8_t how;

	if (!size)
		return 0;
	how = byte(&in);
	ends.version = how & VERSION_2 ? 2 : 1;
	loop_make();
	if ((how & DIRECTION) == TO_CLIENT)
		to_client(&in);
	else
		to_server(&in, ((how & DIRECTION) != TO_SERVER_BARE ? SERVER_HELLO : 0) |
		                       (how & TOKEN ? SERVER_TOKEN : 0));
	pst_assert(!tape_alive());
	loop_free(ends.loop);
	return 0;
}

const char *fuzz_missing(void)
{
	const char *what = client_missing();

	return what ? what : server_missing();
}
