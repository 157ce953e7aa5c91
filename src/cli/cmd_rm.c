/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rm - remove files and trees.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/commands.h"
#include "cli/walk.h"

enum { OPT_RECURSIVE, OPT_FORCE, OPT_JOBS };

#define UNDER_WAY_MAX 2048

static const struct cli_opt opts[] = {
        [OPT_RECURSIVE] = {'r', "recursive", NULL, "directories with all that is in them"},
        [OPT_FORCE] = {'f', "force", NULL, "no error if it is not there"},
        [OPT_JOBS] = {'j', "jobs", "N", "removals under way at a time (32)"},
        {0, NULL, NULL, NULL},
};

struct rm {
	struct cli *cli;
	struct pump pump;
	struct progress progress;
	struct pst_cont *cont;
	struct cli_path path;
	bool recursive, force;
	uint64_t under_way;
	int status;
};

struct removal {
	struct pump_task task;
	struct walk_dir *dir;
	char name[];
};

static void complain(struct rm *rm, const struct walk_dir *d, const char *name, int rc)
{
	const char *sep = d && d->path[0] ? "/" : "", *text = rm->path.text;
	bool slash = d && (d->path[0] || name[0]) && text[strlen(text) - 1] != '/';
	bool dir = rc == -EISDIR && !rm->recursive;

	progress_clear(&rm->progress);
	rm->status = cli_fail(rm->cli, dir ? 0 : rc, "%s%s%s%s%s%s", text, slash ? "/" : "",
	                      d ? d->path : "", name[0] ? sep : "", name,
	                      dir ? ": a directory; give -r" : "");
}

/* --- what is in a directory --- */

static int removal_start(struct pump_task *t, struct pst_cq *cq)
{
	struct removal *r = container_of(t, struct removal, task);

	return pst_fs_unlink_async(r->dir->walk->cont, r->dir->ino, r->name, PST_F_VOLATILE, cq, t);
}

static void removal_done(struct pump_task *t, const struct pst_event *e)
{
	struct removal *r = container_of(t, struct removal, task);
	struct rm *rm = r->dir->walk->user;

	if (e->status < 0 && e->status != -ENOENT)
		complain(rm, r->dir, r->name, e->status);
	rm->under_way--;
	rm->progress.done_items++;
	walk_let_go(r->dir);
	mem_free(r);
}

static void entry(struct walk_dir *d, const struct pst_dirent *e)
{
	struct rm *rm = d->walk->user;
	struct removal *r = mem_calloc(1, sizeof(*r) + e->name_len + 1);

	if (!r) {
		complain(rm, d, e->name, -ENOMEM);
		return;
	}
	memcpy(r->name, e->name, e->name_len);
	r->dir = d;
	r->task.start = removal_start;
	r->task.done = removal_done;
	walk_hold(d);
	rm->under_way++;
	pump_add(&rm->pump, &r->task);
}

static bool full(struct walk *w)
{
	return ((struct rm *)w->user)->under_way >= UNDER_WAY_MAX;
}

/* --- the directory itself --- */

static int rmdir_start(struct pump_task *t, struct pst_cq *cq)
{
	struct walk_dir *d = container_of(t, struct walk_dir, task);

	return pst_fs_rmdir_async(d->walk->cont, d->parent->ino, d->name, PST_F_VOLATILE, cq, t);
}

static void rmdir_done(struct pump_task *t, const struct pst_event *e)
{
	struct walk_dir *d = container_of(t, struct walk_dir, task);

	if (e->status < 0)
		complain(d->walk->user, d, "", e->status);
	walk_dir_end(d);
}

static void leave(struct walk_dir *d)
{
	if (d->status < 0)
		complain(d->walk->user, d, "", d->status);
	if (!d->parent) {
		walk_dir_end(d); /* by its path, when the walk has ended */
		return;
	}
	d->task.start = rmdir_start;
	d->task.done = rmdir_done;
	pump_add(d->walk->pump, &d->task);
}

/* --- one operand --- */

