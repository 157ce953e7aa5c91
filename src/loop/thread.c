/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * thread - reactors beside the first one, and the cores that they run on.
 */
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "loop/loop_int.h"
#include "loop/thread.h"

#define CORE_MAX 8191 /* the highest number that the kernel gives out on any machine */

struct loop_thread {
	struct loop *loop;
	pthread_t thread;
	int core;
};

/* --- cores --- */

static cpu_set_t *set_new(size_t *ret_bytes)
{
	*ret_bytes = CPU_ALLOC_SIZE(CORE_MAX + 1);
	return mem_calloc(1, *ret_bytes);
}

int core_pin(int core, struct pst_err *err)
{
	size_t bytes;
	cpu_set_t *set = set_new(&bytes);
	int rc = 0;

	if (!set)
		return err_set(err, -ENOMEM, "no memory for a set of cores");
	CPU_SET_S((size_t)core, bytes, set);
	if (sched_setaffinity(0, bytes, set) < 0)
		rc = err_set(err, -errno, "core %d can't be used: %s", core, strerror(errno));
	mem_free(set);
	return rc;
}

/* Is every one of @cores among those that this process may use? */
static int cores_allowed(const int *cores, unsigned count, struct pst_err *err)
{
	size_t bytes;
	cpu_set_t *set = set_new(&bytes);
	int rc = 0;

	if (!set)
		return err_set(err, -ENOMEM, "no memory for a set of cores");
	if (sched_getaffinity(0, bytes, set) < 0)
		rc = err_set(err, -errno, "the kernel doesn't say which cores there are: %s",
		             strerror(errno));
	for (unsigned i = 0; i < count && !rc; i++)
		if (!CPU_ISSET_S((size_t)cores[i], bytes, set))
			rc = err_set(err, -EINVAL,
			             "core %d is not there, or this process may not use it (%d "
			             "cores are; see taskset -p %d)",
			             cores[i], CPU_COUNT_S(bytes, set), (int)getpid());
	mem_free(set);
	return rc;
}

/* A number of digits alone; *@at moves behind it. -1: there is none, or it is too large. */
static int number(const char **at)
{
	int n = 0;

	if (**at < '0' || **at > '9')
		return -1;
	for (; **at >= '0' && **at <= '9'; ++*at) {
		n = n * 10 + (**at - '0');
		if (n > CORE_MAX)
			return -1;
	}
	return n;
}

static int add_range(int *cores, unsigned *count, int first, int last, const char *text,
                     struct pst_err *err)
{
	for (int c = first; c <= last; c++) {
		for (unsigned i = 0; i < *count; i++)
			if (cores[i] == c)
				return err_set(err, -EINVAL,
				               "cores \"%s\": core %d stands there twice", text, c);
		if (*count == CORES_MAX)
			return err_set(err, -EINVAL, "cores \"%s\": more than %d", text, CORES_MAX);
		cores[(*count)++] = c;
	}
	return 0;
}

int cores_parse(int cores[CORES_MAX], unsigned *ret_count, const char *text, bool allowed_too,
                struct pst_err *err)
{
	const char *at = text;
	unsigned count = 0;
	int rc = 0;

	for (;;) {
		int first = number(&at), last = first;

		if (first >= 0 && *at == '-') {
			at++;
			last = number(&at);
		}
		if (first < 0 || last < first || (*at && *at != ','))
			return err_set(err, -EINVAL,
			               "cores \"%s\": write numbers and ranges, as in 0,2-5", text);
		rc = add_range(cores, &count, first, last, text, err);
		if (rc || !*at)
			break;
		at++;
	}
	if (!rc && allowed_too)
		rc = cores_allowed(cores, count, err);
	if (!rc)
		*ret_count = count;
	return rc;
}

uint64_t thread_cpu_ns(void)
{
	struct timespec ts = {0};

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* --- threads --- */

static void name_of(const struct loop *loop, char name[16])
{
	(void)snprintf(name, 16, loop_core(loop) == CORE_ANY ? "reactor" : "reactor/%d",
	               loop_core(loop));
}

static void *thread_main(void *arg)
{
	struct loop *loop = arg;
	char who[16];
	int rc;

	/* It goes on for the sake of those who wait for it: to tell them. */
	while ((rc = loop_run(loop)) < 0) {
		name_of(loop, who);
		log_error("%s: io_uring fails: %s; what it worked on ends with an error", who,
		          strerror(-rc));
		loop_fail(loop, rc, who);
	}
	return NULL;
}

/* As the thread that is started wants them: on its core, and without signals, which are for the
 * thread that the process began with. */
static int spawn(struct loop_thread *t, struct pst_err *err)
{
	size_t bytes;
	cpu_set_t *set = set_new(&bytes);
	sigset_t all, before;
	pthread_attr_t attr;
	char name[16];
	int rc;

	if (!set || pthread_attr_init(&attr)) {
		mem_free(set);
		return err_set(err, -ENOMEM, "no memory for a thread");
	}
	rc = 0;
	if (t->core != CORE_ANY) {
		CPU_SET_S((size_t)t->core, bytes, set);
		rc = pthread_attr_setaffinity_np(&attr, bytes, set);
	}
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	if (!rc)
		rc = pthread_create(&t->thread, &attr, thread_main, t->loop);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	(void)pthread_attr_destroy(&attr);
	mem_free(set);
	if (rc == EINVAL)
		return err_set(err, -EINVAL, "core %d is not there, or this process may not use it",
		               t->core);
	if (rc)
		return err_set(err, -rc, "a reactor's thread can't be started: %s", strerror(rc));
	name_of(t->loop, name);
	(void)pthread_setname_np(t->thread, name);
	return 0;
}

int loop_thread_start(struct loop_thread **ret_t, const struct loop_opts *opts, int core,
                      struct pst_err *err)
{
	struct loop_thread *t = mem_calloc(1, sizeof(*t));
	int rc;

	pst_assert(!opts->sim);
	if (!t)
		return err_set(err, -ENOMEM, "no memory for a reactor");
	t->core = core;
	rc = loop_new(&t->loop, opts, err);
	if (!rc)
		loop_core_set(t->loop, core);
	if (!rc)
		rc = spawn(t, err);
	if (rc) {
		loop_free(t->loop);
		mem_free(t);
		return rc;
	}
	*ret_t = t;
	return 0;
}

struct loop *loop_thread_loop(struct loop_thread *t)
{
	return t->loop;
}

int loop_thread_core(const struct loop_thread *t)
{
	return t->core;
}

uint64_t loop_thread_cpu_ns(struct loop_thread *t)
{
	struct timespec ts = {0};
	clockid_t id;

	if (!pthread_getcpuclockid(t->thread, &id))
		(void)clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

struct last_word {
	struct loop_msg msg;
	struct loop *loop;
};

static void last_word(struct loop_msg *m)
{
	loop_stop(container_of(m, struct last_word, msg)->loop);
}

void loop_thread_stop(struct loop_thread *t)
{
	struct last_word last = {.msg.run = last_word};

	if (!t)
		return;
	/* As a message, so that it comes behind all that were posted before. */
	last.loop = t->loop;
	loop_post(t->loop, &last.msg);
	(void)pthread_join(t->thread, NULL);
	loop_free(t->loop);
	mem_free(t);
}
