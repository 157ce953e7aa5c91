/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsck - check, and repair, a store that nobody has open.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>

#include "base/base.h"
#include "cli/attr.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/progress.h"
#include "client/stack.h"
#include "fs/check.h"
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
	struct fs_check_report names;
	struct store *store;
	const char *where; /* the container, with the snapshot, whose names are checked */
};

static void finding(void *arg, const char *text, bool repaired)
{
	struct fsck *f = arg;
	json_t *o;

	progress_clear(&f->progress);
	if (f->findings) {
		o = json_object();
		json_set_text(o, "text",
		              text); /* there are names in it, and they may be any bytes */
		json_object_set_new(o, "repaired", json_boolean(repaired));
		json_array_append_new(f->findings, o);
		return;
	}
	cli_print_bytes(f->cli, text, strlen(text));
	puts(repaired ? " (repaired)" : f->opts.repair ? " (not repaired)" : "");
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
	const struct fs_check_report *n = &f->names;
	uint64_t findings = r->findings + n->findings, repaired = r->repaired + n->repaired;

	if (f->findings) {
		json_t *o = json_pack(
		        "{s:b, s:O, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
		        "s:I, s:I, s:I}",
		        "clean", findings == 0, "findings", f->findings, "found",
		        (json_int_t)findings, "repaired", (json_int_t)repaired, "containers",
		        (json_int_t)r->containers, "snapshots", (json_int_t)r->snapshots, "objects",
		        (json_int_t)r->objects, "keys", (json_int_t)r->keys, "extents",
		        (json_int_t)r->extents, "blocks", (json_int_t)r->blocks, "checksum_errors",
		        (json_int_t)r->csum_errors, "log_frames", (json_int_t)r->frames,
		        "log_records", (json_int_t)r->records, "inodes", (json_int_t)n->inodes,
		        "names", (json_int_t)n->entries, "orphans", (json_int_t)n->orphans,
		        "other_objects", (json_int_t)n->others);

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
		       PLURAL(r->keys), r->extents, PLURAL(r->extents), n->entries,
		       PLURAL(n->entries), n->inodes, PLURAL(n->inodes), r->blocks,
		       PLURAL(r->blocks));
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

/* --- the namespace's part: above the store, so only where it can be opened and its objects trusted --- */

struct view { /* a container, or a snapshot of one */
	struct view *next;
	uint32_t cont;
	uint64_t id;
	char name[2 * PST_NAME_MAX + 2];
};

struct views {
	struct view *first, **end;
	struct store *store;
	uint32_t cont;
	const char *name; /* of the container whose snapshots are listed */
	int rc;
};

static int view_add(struct views *v, uint32_t cont, uint64_t id, const char *name, const char *snap)
{
	struct view *w = mem_calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	w->cont = cont;
	w->id = id;
	(void)snprintf(w->name, sizeof(w->name), "%s%s%s", name, snap ? "@" : "", snap ? snap : "");
	*v->end = w;
	v->end = &w->next;
	return 0;
}

static bool snap_entry(struct pst_op *op, const struct pst_entry *e)
{
	struct views *v = op->user;

	v->rc = view_add(v, v->cont, e->snap->view, v->name, e->snap->name);
	return v->rc == 0;
}

static bool cont_entry(struct pst_op *op, const struct pst_entry *e)
{
	struct views *v = op->user;
	struct pst_op snaps = {
	        .opcode = PST_OP_SNAP_LIST, .cont = e->id, .entry = snap_entry, .user = v};

	if (e->cont->layout != PST_LAYOUT_POSIX)
		return true;
	v->cont = e->id;
	v->name = e->cont->name;
	v->rc = view_add(v, v->cont, 0, v->name, NULL);
	/* Lists of containers and snapshots are in memory: they end at once. */
	if (!v->rc)
		pst_assert(store_submit(v->store, &snaps) == PST_DONE);
	if (!v->rc)
		v->rc = snaps.status;
	return v->rc == 0;
}

static void name_finding(void *arg, const char *text, bool repaired)
{
	struct fsck *f = arg;
	char *line = NULL;

	if (asprintf(&line, "%s: %s", f->where, text) >= 0)
		finding(f, line, repaired);
	else
		finding(f, text, repaired);
	free(line);
}

static int change_view(void *arg, uint32_t cont, uint64_t view, const struct pst_mut *m,
                       uint32_t count)
{
	struct fsck *f = arg;

	return local_mend_view(f->store, cont, view, m, count);
}

static int check_view(struct fsck *f, struct store *store, const struct view *w)
{
	struct fs_check_opts o = {
	        .repair = f->opts.repair, .change = change_view, .finding = name_finding, .arg = f};
	struct fs_check_report one = {0}, *sum = &f->names;
	struct pst_err err = {.text = ""};
	int rc;

	f->where = w->name;
	f->store = store;
	rc = fs_check(store, w->cont, w->id, &o, &one, &err);
	if (rc < 0)
		return cli_fail(f->cli, err.text[0] ? 0 : rc, "checking the names of %s: %s",
		                w->name, err.text);
	sum->findings += one.findings;
	sum->repaired += one.repaired;
	sum->inodes += one.inodes;
	sum->directories += one.directories;
	sum->entries += one.entries;
	sum->orphans += one.orphans;
	sum->others += one.others;
	return CLI_OK;
}

static int check_views(struct fsck *f, struct store *store)
{
	struct views v = {.store = store};
	struct pst_op conts = {.opcode = PST_OP_CONT_LIST, .entry = cont_entry, .user = &v};
	int status = CLI_OK;

	v.end = &v.first;
	pst_assert(store_submit(store, &conts) == PST_DONE);
	if (!v.rc)
		v.rc = conts.status;
	if (v.rc < 0)
		status = cli_fail(f->cli, v.rc, "listing the containers");
	while (v.first) {
		struct view *w = v.first;

		if (status == CLI_OK)
			status = check_view(f, store, w);
		v.first = w->next;
		mem_free(w);
	}
	return status;
}

static int check_tree(struct fsck *f, struct loop *loop)
{
	struct bdev_open_opts dev_opts = {.read_only = !f->opts.repair};
	struct local_opts lo = {.read_only = !f->opts.repair};
	struct pst_err err = {.text = ""};
	struct cli *cli = f->cli;
	struct stack_devs devs;
	struct store *store;
	int status, rc;

	rc = stack_devs_open(&devs, (const char *const *)cli->args, (unsigned)cli->arg_count, loop,
	                     &dev_opts, &err);
	if (rc < 0)
		return cli_fail(cli, err.text[0] ? 0 : rc, "%s", err.text);
	rc = local_open(&store, loop, devs.dev, devs.count, &lo, &err);
	if (rc < 0) {
		stack_devs_close(&devs);
		return cli_fail(cli, err.text[0] ? 0 : rc, "%s", err.text);
	}
	status = check_views(f, store);
	rc = store_close(store);
	return rc < 0 && status == CLI_OK ? cli_fail(cli, rc, "closing the store") : status;
}

static int check(struct fsck *f, struct loop *loop)
{
	int status;

	f->findings = f->cli->json ? json_array() : NULL;
	progress_start(&f->progress, f->cli, "checking");
	status = check_devices(f, loop);
	if (status == CLI_OK && f->report.findings - f->report.repaired == f->report.csum_errors)
		status = check_tree(f, loop);
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
	if (status == CLI_OK)
		status = cli_devices(cli);
	if (status != CLI_OK)
		return status;
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
                "lost their names come into /lost+found. What hung below an index page that no\n"
                "mirror has whole is told, and dropped by --repair. All devices of the store must\n"
                "be given. Exit status 0: clean, or all repaired; 1: not.\n"
                "\n"
                "Examples:\n"
                "  penstock fsck data.pst\n"
                "  penstock fsck /dev/nvme0n1 /dev/nvme1n1 --repair\n",
        .opts = opts,
        .flags = CLI_JSON | CLI_PROGRESS | CLI_NO_STORE,
        .run = run,
};
