/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kill_test - a writer under mixed load, killed with SIGKILL at random moments: nothing that it
 * acknowledged is lost, nothing half done is seen, fsck finds nothing. Then the next writer goes on
 * from there, sending again what nobody heard of.
 *
 * usage: kill_test FILE [ROUNDS [SEED [REACTORS]]]: SEED 0: any; the writer has as many reactors, who
 * looks at what it left as many or one
 *
 * The writer is a child that says on a pipe which op has ended. Each round: fork, wait for a random
 * time after the first word, kill, read the pipe to its end, open, compare, close (or, in some
 * rounds, kill the one that closes), fsck.
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "load.h"
#include "stack.h"

#define IO_MAX     150000u
#define STORE_SIZE (192 * MIB)

struct word {
	uint32_t lane, durable;
	uint64_t n;
};

static char *spec;
static uint64_t round_no, seed;
static unsigned reactors = 1;

static _Noreturn void give_up(const char *what, const char *text)
{
	fprintf(stderr, "round %llu, seed %llu: %s: %s\nthe store is left in %s\n",
	        (unsigned long long)round_no, (unsigned long long)seed, what, text, spec);
	exit(1);
}

/* --- the writer --- */

static void say(void *arg, unsigned lane, uint64_t n, bool durable)
{
	struct word w = {.lane = lane, .durable = durable, .n = n};

	if (write(*(int *)arg, &w, sizeof(w)) != (ssize_t)sizeof(w))
		_exit(3);
}

static bool never(void *arg)
{
	return false;
}

static _Noreturn void writer(int out, const uint64_t next[LOAD_LANES])
{
	struct load_opts opts = {.acked = say, .stop = never, .arg = &out, .io_max_bytes = IO_MAX};
	struct pst_err err = {0};
	struct stack s;

	memcpy(opts.next, next, sizeof(opts.next));
	if (stack_devs(&s, &spec, 1, false, 0, NULL, &err) ||
	    (s.reactors = reactors, stack_mount(&s, &err))) {
		fprintf(stderr, "writer: %s\n", err.text);
		_exit(3);
	}
	load_run(s.store, &opts);
	_exit(0);
}

/* --- the one who kills --- */

static void hear(struct load_known known[LOAD_LANES], const struct word *w)
{
	struct load_known *k = &known[w->lane];

	if (w->lane >= LOAD_LANES || w->n < k->floor)
		give_up("the pipe", "says nonsense");
	if (w->durable)
		k->floor = w->n;
	k->top = w->n + 1;
}

/* Listens for @ms, or, if @ms is negative, to the end. Returns how many words there were. */
static uint64_t listen_for(int in, struct load_known known[LOAD_LANES], int ms)
{
	uint64_t end = clock_mono_ns() + (uint64_t)MAX(ms, 0) * NSEC_PER_MSEC, words = 0;
	static struct word w[256];
	static size_t have; /* bytes of w: a word may come in two parts */

	for (;;) {
		struct pollfd p = {.fd = in, .events = POLLIN};
		uint64_t now = clock_mono_ns();
		ssize_t got;

		if (ms >= 0 && now >= end)
			return words;
		if (!poll(&p, 1, ms < 0 ? -1 : (int)((end - now) / NSEC_PER_MSEC) + 1))
			continue;
		got = read(in, (char *)w + have, sizeof(w) - have);
		if (got <= 0)
			break;
		have += (size_t)got;
		for (size_t i = 0; i < have / sizeof(w[0]); i++, words++)
			hear(known, &w[i]);
		memmove(w, w + have / sizeof(w[0]), have % sizeof(w[0]));
		have %= sizeof(w[0]);
	}
	have = 0;
	return words;
}

