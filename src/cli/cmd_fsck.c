/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsck - check, and repair, a store that nobody has open.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>

#include "base/base.h"
#include "cli/check_names.h"
#include "cli/attr.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/progress.h"
#include "client/stack.h"
#include "store/local/local.h"

enum { OPT_REPAIR, OPT_METADATA };

static const struct cli_opt opts[] = {
        [OPT_REPAIR] = {0, "repair", NULL, "repair what can be"},
        [OPT_METADATA] = {0, "metadata-only", NULL, "don't read the data blocks"},
        {0, NULL, NULL, NULL},
};

struct fsck {
	struct cli *cli;
	struct local_fsck_opts opts;
	struct progress progress;
	json_t *findings;
	struct local_fsck_report report;
	struct check_names names;
};

static void finding(void *arg, const char *text, bool repaired)
{
	struct fsck *f = arg;

	progress_clear(&f->progress);
	if (f->findings)
		json_array_append_new(f->findings,
		                      json_pack("{s:s, s:b}", "text", text, "repaired", repaired));
	else
		printf("%s%s\n", text,
		       repaired         ? " (repaired)"
		       : f->opts.repair ? " (not repaired)"
		                        : "");
}

static void progress(void *arg, uint64_t done, uint64_t total)
{
	struct fsck *f = arg;

	f->progress.done_bytes = done;
	f->progress.total_bytes = total;
	progress_tick(&f->progress);
}

static int show(struct fsck *f)
{
	const struct local_fsck_report *r = &f->report;
	const struct check_names *n = &f->names;
	uint64_t findings = r->findings + n->findings, repaired = r->repaired + n->repaired;

	if (f->findings) {
		json_t *o = json_pack(
		        "{s:b, s:O, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
		        "s:I, s:I}",
		        "clean", findings == 0, "findings", f->findings, "found",
		        (json_int_t)findings, "repaired", (json_int_t)repaired, "containers",
		        (json_int_t)r->containers, "snapshots", (json_int_t)r->snapshots, "objects",
		        (json_int_t)r->objects, "keys", (json_int_t)r->keys, "extents",
		        (json_int_t)r->extents, "blocks", (json_int_t)r->blocks, "checksum_errors",
		        (json_int_t)r->csum_errors, "log_frames", (json_int_t)r->frames,
		        "log_records", (json_int_t)r->records, "inodes", (json_int_t)n->inodes,
		        "names", (json_int_t)n->names, "orphans", (json_int_t)n->orphans);

		if (cli_print_json(f->cli, o) != CLI_OK)
			return CLI_FAILED;
	} else {
		printf("%s: %" PRIu64 " finding%s, %" PRIu64 " repaired; %" PRIu64
		       " container%s, %" PRIu64 " snapshot%s, %" PRIu64 " object%s, %" PRIu64
		       " key%s, %" PRIu64 " extent%s, %" PRIu64 " name%s of %" PRIu64
		       " inode%s, %" PRIu64 " data block%s verified\n",
		       findings == 0          ? "clean"
		       : findings == repaired ? "repaired"
		                              : "DAMAGED",
		       findings, PLURAL(findings), repaired, r->containers, PLURAL(r->containers),
		       r->snapshots, PLURAL(r->snapshots), r->objects, PLURAL(r->objects), r->keys,
		       PLURAL(r->keys), r->extents, PLURAL(r->extents), n->names, PLURAL(n->names),
		       n->inodes, PLURAL(n->inodes), r->blocks, PLURAL(r->blocks));
	}
	return findings > repaired ? CLI_FAILED : CLI_OK;
}

