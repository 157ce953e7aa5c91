/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crowd_bench - many clients of a served store in one thread, each with a session and a channel of its
 * own and so many 4 KiB reads under way: who gets how much. Every block that comes is checked.
 *
 *   crowd_bench lay STORE CONTAINER              makes the object that is read, 128 MiB
 *   crowd_bench read STORE CONTAINER CLIENTS DEPTH SECONDS
 *
 * "reading" on stderr when all have begun; SIGTERM ends the window early. JSON on stdout.
 */
#include <err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/stack.h"
#include "fabric/fabric.h"

#define OBJECT_BYTES (128 * MIB)
#define BLOCK        4096u
#define CLIENTS_MAX  256u
#define DEPTH_MAX    1024u

static const struct pst_oid oid = {.hi = 1, .lo = 1};
static volatile sig_atomic_t told;

struct slot {
	struct pst_op op;
	struct iovec iov;
	struct client *client;
	uint64_t begun_ns;
};

struct client {
	struct store *store;
	struct slot *slot;
	uint64_t ops, wait_ns;
};

static struct {
	struct loop *loop;
	struct client client[CLIENTS_MAX];
	struct mem_region *mem;
	uint32_t cont;
	unsigned clients, depth, inflight;
	struct rng rng;
	bool ending, counting;
} b;

static void on_term(int sig)
{
	told = 1;
}

static unsigned number(const char *text, unsigned max)
{
	char *end;
	unsigned long v = strtoul(text, &end, 10);

	if (*end || !v || v > max)
		errx(2, "%s: not a number from 1 to %u", text, max);
	return (unsigned)v;
}

/* --- one op at a time --- */

static void ended(struct pst_op *op)
{
	*(bool *)op->user = true;
}

static void run_op(struct store *s, struct pst_op *op, const char *what)
{
	enum pst_outcome out;
	bool done = false;

	op->done = ended;
	op->user = &done;
	while ((out = store_submit(s, op)) == PST_BUSY)
		loop_turn(b.loop, NSEC_PER_SEC);
	while (out == PST_QUEUED && !done)
		loop_turn(b.loop, NSEC_PER_SEC);
	if (op->status)
		errx(1, "%s: %s", what, strerror(-op->status));
}

static struct store *connect_to(const char *uri, const char *container)
{
	struct pst_cont_info info = {0};
	struct pst_op op = {.opcode = PST_OP_CONT_OPEN, .name = container, .cont_info = &info};
	struct pst_err err = {0};
	struct store *s;

	if (stack_open(&s, uri, b.loop, NULL, &err))
		errx(1, "%s", err.text);
	op.name_len = (uint32_t)strlen(container);
	run_op(s, &op, container);
	b.cont = info.id;
	return s;
}

static void lay(struct store *s)
{
	for (uint64_t off = 0; off < OBJECT_BYTES; off += MIB) {
		struct iovec iov = {b.mem->addr, MIB};
		struct pst_op op = {.opcode = PST_OP_WRITE,
		                    .cont = b.cont,
		                    .oid = oid,
		                    .off = off,
		                    .len = MIB,
		                    .iov = &iov,
		                    .iov_count = 1};

		for (uint64_t at = 0; at < MIB; at += BLOCK)
			*(uint64_t *)(void *)((char *)b.mem->addr + at) = off + at;
		run_op(s, &op, "write");
	}
}

/* --- many --- */

static void submit(struct slot *sl);

static void read_done(struct pst_op *op)
{
	struct slot *sl = container_of(op, struct slot, op);
	struct client *c = sl->client;

	if (op->status || op->ret_len != BLOCK || *(uint64_t *)sl->iov.iov_base != op->off)
		errx(1, "a read at %llu: status %d, %llu bytes, or not what was written",
		     (unsigned long long)op->off, op->status, (unsigned long long)op->ret_len);
	b.inflight--;
	if (b.counting) {
		c->ops++;
		c->wait_ns += loop_now(b.loop) - sl->begun_ns;
	}
	if (!b.ending)
		submit(sl);
}

