/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * scrub - read everything in the store, whoever it belongs to, and verify it.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>

#include "base/base.h"
#include "cli/attr.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/progress.h"
#include "cli/scrub_where.h"

enum { OPT_RATE };

#define TICK_NS (200 * NSEC_PER_MSEC)
#define BAD_MAX 100000 /* blocks that are told one by one */

static const struct cli_opt opts[] = {
        [OPT_RATE] = {0, "rate", "SIZE", "bytes per second at most (default: no limit)"},
        {0, NULL, NULL, NULL},
};

struct scrub {
	struct cli *cli;
	struct pst_scrub_report report;
	struct progress progress;
	struct scrub_bad *bad; /* not told yet */
	size_t bads, bads_cap;
	uint64_t told, untold; /* untold: beyond BAD_MAX, or for want of memory */
	uint64_t tell_at_ns;   /* not before that: finding paths takes time */
	json_t *json;
};

/* Must not call the library: it is told, with names, between turns. */
static void bad(struct pst_scrub_report *r, uint32_t cont, struct pst_oid oid, uint64_t off,
                int status)
{
	struct scrub *s = container_of(r, struct scrub, report);

	if (s->bads == s->bads_cap) {
		size_t cap = s->bads_cap ? 2 * s->bads_cap : 16;
		void *p = s->told + cap <= BAD_MAX ? mem_realloc(s->bad, cap * sizeof(*s->bad))
		                                   : NULL;

		if (!p) {
			s->untold++;
			return;
		}
		s->bad = p;
		s->bads_cap = cap;
	}
	s->bad[s->bads++] = (struct scrub_bad){
	        .cont = cont, .view = r->bad_view, .oid = oid, .off = off, .status = status};
}

static json_t *bad_json(const struct scrub_bad *b)
{
	const char *at = b->name ? strchr(b->name, '@') : NULL;
	char object[64], name[PST_NAME_MAX + 1];
	json_t *o = json_object();

	if (b->name) {
		(void)snprintf(name, sizeof(name), "%.*s",
		               at ? (int)(at - b->name) : (int)strlen(b->name), b->name);
		json_set_text(o, "container", name);
	} else {
		json_object_set_new(o, "container", json_null());
	}
	if (at)
		json_set_text(o, "snapshot", at + 1);
	(void)snprintf(object, sizeof(object), "0x%" PRIx64 ".0x%" PRIx64, b->oid.hi, b->oid.lo);
	json_set_text(o, "object", object);
	if (b->path)
		json_set_text(o, "path", b->path);
	else
		json_object_set_new(o, "path", json_null());
	json_object_set_new(o, "byte", json_integer((json_int_t)b->off));
	json_set_text(o, "error", cli_why(b->status));
	return o;
}

static void tell_one(struct scrub *s, const struct scrub_bad *b)
{
	if (s->json)
		json_array_append_new(s->json, bad_json(b));
	if (b->path)
		cli_fail(s->cli, b->status,
		         "%s:%s, byte %" PRIu64 " (object 0x%" PRIx64 ".0x%" PRIx64 ")", b->name,
		         b->path, b->off, b->oid.hi, b->oid.lo);
	else if (b->name)
		cli_fail(s->cli, b->status,
		         "container %s, object 0x%" PRIx64 ".0x%" PRIx64 ", byte %" PRIu64, b->name,
		         b->oid.hi, b->oid.lo, b->off);
	else
		cli_fail(s->cli, b->status,
		         "container number %" PRIu32 ", object 0x%" PRIx64 ".0x%" PRIx64
		         ", byte %" PRIu64,
		         b->cont, b->oid.hi, b->oid.lo, b->off);
}