/* The engine's part: below the store. */
static int check_devices(struct fsck *f, struct loop *loop)
{
	struct bdev_open_opts dev_opts = {.read_only = !f->opts.repair};
	struct pst_err err = {.text = ""};
	struct cli *cli = f->cli;
	struct stack_devs devs;
	int rc = stack_devs_open(&devs, (const char *const *)cli->args, (unsigned)cli->arg_count,
	                         loop, &dev_opts, &err);

	if (rc < 0)
		return cli_fail(cli, err.text[0] ? 0 : rc, "%s", err.text);
	rc = local_fsck(loop, devs.dev, devs.count, &f->opts, &f->report, &err);
	stack_devs_close(&devs);
	return rc < 0 ? cli_fail(cli, err.text[0] ? 0 : rc, "%s", err.text) : CLI_OK;
}

/* The namespace's part: above it, so only where the store can be opened and its objects trusted. */
static int check_tree(struct fsck *f)
{
	struct cli *cli = f->cli;
	char *uri = cli_join("local:", "");
	const char *where;
	int status, rc;

	for (int i = 0; uri && i < cli->arg_count; i++) {
		char *longer = mem_realloc(uri, strlen(uri) + strlen(cli->args[i]) + 2);

		if (!longer) {
			mem_free(uri);
			uri = NULL;
			break;
		}
		uri = longer;
		strcat(strcat(uri, i ? "," : ""), cli->args[i]);
	}
	if (!uri)
		return cli_fail(cli, -ENOMEM, "memory");
	cli->store = uri;
	status = cli_open(cli, !f->opts.repair);
	mem_free(uri);
	cli->store = NULL;
	if (status != CLI_OK)
		return status;
	rc = check_names(cli->client, &f->names, &where);
	if (rc < 0)
		status = cli_fail(cli, rc, "checking the names of %s", where);
	return cli_close(cli, status);
}

static int check(struct fsck *f, struct loop *loop)
{
	int status;

	f->findings = f->cli->json ? json_array() : NULL;
	progress_start(&f->progress, f->cli, "checking");
	status = check_devices(f, loop);
	if (status == CLI_OK && f->report.findings - f->report.repaired == f->report.csum_errors)
		status = check_tree(f);
	else if (status == CLI_OK)
		cli_note(f->cli, "note: names are not checked before that is repaired");
	progress_end(&f->progress);
	if (status == CLI_OK)
		status = show(f);
	json_decref(f->findings);
	return status;
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct fsck f = {.cli = cli, .opts = {.data = true}};
	struct loop_opts loop_opts;
	struct pst_err err;
	struct loop *loop;
	const char *value;
	int opt, status;

	while ((opt = cli_option(cli, argc, argv, &value)) >= 0) {
		f.opts.repair |= opt == OPT_REPAIR;
		f.opts.data &= opt != OPT_METADATA;
	}
	if (opt == -2)
		return cli_end_status(cli);
	status = cli_operand_count(cli, 1, PST_DEVICES_MAX);
	if (status != CLI_OK)
		return status;
	f.names = (struct check_names){.repair = f.opts.repair, .finding = finding, .arg = &f};
	f.opts.finding = finding;
	f.opts.progress = progress;
	f.opts.arg = &f;
	loop_opts_default(&loop_opts);
	if (loop_new(&loop, &loop_opts, &err) < 0)
		return cli_fail(cli, 0, "%s", err.text);
	status = check(&f, loop);
	loop_free(loop);
	return status;
}

const struct cli_command cmd_fsck = {
        .name = "fsck",
        .args = "DEV... [--repair] [--metadata-only]",
        .summary = "Check a store that is not open, and repair it",
        .help = "Checks superblocks, the log, every index page, allocation against references\n"
                "in both directions, counters, every data block against its checksum, and every\n"
                "name. Each finding is a line; nothing is written without --repair. Inodes that\n"
                "lost their names come into /lost+found. All devices of the store must be\n"
                "given. Exit status 0: clean, or all repaired; 1: not.\n"
                "\n"
                "Examples:\n"
                "  penstock fsck data.pst\n"
                "  penstock fsck /dev/nvme0n1 /dev/nvme1n1 --repair\n",
        .opts = opts,
        .flags = CLI_JSON | CLI_PROGRESS | CLI_NO_STORE,
        .run = run,
};
