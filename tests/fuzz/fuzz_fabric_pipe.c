/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_fabric_pipe - what a client of the pipe channel may do to the memory that it shares, and say
 * on its socket: the input is a program whose steps write words and bytes into the server's inbox,
 * frames into the socket, and messages as they should be, some of which name windows (which makes
 * the server copy to or from what the table says).
 */
#include <stdio.h>
#include <unistd.h>

#include "fabric_raw.h"
#include "fuzz.h"

#define STEPS_MAX 64

/* A number near something that matters. */
static uint64_t word(struct input *in, const struct raw_pipe *p)
{
	const uint64_t near[] = {
	        0,         atomic_load(&p->its.box->tail), p->its.ring_bytes, 65536, 1ull << 32,
	        UINT64_MAX};
	uint8_t which = byte(in);
	uint64_t w = near[which % ARRAY_LEN(near)] + (int8_t)byte(in);

	if (which & 128)
		take(in, &w, sizeof(w));
	return w;
}

static void control_step(struct input *in, struct raw_pipe *p)
{
	uint64_t w = word(in, p);

	switch (byte(in) & 3) {
	case 0:
		atomic_store(&p->its.box->tail, w);
		break;
	case 1:
		atomic_store(&p->its.box->done, w);
		break;
	case 2:
		atomic_store(&p->its.box->asleep, (uint32_t)w);
		break;
	default:
		atomic_store(&p->its.box->busy, w);
		break;
	}
}

static void slot_step(struct input *in, struct raw_pipe *p)
{
	uint8_t at = byte(in) % 16;
	struct pipe_slot *s = &p->its.box->slot[at];

	s->addr = word(in, p);
	s->len = word(in, p);
	s->region = byte(in) & 3;
	s->list = byte(in) & 1 ? PIPE_LIST_NONE : byte(in);
	atomic_store(&s->key, 1ull << PIPE_KEY_COUNT_SHIFT | 3u << PIPE_KEY_RIGHTS_SHIFT | at);
}

static void list_step(struct input *in, struct raw_pipe *p)
{
	struct pipe_piece *piece = pipe_list(&p->its, byte(in) % PIPE_LISTS);
	unsigned i = byte(in) % PIPE_LIST_PIECES;

	piece[i].addr = word(in, p);
	piece[i].len = word(in, p);
}

static void ring_step(struct input *in, struct raw_pipe *p)
{
	uint64_t tail = atomic_load(&p->its.box->tail), len = byte(in), w = word(in, p);
	uint8_t *at = p->its.ring + (tail & (p->its.ring_bytes - 1));

	memcpy(at, &w, sizeof(w));
	take(in, at + 8, len);
}

static void frame_step(struct input *in, struct raw_pipe *p, int region_fd)
{
	struct pipe_frame f = {.magic = le64_make(PIPE_MAGIC),
	                       .version = le16_make(PIPE_VERSION),
	                       .type = le16_make(byte(in)),
	                       .id = le32_make(byte(in) & 3),
	                       .value = le64_make(word(in, p))};
	int fds[2] = {region_fd, p->bell};
	uint8_t how = byte(in);

	if (how & 4)
		take(in, &f, sizeof(f));
	(void)raw_pipe_frame(p, &f, fds, how & 1 ? 1 + (how >> 1 & 1) : 0);
}

static void message_step(struct input *in, struct raw_pipe *p)
{
	struct fabric_desc d = {.addr = byte(in), .len = byte(in) * 300u};
	uint8_t at = byte(in) % 16;

	if (d.addr == 255) {
		raw_pipe_send(p, "plain", 5);
		return;
	}
	d.key = 1ull << PIPE_KEY_COUNT_SHIFT | 3u << PIPE_KEY_RIGHTS_SHIFT | at;
	raw_pipe_send(p, &d, sizeof(d));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {.data = data, .len = size};
	struct pipe_frame show = {.magic = le64_make(PIPE_MAGIC),
	                          .version = le16_make(PIPE_VERSION),
	                          .type = le16_make(PIPE_REGION),
	                          .id = le32_make(1),
	                          .value = le64_make(65536)};
	struct mem_region *r;
	struct raw_server s;
	struct raw_pipe p;
	char addr[64];
	bool up;

	snprintf(addr, sizeof(addr), "unix-abstract:penstock-fuzz-pipe-%d", (int)getpid());
	raw_server_open(&s, "pipe", addr, true, 10 * NSEC_PER_SEC, 0);
	s.hurry = true;
	up = mem_region_new(&r, MEM_SHARED, 65536) == 0 && raw_pipe_open(&p, &s, addr);
	pst_assert(up);
	(void)raw_pipe_frame(&p, &show, &r->fd, 1);
	raw_turns(&s, 2);
	for (unsigned i = 0; i < STEPS_MAX && in.len && !s.downs; i++) {
		switch (byte(&in) % 7) {
		case 0:
			control_step(&in, &p);
			break;
		case 1:
			slot_step(&in, &p);
			break;
		case 2:
			list_step(&in, &p);
			break;
		case 3:
			ring_step(&in, &p);
			break;
		case 4:
			frame_step(&in, &p, r->fd);
			break;
		default:
			message_step(&in, &p);
			break;
		}
		raw_pipe_ring(&p);
		raw_turns(&s, 2);
	}
	raw_pipe_close(&p);
	mem_region_free(r);
	raw_turns(&s, 2);
	raw_server_close(&s);
	return 0;
}
