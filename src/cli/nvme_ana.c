/* SPDX-License-Identifier: BSD-3-Clause */
/* nvme ana - a target's ANA states, and what else it says of itself. */
#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "base/base.h"
#include "cli/attr.h"
#include "cli/nvme.h"
#include "nvme/shm.h"
#include "nvme/target.h"

static int say(struct cli *cli, const char *name, const char *command, char *text, size_t size)
{
	struct pst_err err = {0};
	int rc = nvme_shm_control(name, command, text, size, &err);

	return rc ? cli_fail(cli, 0, "%s", err.text) : CLI_OK;
}

/* A line of the status ("ana PORT GROUP STATE" and others) as JSON. */
static void line_to_json(json_t *o, const char *line)
{
	unsigned port, group, cntlid, lba;
	unsigned long long commands, errors;
	char a[512], b[512];

	if (sscanf(line, "nqn %511s", a) == 1) {
		json_set_text(o, "nqn", a);
	} else if (sscanf(line, "port %u %511s %511s", &port, a, b) == 3) {
		json_t *p = json_pack("{s:i}", "port", (int)port);

		json_set_text(p, "kind", a);
		json_set_text(p, "address", b);
		json_array_append_new(json_object_get(o, "ports"), p);
	} else if (sscanf(line, "ana %u %u %511s", &port, &group, a) == 3) {
		json_array_append_new(json_object_get(o, "ana"),
		                      json_pack("{s:i, s:i, s:s}", "port", (int)port, "group",
		                                (int)group, "state", a));
	} else if (sscanf(line, "namespace %u %llu %u %u", &port, &commands, &lba, &group) == 4) {
		json_array_append_new(json_object_get(o, "namespaces"),
		                      json_pack("{s:i, s:I, s:i, s:i}", "nsid", (int)port, "blocks",
		                                (json_int_t)commands, "block_bytes", (int)lba,
		                                "group", (int)group));
	} else if (sscanf(line, "host %u %u %llu %llu %511s", &port, &cntlid, &commands, &errors,
	                  a) == 5) {
		json_t *h = json_pack("{s:i, s:i, s:I, s:I}", "port", (int)port, "controller",
		                      (int)cntlid, "commands", (json_int_t)commands, "errors",
		                      (json_int_t)errors);

		json_set_text(h, "nqn", a);
		json_array_append_new(json_object_get(o, "hosts"), h);
	}
}

static json_t *to_json(char *text)
{
	json_t *o = json_pack("{s:[], s:[], s:[], s:[]}", "ports", "ana", "namespaces", "hosts");
	char *save = NULL;

	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
		line_to_json(o, l);
	return o;
}

static void print(char *text)
{
	unsigned port, group, cntlid;
	unsigned long long commands, errors;
	char *save = NULL, a[512];

	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		if (sscanf(l, "ana %u %u %511s", &port, &group, a) == 3)
			printf("  port %u group %-3u %s\n", port, group, a);
		else if (sscanf(l, "host %u %u %llu %llu %511s", &port, &cntlid, &commands, &errors,
		                a) == 5)
			printf("  port %u controller %u: %s, %llu commands\n", port, cntlid, a,
			       commands);
		else if (strncmp(l, "namespace ", 10) != 0)
			printf("%s\n", l);
	}
}

static int run(struct cli *cli, int argc, char **argv)
{
	char command[256], text[SHM_TEXT_MAX];
	const char *name;
	int status;

	if (cli_operands(cli, argc, argv, 1, -1) < 0)
		return cli_end_status(cli);
	name = cli->args[0];
	for (int i = 1; i < cli->arg_count; i++) {
		enum nvme_ana_state state;
		uint32_t group;
		unsigned port;

		if (nvme_ana_parse_rule(cli->args[i], &port, &group, &state))
			return cli_usage(cli, "%s: not [PORT:]GROUP=STATE", cli->args[i]);
	}
	for (int i = 1; i < cli->arg_count; i++) {
		snprintf(command, sizeof(command), "ana %s", cli->args[i]);
		status = say(cli, name, command, text, sizeof(text));
		if (status != CLI_OK)
			return status;
	}
	if (cli->arg_count > 1 && !cli->json)
		return CLI_OK;
	status = say(cli, name, "status", text, sizeof(text));
	if (status != CLI_OK)
		return status;
	if (cli->json)
		return cli_print_json(cli, to_json(text));
	print(text);
	return CLI_OK;
}

const struct cli_command nvme_ana = {
        .name = "nvme ana",
        .args = "NAME [[PORT:]GROUP=STATE...]",
        .summary = "See or change a target's ANA states while it runs",
        .help = "NAME is what the target was given with --loop or --control. Without a rule its\n"
                "ports, their ANA states and its hosts are shown. A rule sets the state of a "
                "group\n"
                "of namespaces, through one port or through all: optimized, non-optimized,\n"
                "inaccessible, persistent-loss, change. Hosts are told at once.\n"
                "\n"
                "Examples:\n"
                "  penstock nvme ana disk\n"
                "  penstock nvme ana disk 1:1=inaccessible 2:1=optimized\n",
        .flags = CLI_NO_STORE | CLI_JSON,
        .run = run,
};
