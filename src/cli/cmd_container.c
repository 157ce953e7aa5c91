/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * container create|list|show|set|destroy
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "base/base.h"
#include "cli/attr.h"
#include "cli/cli.h"
#include "cli/commands.h"

enum { OPT_LAYOUT, OPT_QUOTA_BYTES, OPT_QUOTA_OBJECTS, OPT_NO_CHECKSUM };

static const struct cli_opt opts[] = {
        [OPT_LAYOUT] = {0, "layout", "posix|object",
                        "create: a file tree (default), or plain objects"},
        [OPT_QUOTA_BYTES] = {0, "quota-bytes", "SIZE",
                             "create, set: limit of allocated bytes; 0: none"},
        [OPT_QUOTA_OBJECTS] = {0, "quota-objects", "N", "create, set: limit of objects; 0: none"},
        [OPT_NO_CHECKSUM] = {0, "no-checksum", NULL, "create: data blocks carry no CRC32C"},
        {0, NULL, NULL, NULL},
};

struct given {
	struct pst_cont_info info;
	uint32_t what; /* PST_SET_* */
	bool layout;
};

static json_t *to_json(const struct pst_cont_info *c)
{
	json_t *o = json_object();
	char uuid[37];

	cli_uuid(c->uuid, uuid);
	json_set_text(o, "name", c->name);
	json_object_update_new(
	        o,
	        json_pack("{s:i, s:s, s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "id",
	                  (int)c->id, "layout", c->layout == PST_LAYOUT_OBJECT ? "object" : "posix",
	                  "uuid", uuid, "checksums", !(c->props & PST_PROP_CHECKSUM_OFF),
	                  "created_ns", (json_int_t)c->ctime_ns, "quota_bytes",
	                  (json_int_t)c->quota_bytes, "quota_objects", (json_int_t)c->quota_objects,
	                  "used_bytes", (json_int_t)c->used_bytes, "used_objects",
	                  (json_int_t)c->used_objects, "logical_bytes",
	                  (json_int_t)c->logical_bytes, "snapshots", (json_int_t)c->snapshots));
	return o;
}

static void print_info(const struct pst_cont_info *c)
{
	char used[32], logical[32], quota[32], when[32], uuid[37];

	cli_uuid(c->uuid, uuid);
	printf("name        %s\n", c->name);
	printf("uuid        %s\n", uuid);
	printf("layout      %s\n", c->layout == PST_LAYOUT_OBJECT ? "object" : "posix");
	printf("checksums   %s\n", c->props & PST_PROP_CHECKSUM_OFF ? "off" : "on");
	printf("created     %s\n", cli_time((int64_t)c->ctime_ns, when));
	printf("used        %s in %" PRIu64 " object%s (%s of content)\n",
	       format_size(c->used_bytes, used, sizeof(used)), c->used_objects,
	       PLURAL(c->used_objects), format_size(c->logical_bytes, logical, sizeof(logical)));
	if (c->quota_bytes)
		printf("quota       %s\n", format_size(c->quota_bytes, quota, sizeof(quota)));
	if (c->quota_objects)
		printf("quota       %" PRIu64 " objects\n", c->quota_objects);
	printf("snapshots   %" PRIu64 "\n", c->snapshots);
}

/* --- the verbs --- */

/* The root is made by the first look at it in a store that can be written: so that it has this
 * moment's times also where the next look is one at a snapshot, or from a read-only open. */
static void make_root(struct cli *cli, const char *name)
{
	struct pst_cont *cont;
	struct pst_attr a;

	if (pst_cont_open(cli->client, name, &cont) < 0)
		return; /* whoever needs it next will be told why */
	(void)pst_fs_stat(cont, 0, NULL, 0, &a);
	pst_cont_close(cont);
}

static int do_create(struct cli *cli, const char *name, struct given *g)
{
	int rc = pst_cont_create(cli->client, name, &g->info);

	if (rc == -EEXIST)
		return cli_fail(cli, 0, "%s: it is there already", name);
	if (rc == -EINVAL)
		return cli_fail(cli, 0,
		                "%s: not a good name (no '/', ':', '@' or control characters)",
		                name);
	if (rc < 0)
		return cli_fail(cli, rc, "creating %s", name);
	if (g->info.layout == PST_LAYOUT_POSIX)
		make_root(cli, name);
	return cli->json ? cli_print_json(cli, to_json(&g->info)) : CLI_OK;
}

struct listing {
	struct cli *cli;
	json_t *json;
};

static bool list_one(void *arg, const struct pst_cont_info *c)
{
	struct listing *l = arg;
	char used[32], name[PST_NAME_MAX + 1];

	if (l->json)
		json_array_append_new(l->json, to_json(c));
	else
		printf("%-24s %10s %10" PRIu64 " object%s  %" PRIu64 " snapshot%s\n",
		       cli_name(c->name, name, sizeof(name)),
		       format_size(c->used_bytes, used, sizeof(used)), c->used_objects,
		       c->used_objects == 1 ? " " : "s", c->snapshots, PLURAL(c->snapshots));
	return true;
}

static int do_list(struct cli *cli)
{
	struct listing l = {.cli = cli, .json = cli->json ? json_array() : NULL};
	int rc = pst_cont_list(cli->client, list_one, &l);

	if (rc < 0) {
		json_decref(l.json);
		return cli_fail(cli, rc, "listing the containers");
	}
	return cli->json ? cli_print_json(cli, l.json) : CLI_OK;
}

