/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * store - what all stores share: running one op to its end, for tools and open-time code.
 */
#include "store/store.h"

static void run_done(struct pst_op *op)
{
	*(bool *)op->user = true;
}

int store_run(struct store *s, struct pst_op *op)
{
	bool ended = false;

	op->done = run_done;
	op->user = &ended;
	for (;;) {
		switch (store_submit(s, op)) {
		case PST_DONE:
			return op->status;
		case PST_QUEUED:
			while (!ended) {
				int n = loop_turn(s->loop, NSEC_PER_SEC);

				pst_assert(n >=
				           0); /* the op is the store's: there is no way back */
			}
			return op->status;
		case PST_BUSY:
			(void)loop_turn(s->loop, NSEC_PER_MSEC);
			break;
		}
	}
}
