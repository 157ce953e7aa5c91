/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * snapshot create|list|destroy
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "base/base.h"
#include "cli/attr.h"
#include "cli/cli.h"
#include "cli/commands.h"

static json_t *to_json(const struct pst_snap_info *s)
{
	json_t *o = json_object();

	json_set_text(o, "name", s->name);
	json_object_update_new(o,
	                       json_pack("{s:I, s:I, s:I}", "created_ns", (json_int_t)s->ctime_ns,
	                                 "used_bytes", (json_int_t)s->used_bytes, "used_objects",
	                                 (json_int_t)s->used_objects));
	return o;
}

struct listing {
	json_t *json;
};

static bool list_one(void *arg, const struct pst_snap_info *s)
{
	struct listing *l = arg;
	char used[32], when[32], name[PST_NAME_MAX + 1];

	if (l->json)
		json_array_append_new(l->json, to_json(s));
	else
		printf("%-24s %s %10s %10" PRIu64 " object%s\n",
		       cli_name(s->name, name, sizeof(name)), cli_time((int64_t)s->ctime_ns, when),
		       format_size(s->used_bytes, used, sizeof(used)), s->used_objects,
		       PLURAL(s->used_objects));
	return true;
}

static int do_list(struct cli *cli, const char *name)
{
	struct listing l = {.json = cli->json ? json_array() : NULL};
	int rc = pst_snap_list(cli->client, name, list_one, &l);

	if (rc < 0) {
		json_decref(l.json);
		return cli_fail(cli, rc == -ENOENT ? 0 : rc, "%s%s", name,
		                rc == -ENOENT ? ": there is no such container" : "");
	}
	return cli->json ? cli_print_json(cli, l.json) : CLI_OK;
}

static int do_create(struct cli *cli, const char *name, const char *snap)
{
	struct pst_snap_info info;
	int rc = pst_snap_create(cli->client, name, snap, &info);

	if (rc == -EEXIST)
		return cli_fail(cli, 0, "%s@%s: it is there already", name, snap);
	if (rc == -ENOENT)
		return cli_fail(cli, 0, "%s: there is no such container", name);
	if (rc == -EINVAL)
		return cli_fail(cli, 0,
		                "%s@%s: not a good name (no '/', ':', '@' or control characters)",
		                name, snap);
	if (rc < 0)
		return cli_fail(cli, rc, "%s@%s", name, snap);
	return cli->json ? cli_print_json(cli, to_json(&info)) : CLI_OK;
}

static int do_destroy(struct cli *cli, const char *name, const char *snap)
{
	int rc = pst_snap_destroy(cli->client, name, snap);

	if (rc == -ENOENT)
		return cli_fail(cli, 0, "%s@%s: there is no such snapshot", name, snap);
	return rc < 0 ? cli_fail(cli, rc, "%s@%s", name, snap) : CLI_OK;
}

static int run(struct cli *cli, int argc, char **argv)
{
	char name[PST_NAME_MAX + 1];
	const char *verb, *at;
	bool list, create;
	int status;

	if (cli_operands(cli, argc, argv, 2, 2) < 0)
		return cli_end_status(cli);
	verb = cli->args[0];
	list = strcmp(verb, "list") == 0;
	create = strcmp(verb, "create") == 0;
	if (!list && !create && strcmp(verb, "destroy") != 0)
		return cli_usage(cli, "create, list or destroy?");
	at = strchr(cli->args[1], '@');
	if (list && at)
		return cli_usage(cli, "%s: list takes a container", cli->args[1]);
	if (!list && (!at || (size_t)(at - cli->args[1]) > PST_NAME_MAX))
		return cli_usage(cli, "%s: not CONTAINER@NAME", cli->args[1]);
	status = cli_open(cli, list);
	if (status != CLI_OK)
		return status;
	if (list)
		return cli_close(cli, do_list(cli, cli->args[1]));
	memcpy(name, cli->args[1], (size_t)(at - cli->args[1]));
	name[at - cli->args[1]] = 0;
	return cli_close(cli,
	                 create ? do_create(cli, name, at + 1) : do_destroy(cli, name, at + 1));
}

const struct cli_command cmd_snapshot = {
        .name = "snapshot",
        .args = "create CONTAINER@NAME\n"
                "list CONTAINER\n"
                "destroy CONTAINER@NAME",
        .summary = "Make, list and destroy snapshots of containers",
        .help = "A snapshot is a read-only view of a container as it was at one moment. Making\n"
                "one takes constant time and no space; what is changed or deleted afterwards\n"
                "keeps its space until the snapshot goes.\n"
                "\n"
                "Examples:\n"
                "  penstock snapshot create train@v1\n"
                "  penstock ls -l train@v1:/\n"
                "  penstock snapshot list train\n"
                "  penstock snapshot destroy train@v1\n",
        .words = "create list destroy",
        .flags = CLI_JSON,
        .run = run,
};
