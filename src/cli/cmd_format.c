/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * format - make a store.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "cli/attr.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/hostfile.h"
#include "client/stack.h"
#include "store/local/local.h"

enum { OPT_SIZE, OPT_FORCE, OPT_SHARDS, OPT_JOURNAL, OPT_LABEL };

static const struct cli_opt opts[] = {
        [OPT_SIZE] = {0, "size", "SIZE", "of all devices together; makes files that are not there"},
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
			json_array_append_new(list, attr_device_json(info->name, info->size_bytes));
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

/* --- before anything is made or written --- */

/* Opens a device that is there and looks whether it may be formatted. */
static int look_at(struct cli *cli, struct loop *loop, const char *spec, const struct format *f)
{
	struct pst_err err = {.text = ""};
	struct bdev_open_opts open_opts = {0};
	uint64_t want = stack_dev_bytes(f->dev.size_bytes, (unsigned)cli->arg_count);
	char have[32], text[32];
	struct bdev *dev;
	int status = CLI_OK, rc = bdev_open(&dev, spec, loop, &open_opts, &err);

	if (rc < 0)
		return cli_fail(cli, 0, "%s", err.text);
	if (f->dev.create && dev->info.size_bytes != want)
		status = cli_fail(cli, 0,
		                  "%s is there and has %s, not %s: leave --size out, or remove it",
		                  spec, format_size(dev->info.size_bytes, have, sizeof(have)),
		                  format_size(want, text, sizeof(text)));
	else if (!f->local.force && local_probe(dev, &err) < 0)
		status = cli_fail(cli, 0, "%s (--force formats it nevertheless)", err.text);
	bdev_close(dev);
	return status;
}

/* More than can be addressed; a file that large could be refused for reasons that say nothing. */
static int look_size(struct cli *cli, const struct format *f)
{
	uint64_t one = stack_dev_bytes(f->dev.size_bytes, (unsigned)cli->arg_count);
	char text[32], most[32];

	if (one <= LOCAL_DEVICE_MAX_BYTES)
		return CLI_OK;
	return cli_fail(cli, 0, "--size: %s for each device, and a device has at most %s",
	                format_size(one, text, sizeof(text)),
	                format_size(LOCAL_DEVICE_MAX_BYTES, most, sizeof(most)));
}

/* Fills @made with the paths of files that are not there yet. */
static int look(struct cli *cli, struct loop *loop, const struct format *f,
                char *made[PST_DEVICES_MAX])
{
	int status = look_size(cli, f);
	struct stat st;

	for (int i = 0; i < cli->arg_count && status == CLI_OK; i++) {
		char *path = host_device_path(cli->args[i]);

		if (strchr(cli->args[i], ','))
			status = cli_fail(cli, 0,
			                  "%s: a device with a comma in its name could never be "
			                  "opened: a comma stands between devices",
			                  cli->args[i]);
		else if (path && f->dev.create && stat(path, &st) < 0 && errno == ENOENT)
			made[i] = path;
		else
			status = look_at(cli, loop, cli->args[i], f);
		if (!made[i])
			mem_free(path);
	}
	return status;
}

/* --- making it --- */

static int make(struct cli *cli, struct loop *loop, struct format *f)
{
	struct stack_devs devs;
	struct pst_err err = {.text = ""};
	int status, rc;

	f->dev.allocate = true;
	rc = stack_devs_open(&devs, (const char *const *)cli->args, (unsigned)cli->arg_count, loop,
	                     &f->dev, &err);
	if (rc < 0)
		return cli_fail(cli, err.text[0] ? 0 : rc, "%s", err.text);
	rc = local_format(devs.dev, devs.count, &f->local, &err);
	if (rc == -EEXIST)
		status = cli_fail(cli, 0, "%s (--force formats it nevertheless)", err.text);
	else if (rc < 0)
		status = cli_fail(cli, err.text[0] ? 0 : rc, "%s", err.text);
	else
		status = show(cli, &devs);
	if (devs.all_mem)
		cli_note(cli, "note: memory is gone when this command ends; it is formatted "
		              "whenever it is opened");
	stack_devs_close(&devs);
	return status;
}

static int format(struct cli *cli, struct loop *loop, struct format *f)
{
	char *made[PST_DEVICES_MAX] = {NULL};
	int status = look(cli, loop, f, made);

	if (status == CLI_OK)
		status = make(cli, loop, f);
	for (unsigned i = 0; i < PST_DEVICES_MAX; i++) {
		if (made[i] && status != CLI_OK)
			unlink(made[i]); /* what was made for nothing */
		mem_free(made[i]);
	}
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
	if (status == CLI_OK)
		status = cli_devices(cli);
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
                "anything (a file system, partitions, another store, data of any kind at its\n"
                "beginning or end), is mounted, or in use is refused; --force overrides the\n"
                "first of these only.\n"
                "\n"
                "Examples:\n"
                "  penstock format data.pst --size 20g\n"
                "  penstock format /dev/nvme0n1 /dev/nvme1n1\n"
                "  penstock format 'fault:test.pst?read_error=0.01' --size 1g\n",
        .opts = opts,
        .flags = CLI_JSON | CLI_NO_STORE,
        .run = run,
};
