/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stat - attributes of a file, with its extended attributes.
 */
#include <inttypes.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/base.h"
#include "cli/attr.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/hostfile.h"

struct xattrs {
	struct cli *cli;
	struct pst_cont *cont;
	const char *path;
	json_t *json;
};

static bool one_xattr(void *arg, const char *name)
{
	struct xattrs *x = arg;
	static char value[PST_VALUE_MAX];
	char buf[PST_NAME_MAX + 1];
	json_t *key;
	uint32_t len;
	int rc = pst_fs_getxattr(x->cont, 0, x->path, name, value, sizeof(value), PST_F_NOFOLLOW,
	                         &len);

	if (rc < 0)
		return true; /* removed meanwhile */
	if (x->json) {
		key = json_bytes(name, strlen(name));
		json_object_set_new(x->json, json_string_value(key), json_integer((json_int_t)len));
		json_decref(key);
	} else {
		printf("xattr     %s (%" PRIu32 " bytes)\n", cli_name(name, buf, sizeof(buf)), len);
	}
	return true;
}

static void print_time(const char *what, int64_t ns)
{
	char when[32];

	printf("%-9s %s.%09ld\n", what, cli_time(ns, when), host_time(ns).tv_nsec);
}

static void print_attr(const struct pst_attr *a, const char *path, const char *target)
{
	char mode[12], alloc[32], buf[PST_PATH_MAX + 1], to[PST_PATH_MAX + 1];

	printf("path      %s%s%s\n", cli_name(path, buf, sizeof(buf)), target[0] ? " -> " : "",
	       cli_name(target, to, sizeof(to)));
	printf("type      %s\n", attr_type_name(a->mode));
	printf("mode      %s (%04o)\n", attr_mode_text(a->mode, mode), a->mode & 07777);
	printf("owner     %u:%u\n", a->uid, a->gid);
	printf("links     %u\n", a->nlink);
	printf("inode     %" PRIu64 "\n", a->ino);
	if (S_ISCHR(a->mode) || S_ISBLK(a->mode))
		printf("device    %u:%u\n", major(a->rdev), minor(a->rdev));
	printf("size      %" PRIu64 " (%s allocated)\n", a->size_bytes,
	       format_size(a->alloc_bytes, alloc, sizeof(alloc)));
	print_time("modified", a->mtime_ns);
	print_time("changed", a->ctime_ns);
	print_time("accessed", a->atime_ns);
	print_time("born", a->btime_ns);
}

static int stat_path(struct cli *cli, const struct cli_path *p, struct pst_cont *cont)
{
	char target[PST_PATH_MAX + 1] = "";
	struct xattrs x = {.cli = cli, .cont = cont, .path = p->path};
	struct pst_attr a;
	uint32_t len;
	int rc = pst_fs_stat(cont, 0, p->path, PST_F_NOFOLLOW, &a);

	if (rc == 0 && S_ISLNK(a.mode)) {
		rc = pst_fs_readlink(cont, 0, p->path, target, PST_PATH_MAX, &len);
		if (rc == 0)
			target[len] = 0;
	}
	if (rc < 0)
		return cli_fail(cli, rc, "%s", p->text);
	if (!cli->json)
		print_attr(&a, p->text, target);
	x.json = cli->json ? json_object() : NULL;
	rc = pst_fs_listxattr(cont, 0, p->path, PST_F_NOFOLLOW, one_xattr, &x);
	if (rc < 0) {
		json_decref(x.json);
		return cli_fail(cli, rc, "%s: listing extended attributes", p->text);
	}
	if (cli->json) {
		json_t *o = attr_json(p->text, &a, target[0] ? target : NULL);

		json_object_set_new(o, "xattrs", x.json);
		return cli_print_json(cli, o);
	}
	return CLI_OK;
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct pst_cont *cont;
	struct cli_path p;
	int status;

	if (cli_operands(cli, argc, argv, 1, 1) < 0)
		return cli_end_status(cli);
	status = cli_path_parse(cli, cli->args[0], &p);
	if (status == CLI_OK)
		status = cli_open(cli, true);
	if (status != CLI_OK)
		return status;
	status = cli_path_open(cli, &p, &cont);
	if (status == CLI_OK) {
		status = stat_path(cli, &p, cont);
		pst_cont_close(cont);
	}
	return cli_close(cli, status);
}

const struct cli_command cmd_stat = {
        .name = "stat",
        .args = "CONTAINER[@SNAPSHOT]:/path",
        .summary = "Show the attributes of a file or directory",
        .help = "A symbolic link is shown itself, with where it points.\n"
                "\n"
                "Examples:\n"
                "  penstock stat train:/shards/0001.tar\n"
                "  penstock stat train@v1:/ --json\n",
        .flags = CLI_JSON,
        .run = run,
};
