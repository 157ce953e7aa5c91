/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * format - make a store.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>

#include "base/base.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "client/stack.h"
#include "store/local/local.h"

enum { OPT_SIZE, OPT_FORCE, OPT_SHARDS, OPT_JOURNAL, OPT_LABEL };

static const struct cli_opt opts[] = {
        [OPT_SIZE] = {0, "size", "SIZE",
                      "of all devices together: files that are not there are made"},
        [OPT_FORCE] = {0, "force", NULL, "even if a device holds something: it is lost"},
        [OPT_SHARDS] = {0, "shards", "N", "how many (default: by the size)"},
        [OPT_JOURNAL] = {0, "journal", "SIZE", "of all shards together (default: by the size)"},
        [OPT_LABEL] = {0, "label", "TEXT", "a name for people"},
        {0, NULL, NULL, NULL},
};

struct format {
	struct local_format_opts local;
	struct bdev_open_opts dev;
};

static int take(struct cli *cli, int argc, char **argv, struct format *f)
{
	const char *value;
	uint64_t n;
	int opt, rc = 0;

	while (rc == 0 && (opt = cli_option(cli, argc, argv, &value)) >= 0) {
		switch (opt) {
		case OPT_SIZE:
			rc = cli_size(cli, "size", value, &f->dev.size_bytes);
			f->dev.create = true;
			break;
		case OPT_FORCE:
			f->local.force = true;
			break;
		case OPT_SHARDS:
			rc = cli_number(cli, "shards", value, 1, 1024, &n);
			f->local.shards = rc == 0 ? (unsigned)n : 0;
			break;
		case OPT_JOURNAL:
			rc = cli_size(cli, "journal", value, &f->local.journal_bytes);
			break;
		case OPT_LABEL:
			f->local.label = value;
			break;
		}
	}
	return rc < 0 || opt == -2 ? -2 : 0;
}

static int show(struct cli *cli, const struct stack_devs *devs)
{
	json_t *list = cli->json ? json_array() : NULL;
	uint64_t total = 0;
	char size[32];

	for (unsigned i = 0; i < devs->count; i++) {
		const struct bdev_info *info = &devs->dev[i]->info;

		total += info->size_bytes;
		if (list)
			json_array_append_new(list, json_pack("{s:s, s:I}", "name", info->name,
			                                      "size_bytes",
			                                      (json_int_t)info->size_bytes));
	}
	if (cli->json)
		return cli_print_json(cli, json_pack("{s:I, s:o}", "size_bytes", (json_int_t)total,
		                                     "devices", list));
	cli_note(cli, "made a store of %s on %u device%s", format_size(total, size, sizeof(size)),
	         devs->count, devs->count == 1 ? "" : "s");
	if (devs->count > 1)
		cli_note(cli, "note: metadata is mirrored on each device, data is striped and not: "
		              "the loss of one device loses data");
	return CLI_OK;
}

static int format(struct cli *cli, struct loop *loop, struct format *f)
{
	struct stack_devs devs;
	struct pst_err err = {.text = ""};
	int status, rc = stack_devs_open(&devs, (const char *const *)cli->args,
	                                 (unsigned)cli->arg_count, loop, &f->dev, &err);

	if (rc < 0)
		return cli_fail(cli, err.text[0] ? 0 : rc, "%s", err.text);
	rc = local_format(devs.dev, devs.count, &f->local, &err);
	if (rc == -EEXIST)
		status = cli_fail(cli, 0, "%s (--force formats it nevertheless)", err.text);
	else if (rc < 0)
		status = cli_fail(cli, err.text[0] ? 0 : rc, "%s", err.text);
	else
		status = show(cli, &devs);
	stack_devs_close(&devs);
	return status;
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct format f = {0};
	struct loop_opts loop_opts;
	struct pst_err err;
	struct loop *loop;
	int status;

	if (take(cli, argc, argv, &f) == -2)
		return cli_end_status(cli);
	status = cli_operand_count(cli, 1, PST_DEVICES_MAX);
	if (status != CLI_OK)
		return status;
	loop_opts_default(&loop_opts);
	if (loop_new(&loop, &loop_opts, &err) < 0)
		return cli_fail(cli, 0, "%s", err.text);
	status = format(cli, loop, &f);
	loop_free(loop);
	return status;
}

const struct cli_command cmd_format = {
        .name = "format",
        .args = "DEV... [--size SIZE] [--force] [--shards N] [--journal SIZE] [--label TEXT]",
        .summary = "Make a store on files or block devices",
        .help = "A file's space is allocated now, not found missing later. A device that holds\n"
                "anything (a file system, partitions, another store), is mounted, or in use is\n"
                "refused; --force overrides the first of these only.\n"
                "\n"
                "Examples:\n"
                "  penstock format data.pst --size 20g\n"
                "  penstock format /dev/nvme0n1 /dev/nvme1n1\n"
                "  penstock format 'fault:test.pst?read_error=0.01' --size 1g\n",
        .opts = opts,
        .flags = CLI_JSON | CLI_NO_STORE,
        .run = run,
};
