/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mkdir - make directories.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "cli/commands.h"

enum { OPT_PARENTS };

static const struct cli_opt opts[] = {
        [OPT_PARENTS] = {'p', "parents", NULL,
                         "make what is missing above it; no error if it is there"},
        {0, NULL, NULL, NULL},
};

/* mkdir -p: each prefix in turn. */
static int make_parents(struct pst_cont *cont, const char *path)
{
	char prefix[PST_PATH_MAX + 1];
	struct pst_attr a;
	int rc = 0;

	for (const char *end = path; rc == 0 && *end;) {
		size_t len;

		while (*end == '/')
			end++;
		end += strcspn(end, "/");
		len = (size_t)(end - path);
		memcpy(prefix, path, len);
		prefix[len] = 0;
		rc = pst_fs_mkdir(cont, 0, prefix, NULL, 0, 0, NULL);
		if (rc == -EEXIST) {
			rc = pst_fs_stat(cont, 0, prefix, 0, &a);
			if (rc == 0 && !S_ISDIR(a.mode))
				rc = -ENOTDIR;
		}
	}
	return rc;
}

static int make(struct cli *cli, const char *text, bool parents)
{
	struct pst_cont *cont;
	struct cli_path p;
	int rc, status = cli_path_parse(cli, text, &p);

	if (status == CLI_OK)
		status = cli_path_open(cli, &p, &cont);
	if (status != CLI_OK)
		return status;
	if (parents)
		rc = make_parents(cont, p.path);
	else
		rc = p.path[0] ? pst_fs_mkdir(cont, 0, p.path, NULL, 0, 0, NULL) : -EEXIST;
	pst_cont_close(cont);
	return rc < 0 ? cli_fail(cli, rc, "%s", text) : CLI_OK;
}

static int run(struct cli *cli, int argc, char **argv)
{
	const char *value;
	bool parents = false;
	int opt, status;

	while ((opt = cli_option(cli, argc, argv, &value)) >= 0)
		parents |= opt == OPT_PARENTS;
	if (opt == -2)
		return cli_end_status(cli);
	status = cli_operand_count(cli, 1, -1);
	if (status == CLI_OK)
		status = cli_open(cli, false);
	if (status != CLI_OK)
		return status;
	for (int i = 0; i < cli->arg_count; i++) {
		int one = make(cli, cli->args[i], parents);

		status = one != CLI_OK ? one : status;
	}
	return cli_close(cli, status);
}

const struct cli_command cmd_mkdir = {
        .name = "mkdir",
        .args = "[-p] CONTAINER:/path...",
        .summary = "Make directories",
        .help = "Examples:\n"
                "  penstock mkdir train:/shards\n"
                "  penstock mkdir -p train:/a/b/c\n",
        .opts = opts,
        .run = run,
};
