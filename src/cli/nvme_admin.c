/* SPDX-License-Identifier: BSD-3-Clause */
/* nvme feature, nvme format, nvme reset - what changes a controller. */
#include "cli/nvme_show.h"

#include <errno.h>
#include <string.h>

#include "base/base.h"
#include "cli/attr.h"

/* --- feature --- */

static const struct {
	const char *name;
	uint8_t fid;
} features[] = {
        {"arbitration", NVME_FEAT_ARBITRATION},
        {"power", NVME_FEAT_POWER},
        {"temperature", NVME_FEAT_TEMPERATURE},
        {"error-recovery", NVME_FEAT_ERROR_RECOVERY},
        {"write-cache", NVME_FEAT_WRITE_CACHE},
        {"queues", NVME_FEAT_QUEUES},
        {"coalescing", NVME_FEAT_COALESCING},
        {"atomicity", NVME_FEAT_ATOMICITY},
        {"events", NVME_FEAT_ASYNC},
        {"keep-alive", NVME_FEAT_KEEP_ALIVE},
};

static int feature_id(struct cli *cli, const char *text, uint32_t *ret_fid)
{
	for (unsigned i = 0; i < ARRAY_LEN(features); i++) {
		if (strcmp(features[i].name, text) == 0) {
			*ret_fid = features[i].fid;
			return 0;
		}
	}
	if (text[0] < '0' || text[0] > '9') {
		cli_usage(cli,
		          "there is no feature \"%s\": a number, arbitration, power, temperature, "
		          "error-recovery, write-cache, queues, coalescing, atomicity, events or "
		          "keep-alive",
		          text);
		return -1;
	}
	return nvme_cli_u32(cli, "feature", text, 255, ret_fid);
}

static int feature_do(struct cli *cli, struct pst_nvme *n, uint32_t fid, const uint32_t *value)
{
	struct nvme_cmd cmd = {.opc = value ? NVME_ADMIN_SET_FEATURES : NVME_ADMIN_GET_FEATURES,
	                       .cdw10 = le32_make(fid),
	                       .cdw11 = le32_make(value ? *value : 0)};
	uint32_t dw0 = 0;
	int status = nvme_cli_admin(cli, n, &cmd, NULL, 0, &dw0, "feature");
	json_t *o;

	if (status != CLI_OK || (value && !cli->json))
		return status;
	o = json_object();
	json_set_int(o, "feature", fid);
	json_set_int(o, "value", value ? *value : dw0);
	return nvme_cli_show(cli, o);
}

/* All that have names; a controller need not have each. */
static int features_show(struct cli *cli, struct pst_nvme *n)
{
	json_t *all = json_array();

	for (unsigned i = 0; i < ARRAY_LEN(features); i++) {
		struct pst_nvme_sqe cmd = {.opc = NVME_ADMIN_GET_FEATURES,
		                           .cdw10 = features[i].fid};
		struct pst_nvme_cqe cqe;
		int rc = pst_nvme_admin(n, &cmd, NULL, 0, &cqe);
		json_t *o;

		if (rc == -ENODEV || rc == -EIO) {
			json_decref(all);
			return cli_fail(cli, rc, "feature %s", features[i].name);
		}
		if (rc)
			continue;
		o = json_object();
		json_set_text(o, "name", features[i].name);
		json_set_int(o, "feature", features[i].fid);
		json_set_int(o, "value", cqe.dw0);
		json_array_append_new(all, o);
	}
	return nvme_cli_show(cli, all);
}

static int run_feature(struct cli *cli, int argc, char **argv)
{
	uint32_t fid = 0, value = 0;
	struct pst_nvme *n = NULL;
	int status;

	if (cli_operands(cli, argc, argv, 1, 3) < 0)
		return cli_end_status(cli);
	if (cli->arg_count > 1 && feature_id(cli, cli->args[1], &fid) < 0)
		return CLI_USAGE;
	if (cli->arg_count == 3 && nvme_cli_u32(cli, "value", cli->args[2], UINT32_MAX, &value) < 0)
		return CLI_USAGE;
	status = nvme_cli_open(cli, cli->args[0], &n);
	if (status != CLI_OK)
		return status;
	status = cli->arg_count == 1 ? features_show(cli, n)
	                             : feature_do(cli, n, fid, cli->arg_count == 3 ? &value : NULL);
	pst_nvme_close(n);
	return status;
}