/* Runs a writer and kills it. Returns how many ops it finished. */
static uint64_t write_and_kill(struct rng *rng, struct load_known known[LOAD_LANES],
                               const uint64_t next[LOAD_LANES])
{
	uint64_t words = 0;
	int fds[2], status;
	pid_t pid;

	if (pipe(fds))
		give_up("pipe", "failed");
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		give_up("fork", "failed");
	if (!pid) {
		close(fds[0]);
		writer(fds[1], next);
	}
	close(fds[1]);
	for (int tries = 0; !words && tries < 30000; tries++)
		words = listen_for(fds[0], known, 1);
	words += listen_for(fds[0], known, (int)rng_below(rng, 80));
	kill(pid, SIGKILL);
	words += listen_for(fds[0], known, -1);
	close(fds[0]);
	if (waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status))
		give_up("the writer", "ended by itself");
	return words;
}

static void check(struct load_oracle *oracle, struct load_known known[LOAD_LANES],
                  uint64_t next[LOAD_LANES], bool fsck_first, unsigned looks)
{
	struct pst_err err = {0};
	uint64_t at[LOAD_LANES];
	struct stack s;

	if (stack_devs(&s, &spec, 1, false, 0, NULL, &err))
		give_up("open of the device", err.text);
	if (fsck_first && stack_fsck(&s, &err))
		give_up("before recovery", err.text);
	s.reactors = looks;
	if (stack_mount(&s, &err))
		give_up("open", err.text);
	if (load_verify(s.store, oracle, known, at, &err))
		give_up("the store", err.text);
	if (stack_close(&s))
		give_up("close", "failed");
	if (stack_devs(&s, &spec, 1, false, 0, NULL, &err) || stack_fsck(&s, &err))
		give_up("after recovery and close", err.text);
	stack_close(&s);
	for (unsigned i = 0; i < LOAD_LANES; i++) {
		known[i] = (struct load_known){.floor = at[i], .top = at[i] + 1};
		next[i] = at[i] + 1;
	}
}

static void make_store(void)
{
	struct pst_err err = {0};
	struct stack s;

	if (stack_devs(&s, &spec, 1, false, STORE_SIZE, NULL, &err) || stack_format(&s, &err) ||
	    stack_mount(&s, &err))
		give_up("format", err.text);
	load_setup(s.store);
	if (stack_close(&s))
		give_up("close", "failed");
}

int main(int argc, char **argv)
{
	uint64_t rounds = argc > 2 ? strtoull(argv[2], NULL, 0) : 30, ops = 0;
	struct load_known known[LOAD_LANES];
	uint64_t next[LOAD_LANES];
	struct load_oracle oracle;
	struct rng rng;

	if (argc < 2) {
		fprintf(stderr, "usage: kill_test FILE [ROUNDS [SEED [REACTORS]]]\n");
		return 2;
	}
	spec = argv[1];
	seed = argc > 3 ? strtoull(argv[3], NULL, 0) : 0;
	seed = seed ? seed : clock_real_ns();
	reactors = argc > 4 ? (unsigned)strtoul(argv[4], NULL, 0) : 1;
	if (!reactors || reactors > STACK_REACTORS_MAX) {
		fprintf(stderr, "kill_test: 1 to %d reactors\n", STACK_REACTORS_MAX);
		return 2;
	}
	rng_seed(&rng, seed);
	load_oracle_init(&oracle, IO_MAX, false);
	make_store();
	for (unsigned i = 0; i < LOAD_LANES; i++) {
		known[i] = (struct load_known){.floor = 0, .top = 1};
		next[i] = 1;
	}
	for (round_no = 1; round_no <= rounds; round_no++) {
		ops += write_and_kill(&rng, known, next);
		check(&oracle, known, next, rng_below(&rng, 2),
		      reactors > 1 && rng_below(&rng, 2) ? reactors : 1);
	}
	printf("%llu rounds, %llu ops acknowledged, seed %llu: nothing lost\n",
	       (unsigned long long)rounds, (unsigned long long)ops, (unsigned long long)seed);
	load_oracle_done(&oracle);
	unlink(spec);
	return 0;
}
