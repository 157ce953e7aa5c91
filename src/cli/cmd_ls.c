/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ls - list directories.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/base.h"
#include "cli/attr.h"
#include "cli/cli.h"
#include "cli/commands.h"

enum { OPT_LONG, OPT_RECURSIVE, OPT_DIRECTORY };

static const struct cli_opt opts[] = {
        [OPT_LONG] = {'l', "long", NULL, "mode, links, owner, size and time too"},
        [OPT_RECURSIVE] = {'R', "recursive", NULL, "directories below too"},
        [OPT_DIRECTORY] = {'d', "directory", NULL, "a directory itself, not what is in it"},
        {0, NULL, NULL, NULL},
};

struct ls {
	struct cli *cli;
	struct pst_cont *cont;
	bool long_form, recursive, directory;
	json_t *json;
	int status;
};

/* Directories found in one, to be listed after it. */
struct subdirs {
	char **names;
	size_t count, cap;
};

struct listing {
	struct ls *ls;
	const char *dir; /* path of the directory, without leading slash */
	struct subdirs subdirs;
	int rc;
};

static void link_target(struct ls *ls, const char *path, char target[PST_PATH_MAX + 1])
{
	uint32_t len = 0;

	if (pst_fs_readlink(ls->cont, 0, path, target, PST_PATH_MAX, &len) < 0)
		len = 0;
	target[len] = 0;
}

static void print_long(const struct pst_attr *a)
{
	char mode[12], when[32], size[32];

	if (S_ISCHR(a->mode) || S_ISBLK(a->mode))
		snprintf(size, sizeof(size), "%u,%u", major(a->rdev), minor(a->rdev));
	else
		snprintf(size, sizeof(size), "%" PRIu64, a->size_bytes);
	printf("%s %3u %5u %5u %12s %s ", attr_mode_text(a->mode, mode), a->nlink, a->uid, a->gid,
	       size, cli_time(a->mtime_ns, when));
}

/* One line or one JSON object; @path: from the root, for link targets. */
static void show(struct ls *ls, const char *name, const char *path, const struct pst_attr *a)
{
	char target[PST_PATH_MAX + 1] = "", buf[PST_PATH_MAX + 1];
	bool link = S_ISLNK(a->mode);

	if (link && (ls->long_form || ls->json))
		link_target(ls, path, target);
	if (ls->json) {
		json_array_append_new(
		        ls->json, attr_json(ls->recursive ? path : name, a, link ? target : NULL));
		return;
	}
	if (ls->long_form)
		print_long(a);
	fputs(cli_name(name, buf, sizeof(buf)), stdout);
	if (target[0])
		printf(" -> %s", cli_name(target, buf, sizeof(buf)));
	putchar('\n');
}

static int subdirs_add(struct subdirs *s, char *name)
{
	if (s->count == s->cap) {
		size_t cap = s->cap ? 2 * s->cap : 16;
		char **names = mem_realloc(s->names, cap * sizeof(*names));

		if (!names)
			return -ENOMEM;
		s->names = names;
		s->cap = cap;
	}
	s->names[s->count++] = name;
	return 0;
}

static bool entry(void *arg, const struct pst_dirent *e)
{
	struct listing *l = arg;
	char *path = cli_join(l->dir, e->name);

	if (!path || !e->attr) {
		mem_free(path);
		l->rc = path ? -EIO : -ENOMEM;
		return false;
	}
	show(l->ls, e->name, path, e->attr);
	if (l->ls->recursive && S_ISDIR(e->attr->mode)) {
		l->rc = subdirs_add(&l->subdirs, path);
		if (l->rc == 0)
			return true;
	}
	mem_free(path);
	return l->rc == 0;
}

static void list_dir(struct ls *ls, const char *dir, bool first)
{
	struct listing l = {.ls = ls, .dir = dir};
	int rc;

	if (ls->recursive && !ls->json)
		printf("%s/%s:\n", first ? "" : "\n", dir);
	rc = pst_fs_list(ls->cont, 0, dir, NULL, true, entry, &l);
	if (rc == 0)
		rc = l.rc;
	if (rc < 0)
		ls->status = cli_fail(ls->cli, rc, "/%s", dir);
	for (size_t i = 0; i < l.subdirs.count; i++) {
		if (rc == 0)
			list_dir(ls, l.subdirs.names[i], false);
		mem_free(l.subdirs.names[i]);
	}
	mem_free(l.subdirs.names);
}

static void list_path(struct ls *ls, const struct cli_path *p)
{
	struct pst_attr a;
	int rc = pst_fs_stat(ls->cont, 0, p->path, PST_F_NOFOLLOW, &a);

	if (rc < 0) {
		ls->status = cli_fail(ls->cli, rc, "%s", p->text);
		return;
	}
	if (S_ISDIR(a.mode) && !ls->directory)
		list_dir(ls, p->path, true);
	else
		show(ls, p->path[0] ? p->path : "/", p->path, &a);
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct ls ls = {.cli = cli};
	struct cli_path p;
	const char *value;
	int opt, status;

	while ((opt = cli_option(cli, argc, argv, &value)) >= 0) {
		ls.long_form |= opt == OPT_LONG;
		ls.recursive |= opt == OPT_RECURSIVE;
		ls.directory |= opt == OPT_DIRECTORY;
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
	status = cli_path_open(cli, &p, &ls.cont);
	if (status == CLI_OK) {
		ls.json = cli->json ? json_array() : NULL;
		list_path(&ls, &p);
		pst_cont_close(ls.cont);
		status = ls.status;
		if (cli->json && cli_print_json(cli, ls.json) != CLI_OK)
			status = CLI_FAILED;
	}
	return cli_close(cli, status);
}

const struct cli_command cmd_ls = {
        .name = "ls",
        .args = "[-l] [-R] [-d] CONTAINER[@SNAPSHOT]:/path",
        .summary = "List a directory",
        .help = "Names come in the order of their bytes.\n"
                "\n"
                "Examples:\n"
                "  penstock ls train:/\n"
                "  penstock ls -l -R train@v1:/shards\n"
                "  penstock ls -R --json train:/ | jq 'map(.size_bytes) | add'\n",
        .opts = opts,
        .flags = CLI_JSON,
        .run = run,
};
