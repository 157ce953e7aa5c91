/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire_instr - reads or durable overwrites of 4 KiB in a served store, client and server on one loop, so
 * that callgrind can count what both spend on one: bench/wire-instr does, inside wi_window(). The store is
 * the engine on a device in memory, with the names layer and sessions on it, as `penstock serve` has it.
 *
 *   wire_instr CHANNEL OPS [DEPTH [randread|randwrite]]
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bdev/bdev.h"
#include "fs/fs.h"
#include "store/local/local.h"
#include "wire/wire.h"

#define OBJECT_BYTES (16 * MIB)
#define BLOCK        4096u
#define DEPTH_MAX    256

struct slot {
	struct pst_op op;
	struct iovec iov;
};

static struct {
	struct loop *loop;
	struct store *store;
	struct session_table *table;
	struct wire_listener *listener;
	struct store *client;
	struct mem_region *mem;
	struct slot slot[DEPTH_MAX];
	uint64_t off[4096]; /* drawn before the window: what is counted is not the dice */
	uint64_t left;
	unsigned inflight, cont;
} wi;

static void must(int rc, const char *what, const struct pst_err *err)
{
	if (rc < 0)
		errx(1, "%s: %s", what, err && err->text[0] ? err->text : strerror(-rc));
}

static void serve(const char *channel, const char *addr, const char **ret_addr)
{
	const struct fabric_opts fabric = {.provider = "tcp"}; /* ofi's */
	const struct wire_listener_opts lo = {.mem = MEM_SHARED};
	const struct session_opts so = {.open_access = true};
	struct local_format_opts fo = {0};
	struct pst_err err = {0};
	struct store *engine;
	struct bdev *dev;

	must(bdev_open(&dev, "mem:256m?name=wire_instr", wi.loop, NULL, &err), "device", &err);
	must(local_format(&dev, 1, &fo, &err), "format", &err);
	must(local_open(&engine, wi.loop, &dev, 1, NULL, &err), "engine", &err);
	must(fs_new(&wi.store, engine, NULL, &err), "names", &err);
	must(session_table_open(&wi.table, wi.store, &so, &err), "sessions", &err);
	must(wire_listener_new(&wi.listener, wi.table, &lo, &err), "listener", &err);
	must(wire_listener_add(wi.listener, channel, addr, &fabric, ret_addr, &err), addr, &err);
}

static void connect_to(const char *channel, const char *addr)
{
	struct remote_opts ro = {.fabric = {.provider = "tcp"}, .at_count = 1};
	struct pst_err err = {0};

	ro.at[0].provider = channel;
	ro.at[0].addr = addr;
	must(remote_open(&wi.client, wi.loop, &ro, &err), "client", &err);
	must(mem_region_new(&wi.mem, MEM_SHARED, MIB), "memory", NULL);
}

static void lay_out(void)
{
	struct pst_cont_info info = {.layout = PST_LAYOUT_OBJECT};
	struct pst_op op = {
	        .opcode = PST_OP_CONT_CREATE, .name = "bench", .name_len = 5, .cont_info = &info};
	struct iovec iov = {wi.mem->addr, MIB};

	must(store_run(wi.client, &op), "container", NULL);
	wi.cont = info.id;
	memset(wi.mem->addr, 0x5a, MIB);
	for (uint64_t off = 0; off < OBJECT_BYTES; off += MIB) {
		op = (struct pst_op){.opcode = PST_OP_WRITE,
		                     .cont = wi.cont,
		                     .oid = {.lo = 1},
		                     .off = off,
		                     .len = MIB,
		                     .iov = &iov,
		                     .iov_count = 1,
		                     .region = wi.mem};
		must(store_run(wi.client, &op), "write", NULL);
	}
}

static void next(struct slot *s)
{
	wi.left--;
	wi.inflight++;
	s->op.off = wi.off[wi.left % ARRAY_LEN(wi.off)];
	if (store_submit(wi.client, &s->op) != PST_QUEUED)
		errx(1, "an op was not taken");
}

static void done(struct pst_op *op)
{
	must(op->status, "op", NULL);
	if (op->opcode == PST_OP_READ && op->ret_len != BLOCK)
		errx(1, "a read of %llu bytes", (unsigned long long)op->ret_len);
	wi.inflight--;
	if (wi.left)
		next(container_of(op, struct slot, op));
	else if (!wi.inflight)
		loop_stop(wi.loop);
}

/* Its own function, and never inlined: callgrind collects from its entry to its exit. */
void wi_window(uint64_t ops, unsigned depth);
__attribute__((noinline)) void wi_window(uint64_t ops, unsigned depth)
{
	wi.left = ops;
	for (unsigned i = 0; i < depth && wi.left; i++)
		next(&wi.slot[i]);
	must(loop_run(wi.loop), "loop", NULL);
}

static void warm(uint64_t ops, unsigned depth)
{
	wi.left = ops;
	for (unsigned i = 0; i < depth && wi.left; i++)
		next(&wi.slot[i]);
	must(loop_run(wi.loop), "loop", NULL);
}

static void slots(unsigned depth, uint8_t opcode)
{
	struct rng rng;

	rng_seed(&rng, 1);
	for (unsigned i = 0; i < ARRAY_LEN(wi.off); i++)
		wi.off[i] = rng_below(&rng, OBJECT_BYTES / BLOCK) * BLOCK;
	for (unsigned i = 0; i < depth; i++) {
		struct slot *s = &wi.slot[i];

		s->iov = (struct iovec){(char *)wi.mem->addr + (size_t)i * BLOCK, BLOCK};
		s->op = (struct pst_op){.opcode = opcode,
		                        .cont = wi.cont,
		                        .oid = {.lo = 1},
		                        .len = BLOCK,
		                        .iov = &s->iov,
		                        .iov_count = 1,
		                        .region = wi.mem,
		                        .done = done};
	}
}

int main(int argc, char **argv)
{
	uint64_t ops = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
	unsigned depth = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 32;
	bool writes = argc > 4 && strcmp(argv[4], "randwrite") == 0;
	struct loop_opts lo;
	const char *addr;
	char text[64];

	if (argc < 3 || !ops || !depth || depth > DEPTH_MAX)
		errx(2, "usage: wire_instr CHANNEL OPS [DEPTH [randread|randwrite]]");
	loop_opts_default(&lo);
	lo.poll = true;
	must(loop_new(&wi.loop, &lo, NULL), "loop", NULL);
	(void)snprintf(text, sizeof(text), "unix-abstract:penstock-wire-instr-%d", (int)getpid());
	serve(argv[1], strcmp(argv[1], "pipe") ? "127.0.0.1:0" : text, &addr);
	connect_to(argv[1], addr);
	lay_out();
	slots(depth, writes ? PST_OP_WRITE : PST_OP_READ);
	warm(3000, depth);
	wi_window(ops, depth);
	printf("{\"ops\": %llu}\n", (unsigned long long)ops);
	must(store_close(wi.client), "closing", NULL);
	wire_listener_close(wi.listener, NSEC_PER_SEC);
	session_table_close(wi.table);
	must(store_close(wi.store), "closing", NULL);
	mem_region_free(wi.mem);
	fabric_finish(wi.loop);
	loop_free(wi.loop);
	return 0;
}
