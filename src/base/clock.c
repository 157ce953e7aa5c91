/* SPDX-License-Identifier: BSD-3-Clause */
/* The two clocks. Code that runs on a loop asks the loop instead: its clock can be simulated. */
#include <time.h>

#include "base/base.h"

static uint64_t read_clock(clockid_t id)
{
	struct timespec ts;

	pst_assert(clock_gettime(id, &ts) == 0);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

uint64_t clock_mono_ns(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

uint64_t clock_real_ns(void)
{
	return read_clock(CLOCK_REALTIME);
}
