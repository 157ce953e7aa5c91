/* SPDX-License-Identifier: BSD-3-Clause */
/* nvme log - log pages, read a part at a time without making the controller forget events. */
#include "cli/nvme_show.h"

#include <errno.h>
#include <string.h>

#include "base/base.h"
#include "cli/attr.h"
#include "nvme/spec_fabrics.h"
#include "nvme/target.h"

#define LOG_BYTES_MAX (256 * 1024u)

static const struct page {
	const char *name;
	uint8_t lid;
	uint32_t bytes; /* 0: as it says itself, with --bytes */
} pages[] = {
        {"supported", NVME_LOG_SUPPORTED, 1024},
        {"error", NVME_LOG_ERROR, 64 * 64},
        {"smart", NVME_LOG_SMART, 512},
        {"firmware", NVME_LOG_FIRMWARE, 512},
        {"changed", NVME_LOG_CHANGED_NS, 4096},
        {"effects", NVME_LOG_EFFECTS, 4096},
        {"ana", NVME_LOG_ANA, 8192},
};

/* A page may end before @bytes: what lies behind stays zero. */
static int log_read(struct cli *cli, struct pst_nvme *n, uint8_t lid, uint8_t *buf, uint32_t bytes)
{
	for (uint32_t off = 0; off < bytes;) {
		uint32_t here = MIN(bytes - off, 4096u), dwords = here / 4 - 1;
		struct nvme_cmd cmd = {.opc = NVME_ADMIN_GET_LOG,
		                       .nsid = le32_make(NVME_NSID_ALL),
		                       .cdw10 = le32_make(lid | 1u << 15 | dwords << 16),
		                       .cdw12 = le32_make(off)};
		struct pst_nvme_sqe sqe;
		int status;

		memcpy(&sqe, &cmd, sizeof(sqe));
		if (off && pst_nvme_admin(n, &sqe, buf + off, here, NULL) == -EINVAL)
			return CLI_OK;
		status = off ? CLI_OK : nvme_cli_admin(cli, n, &cmd, buf, here, NULL, "log page");
		if (status != CLI_OK)
			return status;
		off += here;
	}
	return CLI_OK;
}

static json_t *smart_json(const uint8_t *buf)
{
	const struct nvme_smart *s = (const void *)buf;
	json_t *o = json_object();

	json_set_int(o, "critical_warning", s->critical_warning);
	json_set_int(o, "temperature_kelvin", s->temperature[0] | s->temperature[1] << 8);
	json_set_int(o, "spare_percent", s->avail_spare);
	json_set_int(o, "spare_threshold_percent", s->spare_threshold);
	json_set_int(o, "used_percent", s->percent_used);
	json_set_u128(o, "units_read", s->units_read);
	json_set_u128(o, "units_written", s->units_written);
	json_set_u128(o, "host_reads", s->host_reads);
	json_set_u128(o, "host_writes", s->host_writes);
	json_set_u128(o, "busy_minutes", s->busy_minutes);
	json_set_u128(o, "power_cycles", s->power_cycles);
	json_set_u128(o, "power_on_hours", s->power_on_hours);
	json_set_u128(o, "unsafe_shutdowns", s->unsafe_shutdowns);
	json_set_u128(o, "media_errors", s->media_errors);
	json_set_u128(o, "error_entries", s->error_entries);
	return o;
}

static json_t *error_json(const uint8_t *buf, uint32_t bytes)
{
	json_t *all = json_array();

	for (uint32_t off = 0; off + sizeof(struct nvme_error_entry) <= bytes;
	     off += sizeof(struct nvme_error_entry)) {
		const struct nvme_error_entry *e = (const void *)(buf + off);
		json_t *o;

		if (!e->error_count)
			continue;
		o = json_object();
		json_set_int(o, "count", le64_get(e->error_count));
		json_set_int(o, "queue", le16_get(e->sqid));
		json_set_int(o, "command", le16_get(e->cid));
		json_set_int(o, "status", le16_get(e->status) >> 1);
		json_set_int(o, "nsid", le32_get(e->nsid));
		json_set_int(o, "lba", le64_get(e->lba));
		json_array_append_new(all, o);
	}
	return all;
}

static json_t *ana_json(const uint8_t *buf, uint32_t bytes)
{
	const struct nvme_ana_log *log = (const void *)buf;
	json_t *all = json_array();
	uint32_t off = sizeof(*log);

	for (unsigned i = 0; i < le16_get(log->groups) && off + 32 <= bytes; i++) {
		struct nvme_ana_group g;
		json_t *o = json_object(), *ns = json_array();

		memcpy(&g, buf + off, sizeof(g));
		off += sizeof(g);
		json_set_int(o, "group", le32_get(g.group));
		json_set_text(o, "state", nvme_ana_text(g.state & 0xf));
		json_set_int(o, "changes", le64_get(g.change_count));
		for (uint32_t k = 0; k < le32_get(g.nsids) && off + 4 <= bytes; k++, off += 4) {
			le32 nsid;

			memcpy(&nsid, buf + off, sizeof(nsid));
			json_array_append_new(ns, json_integer(le32_get(nsid)));
		}
		json_object_set_new(o, "namespaces", ns);
		json_array_append_new(all, o);
	}
	return all;
}

