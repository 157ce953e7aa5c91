/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cat - write files to the standard output, with reads ahead of the writing.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "cli/cli.h"
#include "cli/attr.h"
#include "cli/commands.h"

#define CHUNK_BYTES (1u << 20)
#define DEPTH       8

struct slot {
	char *buf;
	bool done;
	int status;
	size_t len;
};

struct cat {
	struct cli *cli;
	struct pst_cq *cq;
	char *bufs;
	struct slot slots[DEPTH];
	bool out_failed; /* the standard output takes nothing more */
};

static int write_all(const char *buf, size_t len)
{
	while (len > 0) {
		ssize_t n = write(STDOUT_FILENO, buf, len);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			buf += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

static int wait_slot(struct cat *cat, struct slot *s)
{
	struct pst_event e[DEPTH];

	while (!s->done) {
		int n = pst_cq_poll(cat->cq, e, DEPTH, UINT64_MAX);

		if (n < 0)
			return n;
		for (int i = 0; i < n; i++) {
			struct slot *d = e[i].user_data;

			d->done = true;
			d->status = e[i].status;
			d->len = e[i].len;
		}
	}
	return s->status;
}

/* Reads chunk after chunk, DEPTH ahead, and writes them in order. */
static int copy_out(struct cat *cat, struct pst_cont *cont, uint64_t ino, uint64_t size)
{
	uint64_t chunks = DIV_ROUND_UP(size, CHUNK_BYTES), asked = 0;
	int rc = 0;

	for (uint64_t at = 0; at < chunks; at++) {
		struct slot *s = &cat->slots[at % DEPTH];

		for (; rc == 0 && asked < chunks && asked < at + DEPTH; asked++) {
			struct slot *next = &cat->slots[asked % DEPTH];

			next->done = false;
			rc = pst_fs_read_async(cont, ino, NULL, next->buf, CHUNK_BYTES,
			                       asked * CHUNK_BYTES, 0, cat->cq, next);
			if (rc < 0)
				next->done = true;
		}
		if (at >= asked)
			break;
		if (wait_slot(cat, s) < 0 && rc == 0)
			rc = s->status;
		if (rc == 0) {
			rc = write_all(s->buf, s->len);
			cat->out_failed = rc < 0;
		}
		if (rc < 0)
			chunks = MIN(chunks, asked); /* only wait for what is under way */
	}
	return rc;
}

static int cat_path(struct cat *cat, const char *text)
{
	struct cli *cli = cat->cli;
	struct pst_file *file = NULL;
	struct pst_cont *cont;
	struct cli_path p;
	struct pst_attr a;
	int rc, status = cli_path_parse(cli, text, &p);

	if (status == CLI_OK)
		status = cli_path_open(cli, &p, &cont);
	if (status != CLI_OK)
		return status;
	rc = pst_fs_stat(cont, 0, p.path, 0, &a);
	if (rc == 0 && S_ISDIR(a.mode))
		rc = -EISDIR;
	if (rc == 0 && !S_ISREG(a.mode)) {
		pst_cont_close(cont);
		return cli_fail(cli, 0, "%s: a %s, not a file", text, attr_type_name(a.mode));
	}
	/* Held open it stays whatever happens to its name; and under a capability for a directory a
	 * number alone opens nothing. */
	if (rc == 0)
		rc = pst_file_open(cont, 0, p.path, O_RDONLY, 0, &file);
	if (rc == 0)
		rc = copy_out(cat, cont, pst_file_ino(file), a.size_bytes);
	(void)pst_file_close(file);
	pst_cont_close(cont);
	if (cat->out_failed) /* not cli_why()'s words: they are about the store */
		return cli_fail(cli, 0, "writing to the standard output: %s", strerror(-rc));
	return rc < 0 ? cli_fail(cli, rc, "%s", text) : CLI_OK;
}

static int cat_all(struct cat *cat)
{
	struct cli *cli = cat->cli;
	void *bufs = NULL;
	int status = CLI_OK, rc = pst_cq_new(&cat->cq, cli->client, DEPTH);

	if (rc == 0)
		rc = pst_mem_alloc(cli->client, (size_t)DEPTH * CHUNK_BYTES, &bufs);
	if (rc < 0) {
		pst_cq_free(cat->cq);
		return cli_fail(cli, rc, "buffers");
	}
	for (int i = 0; i < DEPTH; i++)
		cat->slots[i].buf = (char *)bufs + (size_t)i * CHUNK_BYTES;
	for (int i = 0; i < cli->arg_count && !cat->out_failed; i++) {
		int one = cat_path(cat, cli->args[i]);

		status = one != CLI_OK ? one : status;
	}
	pst_cq_free(cat->cq);
	pst_mem_free(cli->client, bufs);
	return status;
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct cat cat = {.cli = cli};
	int status;

	if (cli_operands(cli, argc, argv, 1, -1) < 0)
		return cli_end_status(cli);
	status = cli_open(cli, true);
	return status == CLI_OK ? cli_close(cli, cat_all(&cat)) : status;
}

const struct cli_command cmd_cat = {
        .name = "cat",
        .args = "CONTAINER[@SNAPSHOT]:/path...",
        .summary = "Write files to the standard output",
        .help = "Every byte is verified against its checksum before it is written; on an error\n"
                "what came before it is written and the exit status is 1.\n"
                "\n"
                "Examples:\n"
                "  penstock cat train:/README | less\n"
                "  penstock cat train@v1:/shard-0001.tar | tar t\n",
        .run = run,
};
