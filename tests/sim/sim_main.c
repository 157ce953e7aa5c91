/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sim - the command: runs seeds, or looks for a planted bug with them.
 *
 * Exit status: 0 all seeds passed (with --plant: the bug was caught; with --twice: and both runs of
 * each were the same), 1 not, 2 usage.
 */
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sim_int.h"

static const struct subject *const subjects[] = {&subject_model, &subject_local};

static struct settings {
	uint64_t seeds, seed;
	unsigned ops, cuts, reactors;
	const char *plant, *without;
	const struct subject *subject;
	bool verbose, twice, quiet, paranoid;
} set = {.seeds = 100, .seed = 1, .ops = 240, .cuts = 3, .reactors = 1};

static uint64_t current_seed;

static void replay_command(char *buf, size_t len, uint64_t seed)
{
	snprintf(buf, len,
	         "replay: sim --subject %s --seeds 1 --seed %llu --ops %u --cuts %u --reactors %u"
	         "%s%s%s%s",
	         set.subject->name, (unsigned long long)seed, set.ops, set.cuts, set.reactors,
	         set.plant ? " --run-planted " : "", set.plant ? set.plant : "",
	         set.without ? " --without " : "", set.without ? set.without : "");
}

void sim_print_replay(const struct sim *sim)
{
	char line[300];

	replay_command(line, sizeof(line), sim->seed);
	fprintf(stderr, "%s -v\n", line);
}

/* An assertion or a crash names its seed as well. */
static void on_signal(int sig)
{
	char line[300];

	replay_command(line, sizeof(line), current_seed);
	dprintf(2, "seed %llu ended by signal %d\n%s\n", (unsigned long long)current_seed, sig,
	        line);
	signal(sig, SIG_DFL);
	raise(sig);
}

static void on_log(void *arg, enum pst_log_level level, const char *line)
{
	printf("    log: %s\n", line);
}

static uint64_t run_seed(uint64_t seed)
{
	struct sim *sim = calloc(1, sizeof(*sim));
	uint64_t trace;

	pst_assert(sim);
	current_seed = seed;
	sim->seed = seed;
	sim->ops_target = set.ops;
	sim->cuts = set.cuts;
	sim->reactors = set.reactors;
	sim->plant = set.plant;
	sim->without = set.without;
	sim->verbose = set.verbose;
	sim->paranoid = set.paranoid;
	sim->subject = set.subject;
	trace = sim_run(sim);
	free(sim);
	return trace;
}

static int run_seeds(void)
{
	uint64_t all = 0;

	for (uint64_t i = 0; i < set.seeds; i++) {
		uint64_t trace = run_seed(set.seed + i);

		if (set.twice && run_seed(set.seed + i) != trace) {
			fprintf(stderr, "seed %llu: two runs differ\n",
			        (unsigned long long)(set.seed + i));
			return 1;
		}
		all = hash_u64(all ^ trace);
	}
	if (!set.quiet)
		printf("%llu seeds passed, trace %016llx\n", (unsigned long long)set.seeds,
		       (unsigned long long)all);
	return 0;
}

/* In a child: a planted bug may well end in an assertion of the engine. */
static int hunt(void)
{
	char text[600] = "";
	int fds[2], status;
	ssize_t n;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		return 1;
	pid = fork();
	if (pid < 0)
		return 1;
	if (!pid) {
		dup2(fds[1], 2);
		set.quiet = true;
		_exit(run_seeds());
	}
	close(fds[1]);
	for (size_t at = 0; (n = read(fds[0], text + at, sizeof(text) - 1 - at)) > 0;) {
		at += (size_t)n;
		if (at == sizeof(text) - 1)
			at = sizeof(text) / 2; /* the beginning is what matters */
	}
	close(fds[0]);
	if (waitpid(pid, &status, 0) != pid)
		return 1;
	if (WIFEXITED(status) && !WEXITSTATUS(status)) {
		printf("%s: not caught by %llu seeds\n", set.plant, (unsigned long long)set.seeds);
		return 1;
	}
	text[strcspn(text, "\n")] = 0;
	printf("%s: caught: %s\n", set.plant, text);
	return 0;
}

static int usage(FILE *to)
{
	fprintf(to,
	        "usage: sim [--subject model|local] [--seeds N] [--seed S] [--ops N] [--cuts N]\n"
	        "           [--reactors N]\n"
	        "           [--plant BUG | --run-planted BUG] [--twice] [--paranoid] [-v]\n"
	        "           [--without "
	        "names,full,quota,faults,damage,delays,torn,devices,snapshots,\n"
	        "            midst,volatile]\n"
	        "Runs N seeds from S. --reactors: the engine is parted among as many (or as there\n"
	        "are shards), which take turns. --plant: wants the bug to be caught by one of "
	        "them.\n"
	        "--run-planted: runs with the bug, as if it were none. --twice: runs each seed\n"
	        "twice and compares. --paranoid: looks at each object right after it was changed\n"
	        "(another run: the timing differs).\n");
	return 2;
}

static int parse(int argc, char **argv, bool *ret_hunt)
{
	static const struct option opts[] = {
	        {"subject", 1, 0, 's'},     {"seeds", 1, 0, 'n'},    {"seed", 1, 0, 'S'},
	        {"ops", 1, 0, 'o'},         {"cuts", 1, 0, 'c'},     {"reactors", 1, 0, 'r'},
	        {"plant", 1, 0, 'p'},       {"without", 1, 0, 'w'},  {"twice", 0, 0, 't'},
	        {"run-planted", 1, 0, 'P'}, {"paranoid", 0, 0, 'x'}, {0}};
	const char *name = subjects[ARRAY_LEN(subjects) - 1]->name;
	int c;

	while ((c = getopt_long(argc, argv, "v", opts, NULL)) != -1) {
		switch (c) {
		case 's':
			name = optarg;
			break;
		case 'n':
			set.seeds = strtoull(optarg, NULL, 0);
			break;
		case 'S':
			set.seed = strtoull(optarg, NULL, 0);
			break;
		case 'o':
			set.ops = (unsigned)strtoul(optarg, NULL, 0);
			break;
		case 'c':
			set.cuts = (unsigned)strtoul(optarg, NULL, 0);
			break;
		case 'r':
			set.reactors = (unsigned)strtoul(optarg, NULL, 0);
			if (!set.reactors || set.reactors > SIM_REACTORS_MAX)
				return usage(stderr);
			break;
		case 'p':
			*ret_hunt = true; /* fall through */
		case 'P':
			set.plant = optarg;
			break;
		case 'w':
			set.without = optarg;
			break;
		case 't':
			set.twice = true;
			break;
		case 'x':
			set.paranoid = true;
			break;
		case 'v':
			set.verbose = true;
			break;
		default:
			return usage(stderr);
		}
	}
	for (unsigned i = 0; i < ARRAY_LEN(subjects); i++) {
		if (!strcmp(subjects[i]->name, name))
			set.subject = subjects[i];
	}
	if (!set.subject || optind != argc)
		return usage(stderr);
	if (set.plant && !set.subject->plant(set.plant)) {
		fprintf(stderr, "sim: subject %s has no bug named %s to plant\n", name, set.plant);
		return 2;
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const int signals[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGALRM};
	bool hunting = false;
	int r = parse(argc, argv, &hunting);

	if (r)
		return r;
	for (unsigned i = 0; i < ARRAY_LEN(signals); i++)
		signal(signals[i], on_signal);
	ops_turns_max = 1000000;
	if (set.verbose)
		pst_log_set(on_log, NULL, PST_LOG_DEBUG);
	return hunting ? hunt() : run_seeds();
}
