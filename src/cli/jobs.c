/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * jobs - see jobs.h. One lock for both queues: a job is a file or more, so it is taken rarely.
 */
#include "cli/jobs.h"

#include <pthread.h>
#include <stdint.h>

#include "base/base.h"
#include "penstock/client.h"

struct queue {
	struct job *head, **tail;
};

struct jobs {
	struct pst_client *client;
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct queue todo, done;
	uint64_t pending; /* submitted or emitted, and not reaped */
	bool stop;
	unsigned threads;
	pthread_t thread[];
};

static void queue_init(struct queue *q)
{
	q->head = NULL;
	q->tail = &q->head;
}

static void queue_push(struct queue *q, struct job *j)
{
	j->next = NULL;
	*q->tail = j;
	q->tail = &j->next;
}

static struct job *queue_pop(struct queue *q)
{
	struct job *j = q->head;

	if (j) {
		q->head = j->next;
		if (!q->head)
			q->tail = &q->head;
	}
	return j;
}

/* To the main thread, with the lock held; it takes all at once, so only the first has to wake it.
 */
static void deliver(struct jobs *jobs, struct job *j)
{
	bool first = !jobs->done.head;

	queue_push(&jobs->done, j);
	if (first)
		pst_client_wake(jobs->client);
}

static void *worker(void *arg)
{
	struct jobs *jobs = arg;
	struct job *j;

	pthread_mutex_lock(&jobs->lock);
	for (;;) {
		while (!(j = queue_pop(&jobs->todo)) && !jobs->stop)
			pthread_cond_wait(&jobs->more, &jobs->lock);
		if (!j)
			break;
		pthread_mutex_unlock(&jobs->lock);
		j->run(j);
		pthread_mutex_lock(&jobs->lock);
		deliver(jobs, j);
	}
	pthread_mutex_unlock(&jobs->lock);
	return NULL;
}

int jobs_new(struct jobs **ret_jobs, struct pst_client *client, unsigned threads)
{
	struct jobs *jobs = mem_calloc(1, sizeof(*jobs) + threads * sizeof(jobs->thread[0]));
	int rc;

	if (!jobs)
		return -ENOMEM;
	jobs->client = client;
	pthread_mutex_init(&jobs->lock, NULL);
	pthread_cond_init(&jobs->more, NULL);
	queue_init(&jobs->todo);
	queue_init(&jobs->done);
	for (; jobs->threads < threads; jobs->threads++) {
		rc = -pthread_create(&jobs->thread[jobs->threads], NULL, worker, jobs);
		if (rc < 0) {
			jobs_free(jobs);
			return rc;
		}
	}
	*ret_jobs = jobs;
	return 0;
}

void jobs_free(struct jobs *jobs)
{
	if (!jobs)
		return;
	pst_assert(jobs->pending == 0);
	pthread_mutex_lock(&jobs->lock);
	jobs->stop = true;
	pthread_cond_broadcast(&jobs->more);
	pthread_mutex_unlock(&jobs->lock);
	for (unsigned i = 0; i < jobs->threads; i++)
		pthread_join(jobs->thread[i], NULL);
	pthread_mutex_destroy(&jobs->lock);
	pthread_cond_destroy(&jobs->more);
	mem_free(jobs);
}

void jobs_submit(struct jobs *jobs, struct job *j)
{
	pthread_mutex_lock(&jobs->lock);
	queue_push(&jobs->todo, j);
	jobs->pending++;
	pthread_cond_signal(&jobs->more);
	pthread_mutex_unlock(&jobs->lock);
}

void jobs_emit(struct jobs *jobs, struct job *j)
{
	pthread_mutex_lock(&jobs->lock);
	jobs->pending++;
	deliver(jobs, j);
	pthread_mutex_unlock(&jobs->lock);
}

unsigned jobs_reap(struct jobs *jobs)
{
	struct job *j, *next;
	unsigned n = 0;

	pthread_mutex_lock(&jobs->lock);
	j = jobs->done.head;
	queue_init(&jobs->done);
	pthread_mutex_unlock(&jobs->lock);
	for (; j; j = next, n++) {
		next = j->next;
		j->done(j);
	}
	if (n > 0) {
		pthread_mutex_lock(&jobs->lock);
		jobs->pending -= n;
		pthread_mutex_unlock(&jobs->lock);
	}
	return n;
}

bool jobs_idle(struct jobs *jobs)
{
	bool idle;

	pthread_mutex_lock(&jobs->lock);
	idle = jobs->pending == 0;
	pthread_mutex_unlock(&jobs->lock);
	return idle;
}
