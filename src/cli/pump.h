/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pump - keeps many calls on the store under way from one thread: tasks that wait for room in the
 * queue, their completions, and the jobs of worker threads.
 */
#ifndef CLI_PUMP_H
#define CLI_PUMP_H

#include "base/base.h"
#include "cli/cli.h"
#include "cli/jobs.h"
#include "cli/progress.h"

struct pump {
	struct cli *cli;
	struct pst_cq *cq;
	struct jobs *jobs;         /* NULL: none */
	struct progress *progress; /* NULL: none */
	struct list ready;         /* tasks whose call was not made yet */
};

/* One asynchronous call at a time. */
struct pump_task {
	struct list link;
	/* Makes the call, with the task as user_data. What it returns but -EAGAIN ends the task. */
	int (*start)(struct pump_task *t, struct pst_cq *cq);
	/* It has ended (or could not be made: e->status). May add itself or others again. */
	void (*done)(struct pump_task *t, const struct pst_event *e);
};

/* @depth calls under way at most; @threads workers (0: no jobs). A message when it fails. */
int pump_open(struct pump *p, struct cli *cli, unsigned depth, unsigned threads);
void pump_close(struct pump *p);
void pump_add(struct pump *p, struct pump_task *t);
/* Makes calls, takes completions, reaps jobs; sleeps if there is nothing to do. */
void pump_turn(struct pump *p);
/* No task and no job is left. */
bool pump_idle(struct pump *p);
/* Turns until it is idle. */
void pump_run(struct pump *p);

#endif
