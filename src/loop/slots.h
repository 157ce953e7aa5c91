/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * slots - the registered files and buffers of one io_uring, shared out by number to those who use
 * it. A request that names a registered file or buffer saves the kernel a look-up and a reference,
 * or the pinning of its pages.
 *
 * The kernel's tables are made at the first use. All of this belongs to the ring's thread and makes
 * system calls.
 */
#ifndef LOOP_SLOTS_H
#define LOOP_SLOTS_H

#include <sys/uio.h>

#include "base/base.h"

struct io_uring;

#define RING_FILES_MAX   64
#define RING_BUFFERS_MAX 256
/* The kernel takes no longer buffer; a longer range has several slots in a row. */
#define RING_BUFFER_BYTES_SHIFT 30

struct ring_slots {
	struct io_uring *ring;
	bool files_up, buffers_up;
	uint64_t files_used[RING_FILES_MAX / 64];
	uint64_t buffers_used[RING_BUFFERS_MAX / 64];
};

void ring_slots_init(struct ring_slots *s, struct io_uring *ring);
/* All slots are free again (asserted). */
void ring_slots_done(struct ring_slots *s);

/* 0, -ENOSPC when all slots are taken, or the kernel's error. */
int ring_file_add(struct ring_slots *s, int fd, unsigned *ret_slot);
void ring_file_del(struct ring_slots *s, unsigned slot);

/*
 * Registers [@addr, @addr + @len_bytes) in ring_buffer_slots(@len_bytes) slots from *@ret_first on;
 * the byte at offset N is in slot first + (N >> RING_BUFFER_BYTES_SHIFT). 0, -ENOSPC, -ENOMEM (also
 * when RLIMIT_MEMLOCK is reached), or the kernel's error.
 */
int ring_buffer_add(struct ring_slots *s, void *addr, size_t len_bytes, unsigned *ret_first);
void ring_buffer_del(struct ring_slots *s, unsigned first, size_t len_bytes);
unsigned ring_buffer_slots(size_t len_bytes);

#endif
