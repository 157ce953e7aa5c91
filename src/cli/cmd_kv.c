/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kv put|get|del|list - the pairs of an object.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "cli/attr.h"
#include "cli/cli.h"
#include "cli/commands.h"

enum { OPT_PREFIX, OPT_VALUES, OPT_EXCL };

static const struct cli_opt opts[] = {
        [OPT_PREFIX] = {0, "prefix", "TEXT", "list: only keys that begin with it"},
        [OPT_VALUES] = {'l', "values", NULL, "list: values too"},
        [OPT_EXCL] = {0, "new", NULL, "put: fail if the key is there already"},
        {0, NULL, NULL, NULL},
};

struct kv {
	struct cli *cli;
	struct pst_cont *cont;
	struct pst_oid oid;
	const char *prefix;
	bool values, excl;
	json_t *json;
};

/* --- the verbs --- */

static int do_put(struct kv *kv, const char *key, const char *value)
{
	static char input[PST_VALUE_MAX + 1];
	size_t len;
	int rc;

	if (strcmp(value, "-") == 0) {
		len = fread(input, 1, sizeof(input), stdin);
		if (ferror(stdin))
			return cli_fail(kv->cli, -EIO, "reading the value");
		value = input;
	} else {
		len = strlen(value);
	}
	if (len > PST_VALUE_MAX)
		return cli_fail(kv->cli, 0, "the value is longer than %d bytes", PST_VALUE_MAX);
	rc = pst_kv_put(kv->cont, kv->oid, key, (uint32_t)strlen(key), value, (uint32_t)len,
	                kv->excl ? PST_F_EXCL : 0);
	if (rc == -EEXIST)
		return cli_fail(kv->cli, 0, "key \"%s\": it is there already", key);
	if (rc == -EINVAL || rc == -ENAMETOOLONG)
		return cli_fail(kv->cli, 0, "key \"%s\": a key has 1 to %d bytes", key,
		                PST_KEY_MAX);
	return rc < 0 ? cli_fail(kv->cli, rc, "key \"%s\"", key) : CLI_OK;
}

static int do_get(struct kv *kv, const char *key)
{
	static char value[PST_VALUE_MAX];
	uint32_t len;
	int rc = pst_kv_get(kv->cont, kv->oid, key, (uint32_t)strlen(key), value, sizeof(value),
	                    &len);

	if (rc == -ENOENT)
		return cli_fail(kv->cli, 0, "key \"%s\": there is no such key", key);
	if (rc < 0)
		return cli_fail(kv->cli, rc, "key \"%s\"", key);
	if (kv->cli->json)
		return cli_print_json(kv->cli, json_pack("{s:o, s:o}", "key",
		                                         json_bytes(key, (uint32_t)strlen(key)),
		                                         "value", json_bytes(value, len)));
	cli_print_raw(kv->cli, value, len);
	if (isatty(STDOUT_FILENO))
		putchar('\n');
	return CLI_OK;
}

static int do_del(struct kv *kv, const char *key)
{
	int rc = pst_kv_del(kv->cont, kv->oid, key, (uint32_t)strlen(key), PST_F_REPLACE);

	if (rc == -ENOENT)
		return cli_fail(kv->cli, 0, "key \"%s\": there is no such key", key);
	return rc < 0 ? cli_fail(kv->cli, rc, "key \"%s\"", key) : CLI_OK;
}

static bool list_one(void *arg, const struct pst_kv *e)
{
	struct kv *kv = arg;

	if (kv->json) {
		json_t *o = json_pack("{s:o}", "key", json_bytes(e->key, e->key_len));

		if (kv->values)
			json_object_set_new(o, "value",
			                    json_bytes(e->val ? e->val : "", e->val_len));
		json_array_append_new(kv->json, o);
		return true;
	}
	cli_print_bytes(kv->cli, e->key, e->key_len);
	if (kv->values) {
		putchar('\t');
		if (e->val)
			cli_print_bytes(kv->cli, e->val, e->val_len);
	}
	putchar('\n');
	return true;
}

