/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_fabric_tcp - what a client of the tcp channel may send: the input is a program whose steps are
 * raw bytes, or heads built from the input's fields (with the key of the window that is open, if it
 * asks for that) and payloads. Behind the channel sits a server that begins the transfers that
 * messages name. Whatever comes, the listener must take the next client.
 */
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fabric_raw.h"
#include "fuzz.h"

#define STEPS_MAX 64

static bool raw_step(struct input *in, int fd)
{
	uint8_t buf[256];
	size_t len = byte(in);

	take(in, buf, len);
	return raw_send(fd, buf, len);
}

static bool head_step(struct input *in, struct raw_server *s, int fd, uint8_t how)
{
	struct tcp_head h = {.type = byte(in), .flags = byte(in)};
	static const uint8_t zeroes[4096];
	uint8_t small[6];
	uint32_t len;

	take(in, small, sizeof(small));
	len = small[0] | (uint32_t)(small[1] & 15) << 8;
	h.len = le32_make(how & 4 ? UINT32_MAX - len : len);
	h.credits = le16_make(small[2] & 15);
	h.id = le32_make(small[3]);
	h.off = le64_make(how & 8 ? UINT64_MAX - small[4] : small[4] * 257ull);
	h.key = le64_make(how & 16 || !s->win_open ? small[5] : s->win.desc.key);
	h.status = le32_make(how & 32 ? small[5] : 0);
	if (!raw_send(fd, &h, sizeof(h)))
		return false;
	/* As much as it said, or not. */
	if (how & 64)
		return true;
	len = h.type == TCP_MSG ? (uint32_t)ALIGN_UP(len, 8) : len;
	return raw_send(fd, zeroes, MIN(len, sizeof(zeroes)));
}

/* A message that names a window of the client's: the server asks for a transfer with it. */
static bool desc_step(struct input *in, int fd)
{
	struct tcp_head h = {.type = TCP_MSG, .len = le32_make(sizeof(struct fabric_desc))};
	struct fabric_desc d = {.key = byte(in), .addr = byte(in), .len = 256 + byte(in)};

	return raw_send(fd, &h, sizeof(h)) && raw_send(fd, &d, sizeof(d));
}

static void swallow(int fd)
{
	uint8_t buf[4096];

	while (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {.data = data, .len = size};
	struct {
		struct tcp_head head;
		struct tcp_hello hello;
	} first;
	struct raw_server s;
	bool up = true;
	char addr[64];
	int fd;

	snprintf(addr, sizeof(addr), "unix-abstract:penstock-fuzz-tcp-%d", (int)getpid());
	raw_server_open(&s, "tcp", addr, true, 10 * NSEC_PER_SEC, 0);
	s.hurry = true;
	fd = raw_unix(addr);
	pst_assert(fd >= 0);
	raw_tcp_hello(&first.head, &first.hello);
	if (byte(&in) & 1)
		take(&in, &first, sizeof(first));
	up = raw_send(fd, &first, sizeof(first));
	raw_turns(&s, 6);
	for (unsigned i = 0; i < STEPS_MAX && in.len && up; i++) {
		uint8_t how = byte(&in);

		switch (how & 3) {
		case 0:
			up = raw_step(&in, fd);
			break;
		case 1:
			up = desc_step(&in, fd);
			break;
		default:
			up = head_step(&in, &s, fd, how);
			break;
		}
		raw_turns(&s, 1);
		if (!(how & 128))
			swallow(fd);
	}
	raw_turns(&s, 4);
	close(fd);
	/* The next one is served. */
	fd = raw_unix(addr);
	pst_assert(fd >= 0);
	close(fd);
	raw_turns(&s, 4);
	raw_server_close(&s);
	return 0;
}
