/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cli - what commands share: messages, the store, paths.
 */
#include "cli/cli.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include "base/base.h"
#include "cli/hostfile.h"

/* --- messages --- */

const char *cli_why(int rc)
{
	switch (rc) {
	case -EDQUOT:
		return "the container's quota is reached";
	case -ENOSPC:
		return "no space left in the store";
	case -EROFS:
		return "read-only (a snapshot, or a store opened for reading)";
	case -EIO:
		return "I/O error, or data that does not match its checksum";
	case -EOVERFLOW:
		return "too large";
	default:
		return strerror(-rc);
	}
}

/* Names are anything: on a terminal their control characters do nothing. */
static void print_text(const char *fmt, va_list ap)
{
	char *text;

	if (!isatty(STDERR_FILENO) || vasprintf(&text, fmt, ap) < 0) {
		vfprintf(stderr, fmt, ap);
		return;
	}
	for (char *c = text; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
	fputs(text, stderr);
	free(text);
}

/* Which space has run out, or why the store has stopped: it knows better than the number. */
static bool store_explains(struct cli *cli, int rc, struct pst_err *ret_err)
{
	return cli->client && pst_client_explain(cli->client, rc, ret_err) == 0 &&
	       strcmp(ret_err->text, strerror(-rc)) != 0;
}

/* Files are asked for in a container that has none. */
static bool has_no_files(struct cli *cli, int rc)
{
	struct pst_cont_info info;

	return rc == -ENOTSUP && cli->client && cli->cont[0] &&
	       pst_cont_get(cli->client, cli->cont, &info) == 0 && info.layout == PST_LAYOUT_OBJECT;
}

/* The store is asked before a word is printed: what it logs meanwhile is not in the middle of the line. */
static void print_error(struct cli *cli, int rc, const char *fmt, va_list ap)
{
	struct pst_err err;
	bool no_files = rc < 0 && has_no_files(cli, rc);
	bool explained = rc < 0 && !no_files && store_explains(cli, rc, &err);

	fflush(stdout);
	fprintf(stderr, "penstock: ");
	if (cli->command)
		fprintf(stderr, "%s: ", cli->command->name);
	print_text(fmt, ap);
	if (no_files)
		fprintf(stderr,
		        ": the layout of container %s is object: it has objects, and no files",
		        cli->cont);
	else if (rc < 0)
		fprintf(stderr, ": %s", explained ? err.text : cli_why(rc));
	fputc('\n', stderr);
}

int cli_fail(struct cli *cli, int rc, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	print_error(cli, rc, fmt, ap);
	va_end(ap);
	return CLI_FAILED;
}

int cli_usage(struct cli *cli, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	print_error(cli, 0, fmt, ap);
	va_end(ap);
	if (cli->command)
		fprintf(stderr, "Try: penstock %s --help\n", cli->command->name);
	else
		fprintf(stderr, "Try: penstock help\n");
	return CLI_USAGE;
}

static void log_to_stderr(void *arg, enum pst_log_level level, const char *line)
{
	static const char *const names[] = {"error", "warning", "info", "debug"};

	fprintf(stderr, "penstock: %s: %s\n", names[level], line);
}

void cli_log(const struct cli *cli)
{
	enum pst_log_level level = PST_LOG_WARN;

	if (cli->verbose)
		level = PST_LOG_INFO;
	else if (getenv("PENSTOCK_DEBUG"))
		level = PST_LOG_DEBUG;
	else if (cli->quiet)
		level = PST_LOG_ERROR;
	pst_log_set(log_to_stderr, NULL, level);
}

void cli_note(struct cli *cli, const char *fmt, ...)
{
	va_list ap;

	if (cli->quiet)
		return;
	va_start(ap, fmt);
	fflush(stdout);
	print_text(fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
}

/* --- the store --- */

int cli_open(struct cli *cli, bool read_only)
{
	struct pst_client_opts opts;
	struct pst_err err = {.text = ""};
	const char *store = cli->store ? cli->store : getenv("PENSTOCK_STORE");
	int rc;

	if (!store || !store[0])
		return cli_usage(cli, "no store: give -s STORE or set PENSTOCK_STORE");
	pst_client_opts_default(&opts, sizeof(opts));
	opts.drive = true;
	opts.read_only = read_only;
	rc = pst_client_open(&cli->client, store, &opts, &err);
	if (rc < 0)
		return cli_fail(cli, err.text[0] ? 0 : rc, "%s",
		                err.text[0] ? err.text : "opening the store");
	return CLI_OK;
}

int cli_devices(struct cli *cli)
{
	for (int i = 0; i < cli->arg_count; i++)
		if (!strncmp(cli->args[i], "pst:", 4) || !strncmp(cli->args[i], "local:", 6))
			return cli_usage(cli, "%s: that names a store, and this takes its devices",
			                 cli->args[i]);
	return CLI_OK;
}

int cli_close(struct cli *cli, int status)
{
	int rc = pst_client_close(cli->client);

	cli->client = NULL;
	if (rc < 0)
		return cli_fail(cli, rc, "closing the store");
	return status;
}

/* --- printing --- */

/* What is large goes past the buffer: if it fails now, nothing will be left to try again. */
void cli_print_raw(struct cli *cli, const void *bytes, size_t len)
{
	errno = 0;
	fwrite(bytes, 1, len, stdout); /* what it returns may be good, and the stream not */
	if (ferror(stdout) && !cli->out_errno)
		cli->out_errno = errno;
}

static int dump(const char *text, size_t len, void *arg)
{
	cli_print_raw(arg, text, len);
	return ferror(stdout) ? -1 : 0;
}

int cli_print_json(struct cli *cli, json_t *value)
{
	int rc = value ? json_dump_callback(value, dump, cli,
	                                    JSON_INDENT(2) | JSON_REAL_PRECISION(9))
	               : -1;

	json_decref(value);
	if (rc < 0 && ferror(stdout))
		return CLI_FAILED; /* told when the command ends, as of any other output */
	if (rc < 0)
		return cli_fail(cli, -ENOMEM, "writing JSON");
	putchar('\n');
	return CLI_OK;
}

const char *cli_time(int64_t ns, char buf[32])
{
	time_t t = host_time(ns).tv_sec;
	struct tm tm;

	localtime_r(&t, &tm);
	strftime(buf, 32, "%Y-%m-%d %H:%M:%S", &tm);
	return buf;
}

const char *cli_name(const char *name, char *buf, size_t buf_len)
{
	size_t i;

	if (!isatty(STDOUT_FILENO))
		return name;
	for (i = 0; name[i] && i + 1 < buf_len; i++)
		buf[i] = (unsigned char)name[i] < 0x20 || name[i] == 0x7f ? '?' : name[i];
	buf[i] = 0;
	return buf;
}

void cli_print_bytes(struct cli *cli, const void *bytes, size_t len)
{
	const unsigned char *c = bytes;

	if (!isatty(STDOUT_FILENO))
		cli_print_raw(cli, bytes, len);
	else
		for (size_t i = 0; i < len; i++)
			putchar(c[i] < 0x20 || c[i] == 0x7f ? '?' : c[i]);
}

void cli_uuid(const uint8_t uuid[16], char buf[37])
{
	uuid_unparse_lower(uuid, buf);
}

/* --- paths --- */

/* What stands before the colon is a container's name if no slash is in it. */
bool cli_is_store_path(const char *text)
{
	const char *colon = strchr(text, ':');

	return colon && colon != text && !memchr(text, '/', (size_t)(colon - text));
}

int cli_path_parse(struct cli *cli, const char *text, struct cli_path *ret_path)
{
	const char *colon = strchr(text, ':');
	size_t len;

	if (!cli_is_store_path(text))
		return cli_usage(cli, "%s: not a path on the store (CONTAINER:/path)", text);
	len = (size_t)(colon - text);
	if (len >= sizeof(ret_path->cont))
		return cli_usage(cli, "%.40s...: the container's name is too long", text);
	memcpy(ret_path->cont, text, len);
	ret_path->cont[len] = 0;
	ret_path->path = colon + 1;
	while (*ret_path->path == '/')
		ret_path->path++;
	ret_path->text = text;
	if (strlen(ret_path->path) > PST_PATH_MAX)
		return cli_usage(cli, "%.40s...: the path is longer than %d bytes", text,
		                 PST_PATH_MAX);
	return CLI_OK;
}

int cli_cont_open(struct cli *cli, const char *name, struct pst_cont **ret_cont)
{
	int rc = pst_cont_open(cli->client, name, ret_cont);

	(void)snprintf(cli->cont, sizeof(cli->cont), "%.*s", (int)strcspn(name, "@"), name);
	if (rc == -ENOENT)
		return cli_fail(cli, 0, "%s: there is no such %s", name,
		                strchr(name, '@') ? "container or snapshot" : "container");
	if (rc == -EINVAL)
		return cli_fail(cli, 0, "%s: neither CONTAINER nor CONTAINER@SNAPSHOT", name);
	if (rc < 0)
		return cli_fail(cli, rc, "opening %s", name);
	return CLI_OK;
}

int cli_path_open(struct cli *cli, const struct cli_path *p, struct pst_cont **ret_cont)
{
	return cli_cont_open(cli, p->cont, ret_cont);
}

const char *cli_base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

char *cli_join(const char *dir, const char *name)
{
	size_t a = strlen(dir), b = strlen(name);
	bool slash = a > 0 && b > 0 && dir[a - 1] != '/';
	char *path = mem_alloc(a + b + 2);

	if (!path)
		return NULL;
	snprintf(path, a + b + 2, "%s%s%s", dir, slash ? "/" : "", name);
	return path;
}

int cli_u64(const char *text, uint64_t *ret_number, const char **ret_end)
{
	bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
	unsigned long long n;
	char *end;

	/* strtoull() would take blanks, signs, and a leading zero for octal. */
	if (text[0] < '0' || text[0] > '9')
		return -EINVAL;
	errno = 0;
	n = strtoull(text, &end, hex ? 16 : 10);
	if (errno)
		return -errno;
	*ret_number = n;
	*ret_end = end;
	return 0;
}

int cli_oid_parse(const char *text, struct pst_oid *ret_oid)
{
	struct pst_oid oid = {0};
	const char *end = text;

	if (cli_u64(text, &oid.lo, &end) < 0)
		return -EINVAL;
	if (*end == '.') {
		oid.hi = oid.lo;
		if (cli_u64(end + 1, &oid.lo, &end) < 0)
			return -EINVAL;
	}
	if (*end || (!oid.hi && !oid.lo))
		return -EINVAL;
	*ret_oid = oid;
	return 0;
}