/* "a/..", "." and the like: what they name is not what they say, and a tree is gone quickly. */
static bool ends_in_dots(const char *path)
{
	size_t len = strlen(path), at;

	while (len > 0 && path[len - 1] == '/')
		len--;
	for (at = len; at > 0 && path[at - 1] != '/'; at--)
		;
	return (len - at == 1 || len - at == 2) && memcmp(path + at, "..", len - at) == 0;
}

static int remove_tree(struct rm *rm, const struct pst_attr *attr)
{
	struct walk w = {.pump = &rm->pump,
	                 .cont = rm->cont,
	                 .user = rm,
	                 .entry = entry,
	                 .leave = leave,
	                 .full = full};
	int rc = walk_run(&w, attr);

	if (rc == 0 && rm->status == CLI_OK && rm->path.path[0])
		rc = pst_fs_rmdir(rm->cont, 0, rm->path.path, 0);
	return rc;
}

static void remove_path(struct rm *rm)
{
	const struct cli_path *p = &rm->path;
	struct pst_attr a;
	int rc = pst_fs_stat(rm->cont, 0, p->path, PST_F_NOFOLLOW, &a);

	if (rc == -ENOENT && rm->force)
		return;
	if (rc == 0 && strchr(p->cont, '@'))
		rc = -EROFS; /* once, and not for each file */
	if (rc == 0 && S_ISDIR(a.mode) && !rm->recursive)
		rc = -EISDIR;
	else if (rc == 0 && S_ISDIR(a.mode))
		rc = remove_tree(rm, &a);
	else if (rc == 0)
		rc = pst_fs_unlink(rm->cont, 0, p->path, 0);
	if (rc == 0)
		rc = pst_cont_flush(rm->cont);
	if (rc < 0)
		complain(rm, NULL, "", rc);
}

static int remove_all(struct rm *rm, unsigned jobs)
{
	struct cli *cli = rm->cli;
	int status = pump_open(&rm->pump, cli, jobs, 0);

	if (status != CLI_OK)
		return status;
	progress_start(&rm->progress, cli, "removing");
	rm->pump.progress = &rm->progress;
	for (int i = 0; i < cli->arg_count; i++) {
		if (cli_path_parse(cli, cli->args[i], &rm->path) != CLI_OK ||
		    cli_path_open(cli, &rm->path, &rm->cont) != CLI_OK) {
			rm->status = CLI_FAILED;
			continue;
		}
		remove_path(rm);
		pst_cont_close(rm->cont);
	}
	progress_end(&rm->progress);
	pump_close(&rm->pump);
	return rm->status;
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct rm rm = {.cli = cli};
	uint64_t jobs = 32;
	const char *value;
	int opt, status;

	while ((opt = cli_option(cli, argc, argv, &value)) >= 0) {
		rm.recursive |= opt == OPT_RECURSIVE;
		rm.force |= opt == OPT_FORCE;
		if (opt == OPT_JOBS && cli_number(cli, "jobs", value, 1, 1024, &jobs) < 0)
			return CLI_USAGE;
	}
	if (opt == -2)
		return cli_end_status(cli);
	status = cli_operand_count(cli, 1, -1);
	for (int i = 0; status == CLI_OK && i < cli->arg_count; i++) {
		struct cli_path p;

		status = cli_path_parse(cli, cli->args[i], &p);
		if (status == CLI_OK && ends_in_dots(p.path))
			status = cli_usage(cli, "%s: not removed by a name that ends in . or ..",
			                   p.text);
	}
	if (status == CLI_OK)
		status = cli_open(cli, false);
	return status == CLI_OK ? cli_close(cli, remove_all(&rm, (unsigned)jobs)) : status;
}

const struct cli_command cmd_rm = {
        .name = "rm",
        .args = "[-r] [-f] [-j N] CONTAINER:/path...",
        .summary = "Remove files and directory trees",
        .help = "What a snapshot holds stays in the snapshot. rm -r of the root empties the\n"
                "container; a name that ends in . or .. is refused. All of it is durable when\n"
                "the command ends; killed before, some of it.\n"
                "\n"
                "Examples:\n"
                "  penstock rm train:/shards/0001.tar\n"
                "  penstock rm -r -j 64 train:/old\n",
        .opts = opts,
        .flags = CLI_PROGRESS,
        .run = run,
};
