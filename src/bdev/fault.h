/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fault - a bdev that wraps another and misbehaves on request: for tests, simulation, and operators
 * who want to see what their system does.
 *
 * It models a device with a volatile write cache: a completed write that was not flushed is kept
 * here (readable) and reaches the wrapped device at a flush, as a BDEV_FUA write, or at close. On
 * power loss each unflushed write is, by the seed, kept, lost, or torn at block granularity,
 * independently of the others (reordering), and every later request fails with -EREMOTEIO. A flush
 * that fails may have lost for good what it covered: a second one that succeeds says nothing of it.
 *
 * All of a fault device is on its loop's thread. Data faults (bit_rot and below) also hit
 * BDEV_WRITE_ZEROES where that makes sense; a discard takes effect or does not, by the seed.
 *
 * Options after '?': seed=N; read_error=P, write_error=P, flush_error=P (probability of -EIO);
 * bit_flip=P (a read returns one bit flipped, once); bit_rot=P (a write is stored with one bit
 * flipped); lost_write=P (acknowledged, never stored, even when flushed); torn_write=P (only some
 * of its blocks are stored, acknowledged); misdirect=P; delay_us=N, delay_jitter_us=N (completions
 * also reorder); cut_after=N (power is cut at the N-th write or flush from open); cache=BOOL
 * (default 1). Probabilities are 0..1. The same seed and the same requests give the same faults.
 */
#ifndef BDEV_FAULT_H
#define BDEV_FAULT_H

#include "bdev/bdev.h"

/* Wraps @below, which it closes when it is closed; not when this fails. */
int fault_wrap(struct bdev **ret_bdev, struct bdev *below, uint64_t seed, struct pst_err *err);
/* Sets one option by the names above, at any time. -EINVAL for an unknown name or bad value. */
int fault_set(struct bdev *fault, const char *name, const char *value, struct pst_err *err);
/* Cuts the power now: what was not flushed is decided, in-flight requests end with -EREMOTEIO (from
 * the loop). What survives is on the wrapped device when bdev_close() returns. */
void fault_cut(struct bdev *fault);
bool fault_is_cut(const struct bdev *fault);
/* Writes and flushes seen so far (to sweep cut_after over). */
uint64_t fault_mutations(const struct bdev *fault);
/* Test-only: fails the @n-th request from now of the kinds in @ops_mask (1 << BDEV_READ ...). */
void fault_fail_at(struct bdev *fault, uint32_t ops_mask, uint64_t n, int status);

#endif
