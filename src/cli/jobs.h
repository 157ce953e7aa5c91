/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * jobs - threads that do what blocks (files of the host), for a main thread that drives the store.
 *
 * A job runs on a worker, then its done() on the main thread. A worker may also emit messages of
 * its own: done() only. The main thread is woken when there is something for it.
 */
#ifndef CLI_JOBS_H
#define CLI_JOBS_H

#include <stdbool.h>

struct pst_client;
struct jobs;

struct job {
	struct job *next;
	void (*run)(struct job *j);  /* on a worker */
	void (*done)(struct job *j); /* on the main thread; owns the job */
};

/* -ENOMEM, or what pthread_create() said. @client is woken by pst_client_wake(). */
int jobs_new(struct jobs **ret_jobs, struct pst_client *client, unsigned threads);
/* Nothing may be queued or running any more. Accepts NULL. */
void jobs_free(struct jobs *jobs);
/* Any thread. done() will be called. */
void jobs_submit(struct jobs *jobs, struct job *j);
/* From a worker: done() is called on the main thread. */
void jobs_emit(struct jobs *jobs, struct job *j);
/* Main thread: calls done() of all that is there; how many. */
unsigned jobs_reap(struct jobs *jobs);
/* Main thread: is there anything submitted or emitted that was not reaped? */
bool jobs_idle(struct jobs *jobs);

#endif
