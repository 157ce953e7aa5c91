/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pump - see pump.h.
 */
#include "cli/pump.h"

#define EVENTS_MAX  64
#define PROGRESS_NS (200 * NSEC_PER_MSEC)

int pump_open(struct pump *p, struct cli *cli, unsigned depth, unsigned threads)
{
	int rc;

	*p = (struct pump){.cli = cli};
	list_init(&p->ready);
	rc = pst_cq_new(&p->cq, cli->client, depth);
	if (rc == 0 && threads > 0)
		rc = jobs_new(&p->jobs, cli->client, threads);
	if (rc < 0) {
		pst_cq_free(p->cq);
		return cli_fail(cli, rc, "starting");
	}
	return CLI_OK;
}

void pump_close(struct pump *p)
{
	jobs_free(p->jobs);
	pst_assert(pst_cq_free(p->cq) == 0);
}

void pump_add(struct pump *p, struct pump_task *t)
{
	list_push(&p->ready, &t->link);
}

static void start_ready(struct pump *p)
{
	while (!list_empty(&p->ready)) {
		struct pump_task *t = list_first(&p->ready, struct pump_task, link);
		struct pst_event e = {.user_data = t};

		list_del(&t->link);
		e.status = t->start(t, p->cq);
		if (e.status == -EAGAIN) {
			list_push_front(&p->ready, &t->link);
			return;
		}
		if (e.status < 0)
			t->done(t, &e);
	}
}

/* True when something was done. */
static bool take(struct pump *p, uint64_t timeout_ns)
{
	struct pst_event e[EVENTS_MAX];
	int n = pst_cq_poll(p->cq, e, EVENTS_MAX, timeout_ns);

	pst_assert(n >= 0); /* the kernel refuses to wait: calls under way can't be given up */
	for (int i = 0; i < n; i++) {
		struct pump_task *t = e[i].user_data;

		t->done(t, &e[i]);
	}
	return n > 0;
}

void pump_turn(struct pump *p)
{
	bool idle;

	start_ready(p);
	idle = !(p->jobs && jobs_reap(p->jobs) > 0);
	if (!list_empty(&p->ready) && pst_cq_pending(p->cq) == 0)
		idle = false;
	if (p->progress)
		progress_tick(p->progress);
	/* A job that ends after the reaping wakes the poll. */
	take(p, !idle ? 0 : p->progress ? PROGRESS_NS : UINT64_MAX);
}

bool pump_idle(struct pump *p)
{
	return list_empty(&p->ready) && pst_cq_pending(p->cq) == 0 &&
	       (!p->jobs || jobs_idle(p->jobs));
}

void pump_run(struct pump *p)
{
	while (!pump_idle(p))
		pump_turn(p);
}
