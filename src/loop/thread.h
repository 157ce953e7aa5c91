/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * thread - a loop that has a thread of its own, on a core of its own: one more reactor of a process.
 *
 * Work comes to it by loop_post() alone. Nothing else of it may be touched from outside, but that
 * before the first message is posted its loop is nobody's yet.
 */
#ifndef LOOP_THREAD_H
#define LOOP_THREAD_H

#include "loop/loop.h"

#define CORE_ANY (-1)

struct loop_thread;

/*
 * Makes a loop and starts the thread that runs it, on @core only. The thread takes no signals. If its
 * io_uring fails it says so, and goes on as loop_fail() has it. 0; the
 * errors of loop_new(); -EINVAL: there is no such core, or the process may not use it; -EAGAIN: no
 * more threads; with a sentence.
 */
int loop_thread_start(struct loop_thread **ret_t, const struct loop_opts *opts, int core,
                      struct pst_err *err);
struct loop *loop_thread_loop(struct loop_thread *t);
/* CPU time that the thread has used, in ns. Any thread. */
uint64_t loop_thread_cpu_ns(struct loop_thread *t);
int loop_thread_core(const struct loop_thread *t); /* CORE_ANY: none */
/* Ends the loop and its thread. All that was on it is gone already, as for loop_free(); messages that
 * were posted before run first. Accepts NULL. Not from its own thread. */
void loop_thread_stop(struct loop_thread *t);

/* --- cores --- */

#define CORES_MAX 64

/*
 * "0,2-5": the cores of a list in its order. 0; -EINVAL with a sentence: not a list of numbers and
 * ranges, a core twice, more than CORES_MAX, or one that is not there or that this process may not use
 * (@allowed_too: else only the form is looked at).
 */
int cores_parse(int cores[CORES_MAX], unsigned *ret_count, const char *text, bool allowed_too,
                struct pst_err *err);
/* The calling thread runs on @core only from now on. -EINVAL with a sentence. */
int core_pin(int core, struct pst_err *err);
/* CPU time that the calling thread has used, in ns. */
uint64_t thread_cpu_ns(void);

#endif
