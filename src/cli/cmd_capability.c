/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * capability grant|renew|revoke|list - who may do what at a server, by its control plane.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>

#include "base/base.h"
#include "cli/capability.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "front/grpc/client.h"

enum { OPT_RIGHTS, OPT_SUBJECT, OPT_EXPIRES, OPT_TENANT, OPT_IDS, OPT_BYTES, OPT_OPS, OPT_CONTROL };

#define EXPIRES "1d"

static const struct cli_opt opts[] = {
        [OPT_RIGHTS] =
                {'r', "rights", "LIST",
                 "read, write, append, setattr, list, remove, create, snapshot, admin; or ro "
                 "(default), rw, all"},
        [OPT_SUBJECT] = {0, "subject", "WHO",
                         "who has it without a token: uid:N, gid:N, cert:COMMON-NAME, anyone"},
        [OPT_EXPIRES] = {'e', "expires", "TIME",
                         "90s, 30m, 12h, 7d, or never (default of grant: " EXPIRES ")"},
        [OPT_TENANT] = {0, "tenant", "N", "whose limits and share apply (default: 0)"},
        [OPT_IDS] = {0, "ids", "MAP",
                     "user and group ids that may be given to files: any (default), UID:GID (all "
                     "are that), or FIRST-LAST,..."},
        [OPT_BYTES] = {0, "bytes-per-second", "SIZE", "a rate of its own"},
        [OPT_OPS] = {0, "ops-per-second", "N", "the same"},
        [OPT_CONTROL] = {0, "control", "ADDRESS",
                         "where the control plane is, HOST:PORT or unix:PATH (default: beside the "
                         "data plane)"},
        {0, NULL, NULL, NULL},
};

struct asked {
	struct cap_info info;
	const char *expires, *control;
	bool given; /* an option of grant's alone */
};

static int take(struct cli *cli, struct asked *a, int opt, const char *value)
{
	struct cap_info *i = &a->info;
	uint64_t n = 0;

	a->given |= opt != OPT_EXPIRES && opt != OPT_CONTROL;
	switch (opt) {
	case OPT_RIGHTS:
		if (!capability_rights(value, &i->rights))
			return cli_usage(cli, "--rights %s: write read, list, ro, rw, ...", value);
		break;
	case OPT_SUBJECT:
		if (strlen(value) >= sizeof(i->subject))
			return cli_usage(cli, "--subject: at most %zu bytes",
			                 sizeof(i->subject) - 1);
		if (!cap_subject_ok(value))
			return cli_usage(cli,
			                 "--subject %s: write uid:N, gid:N, cert:COMMON-NAME or "
			                 "anyone",
			                 value);
		(void)snprintf(i->subject, sizeof(i->subject), "%s", value);
		break;
	case OPT_EXPIRES:
		a->expires = value;
		break;
	case OPT_TENANT:
		if (cli_number(cli, "tenant", value, 0, TENANT_ID_MAX, &n) < 0)
			return CLI_USAGE;
		i->tenant = (uint32_t)n;
		break;
	case OPT_IDS:
		if (!capability_ids(value, i))
			return cli_usage(cli, "--ids %s: write any, UID:GID or FIRST-LAST,...",
			                 value);
		break;
	case OPT_BYTES:
		if (cli_size(cli, "bytes-per-second", value, &i->bytes_per_s) < 0)
			return CLI_USAGE;
		if (i->bytes_per_s < QOS_RATE_MIN || i->bytes_per_s > QOS_BYTES_MAX)
			return cli_usage(cli, "--bytes-per-second %s: 4k to 1t", value);
		break;
	case OPT_OPS:
		return cli_number(cli, "ops-per-second", value, 1, QOS_OPS_MAX, &i->ops_per_s) < 0
		               ? CLI_USAGE
		               : CLI_OK;
	default:
		a->control = value;
		break;
	}
	return CLI_OK;
}

static int refused(struct cli *cli, int rc, const char *what, const struct pst_err *err)
{
	if (rc == -EACCES)
		return cli_fail(
		        cli, 0,
		        "%s: refused: it takes the right admin on all containers: be the "
		        "server's user on its host, or show a token or a certificate with that",
		        what);
	return cli_fail(cli, 0, "%s: %s", what, err->text);
}

static int show(struct cli *cli, const struct cap_info *i, const char *token)
{
	if (cli->json)
		return cli_print_json(cli, json_pack("{s:o, s:s}", "capability", capability_json(i),
		                                     "token", token));
	if (token[0])
		printf("%s\n", token);
	return CLI_OK;
}

/* --- the verbs --- */

/* CONTAINER[:PREFIX], or "*" for all containers. */
static int take_scope(struct cli *cli, struct cap_info *i, const char *text)
{
	const char *colon = strchrnul(text, ':');
	size_t len = (size_t)(colon - text);

	if (!strcmp(text, "*"))
		return CLI_OK;
	if (!len || len > PST_NAME_MAX || strlen(colon) > CAP_PREFIX_MAX)
		return cli_usage(cli, "%s: not CONTAINER[:DIRECTORY] or '*'", text);
	memcpy(i->cont_name, text, len);
	(void)snprintf(i->prefix, sizeof(i->prefix), "%s", *colon ? colon + 1 : "");
	return CLI_OK;
}

static int do_grant(struct cli *cli, struct control *c, struct asked *a)
{
	char token[CAP_TOKEN_MAX] = "";
	struct pst_err err = {0};
	int rc, status = take_scope(cli, &a->info, cli->args[1]);

	if (status != CLI_OK)
		return status;
	if (!a->info.rights)
		(void)capability_rights("ro", &a->info.rights);
	rc = control_grant(c, &a->info, token, &err);
	if (rc == -ENOENT)
		return cli_fail(cli, 0, "%s: there is no such container or directory",
		                cli->args[1]);
	if (rc < 0)
		return refused(cli, rc, cli->args[1], &err);
	cli_note(cli, "granted capability %" PRIu64, a->info.id);
	return show(cli, &a->info, token);
}