static int do_list(struct kv *kv)
{
	uint32_t len = kv->prefix ? (uint32_t)strlen(kv->prefix) : 0;
	int rc;

	kv->json = kv->cli->json ? json_array() : NULL;
	rc = pst_kv_list(kv->cont, kv->oid, kv->prefix, len, NULL, 0, kv->values, list_one, kv);
	if (rc < 0) {
		json_decref(kv->json);
		return cli_fail(kv->cli, rc, "listing");
	}
	return kv->cli->json ? cli_print_json(kv->cli, kv->json) : CLI_OK;
}

/* --- the command line --- */

static int operands_of(const char *verb)
{
	static const struct {
		const char *verb;
		int count;
	} verbs[] = {{"put", 4}, {"get", 3}, {"del", 3}, {"list", 2}};

	for (unsigned i = 0; i < ARRAY_LEN(verbs); i++)
		if (strcmp(verbs[i].verb, verb) == 0)
			return verbs[i].count;
	return -1;
}

static int run_verb(struct kv *kv, const char *verb)
{
	char **a = kv->cli->args;

	if (strcmp(verb, "put") == 0)
		return do_put(kv, a[2], a[3]);
	if (strcmp(verb, "get") == 0)
		return do_get(kv, a[2]);
	if (strcmp(verb, "del") == 0)
		return do_del(kv, a[2]);
	return do_list(kv);
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct kv kv = {.cli = cli};
	struct cli_path p;
	const char *value;
	int opt, count, status;
	bool reads;

	while ((opt = cli_option(cli, argc, argv, &value)) >= 0) {
		kv.prefix = opt == OPT_PREFIX ? value : kv.prefix;
		kv.values |= opt == OPT_VALUES;
		kv.excl |= opt == OPT_EXCL;
	}
	if (opt == -2)
		return cli_end_status(cli);
	count = cli->arg_count ? operands_of(cli->args[0]) : -1;
	if (count < 0)
		return cli_usage(cli, "put, get, del or list?");
	if (strcmp(cli->args[0], "list") != 0 && (kv.prefix || kv.values))
		return cli_usage(cli, "%s: --prefix and --values are list's", cli->args[0]);
	if (strcmp(cli->args[0], "put") != 0 && kv.excl)
		return cli_usage(cli, "%s: --new is put's", cli->args[0]);
	status = cli_operand_count(cli, count, count);
	if (status == CLI_OK)
		status = cli_path_parse(cli, cli->args[1], &p);
	if (status != CLI_OK)
		return status;
	if (cli_oid_parse(p.path, &kv.oid) < 0)
		return cli_usage(
		        cli, "%s: the object is a number but 0, or HIGH.LOW (0x for hexadecimal)",
		        p.text);
	reads = strcmp(cli->args[0], "get") == 0 || strcmp(cli->args[0], "list") == 0;
	status = cli_open(cli, reads);
	if (status != CLI_OK)
		return status;
	status = cli_path_open(cli, &p, &kv.cont);
	if (status == CLI_OK) {
		status = run_verb(&kv, cli->args[0]);
		pst_cont_close(kv.cont);
	}
	return cli_close(cli, status);
}

const struct cli_command cmd_kv = {
        .name = "kv",
        .args = "put CONTAINER:OBJECT KEY VALUE [--new]\n"
                "get CONTAINER[@SNAPSHOT]:OBJECT KEY\n"
                "del CONTAINER:OBJECT KEY\n"
                "list CONTAINER[@SNAPSHOT]:OBJECT [--prefix TEXT] [--values]",
        .summary = "Put, get, delete and list key-values of an object",
        .help = "OBJECT is the object's id: a number, or HIGH.LOW for 128 bits. A VALUE of - is\n"
                "read from the standard input. Keys are listed in the order of their bytes. In\n"
                "JSON, what is no UTF-8 is written as \"hex:...\".\n"
                "\n"
                "Examples:\n"
                "  penstock container create cache --layout object\n"
                "  penstock kv put cache:7 greeting hello\n"
                "  penstock kv put cache:7 blob - < file\n"
                "  penstock kv get cache:7 greeting\n"
                "  penstock kv list cache:7 --values\n",
        .words = "put get del list",
        .opts = opts,
        .flags = CLI_JSON,
        .run = run,
};
