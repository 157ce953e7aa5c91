/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * status - how the store is.
 */
#include <inttypes.h>
#include <jansson.h>

#include "base/base.h"
#include "cli/attr.h"
#include "cli/cli.h"
#include "cli/commands.h"

#define PAGE_BYTES  4096u /* of the index */
#define OBJECTS_MIN 1000u /* of fewer no figure per object is shown */

/* Every counter of the status once: its name in JSON, and where it is. */
struct field {
	const char *name;
	size_t offset;
};
#define FIELD(name)                                            \
	{                                                      \
#name, offsetof(struct pst_store_status, name) \
	}

static const struct field fields[] = {
        FIELD(epoch),
        FIELD(size_bytes),
        FIELD(used_bytes),
        FIELD(free_bytes),
        FIELD(reserved_bytes),
        FIELD(objects),
        FIELD(containers),
        FIELD(index_bytes),
        FIELD(index_limit_bytes),
        FIELD(index_items),
        FIELD(index_pages),
        FIELD(extents),
        FIELD(csum_cache_bytes),
        FIELD(csum_cache_limit_bytes),
        FIELD(csum_hits),
        FIELD(csum_misses),
        FIELD(journal_bytes),
        FIELD(journal_used_bytes),
        FIELD(journal_cache_bytes),
        FIELD(commits),
        FIELD(commit_records),
        FIELD(checkpoints),
        FIELD(dev_read_bytes),
        FIELD(dev_write_bytes),
        FIELD(dev_flushes),
        FIELD(user_read_bytes),
        FIELD(user_write_bytes),
        FIELD(mirror_repairs),
        FIELD(csum_errors),
        {"refused_data", offsetof(struct pst_store_status, refused[PST_SCARCE_DATA])},
        {"refused_index", offsetof(struct pst_store_status, refused[PST_SCARCE_INDEX])},
        FIELD(recovery_ns),
        FIELD(recovery_records),
        FIELD(recovery_index_bytes),
        FIELD(connects),
        FIELD(fallbacks),
        FIELD(resent),
        FIELD(bounce_copies),
};

/* What part of its time a reactor was busy, in percent, since it began. */
static double busy(const struct pst_reactor_status *r)
{
	return r->up_ns ? 100.0 * (double)r->busy_ns / (double)r->up_ns : 0;
}

static json_t *reactors_json(const struct pst_store_status *s)
{
	json_t *all = json_array();

	for (unsigned i = 0; i < s->reactors; i++) {
		const struct pst_reactor_status *r = &s->reactor[i];
		json_t *o = json_pack("{s:I, s:I, s:I, s:f}", "up_ns", (json_int_t)r->up_ns,
		                      "busy_ns", (json_int_t)r->busy_ns, "ops", (json_int_t)r->ops,
		                      "busy_percent", busy(r));

		json_object_set_new(o, "core", r->core < 0 ? json_null() : json_integer(r->core));
		json_array_append_new(all, o);
	}
	return all;
}

/* Of the index's memory, what it is not using: pages that are kept for changes to come. */
static uint64_t index_spare(const struct pst_store_status *s)
{
	return s->index_bytes - MIN(s->index_bytes, s->index_pages * PAGE_BYTES);
}

static json_t *to_json(const struct pst_store_status *s)
{
	char uuid[37];
	json_t *o, *devices = json_array();

	cli_uuid(s->uuid, uuid);
	o = json_pack("{s:s, s:i, s:b}", "uuid", uuid, "shards", (int)s->shards, "stopped",
	              s->stopped);
	json_set_text(o, "stopped_why", s->stopped_why);
	for (unsigned i = 0; i < ARRAY_LEN(fields); i++)
		json_object_set_new(
		        o, fields[i].name,
		        json_integer((json_int_t) *
		                     (const uint64_t *)(const void *)((const char *)s +
		                                                      fields[i].offset)));
	for (unsigned i = 0; i < s->devices && i < PST_DEVICES_MAX; i++)
		json_array_append_new(devices,
		                      attr_device_json(s->device[i].name, s->device[i].size_bytes));
	json_object_set_new(o, "index_spare_bytes", json_integer((json_int_t)index_spare(s)));
	json_object_set_new(o, "devices", devices);
	json_object_set_new(o, "reactors", reactors_json(s));
	json_set_text(o, "label", s->label);
	json_set_text(o, "channel", s->channel);
	json_set_text(o, "fallback_why", s->fallback_why);
	json_set_text(o, "sealed", s->sealed);
	return o;
}

static void size_line(const char *what, uint64_t a, const char *of, uint64_t b, const char *rest)
{
	char ta[32], tb[32];

	printf("%-11s %s", what, format_size(a, ta, sizeof(ta)));
	if (of)
		printf(" %s %s", of, format_size(b, tb, sizeof(tb)));
	printf("%s\n", rest);
}

static void print_reactors(const struct pst_store_status *s)
{
	for (unsigned i = 0; i < s->reactors; i++) {
		const struct pst_reactor_status *r = &s->reactor[i];
		char core[32] = "any core";

		if (r->core >= 0)
			snprintf(core, sizeof(core), "core %d", r->core);
		printf("%-11s %s, busy %.1f %% of %.0f s, %" PRIu64 " op%s\n", i ? "" : "reactors",
		       core, busy(r), (double)r->up_ns / 1e9, r->ops, PLURAL(r->ops));
	}
}