const struct cli_command nvme_feature = {
        .name = "nvme feature",
        .args = "DEVICE [FEATURE [VALUE]]",
        .summary = "See the features of a controller, see or set one",
        .help = "FEATURE is arbitration, power, temperature, error-recovery, write-cache, queues,\n"
                "coalescing, atomicity, events, keep-alive, or a number; VALUE is dword 11 of Set\n"
                "Features. What is set lasts as long as the controller: a target makes a new one\n"
                "for each host that connects.\n"
                "\n"
                "Examples:\n"
                "  penstock nvme feature nvme+loop:disk\n"
                "  penstock nvme feature nvme+loop:disk write-cache\n"
                "  penstock nvme feature nvme+loop:disk 0x0b 0x100\n",
        .flags = CLI_NO_STORE | CLI_JSON,
        .run = run_feature,
};

/* --- format --- */

enum { OPT_NSID, OPT_BLOCK, OPT_ERASE, OPT_FORCE };
static const struct cli_opt format_opts[] = {
        [OPT_NSID] = {0, "nsid", "N", "the namespace (needed)"},
        [OPT_BLOCK] = {0, "block", "BYTES", "size of a block from now on (as it is)"},
        [OPT_ERASE] = {0, "erase", NULL, "ask for an erase of user data, not only a format"},
        [OPT_FORCE] = {0, "force", NULL, "needed: all data of the namespace are lost"},
        {0, NULL, NULL, NULL},
};

/* The index of the format with blocks of @block bytes (0: the one in use) and no metadata. */
static int format_index(struct cli *cli, struct pst_nvme *n, uint32_t nsid, uint64_t block,
                        uint32_t *ret_index)
{
	struct nvme_id_ns id;
	int status = nvme_cli_identify(cli, n, NVME_CNS_NS, nsid, &id);

	if (status != CLI_OK)
		return status;
	if (!id.nsze)
		return cli_fail(cli, 0, "there is no namespace %u", nsid);
	if (!block) {
		*ret_index = NVME_FLBAS_INDEX(id.flbas);
		return CLI_OK;
	}
	for (uint32_t i = 0; i <= id.nlbaf && i < 64; i++) {
		if (id.lbaf[i].lbads < 32 && 1ull << id.lbaf[i].lbads == block && !id.lbaf[i].ms) {
			*ret_index = i;
			return CLI_OK;
		}
	}
	return cli_fail(cli, 0, "namespace %u has no format with blocks of %llu bytes", nsid,
	                (unsigned long long)block);
}

/* What it is now, for programs. */
static int format_show(struct cli *cli, struct pst_nvme *n, uint32_t nsid)
{
	struct nvme_id_ns id;
	int status = nvme_cli_identify(cli, n, NVME_CNS_NS, nsid, &id);
	unsigned shift;
	json_t *o;

	if (status != CLI_OK)
		return status;
	shift = id.lbaf[NVME_FLBAS_INDEX(id.flbas)].lbads;
	o = json_object();
	json_set_text(o, "device", cli->args[0]);
	json_set_int(o, "nsid", nsid);
	json_set_int(o, "block_bytes", shift < 32 ? 1ull << shift : 0);
	json_set_int(o, "size_blocks", le64_get(id.nsze));
	return cli_print_json(cli, o);
}

static int format_do(struct cli *cli, struct pst_nvme *n, uint32_t nsid, uint64_t block, bool erase)
{
	struct nvme_cmd cmd = {.opc = NVME_ADMIN_FORMAT, .nsid = le32_make(nsid)};
	uint32_t index = 0;
	int status = format_index(cli, n, nsid, block, &index);

	if (status != CLI_OK)
		return status;
	cmd.cdw10 = le32_make((index & 0xf) | (index >> 4 & 3) << 12 | (erase ? 1u << 9 : 0));
	status = nvme_cli_admin(cli, n, &cmd, NULL, 0, NULL, "format");
	return status == CLI_OK && cli->json ? format_show(cli, n, nsid) : status;
}

