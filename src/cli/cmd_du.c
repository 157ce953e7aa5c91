/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * du - how much is in a tree.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <sys/stat.h>

#include "cli/attr.h"
#include "cli/commands.h"
#include "cli/walk.h"

enum { OPT_SUMMARY, OPT_BYTES };

static const struct cli_opt opts[] = {
        [OPT_SUMMARY] = {0, "all", NULL, "a line for each directory below too"},
        [OPT_BYTES] = {'b', "bytes", NULL, "plain numbers of bytes"},
        {0, NULL, NULL, NULL},
};

struct sums {
	uint64_t size_bytes, alloc_bytes, files, dirs;
};

struct du {
	struct cli *cli;
	struct pump pump;
	struct progress progress;
	const struct cli_path *path;
	bool all, bytes;
	json_t *json;
	struct sums total;
	int status;
};

static void print_sums(struct du *du, const char *path, const struct sums *s)
{
	char alloc[32], size[32], buf[PST_PATH_MAX + 1];

	if (du->json) {
		json_t *o =
		        json_pack("{s:I, s:I, s:I, s:I}", "size_bytes", (json_int_t)s->size_bytes,
		                  "alloc_bytes", (json_int_t)s->alloc_bytes, "files",
		                  (json_int_t)s->files, "directories", (json_int_t)s->dirs);

		json_set_text(o, "path", path);
		json_array_append_new(du->json, o);
		return;
	}
	if (du->bytes) {
		snprintf(alloc, sizeof(alloc), "%" PRIu64, s->alloc_bytes);
		snprintf(size, sizeof(size), "%" PRIu64, s->size_bytes);
	} else {
		format_size(s->alloc_bytes, alloc, sizeof(alloc));
		format_size(s->size_bytes, size, sizeof(size));
	}
	progress_clear(&du->progress);
	printf("%s allocated, %s of content, %" PRIu64 " file%s, %" PRIu64 " director%s\t%s\n",
	       alloc, size, s->files, s->files == 1 ? "" : "s", s->dirs, s->dirs == 1 ? "y" : "ies",
	       cli_name(path, buf, sizeof(buf)));
}

static bool enter(struct walk_dir *d)
{
	struct du *du = d->walk->user;

	d->user = mem_calloc(1, sizeof(struct sums));
	if (!d->user)
		du->status = cli_fail(du->cli, -ENOMEM, "memory");
	return d->user;
}

static void entry(struct walk_dir *d, const struct pst_dirent *e)
{
	struct du *du = d->walk->user;
	struct sums *s = d->user;

	s->size_bytes += e->attr->size_bytes;
	s->alloc_bytes += e->attr->alloc_bytes;
	s->files++;
	du->progress.done_items++;
	progress_tick(&du->progress);
}

static void leave(struct walk_dir *d)
{
	struct du *du = d->walk->user;
	struct sums *s = d->user, *up = d->parent ? d->parent->user : &du->total;

	if (d->status < 0)
		du->status = cli_fail(du->cli, d->status, "%s: %s", du->path->text, d->path);
	s->dirs++;
	up->size_bytes += s->size_bytes;
	up->alloc_bytes += s->alloc_bytes;
	up->files += s->files;
	up->dirs += s->dirs;
	if (du->all && d->parent) {
		char *path = cli_join(du->path->text, d->path);

		if (path)
			print_sums(du, path, s);
		else
			du->status = cli_fail(du->cli, -ENOMEM, "memory");
		mem_free(path);
	}
	mem_free(s);
	walk_dir_end(d);
}

static int measure(struct du *du, struct pst_cont *cont)
{
	struct walk w = {.pump = &du->pump,
	                 .cont = cont,
	                 .user = du,
	                 .enter = enter,
	                 .entry = entry,
	                 .leave = leave};
	struct pst_attr a;
	int rc = pst_fs_stat(cont, 0, du->path->path, PST_F_NOFOLLOW, &a);

	if (rc == 0 && S_ISDIR(a.mode))
		rc = walk_run(&w, &a);
	else if (rc == 0)
		du->total = (struct sums){a.size_bytes, a.alloc_bytes, 1, 0};
	if (rc < 0)
		return cli_fail(du->cli, rc, "%s", du->path->text);
	print_sums(du, du->path->text, &du->total);
	return du->status;
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct du du = {.cli = cli};
	struct pst_cont *cont;
	struct cli_path p;
	const char *value;
	int opt, status;

	while ((opt = cli_option(cli, argc, argv, &value)) >= 0) {
		du.all |= opt == OPT_SUMMARY;
		du.bytes |= opt == OPT_BYTES;
	}
	if (opt == -2)
		return cli_end_status(cli);
	status = cli_operand_count(cli, 1, 1);
	if (status == CLI_OK)
		status = cli_path_parse(cli, cli->args[0], &p);
	if (status == CLI_OK)
		status = cli_open(cli, true);
	if (status != CLI_OK)
		return status;
	du.path = &p;
	status = cli_path_open(cli, &p, &cont);
	if (status == CLI_OK) {
		status = pump_open(&du.pump, cli, 8, 0);
		if (status == CLI_OK) {
			du.json = cli->json ? json_array() : NULL;
			progress_start(&du.progress, cli, "counting");
			status = measure(&du, cont);
			progress_end(&du.progress);
			pump_close(&du.pump);
			if (cli->json && cli_print_json(cli, du.json) != CLI_OK)
				status = CLI_FAILED;
		}
		pst_cont_close(cont);
	}
	return cli_close(cli, status);
}

const struct cli_command cmd_du = {
        .name = "du",
        .args = "[--all] [-b] CONTAINER[@SNAPSHOT]:/path",
        .summary = "Sum up the space that a tree takes",
        .help = "Allocated space, bytes of content, files and directories. A file with several\n"
                "names counts for each.\n"
                "\n"
                "Examples:\n"
                "  penstock du train:/\n"
                "  penstock du --all --json train:/ | jq 'max_by(.size_bytes)'\n",
        .opts = opts,
        .flags = CLI_JSON | CLI_PROGRESS,
        .run = run,
};
