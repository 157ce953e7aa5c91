/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_sched - shares and rates, by simulation: exact, or apart by at most one request.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "session/sched.h"

#define ITEMS 4096

struct job {
	struct sched_item item;
	unsigned flow;
	bool queued;
};

static struct job jobs[ITEMS];
static unsigned at;

static struct job *push(struct sched *s, struct sched_flow *f, unsigned flow, uint64_t cost)
{
	struct job *j;

	do {
		j = &jobs[at++ % ITEMS];
	} while (j->queued);
	*j = (struct job){.item = {.cost = cost, .bytes = cost}, .flow = flow, .queued = true};
	sched_push(s, f, &j->item);
	return j;
}

static struct job *pop(struct sched *s, uint64_t now)
{
	uint64_t when;
	struct sched_item *it = sched_pop(s, now, &when);

	if (!it)
		return NULL;
	container_of(it, struct job, item)->queued = false;
	return container_of(it, struct job, item);
}

/* Flows that always have work get exactly their weights' part, at every moment within one request. */
static void test_shares(void **state)
{
	static const uint32_t weight[] = {1, 2, 3, 5, 7};
	static const uint64_t cost[] = {4096, 65536, 100, 1 << 20, 777};
	struct sched s;
	struct sched_flow f[5];
	uint64_t got[5] = {0}, sum = 0;

	sched_init(&s);
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(sched_flow_init(&f[i], &s.root, weight[i]), 0);
		push(&s, &f[i], i, cost[i]);
	}
	for (unsigned n = 0; n < 200000; n++) {
		struct job *j = pop(&s, 0);
		unsigned flow = j->flow;

		got[flow] += cost[flow];
		sum += cost[flow];
		push(&s, &f[flow], flow, cost[flow]);
		for (unsigned i = 0; i < 5; i++)
			for (unsigned k = 0; k < i; k++) {
				double d = (double)got[i] / weight[i] - (double)got[k] / weight[k];
				double most = (double)cost[i] / weight[i] +
				              (double)cost[k] / weight[k] + 1;

				assert_true(d <= most && d >= -most);
			}
	}
	for (unsigned i = 0; i < 5; i++) {
		while (pop(&s, 0))
			;
		sched_flow_done(&s, &f[i]);
	}
	assert_true(sum > 0);
	sched_done(&s);
}

/* Two tenants of equal weight, one with 8 sessions and one with 1: the one gets half. */
static void test_tenants(void **state)
{
	struct sched s;
	struct sched_flow tenant[2], leaf[9];
	uint64_t got[9] = {0};

	sched_init(&s);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(sched_flow_init(&tenant[i], &s.root, 1), 0);
	for (unsigned i = 0; i < 9; i++) {
		assert_int_equal(sched_flow_init(&leaf[i], &tenant[i == 8], 1), 0);
		push(&s, &leaf[i], i, 4096);
	}
	for (unsigned n = 0; n < 16000; n++) {
		struct job *j = pop(&s, 0);

		got[j->flow]++;
		push(&s, &leaf[j->flow], j->flow, 4096);
	}
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(got[i], 1000);
	assert_int_equal(got[8], 8000);
	while (pop(&s, 0))
		;
	for (unsigned i = 0; i < 9; i++)
		sched_flow_done(&s, &leaf[i]);
	for (unsigned i = 0; i < 2; i++)
		sched_flow_done(&s, &tenant[i]);
	sched_done(&s);
}

/* One that comes now and then waits for nobody's backlog: at most one request of each other. */
static void test_light_flow(void **state)
{
	struct sched s;
	struct sched_flow heavy[4], light;

	sched_init(&s);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(sched_flow_init(&heavy[i], &s.root, 1), 0);
		for (unsigned n = 0; n < 64; n++)
			push(&s, &heavy[i], i, 1 << 20);
	}
	assert_int_equal(sched_flow_init(&light, &s.root, 1), 0);
	for (unsigned round = 0; round < 1000; round++) {
		unsigned before = 0;
		struct job *j;

		for (unsigned n = 0; n < 7; n++) {
			j = pop(&s, 0);
			push(&s, &heavy[j->flow], j->flow, 1 << 20);
		}
		push(&s, &light, 9, 4096);
		for (; (j = pop(&s, 0))->flow != 9; before++)
			push(&s, &heavy[j->flow], j->flow, 1 << 20);
		assert_true(before <= 4);
	}
	while (pop(&s, 0))
		;
	for (unsigned i = 0; i < 4; i++)
		sched_flow_done(&s, &heavy[i]);
	sched_flow_done(&s, &light);
	sched_done(&s);
}