static int run_format(struct cli *cli, int argc, char **argv)
{
	bool force = false, erase = false;
	uint64_t nsid = 0, block = 0;
	struct pst_nvme *n = NULL;
	const char *value;
	int opt, status;

	while ((opt = cli_option(cli, argc, argv, &value)) >= 0) {
		if ((opt == OPT_NSID &&
		     cli_number(cli, "nsid", value, 1, UINT32_MAX - 1, &nsid) < 0) ||
		    (opt == OPT_BLOCK && cli_number(cli, "block", value, 512, 65536, &block) < 0))
			return CLI_USAGE;
		force |= opt == OPT_FORCE;
		erase |= opt == OPT_ERASE;
	}
	if (opt == -2)
		return cli_end_status(cli);
	if (cli_operand_count(cli, 1, 1) != CLI_OK)
		return CLI_USAGE;
	if (!nsid)
		return cli_usage(cli, "--nsid: which namespace?");
	if (!force)
		return cli_fail(cli, 0, "%s: all data of namespace %u would be lost: --force",
		                cli->args[0], (unsigned)nsid);
	status = nvme_cli_open(cli, cli->args[0], &n);
	if (status != CLI_OK)
		return status;
	status = format_do(cli, n, (uint32_t)nsid, block, erase);
	pst_nvme_close(n);
	return status;
}

const struct cli_command nvme_format = {
        .name = "nvme format",
        .args = "DEVICE --nsid N [--block BYTES] [--erase] --force",
        .summary = "Format a namespace: all its data are lost",
        .help = "Sends Format NVM. The size of a block can be changed on the way, to one that the\n"
                "namespace has a format for (penstock nvme identify DEVICE --nsid N).\n"
                "\n"
                "Example:\n"
                "  penstock nvme format nvme+loop:disk --nsid 1 --block 4096 --force\n",
        .opts = format_opts,
        .flags = CLI_NO_STORE | CLI_JSON,
        .run = run_format,
};

/* --- reset --- */

static int reset_show(struct cli *cli, uint64_t ns)
{
	json_t *o = json_object();

	json_set_text(o, "device", cli->args[0]);
	json_set_int(o, "ready_after_us", ns / NSEC_PER_USEC);
	return cli_print_json(cli, o);
}

static int run_reset(struct cli *cli, int argc, char **argv)
{
	struct pst_nvme_info info = {0};
	struct pst_nvme *n = NULL;
	uint64_t start;
	int status, rc = 0;

	if (cli_operands(cli, argc, argv, 1, 1) < 0)
		return cli_end_status(cli);
	status = nvme_cli_open(cli, cli->args[0], &n);
	if (status != CLI_OK)
		return status;
	start = clock_mono_ns();
	pst_nvme_reset(n);
	do { /* it ends: live, or dead */
		rc = pst_nvme_poll(n, NSEC_PER_SEC);
		pst_nvme_info(n, &info);
	} while (rc != -ENODEV && (!info.resets || !info.live));
	if (rc == -ENODEV)
		status = cli_fail(cli, info.error, "%s: it does not come back", cli->args[0]);
	else if (cli->json)
		status = reset_show(cli, clock_mono_ns() - start);
	pst_nvme_close(n);
	return status;
}

const struct cli_command nvme_reset = {
        .name = "nvme reset",
        .args = "DEVICE",
        .summary = "Reset a controller, and wait until it is ready again",
        .help = "A controller of a target is the host's own, so this shows no more than that it\n"
                "works; one in a slot is reset for all who use it.\n"
                "\n"
                "Example:\n"
                "  penstock nvme reset nvme+loop:disk\n",
        .flags = CLI_NO_STORE | CLI_JSON,
        .run = run_reset,
};