static int by_number(struct cli *cli, struct control *c, struct asked *a, bool renew)
{
	char token[CAP_TOKEN_MAX] = "";
	struct pst_err err = {0};
	uint64_t number;
	int rc;

	if (cli_number(cli, "number", cli->args[1], 1, UINT64_MAX, &number) < 0)
		return CLI_USAGE;
	a->info.id = number;
	rc = renew ? control_renew(c, &a->info, token, &err) : control_revoke(c, &a->info, &err);
	if (rc == -ENOENT)
		return cli_fail(cli, 0, "%s: there is no such capability", cli->args[1]);
	if (rc == -EPERM)
		return cli_fail(cli, 0, "%s: the owner's: it is neither renewed nor revoked",
		                cli->args[1]);
	if (rc < 0)
		return refused(cli, rc, cli->args[1], &err);
	if (!renew)
		cli_note(cli, "revoked: nothing of it is going on any more");
	return renew || cli->json ? show(cli, &a->info, token) : CLI_OK;
}

static bool list_one(void *arg, const struct cap_info *i)
{
	json_t *list = arg;

	if (list)
		json_array_append_new(list, capability_json(i));
	else
		capability_print(i);
	return true;
}

static int do_list(struct cli *cli, struct control *c)
{
	json_t *list = cli->json ? json_array() : NULL;
	struct pst_err err = {0};
	int rc = control_list(c, list_one, list, &err);

	if (rc == 0)
		return list ? cli_print_json(cli, list) : CLI_OK;
	json_decref(list);
	return refused(cli, rc, "list", &err);
}

static int dispatch(struct cli *cli, struct asked *a)
{
	const char *verb = cli->args[0], *env = getenv("PENSTOCK_STORE");
	bool list = !strcmp(verb, "list"), grant = !strcmp(verb, "grant"),
	     renew = !strcmp(verb, "renew");
	struct pst_err err = {0};
	struct control *c;
	int status;

	if (!list && !grant && !renew && strcmp(verb, "revoke") != 0)
		return cli_usage(cli, "grant, renew, revoke or list?");
	if (cli->arg_count != (list ? 1 : 2))
		return cli_usage(cli,
		                 list    ? "list takes no operands"
		                 : grant ? "grant takes CONTAINER[:DIRECTORY] or '*'"
		                         : "%s takes a capability's number",
		                 verb);
	if (!grant && (a->given || (a->expires && !renew)))
		return cli_usage(cli, "%s: that option is grant's", verb);
	/* A default would shorten what was granted for long. */
	if (renew && !a->expires)
		return cli_usage(cli, "renew: until when? --expires 90s, 30m, 12h, 7d or never");
	if (!capability_expiry(a->expires ? a->expires : EXPIRES, clock_real_ns(),
	                       &a->info.expiry_ns))
		return cli_usage(cli, "--expires %s: write 90s, 30m, 12h, 7d or never", a->expires);
	if (!cli->store && (!env || !env[0]))
		return cli_usage(cli, "no store: give -s pst://HOST[:PORT] or set PENSTOCK_STORE");
	if (control_open(&c, cli->store ? cli->store : env, a->control, &err) < 0)
		return cli_fail(cli, 0, "%s", err.text);
	status = list ? do_list(cli, c) : grant ? do_grant(cli, c, a) : by_number(cli, c, a, renew);
	control_close(c);
	return status;
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct asked a = {0};
	const char *value;
	int opt, status;

	while ((opt = cli_option(cli, argc, argv, &value)) >= 0) {
		status = take(cli, &a, opt, value);
		if (status != CLI_OK)
			return status;
	}
	if (opt == -2)
		return cli_end_status(cli);
	status = cli_operand_count(cli, 1, 2);
	return status == CLI_OK ? dispatch(cli, &a) : status;
}

const struct cli_command cmd_capability = {
        .name = "capability",
        .args = "grant CONTAINER[:DIRECTORY]|'*' [--rights LIST] [--subject WHO] [--expires TIME]\n"
                "renew NUMBER --expires TIME\n"
                "revoke NUMBER\n"
                "list",
        .summary = "Say who may do what at a server",
        .help = "A capability allows what --rights says in one container, below one directory of\n"
                "it, or ('*') everywhere, until it expires. Who has it: whoever shows its token,\n"
                "which grant and renew print, and whom --subject names. A client shows the token\n"
                "in $PENSTOCK_TOKEN or as token=TEXT in the store's name; keep it as you would a\n"
                "password.\n"
                "\n"
                "A revoked capability ends at once: requests under way are stopped before the\n"
                "command returns. Renewing sets a new expiry; tokens and sessions go on.\n"
                "\n"
                "A capability is for the directory that was there when it was granted, wherever\n"
                "that is moved; list shows what its path was then. Another directory that has\n"
                "come to that path since is not covered.\n"
                "\n"
                "The store is a served one (pst://...): these calls go to the server's control\n"
                "plane, with the identity that the name's options give. They take the right\n"
                "admin on all containers, which the server's own user has on its host. Each of\n"
                "them is in the server's audit log, granted or refused.\n"
                "\n"
                "Examples:\n"
                "  penstock capability grant train --subject cert:node7 --expires 30d\n"
                "  export PENSTOCK_TOKEN=$(penstock -q capability grant train:/2026 -r rw -e 12h)\n"
                "  penstock capability list --json | jq '.[].id'\n"
                "  penstock capability revoke 17\n",
        .words = "grant renew revoke list",
        .opts = opts,
        .flags = CLI_JSON,
        .run = run,
};
