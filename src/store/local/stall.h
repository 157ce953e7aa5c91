/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stall - ops that wait for their turn; private to store/local. engine.h has how one is run.
 */
#ifndef STORE_LOCAL_STALL_H
#define STORE_LOCAL_STALL_H

#include "store/local/engine.h"

/* It waits for what may take long and stands in nobody else's way: until shard_release(), when those
 * that were held are tried again, or until its deadline, a cancel or a stop. PST_QUEUED. */
enum pst_outcome op_hold(struct shard *s, struct pst_op *op);
void shard_release(struct shard *s);
/* From the poller: ends those that are not to be tried any more; tries those whose turn it is. How
 * many ended. */
int stalled_sweep(struct shard *s);
int stalled_retry(struct shard *s);
/* False: it is none of those that wait here. */
bool stalled_cancel(struct shard *s, struct pst_op *op);
void stall_tick(struct loop_timer *t); /* of l->stall_timer */

#endif