/* Tells what was found since the last time. More may be found meanwhile. */
static void tell(struct scrub *s)
{
	struct scrub_bad *bad = s->bad;
	uint64_t since = clock_mono_ns();
	size_t n = s->bads;

	if (!n)
		return;
	s->bad = NULL;
	s->bads = s->bads_cap = 0;
	(void)scrub_where(s->cli, bad, n); /* without memory there are fewer names */
	progress_clear(&s->progress);
	for (size_t i = 0; i < n; i++)
		tell_one(s, &bad[i]);
	s->told += n;
	scrub_bad_free(bad, n);
	s->tell_at_ns = clock_mono_ns() + 10 * (clock_mono_ns() - since) + NSEC_PER_SEC;
}

static int run_scrub(struct scrub *s)
{
	struct pst_event e;
	struct pst_cq *cq;
	int rc = pst_cq_new(&cq, s->cli->client, 1), n;

	if (rc < 0)
		return rc;
	progress_start(&s->progress, s->cli, "scrubbing");
	rc = pst_client_scrub_async(s->cli->client, &s->report, cq, s);
	if (rc == 0) {
		while ((n = pst_cq_poll(cq, &e, 1, TICK_NS)) == 0) {
			s->progress.done_bytes = s->report.done_bytes;
			s->progress.total_bytes = s->report.total_bytes;
			progress_tick(&s->progress);
			if (clock_mono_ns() >= s->tell_at_ns)
				tell(s);
		}
		rc = n < 0 ? n : e.status;
	}
	pst_cq_free(cq);
	tell(s);
	progress_end(&s->progress);
	if (s->untold)
		cli_note(s->cli, "%" PRIu64 " more bad blocks are not listed", s->untold);
	return rc;
}

static int show(struct scrub *s)
{
	const struct pst_scrub_report *r = &s->report;
	double seconds = (double)(clock_mono_ns() - s->progress.start_ns) / 1e9;
	char size[32];

	if (s->cli->json) {
		json_t *o = json_pack("{s:I, s:I, s:I, s:I, s:f, s:O}", "bytes",
		                      (json_int_t)r->done_bytes, "objects", (json_int_t)r->objects,
		                      "errors", (json_int_t)r->errors, "repaired",
		                      (json_int_t)r->repaired, "seconds", seconds, "bad", s->json);

		if (cli_print_json(s->cli, o) != CLI_OK)
			return CLI_FAILED;
	} else {
		printf("scrubbed %s, %" PRIu64 " object%s in %.1f s: %" PRIu64 " error%s, %" PRIu64
		       " repaired\n",
		       format_size(r->done_bytes, size, sizeof(size)), r->objects,
		       PLURAL(r->objects), seconds, r->errors, PLURAL(r->errors), r->repaired);
	}
	return r->errors > r->repaired ? CLI_FAILED : CLI_OK;
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct scrub s = {.cli = cli, .report = {.bad = bad}};
	const char *value;
	int opt, rc, status;

	while ((opt = cli_option(cli, argc, argv, &value)) >= 0)
		if (cli_size(cli, "rate", value, &s.report.rate_bytes_per_s) < 0)
			return CLI_USAGE;
	if (opt == -2)
		return cli_end_status(cli);
	status = cli_operand_count(cli, 0, 0);
	if (status == CLI_OK)
		status = cli_open(cli, false);
	if (status != CLI_OK)
		return status;
	s.json = cli->json ? json_array() : NULL;
	rc = run_scrub(&s);
	if (rc == -EACCES)
		status = cli_fail(cli, 0, "that takes the right to manage the server");
	else
		status = rc < 0 ? cli_fail(cli, rc, "scrubbing") : show(&s);
	json_decref(s.json);
	return cli_close(cli, status);
}

const struct cli_command cmd_scrub = {
        .name = "scrub",
        .args = "[--rate SIZE]",
        .summary = "Read everything in the store and verify every checksum",
        .help = "All containers and snapshots, metadata too; what a mirror can repair is\n"
                "repaired. Each bad block is a line: the file (or the container and the object)\n"
                "and the byte. Exit status 1 if any is left.\n"
                "\n"
                "Examples:\n"
                "  penstock scrub\n"
                "  penstock scrub --rate 100m --json\n",
        .opts = opts,
        .flags = CLI_JSON | CLI_PROGRESS,
        .run = run,
};