static void submit(struct slot *sl)
{
	enum pst_outcome out;

	sl->op = (struct pst_op){.opcode = PST_OP_READ,
	                         .cont = b.cont,
	                         .oid = oid,
	                         .off = rng_below(&b.rng, OBJECT_BYTES / BLOCK) * BLOCK,
	                         .len = BLOCK,
	                         .iov = &sl->iov,
	                         .iov_count = 1,
	                         .region = b.mem,
	                         .done = read_done};
	sl->begun_ns = loop_now(b.loop);
	b.inflight++;
	out = store_submit(sl->client->store, &sl->op);
	if (out != PST_QUEUED)
		errx(1, "a read did not go its way: outcome %d, status %d", out, sl->op.status);
}

static void turn_for(double seconds)
{
	uint64_t end_ns = clock_mono_ns() + (uint64_t)(seconds * (double)NSEC_PER_SEC);

	while (!told && clock_mono_ns() < end_ns)
		loop_turn(b.loop, NSEC_PER_MSEC);
}

static void report(double wall_s)
{
	uint64_t sum = 0, least = UINT64_MAX, most = 0, wait_ns = 0;

	for (unsigned i = 0; i < b.clients; i++) {
		const struct client *c = &b.client[i];

		sum += c->ops;
		wait_ns += c->wait_ns;
		least = MIN(least, c->ops);
		most = MAX(most, c->ops);
	}
	printf("{\"clients\": %u, \"depth\": %u, \"ops\": %llu, \"iops\": %.0f, \"least\": %.4f, "
	       "\"most\": %.4f, \"latency_us\": %.1f}\n",
	       b.clients, b.depth, (unsigned long long)sum, (double)sum / wall_s,
	       sum ? (double)least * b.clients / (double)sum : 0,
	       sum ? (double)most * b.clients / (double)sum : 0,
	       sum ? (double)wait_ns / (double)sum / 1e3 : 0);
}

static void crowd(double seconds)
{
	uint64_t begun_ns;

	for (unsigned i = 0; i < b.clients; i++)
		for (unsigned k = 0; k < b.depth; k++)
			submit(&b.client[i].slot[k]);
	turn_for(0.5);
	(void)fprintf(stderr, "reading\n");
	b.counting = true;
	begun_ns = clock_mono_ns();
	turn_for(seconds);
	b.counting = false;
	report((double)(clock_mono_ns() - begun_ns) / (double)NSEC_PER_SEC);
	b.ending = true;
	while (b.inflight)
		loop_turn(b.loop, NSEC_PER_SEC);
}

static void crowd_open(const char *uri, const char *container)
{
	if (mem_region_new(&b.mem, MEM_SHARED, (size_t)b.clients * b.depth * BLOCK))
		errx(1, "no memory");
	for (unsigned i = 0; i < b.clients; i++) {
		struct client *c = &b.client[i];

		c->store = connect_to(uri, container);
		c->slot = mem_calloc(b.depth, sizeof(*c->slot));
		if (!c->slot)
			errx(1, "no memory");
		for (unsigned k = 0; k < b.depth; k++) {
			char *at = (char *)b.mem->addr + ((size_t)i * b.depth + k) * BLOCK;

			c->slot[k] = (struct slot){.client = c, .iov = {at, BLOCK}};
		}
	}
}

int main(int argc, char **argv)
{
	bool laying = argc == 4 && strcmp(argv[1], "lay") == 0;
	struct loop_opts lo;

	if (!laying && (argc != 7 || strcmp(argv[1], "read") != 0))
		errx(2, "usage: crowd_bench lay STORE CONTAINER, or read STORE CONTAINER CLIENTS "
		        "DEPTH "
		        "SECONDS");
	b.clients = laying ? 1 : number(argv[4], CLIENTS_MAX);
	b.depth = laying ? MIB / BLOCK : number(argv[5], DEPTH_MAX);
	(void)signal(SIGTERM, on_term);
	rng_seed(&b.rng, 1);
	loop_opts_default(&lo);
	if (loop_new(&b.loop, &lo, NULL))
		errx(1, "no loop");
	crowd_open(argv[2], argv[3]);
	if (laying)
		lay(b.client[0].store);
	else
		crowd(number(argv[6], 3600));
	for (unsigned i = 0; i < b.clients; i++) {
		free(b.client[i].slot);
		if (store_close(b.client[i].store))
			errx(1, "a store does not close well");
	}
	mem_region_free(b.mem);
	fabric_finish(b.loop);
	loop_free(b.loop);
	return 0;
}
