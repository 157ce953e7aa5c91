/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mv and ln - names within one container.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/base.h"
#include "cli/cli.h"
#include "cli/commands.h"

enum { MV_NO_CLOBBER, MV_EXCHANGE };

static const struct cli_opt mv_opts[] = {
        [MV_NO_CLOBBER] = {'n', "no-clobber", NULL, "fail if the new name is there already"},
        [MV_EXCHANGE] = {0, "exchange", NULL, "swap the two, in one step"},
        {0, NULL, NULL, NULL},
};

/* @to, or @to/BASENAME when it is a directory; in @buf. */
static int into_dir(struct pst_cont *cont, const char *from, const char *to,
                    char buf[PST_PATH_MAX + 1], const char **ret_to)
{
	struct pst_attr a;
	int rc = to[0] ? pst_fs_stat(cont, 0, to, 0, &a) : 0;
	int n;

	*ret_to = to;
	if (to[0] && (rc == -ENOENT || (rc == 0 && !S_ISDIR(a.mode))))
		return 0;
	if (rc < 0)
		return rc;
	n = snprintf(buf, PST_PATH_MAX + 1, "%s%s%s", to, to[0] ? "/" : "", cli_base_name(from));
	if (n > PST_PATH_MAX)
		return -ENAMETOOLONG;
	*ret_to = buf;
	return 0;
}

/* The two paths, and the container that both are in. */
static int two_paths(struct cli *cli, struct cli_path *from, struct cli_path *to,
                     struct pst_cont **ret_cont)
{
	int status = cli_path_parse(cli, cli->args[0], from);

	if (status == CLI_OK)
		status = cli_path_parse(cli, cli->args[1], to);
	if (status != CLI_OK)
		return status;
	if (strcmp(from->cont, to->cont) != 0)
		return cli_usage(cli, "%s and %s are in different containers", from->text,
		                 to->text);
	status = cli_open(cli, false);
	if (status != CLI_OK)
		return status;
	status = cli_path_open(cli, from, ret_cont);
	return status == CLI_OK ? CLI_OK : cli_close(cli, status);
}

static int run_mv(struct cli *cli, int argc, char **argv)
{
	char buf[PST_PATH_MAX + 1];
	struct cli_path from, to;
	struct pst_cont *cont = NULL;
	const char *value, *target;
	uint32_t flags = 0;
	int opt, rc, status;

	while ((opt = cli_option(cli, argc, argv, &value)) >= 0)
		flags |= opt == MV_NO_CLOBBER ? PST_F_EXCL : PST_F_EXCHANGE;
	if (opt == -2)
		return cli_end_status(cli);
	if (flags == (PST_F_EXCL | PST_F_EXCHANGE))
		return cli_usage(cli, "--no-clobber and --exchange don't go together");
	status = cli_operand_count(cli, 2, 2);
	if (status == CLI_OK)
		status = two_paths(cli, &from, &to, &cont);
	if (status != CLI_OK)
		return status;
	target = to.path;
	if (!from.path[0])
		rc = -EINVAL;
	else
		rc = flags & PST_F_EXCHANGE ? 0 : into_dir(cont, from.path, to.path, buf, &target);
	if (rc == 0)
		rc = pst_fs_rename(cont, 0, from.path, 0, target, flags);
	pst_cont_close(cont);
	if (rc < 0)
		status = cli_fail(cli, rc == -EINVAL ? 0 : rc, "%s to %s%s", from.text, to.text,
		                  rc == -EINVAL ? ": a directory can't be inside itself, and the "
		                                  "root has its place"
		                                : "");
	return cli_close(cli, status);
}

const struct cli_command cmd_mv = {
        .name = "mv",
        .args = "[-n] [--exchange] CONTAINER:/from CONTAINER:/to",
        .summary = "Rename or move a file or directory",
        .help = "One atomic step: who looks sees the old name or the new one, and a file that\n"
                "is replaced is never missing. Into a directory, when the new name is one. Both\n"
                "names are in the same container.\n"
                "\n"
                "Examples:\n"
                "  penstock mv train:/new.tar train:/shards/0007.tar\n"
                "  penstock mv --exchange train:/current train:/next\n",
        .opts = mv_opts,
        .run = run_mv,
};

/* --- ln --- */

enum { LN_SYMBOLIC };

static const struct cli_opt ln_opts[] = {
        [LN_SYMBOLIC] = {'s', "symbolic", NULL, "a symbolic link; TARGET is any text"},
        {0, NULL, NULL, NULL},
};

static int link_symbolic(struct cli *cli)
{
	char buf[PST_PATH_MAX + 1];
	struct pst_cont *cont = NULL;
	struct cli_path p;
	const char *target;
	int rc, status = cli_path_parse(cli, cli->args[1], &p);

	if (status == CLI_OK)
		status = cli_open(cli, false);
	if (status != CLI_OK)
		return status;
	status = cli_path_open(cli, &p, &cont);
	if (status != CLI_OK)
		return cli_close(cli, status);
	rc = into_dir(cont, cli->args[0], p.path, buf, &target);
	if (rc == 0)
		rc = pst_fs_symlink(cont, 0, target, cli->args[0], NULL, 0, 0, NULL);
	pst_cont_close(cont);
	return cli_close(cli, rc < 0 ? cli_fail(cli, rc, "%s", p.text) : CLI_OK);
}

static int run_ln(struct cli *cli, int argc, char **argv)
{
	char buf[PST_PATH_MAX + 1];
	struct cli_path from, to;
	struct pst_cont *cont = NULL;
	const char *value, *target;
	bool symbolic = false;
	int opt, rc, status;

	while ((opt = cli_option(cli, argc, argv, &value)) >= 0)
		symbolic |= opt == LN_SYMBOLIC;
	if (opt == -2)
		return cli_end_status(cli);
	status = cli_operand_count(cli, 2, 2);
	if (status != CLI_OK)
		return status;
	if (symbolic)
		return link_symbolic(cli);
	status = two_paths(cli, &from, &to, &cont);
	if (status != CLI_OK)
		return status;
	rc = into_dir(cont, from.path, to.path, buf, &target);
	if (rc == 0)
		rc = pst_fs_link(cont, 0, from.path, 0, target, 0);
	pst_cont_close(cont);
	if (rc < 0)
		status = cli_fail(cli, rc, "%s as %s", from.text, to.text);
	return cli_close(cli, status);
}

const struct cli_command cmd_ln = {
        .name = "ln",
        .args = "CONTAINER:/file CONTAINER:/name\n"
                "-s TARGET CONTAINER:/name",
        .summary = "Give a file a further name, or make a symbolic link",
        .help = "Examples:\n"
                "  penstock ln train:/shards/0007.tar train:/latest.tar\n"
                "  penstock ln -s shards/0007.tar train:/latest\n",
        .opts = ln_opts,
        .run = run_ln,
};
