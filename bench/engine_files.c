/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * engine_files - files by the million, a crash, and what recovery costs. A child process makes the
 * files (a directory for each thousand, one block of content each, durable in groups), closes and
 * reopens the store so that all of them are in a checkpoint, makes args.crash_files more that only
 * the log has, and is killed. The parent then opens what is left.
 */
#include <err.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine_bench.h"
#include "fs/fs.h"

#define FILES_PER_DIR 1000u

struct maker {
	struct eb_slot slot;
	char name[64];
};

static struct {
	struct store *fs;
	uint64_t next, end;
	unsigned inflight;
	uint32_t cont;
} make;

static void posix_container(void)
{
	struct pst_cont_info info = {.layout = PST_LAYOUT_POSIX};
	struct pst_op op = {
	        .opcode = PST_OP_CONT_CREATE, .name = "files", .name_len = 5, .cont_info = &info};
	int r = store_run(make.fs, &op);

	if (r == -EEXIST) {
		op.opcode = PST_OP_CONT_OPEN;
		r = store_run(make.fs, &op);
	}
	if (r)
		errx(1, "container: %s", strerror(-r));
	make.cont = info.id;
}

static void make_dir(uint64_t number)
{
	char name[32];
	struct pst_op op = {.opcode = PST_OP_MKDIR,
	                    .cont = make.cont,
	                    .flags = PST_F_VOLATILE,
	                    .name = name,
	                    .attr = {.mode = S_IFDIR | 0755},
	                    .attr_mask = PST_ATTR_MODE};
	int r;

	op.name_len =
	        (uint32_t)snprintf(name, sizeof(name), "/d%06llu", (unsigned long long)number);
	r = store_run(make.fs, &op);
	if (r && r != -EEXIST)
		errx(1, "%s: %s", name, strerror(-r));
}

static void file_done(struct pst_op *op);

static void file_next(struct maker *m)
{
	uint64_t n = make.next++;
	struct pst_op *op = &m->slot.op;
	enum pst_outcome out;

	*op = (struct pst_op){.opcode = PST_OP_CREATE,
	                      .cont = make.cont,
	                      .flags = PST_F_VOLATILE,
	                      .name = m->name,
	                      .attr = {.mode = S_IFREG | 0644},
	                      .attr_mask = PST_ATTR_MODE,
	                      .iov = &m->slot.iov,
	                      .iov_count = 1,
	                      .len = m->slot.iov.iov_len,
	                      .done = file_done};
	op->name_len =
	        (uint32_t)snprintf(m->name, sizeof(m->name), "/d%06llu/sample-%09llu.bin",
	                           (unsigned long long)(n / FILES_PER_DIR), (unsigned long long)n);
	make.inflight++;
	for (;;) {
		out = store_submit(make.fs, op);
		if (out == PST_QUEUED)
			return;
		if (out == PST_DONE)
			break;
		(void)loop_turn(m->slot.eb->loop, NSEC_PER_MSEC);
	}
	/* Ended at once: what follows comes from the caller, or this would recurse. */
	make.inflight--;
	if (op->status)
		errx(1, "%s: %s", m->name, strerror(-op->status));
	op->done = NULL;
}

static void file_done(struct pst_op *op)
{
	if (op->status)
		errx(1, "%.*s: %s", (int)op->name_len, op->name, strerror(-op->status));
	make.inflight--;
	op->done = NULL; /* free: the feeder takes it */
}

static void make_files(struct eb *eb, uint64_t count)
{
	struct maker *m = calloc(64, sizeof(*m));
	uint64_t dir = make.next / FILES_PER_DIR;

	if (!m || mem_region_new(&eb->region, MEM_HOST, EB_BLOCK_BYTES))
		errx(1, "out of memory");
	make.end = make.next + count;
	while (make.next < make.end || make.inflight) {
		for (unsigned i = 0; i < 64 && make.next < make.end; i++) {
			if (make.next % FILES_PER_DIR == 0 || dir != make.next / FILES_PER_DIR) {
				dir = make.next / FILES_PER_DIR;
				make_dir(dir);
			}
			m[i].slot.eb = eb;
			m[i].slot.iov = (struct iovec){eb->region->addr, EB_BLOCK_BYTES};
			if (!m[i].slot.op.done)
				file_next(&m[i]);
		}
		(void)loop_turn(eb->loop, make.inflight ? NSEC_PER_MSEC : 0);
	}
	mem_region_free(eb->region);
	eb->region = NULL;
	free(m);
}

static void with_names(struct eb *eb)
{
	struct pst_err err = {0};

	eb_open(eb);
	if (fs_new(&make.fs, eb->store, NULL, &err))
		errx(1, "%s", err.text);
	posix_container();
}

static void flush(void)
{
	struct pst_op op = {.opcode = PST_OP_FLUSH};

	if (store_run(make.fs, &op))
		errx(1, "flush failed");
}

static void child(struct eb *eb)
{
	uint64_t start = clock_mono_ns();

	with_names(eb);
	make_files(eb, eb->args.files);
	eb->store = make.fs;
	(void)eb_close(eb);
	(void)printf("{\"stage\": \"files\", \"files\": %llu, \"seconds\": %.3f}\n",
	             (unsigned long long)eb->args.files, (double)(clock_mono_ns() - start) / 1e9);
	with_names(eb);
	make_files(eb, eb->args.crash_files);
	flush();
	(void)kill(getpid(), SIGKILL);
}

static long rss_kib(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[128];
	long v = 0;

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, "VmRSS:", 6))
			v = strtol(line + 6, NULL, 10);
	if (f)
		(void)fclose(f);
	return v;
}

void eb_recovery(struct eb *eb)
{
	struct pst_store_status st;
	struct pst_op op = {.opcode = PST_OP_STATUS, .status_out = &st};
	long rss = rss_kib();
	uint64_t start;
	double cpu, wall;
	pid_t pid;
	int status;

	(void)fflush(stdout);
	pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (!pid)
		child(eb);
	if (waitpid(pid, &status, 0) < 0 || !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		errx(1, "the writer did not live to be killed");
	eb->args.format_bytes = 0;
	cpu = eb_cpu_s();
	start = clock_mono_ns();
	with_names(eb);
	wall = (double)(clock_mono_ns() - start) / 1e9;
	cpu = eb_cpu_s() - cpu;
	if (store_run(make.fs, &op))
		errx(1, "no status");
	(void)printf(
	        "{\"stage\": \"recovery\", \"files\": %llu, \"in_log\": %llu, \"open_s\": %.3f, "
	        "\"cpu_s\": %.3f, \"recovery_s\": %.3f, \"records\": %llu, \"index_bytes\": %llu, "
	        "\"recovery_index_bytes\": %llu, \"rss_bytes\": %llu, \"journal_bytes\": %llu, "
	        "\"objects\": %llu}\n",
	        (unsigned long long)eb->args.files, (unsigned long long)eb->args.crash_files, wall,
	        cpu, (double)st.recovery_ns / 1e9, (unsigned long long)st.recovery_records,
	        (unsigned long long)st.index_bytes, (unsigned long long)st.recovery_index_bytes,
	        (unsigned long long)(rss_kib() - rss) * 1024, (unsigned long long)st.journal_bytes,
	        (unsigned long long)st.objects);
	eb->store = make.fs;
	(void)eb_close(eb);
}
