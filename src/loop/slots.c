/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The tables are sparse: empty entries are there from the start and are filled and cleared one by
 * one while requests on others are in flight.
 */
#include <liburing.h>

#include "loop/slots.h"

void ring_slots_init(struct ring_slots *s, struct io_uring *ring)
{
	*s = (struct ring_slots){.ring = ring};
}

void ring_slots_done(struct ring_slots *s)
{
	for (unsigned i = 0; i < ARRAY_LEN(s->files_used); i++)
		pst_assert(!s->files_used[i]);
	for (unsigned i = 0; i < ARRAY_LEN(s->buffers_used); i++)
		pst_assert(!s->buffers_used[i]);
}

static bool bit_get(const uint64_t *bits, unsigned i)
{
	return bits[i / 64] >> (i % 64) & 1;
}

static void bits_flip(uint64_t *bits, unsigned first, unsigned count)
{
	for (unsigned i = first; i < first + count; i++)
		bits[i / 64] ^= 1ull << (i % 64);
}

/* First of @count free slots in a row; @max when there are none. */
static unsigned bits_find(const uint64_t *bits, unsigned max, unsigned count)
{
	unsigned run = 0;

	for (unsigned i = 0; i < max; i++) {
		run = bit_get(bits, i) ? 0 : run + 1;
		if (run == count)
			return i + 1 - count;
	}
	return max;
}

int ring_file_add(struct ring_slots *s, int fd, unsigned *ret_slot)
{
	unsigned slot = bits_find(s->files_used, RING_FILES_MAX, 1);
	int r;

	if (slot == RING_FILES_MAX)
		return -ENOSPC;
	if (!s->files_up) {
		r = io_uring_register_files_sparse(s->ring, RING_FILES_MAX);
		if (r < 0)
			return r;
		s->files_up = true;
	}
	r = io_uring_register_files_update(s->ring, slot, &fd, 1);
	if (r < 0)
		return r;
	bits_flip(s->files_used, slot, 1);
	*ret_slot = slot;
	return 0;
}

void ring_file_del(struct ring_slots *s, unsigned slot)
{
	int none = -1;
	int r;

	pst_assert(slot < RING_FILES_MAX && bit_get(s->files_used, slot));
	r = io_uring_register_files_update(s->ring, slot, &none, 1);
	if (r != 1)
		log_warn("registered file %u could not be cleared: %s", slot, strerror(-r));
	bits_flip(s->files_used, slot, 1);
}

unsigned ring_buffer_slots(size_t len_bytes)
{
	return (unsigned)DIV_ROUND_UP((uint64_t)len_bytes, 1ull << RING_BUFFER_BYTES_SHIFT);
}

static int buffers_clear(struct ring_slots *s, unsigned first, unsigned count)
{
	const struct iovec none = {0};
	const __u64 tag = 0;
	int r = 0;

	for (unsigned i = 0; i < count; i++) {
		int one = io_uring_register_buffers_update_tag(s->ring, first + i, &none, &tag, 1);

		if (one < 0)
			r = one;
	}
	return r;
}

static int buffers_fill(struct ring_slots *s, unsigned first, unsigned count, char *addr,
                        size_t len)
{
	const __u64 tag = 0;

	for (unsigned i = 0; i < count; i++) {
		size_t off = (size_t)i << RING_BUFFER_BYTES_SHIFT;
		const struct iovec iov = {
		        .iov_base = addr + off,
		        .iov_len = MIN(len - off, (size_t)1 << RING_BUFFER_BYTES_SHIFT),
		};
		int r = io_uring_register_buffers_update_tag(s->ring, first + i, &iov, &tag, 1);

		if (r < 0) {
			buffers_clear(s, first, i);
			return r;
		}
	}
	return 0;
}

int ring_buffer_add(struct ring_slots *s, void *addr, size_t len_bytes, unsigned *ret_first)
{
	unsigned count = ring_buffer_slots(len_bytes);
	unsigned first;
	int r;

	if (!count || count > RING_BUFFERS_MAX)
		return count ? -ENOSPC : -EINVAL;
	first = bits_find(s->buffers_used, RING_BUFFERS_MAX, count);
	if (first == RING_BUFFERS_MAX)
		return -ENOSPC;
	if (!s->buffers_up) {
		r = io_uring_register_buffers_sparse(s->ring, RING_BUFFERS_MAX);
		if (r < 0)
			return r;
		s->buffers_up = true;
	}
	r = buffers_fill(s, first, count, addr, len_bytes);
	if (r < 0)
		return r;
	bits_flip(s->buffers_used, first, count);
	*ret_first = first;
	return 0;
}

void ring_buffer_del(struct ring_slots *s, unsigned first, size_t len_bytes)
{
	unsigned count = ring_buffer_slots(len_bytes);

	pst_assert(first + count <= RING_BUFFERS_MAX && bit_get(s->buffers_used, first));
	if (buffers_clear(s, first, count) < 0)
		log_warn("registered buffer %u could not be cleared", first);
	bits_flip(s->buffers_used, first, count);
}