static int no_such(struct cli *cli, const char *name, const char *doing, int rc)
{
	if (rc == -ENOENT)
		return cli_fail(cli, 0, "%s: there is no such container", name);
	return cli_fail(cli, rc, "%s %s", doing, name);
}

static int do_show(struct cli *cli, const char *name)
{
	struct pst_cont_info info;
	int rc = pst_cont_get(cli->client, name, &info);

	if (rc < 0)
		return no_such(cli, name, "looking at", rc);
	if (cli->json)
		return cli_print_json(cli, to_json(&info));
	print_info(&info);
	return CLI_OK;
}

static int do_set(struct cli *cli, const char *name, const struct given *g)
{
	int rc = pst_cont_set(cli->client, name, g->what, &g->info);

	return rc < 0 ? no_such(cli, name, "changing", rc) : CLI_OK;
}

static int do_destroy(struct cli *cli, const char *name)
{
	int rc = pst_cont_destroy(cli->client, name);

	if (rc == -EBUSY)
		return cli_fail(cli, 0, "%s: it has snapshots; destroy them first", name);
	return rc < 0 ? no_such(cli, name, "destroying", rc) : CLI_OK;
}

/* --- the command line --- */

static int take_options(struct cli *cli, int argc, char **argv, struct given *g)
{
	const char *value;
	int opt;

	while ((opt = cli_option(cli, argc, argv, &value)) >= 0) {
		switch (opt) {
		case OPT_LAYOUT:
			if (strcmp(value, "posix") != 0 && strcmp(value, "object") != 0) {
				cli_usage(cli, "--layout %s: posix or object", value);
				return -2;
			}
			g->layout = true;
			g->info.layout =
			        strcmp(value, "object") == 0 ? PST_LAYOUT_OBJECT : PST_LAYOUT_POSIX;
			break;
		case OPT_QUOTA_BYTES:
			if (cli_size(cli, "quota-bytes", value, &g->info.quota_bytes) < 0)
				return -2;
			g->what |= PST_SET_QUOTA_BYTES;
			break;
		case OPT_QUOTA_OBJECTS:
			if (cli_number(cli, "quota-objects", value, 0, UINT64_MAX,
			               &g->info.quota_objects) < 0)
				return -2;
			g->what |= PST_SET_QUOTA_OBJECTS;
			break;
		case OPT_NO_CHECKSUM:
			g->info.props |= PST_PROP_CHECKSUM_OFF;
			g->what |= PST_SET_PROPS;
			break;
		}
	}
	return opt;
}

static int run_verb(struct cli *cli, const char *verb, const char *name, struct given *g)
{
	if (strcmp(verb, "create") == 0)
		return do_create(cli, name, g);
	if (strcmp(verb, "list") == 0)
		return do_list(cli);
	if (strcmp(verb, "show") == 0)
		return do_show(cli, name);
	if (strcmp(verb, "set") == 0)
		return do_set(cli, name, g);
	return do_destroy(cli, name);
}

static int check(struct cli *cli, const struct given *g)
{
	const char *verb = cli->arg_count ? cli->args[0] : "";
	bool create = strcmp(verb, "create") == 0, set = strcmp(verb, "set") == 0;
	bool list = strcmp(verb, "list") == 0;

	if (!create && !set && !list && strcmp(verb, "show") != 0 && strcmp(verb, "destroy") != 0)
		return cli_usage(cli, "create, list, show, set or destroy?");
	if (!create && (g->layout || (g->what & PST_SET_PROPS)))
		return cli_usage(cli, "%s: the layout and checksums are chosen by create", verb);
	if (!create && !set && g->what)
		return cli_usage(cli, "%s takes no quota", verb);
	if (set && !g->what)
		return cli_usage(cli, "set what?");
	return cli_operand_count(cli, list ? 1 : 2, list ? 1 : 2);
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct given g = {0};
	int status;

	if (take_options(cli, argc, argv, &g) == -2)
		return cli_end_status(cli);
	status = check(cli, &g);
	if (status != CLI_OK)
		return status;
	status = cli_open(cli,
	                  strcmp(cli->args[0], "list") == 0 || strcmp(cli->args[0], "show") == 0);
	if (status != CLI_OK)
		return status;
	return cli_close(cli, run_verb(cli, cli->args[0], cli->args[1], &g));
}

const struct cli_command cmd_container = {
        .name = "container",
        .args = "create NAME [--layout posix|object] [--quota-bytes SIZE] [--quota-objects N]\n"
                "list\n"
                "show NAME\n"
                "set NAME [--quota-bytes SIZE] [--quota-objects N]\n"
                "destroy NAME",
        .summary = "Make, list, show, change and destroy containers",
        .help = "A container is a namespace with properties, a quota and snapshots of its own:\n"
                "a tree of files, or plain objects with key-values. Destroying one frees its\n"
                "space in the background; its snapshots must be gone before.\n"
                "\n"
                "Examples:\n"
                "  penstock container create train\n"
                "  penstock container create cache --layout object --quota-bytes 100g\n"
                "  penstock container set train --quota-objects 1000000\n"
                "  penstock container list --json\n",
        .words = "create list show set destroy",
        .opts = opts,
        .flags = CLI_JSON,
        .run = run,
};