/* Bits or words that are set, by their places: of supported pages, effects, changed namespaces. */
static json_t *words_json(const struct page *p, const uint8_t *buf, uint32_t bytes)
{
	json_t *all = json_array();

	for (uint32_t i = 0; i < bytes / 4; i++) {
		uint32_t v = le32_get(((const le32 *)(const void *)buf)[i]);
		json_t *o;

		if (!v)
			continue;
		if (p->lid == NVME_LOG_CHANGED_NS) {
			json_array_append_new(all, json_integer(v));
			continue;
		}
		o = json_object();
		if (p->lid == NVME_LOG_EFFECTS)
			json_set_text(o, "set", i < 256 ? "admin" : "io");
		json_set_int(o, p->lid == NVME_LOG_EFFECTS ? "opcode" : "page", i % 256);
		json_set_int(o, "flags", v);
		json_array_append_new(all, o);
	}
	return all;
}

static json_t *firmware_json(const uint8_t *buf)
{
	const struct nvme_fw_log *f = (const void *)buf;
	json_t *o = json_object(), *slots = json_array();
	char text[9];

	json_set_int(o, "active_slot", f->afi & 7);
	for (unsigned i = 0; i < 7; i++) {
		memcpy(text, f->frs[i], 8);
		text[8] = '\0';
		if (text[0])
			json_array_append_new(slots, json_string(text));
	}
	json_object_set_new(o, "slots", slots);
	return o;
}

static json_t *to_json(const struct page *p, const uint8_t *buf, uint32_t bytes)
{
	switch (p->lid) {
	case NVME_LOG_SMART:
		return smart_json(buf);
	case NVME_LOG_ERROR:
		return error_json(buf, bytes);
	case NVME_LOG_ANA:
		return ana_json(buf, bytes);
	case NVME_LOG_FIRMWARE:
		return firmware_json(buf);
	default:
		return words_json(p, buf, bytes);
	}
}

static void dump(const uint8_t *buf, uint32_t bytes)
{
	for (uint32_t i = 0; i < bytes; i += 16) {
		printf("%06x ", i);
		for (uint32_t k = i; k < MIN(i + 16, bytes); k++)
			printf(" %02x", buf[k]);
		putchar('\n');
	}
}

enum { OPT_BYTES, OPT_RAW };
static const struct cli_opt opts[] = {
        [OPT_BYTES] = {0, "bytes", "N", "how much of a page that is given by its number (512)"},
        [OPT_RAW] = {0, "raw", NULL, "the bytes, in hexadecimal"},
        {0, NULL, NULL, NULL},
};

static int find_page(struct cli *cli, const char *text, uint64_t bytes, struct page *ret)
{
	uint32_t lid;

	for (unsigned i = 0; i < ARRAY_LEN(pages); i++) {
		if (strcmp(pages[i].name, text) == 0) {
			*ret = pages[i];
			return 0;
		}
	}
	if (text[0] < '0' || text[0] > '9') {
		cli_usage(cli,
		          "there is no log page \"%s\": a number, supported, error, smart, "
		          "firmware, changed, effects or ana",
		          text);
		return -1;
	}
	if (nvme_cli_u32(cli, "log page", text, 255, &lid) < 0)
		return -1;
	*ret = (struct page){text, (uint8_t)lid, (uint32_t)ALIGN_UP(bytes, 4)};
	return 0;
}

static int read_and_show(struct cli *cli, struct pst_nvme *n, const struct page *p, bool raw)
{
	uint8_t *buf = mem_calloc(1, p->bytes);
	int status;

	if (!buf)
		return cli_fail(cli, -ENOMEM, "the log page");
	status = log_read(cli, n, p->lid, buf, p->bytes);
	if (status == CLI_OK && raw)
		dump(buf, p->bytes);
	else if (status == CLI_OK)
		status = nvme_cli_show(cli, to_json(p, buf, p->bytes));
	mem_free(buf);
	return status;
}

static int run(struct cli *cli, int argc, char **argv)
{
	uint64_t bytes = 512;
	struct pst_nvme *n = NULL;
	bool raw = false;
	const char *value;
	struct page p;
	int opt, status;

	while ((opt = cli_option(cli, argc, argv, &value)) >= 0) {
		if (opt == OPT_RAW)
			raw = true;
		else if (cli_number(cli, "bytes", value, 4, LOG_BYTES_MAX, &bytes) < 0)
			return CLI_USAGE;
	}
	if (opt == -2)
		return cli_end_status(cli);
	if (cli_operand_count(cli, 2, 2) != CLI_OK || find_page(cli, cli->args[1], bytes, &p) < 0)
		return CLI_USAGE;
	if (p.name == cli->args[1])
		raw = true; /* by number: nobody knows what it means */
	status = nvme_cli_open(cli, cli->args[0], &n);
	if (status != CLI_OK)
		return status;
	status = read_and_show(cli, n, &p, raw);
	pst_nvme_close(n);
	return status;
}

const struct cli_command nvme_log = {
        .name = "nvme log",
        .args = "DEVICE PAGE [--raw] [--bytes N]",
        .summary = "Show a log page of a controller",
        .help = "PAGE is supported, error, smart, firmware, changed, effects, ana, or a number.\n"
                "Reading it here clears no event.\n"
                "\n"
                "Examples:\n"
                "  penstock nvme log nvme+loop:disk smart\n"
                "  penstock nvme log nvme+loop:disk ana --json\n"
                "  penstock nvme log nvme+loop:disk 0x2 --bytes 64\n",
        .opts = opts,
        .flags = CLI_NO_STORE | CLI_JSON,
        .run = run,
};