/* Per object what is in use, and that where it says something of objects: each tree has a page, however little
 * is in it. */
static void print_index(const struct pst_store_status *s)
{
	uint64_t spare = index_spare(s);
	char text[96], size[32];
	int n;

	n = snprintf(text, sizeof(text), ", %s of it spare",
	             format_size(spare, size, sizeof(size)));
	if (s->objects >= OBJECTS_MIN)
		snprintf(text + n, sizeof(text) - (size_t)n, ", the rest is %.0f bytes per object",
		         (double)(s->index_bytes - spare) / (double)s->objects);
	size_line("index", s->index_bytes, "of", s->index_limit_bytes, text);
}

static void print_status(const struct pst_store_status *s)
{
	char uuid[37], text[128], why[sizeof(s->fallback_why)];

	cli_uuid(s->uuid, uuid);
	/* The first epoch is format's own. */
	printf("store       %s, opened %" PRIu64 " time%s, %u shard%s\n", uuid,
	       s->epoch ? s->epoch - 1 : 0, s->epoch == 2 ? "" : "s", s->shards,
	       s->shards == 1 ? "" : "s");
	if (s->label[0])
		printf("label       %s\n", cli_name(s->label, text, sizeof(text)));
	if (s->channel[0])
		printf("channel     %s, connected %" PRIu64 " time%s%s\n",
		       cli_name(s->channel, text, sizeof(text)), s->connects, PLURAL(s->connects),
		       s->fallback_why[0] ? ", NOT THE FIRST CHOICE" : "");
	if (s->fallback_why[0])
		printf("            %s\n", cli_name(s->fallback_why, why, sizeof(why)));
	if (s->sealed[0])
		printf("sealed      %s\n", cli_name(s->sealed, text, sizeof(text)));
	if (s->stopped)
		printf("STOPPED     %s\n", s->stopped_why);
	for (unsigned i = 0; i < s->devices && i < PST_DEVICES_MAX; i++) {
		size_line("device", s->device[i].size_bytes, NULL, 0, "");
		printf("            %s\n", s->device[i].name);
	}
	snprintf(text, sizeof(text), " used (%.1f %%)",
	         s->size_bytes ? 100.0 * (double)s->used_bytes / (double)s->size_bytes : 0.0);
	size_line("space", s->used_bytes, "of", s->size_bytes, text);
	printf("content     %" PRIu64 " object%s in %" PRIu64 " container%s, %" PRIu64
	       " extent%s\n",
	       s->objects, s->objects == 1 ? "" : "s", s->containers, s->containers == 1 ? "" : "s",
	       s->extents, s->extents == 1 ? "" : "s");
	print_index(s);
	snprintf(text, sizeof(text), ", %" PRIu64 " hits, %" PRIu64 " misses", s->csum_hits,
	         s->csum_misses);
	size_line("checksums", s->csum_cache_bytes, "of", s->csum_cache_limit_bytes, text);
	snprintf(text, sizeof(text), ", %" PRIu64 " commit%s, %" PRIu64 " checkpoint%s", s->commits,
	         s->commits == 1 ? "" : "s", s->checkpoints, s->checkpoints == 1 ? "" : "s");
	size_line("journal", s->journal_used_bytes, "of", s->journal_bytes, text);
	if (s->channel[0]) /* else this process has just begun */
		print_reactors(s);
	printf("recovery    %.3f s, %" PRIu64 " record%s\n", (double)s->recovery_ns / 1e9,
	       s->recovery_records, s->recovery_records == 1 ? "" : "s");
	printf("errors      %" PRIu64 " checksum errors, %" PRIu64 " repairs from a mirror\n",
	       s->csum_errors, s->mirror_repairs);
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct pst_store_status st;
	int status, rc;

	if (cli_operands(cli, argc, argv, 0, 0) < 0)
		return cli_end_status(cli);
	status = cli_open(cli, true);
	if (status != CLI_OK)
		return status;
	rc = pst_client_status(cli->client, &st);
	if (rc < 0)
		status = cli_fail(cli, rc, "asking the store");
	else if (cli->json)
		status = cli_print_json(cli, to_json(&st));
	else
		print_status(&st);
	return cli_close(cli, status);
}

const struct cli_command cmd_status = {
        .name = "status",
        .args = "",
        .summary = "Show how the store is: space, memory, journal, recovery, errors",
        .help = "Counters count from when the store was opened: by this command (local:DEV), or "
                "when\n"
                "its server began (pst://HOST); those of the channel from this connection. Nothing "
                "is\n"
                "changed: after a crash the log is read, and stays for who opens it to write.\n"
                "Of the index's memory some is spare: pages that are kept for changes to come.\n"
                "\n"
                "Examples:\n"
                "  penstock -s local:/srv/data.pst status\n"
                "  penstock -s pst://localhost status\n"
                "  penstock status --json | jq .used_bytes\n",
        .flags = CLI_JSON,
        .run = run,
};