/* A rate is kept to, whatever there is to do, and what it leaves goes to the others. */
static void test_rates(void **state)
{
	struct sched s;
	struct sched_flow limited, other;
	uint64_t now = NSEC_PER_SEC, end = now + 10 * NSEC_PER_SEC, bytes = 0, others = 0, when;

	sched_init(&s);
	assert_int_equal(sched_flow_init(&limited, &s.root, 1000), 0);
	assert_int_equal(sched_flow_init(&other, &s.root, 1), 0);
	bucket_set(&limited.bucket, 10 << 20, 0);
	push(&s, &limited, 0, 65536);
	push(&s, &other, 1, 65536);
	for (; now < end; now += 100000) { /* 10,000 requests a second are served */
		struct job *j = pop(&s, now);

		assert_non_null(j);
		if (j->flow == 0)
			bytes += 65536;
		else
			others++;
		push(&s, j->flow ? &other : &limited, j->flow, 65536);
	}
	/* Ten seconds' worth, and the burst of a tenth. */
	assert_in_range(bytes, 100 << 20, (101 << 20) + 65536);
	assert_int_equal(others + bytes / 65536, 100000);
	/* Alone, and held: it says when. */
	while (pop(&s, now))
		;
	bucket_set(&limited.bucket, 0, 10);
	push(&s, &limited, 0, 1);
	push(&s, &limited, 0, 1);
	push(&s, &limited, 0, 1);
	assert_non_null(pop(&s, now));
	assert_non_null(pop(&s, now));
	assert_null(sched_pop(&s, now, &when));
	assert_int_equal(when, now + NSEC_PER_SEC / 10);
	assert_null(sched_pop(&s, when - 1, &when));
	assert_non_null(pop(&s, when));
	sched_flow_done(&s, &limited);
	sched_flow_done(&s, &other);
	sched_done(&s);
}

/* Random flows, items taken back, rates: everything comes out once, and the heaps stay sound. */
static void test_random(void **state)
{
	struct sched s;
	struct sched_flow tenant[3], leaf[12];
	struct rng rng;
	uint64_t now = 0, in = 0, out = 0;

	rng_seed(&rng, 4711);
	sched_init(&s);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(sched_flow_init(&tenant[i], &s.root, i + 1), 0);
		if (i)
			bucket_set(&tenant[i].bucket, i << 20, 500);
	}
	for (unsigned i = 0; i < 12; i++)
		assert_int_equal(sched_flow_init(&leaf[i], &tenant[i % 3], 1 + i % 4), 0);
	for (unsigned n = 0; n < 300000; n++) {
		unsigned i = (unsigned)rng_below(&rng, 12);

		now += rng_below(&rng, 200000);
		switch (rng_below(&rng, 5)) {
		case 0:
		case 1:
			if (s.queued < ITEMS / 2) {
				push(&s, &leaf[i], i, 1 + rng_below(&rng, 100000));
				in++;
			}
			break;
		case 2:
			if (!list_empty(&leaf[i].queue)) {
				struct job *j = list_first(&leaf[i].queue, struct job, item.link);

				sched_remove(&s, &leaf[i], &j->item);
				j->queued = false;
				out++;
			}
			break;
		default:
			out += pop(&s, now) != NULL;
		}
		assert_int_equal(s.queued, in - out);
	}
	while (s.queued) {
		now += NSEC_PER_SEC;
		out += pop(&s, now) != NULL;
	}
	assert_int_equal(in, out);
	for (unsigned i = 0; i < 12; i++)
		sched_flow_done(&s, &leaf[i]);
	for (unsigned i = 0; i < 3; i++)
		sched_flow_done(&s, &tenant[i]);
	sched_done(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_shares),     cmocka_unit_test(test_tenants),
	        cmocka_unit_test(test_light_flow), cmocka_unit_test(test_rates),
	        cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
