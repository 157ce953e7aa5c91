/* SPDX-License-Identifier: BSD-3-Clause */
/* nvme list, nvme identify - what controllers and namespaces say of themselves. */
#include "cli/nvme_show.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

#include "base/base.h"
#include "cli/attr.h"
#include "nvme/shm.h"

/* --- list --- */

static json_t *namespace_json(const struct pst_nvme_namespace *ns)
{
	json_t *o = json_object();

	json_set_int(o, "nsid", ns->nsid);
	json_set_int(o, "size_bytes", ns->blocks * ns->block_bytes);
	json_set_int(o, "block_bytes", ns->block_bytes);
	json_object_set_new(o, "read_only", json_boolean(ns->read_only));
	json_set_hex(o, "nguid", ns->nguid, sizeof(ns->nguid));
	return o;
}

/* All active namespaces, as many as one list has. */
static int list_namespaces(struct cli *cli, struct pst_nvme *n, json_t *to)
{
	le32 page[NVME_NS_LIST_MAX];
	int status = nvme_cli_identify(cli, n, NVME_CNS_NS_LIST, 0, page);

	for (unsigned i = 0; status == CLI_OK && i < NVME_NS_LIST_MAX && page[i]; i++) {
		struct pst_nvme_namespace ns;
		uint32_t nsid = le32_get(page[i]);
		int rc = pst_nvme_namespace(n, nsid, &ns);

		if (rc == -ENOTSUP || rc == -ENOENT) { /* a format that can't be used; just gone */
			json_t *o = json_object();

			json_set_int(o, "nsid", nsid);
			json_set_text(o, "error", cli_why(rc));
			json_array_append_new(to, o);
			continue;
		}
		if (rc)
			return cli_fail(cli, rc, "namespace %u", nsid);
		json_array_append_new(to, namespace_json(&ns));
	}
	return status;
}

static int list_device(struct cli *cli, const char *device, json_t *to)
{
	struct pst_nvme_info info;
	struct pst_nvme *n = NULL;
	json_t *o, *all;
	int status = nvme_cli_open(cli, device, &n);

	if (status != CLI_OK)
		return status;
	pst_nvme_info(n, &info);
	o = json_object();
	all = json_array();
	json_set_text(o, "device", device);
	json_set_text(o, "model", info.model);
	json_set_text(o, "serial", info.serial);
	json_set_text(o, "firmware", info.firmware);
	json_set_text(o, "nqn", info.subnqn);
	json_set_int(o, "controller", info.cntlid);
	json_set_int(o, "queues_max", info.queues_max);
	json_set_int(o, "io_max_bytes", info.io_max_bytes);
	status = list_namespaces(cli, n, all);
	json_object_set_new(o, "namespaces", all);
	json_array_append_new(to, o);
	pst_nvme_close(n);
	return status;
}

/* Targets of this machine whose sockets answer. */
static int list_targets(struct cli *cli, json_t *to)
{
	struct pst_err err = {0};
	char dir[128], device[128];
	struct dirent *e;
	DIR *d;

	if (local_run_dir(dir, sizeof(dir), false, &err))
		return err.code == -ENOENT ? CLI_OK : cli_fail(cli, 0, "%s", err.text);
	d = opendir(dir);
	if (!d)
		return cli_fail(cli, -errno, "%s", dir);
	while ((e = readdir(d))) {
		size_t len = strlen(e->d_name);
		char text[SHM_TEXT_MAX];

		if (len <= 5 || strcmp(e->d_name + len - 5, ".nvme") != 0 ||
		    len - 5 > LOCAL_NAME_MAX)
			continue;
		e->d_name[len - 5] = '\0';
		if (nvme_shm_control(e->d_name, "status", text, sizeof(text), NULL) ||
		    !strstr(text, "\nport "))
			continue; /* nobody there, or only for control */
		snprintf(device, sizeof(device), "nvme+loop:%s", e->d_name);
		list_device(cli, device, to);
	}
	closedir(d);
	return CLI_OK;
}

static int run_list(struct cli *cli, int argc, char **argv)
{
	int status = CLI_OK;
	json_t *all;

	if (cli_operands(cli, argc, argv, 0, -1) < 0)
		return cli_end_status(cli);
	all = json_array();
	if (!cli->arg_count)
		status = list_targets(cli, all);
	for (int i = 0; i < cli->arg_count; i++) {
		if (list_device(cli, cli->args[i], all) != CLI_OK)
			status = CLI_FAILED;
	}
	if (nvme_cli_show(cli, all) != CLI_OK)
		status = CLI_FAILED;
	return status;
}

const struct cli_command nvme_list = {
        .name = "nvme list",
        .args = "[DEVICE...]",
        .summary = "Show controllers and their namespaces",
        .help = "Without a device: what the targets of this machine offer (nvme+loop:).\n"
                "\n"
                "Examples:\n"
                "  penstock nvme list\n"
                "  penstock nvme list nvme+loop:disk --json\n",
        .flags = CLI_NO_STORE | CLI_JSON,
        .run = run_list,
};

/* --- identify --- */

static void ctrlr_fabrics(json_t *o, const struct nvme_id_ctrlr *id)
{
	if (!id->ioccsz)
		return;
	json_set_int(o, "ioccsz", le32_get(id->ioccsz) * 16ull);
	json_set_int(o, "iorcsz", le32_get(id->iorcsz) * 16ull);
	json_set_int(o, "icdoff", le16_get(id->icdoff));
	json_set_int(o, "maxcmd", le16_get(id->maxcmd));
}

static json_t *ctrlr_json(const struct nvme_id_ctrlr *id)
{
	json_t *o = json_object();
	uint32_t ver = le32_get(id->ver);
	char text[32];

	json_set_padded(o, "serial", id->sn, sizeof(id->sn));
	json_set_padded(o, "model", id->mn, sizeof(id->mn));
	json_set_padded(o, "firmware", id->fr, sizeof(id->fr));
	json_set_padded(o, "nqn", id->subnqn, sizeof(id->subnqn));
	snprintf(text, sizeof(text), "%u.%u.%u", ver >> 16, ver >> 8 & 0xff, ver & 0xff);
	json_set_text(o, "version", text);
	json_set_int(o, "vendor", le16_get(id->vid));
	json_set_int(o, "controller", le16_get(id->cntlid));
	json_set_int(o, "type", id->cntrltype);
	json_set_int(o, "mdts", id->mdts);
	json_set_int(o, "namespaces_max", le32_get(id->nn));
	json_set_int(o, "cmic", id->cmic);
	json_set_int(o, "oaes", le32_get(id->oaes));
	json_set_int(o, "ctratt", le32_get(id->ctratt));
	json_set_int(o, "oacs", le16_get(id->oacs));
	json_set_int(o, "oncs", le16_get(id->oncs));
	json_set_int(o, "fuses", le16_get(id->fuses));
	json_set_int(o, "lpa", id->lpa);
	json_set_int(o, "vwc", id->vwc);
	json_set_int(o, "sgls", le32_get(id->sgls));
	json_set_int(o, "keep_alive_ms", le16_get(id->kas) * 100ull);
	json_set_int(o, "anacap", id->anacap);
	json_set_int(o, "ana_groups_max", le32_get(id->anagrpmax));
	json_set_int(o, "aborts_max", id->acl + 1u);
	json_set_int(o, "events_max", id->aerl + 1u);
	ctrlr_fabrics(o, id);
	return o;
}

static json_t *ns_json(uint32_t nsid, const struct nvme_id_ns *id)
{
	json_t *o = json_object(), *formats = json_array();

	json_set_int(o, "nsid", nsid);
	json_set_int(o, "size_blocks", le64_get(id->nsze));
	json_set_int(o, "capacity_blocks", le64_get(id->ncap));
	json_set_int(o, "used_blocks", le64_get(id->nuse));
	json_set_int(o, "features", id->nsfeat);
	json_set_int(o, "nmic", id->nmic);
	json_set_int(o, "ana_group", le32_get(id->anagrpid));
	json_object_set_new(o, "read_only", json_boolean(id->nsattr & NVME_NSATTR_PROTECTED));
	json_set_hex(o, "nguid", id->nguid, sizeof(id->nguid));
	json_set_hex(o, "eui64", id->eui64, sizeof(id->eui64));
	json_set_int(o, "format", NVME_FLBAS_INDEX(id->flbas));
	for (unsigned i = 0; i <= id->nlbaf && i < 64; i++) {
		json_t *f = json_object();

		json_set_int(f, "index", i);
		json_set_int(f, "block_bytes",
		             id->lbaf[i].lbads < 32 ? 1u << id->lbaf[i].lbads : 0);
		json_set_int(f, "metadata_bytes", le16_get(id->lbaf[i].ms));
		json_array_append_new(formats, f);
	}
	json_object_set_new(o, "formats", formats);
	return o;
}

enum { OPT_NSID };
static const struct cli_opt identify_opts[] = {
        [OPT_NSID] = {0, "nsid", "N", "the namespace, instead of the controller"},
        {0, NULL, NULL, NULL},
};

static int run_identify(struct cli *cli, int argc, char **argv)
{
	uint8_t page[NVME_IDENTIFY_BYTES] __attribute__((aligned(8)));
	struct pst_nvme *n = NULL;
	const char *value;
	uint64_t nsid = 0;
	int opt, status;

	while ((opt = cli_option(cli, argc, argv, &value)) >= 0) {
		if (cli_number(cli, "nsid", value, 1, UINT32_MAX - 1, &nsid) < 0)
			return CLI_USAGE;
	}
	if (opt == -2)
		return cli_end_status(cli);
	if (cli_operand_count(cli, 1, 1) != CLI_OK)
		return CLI_USAGE;
	status = nvme_cli_open(cli, cli->args[0], &n);
	if (status != CLI_OK)
		return status;
	status = nvme_cli_identify(cli, n, nsid ? NVME_CNS_NS : NVME_CNS_CTRLR, (uint32_t)nsid,
	                           page);
	/* Zeroes are what is said of one that isn't there. */
	if (status == CLI_OK && nsid && !((const struct nvme_id_ns *)(const void *)page)->nsze)
		status = cli_fail(cli, 0, "%s: there is no namespace %u", cli->args[0],
		                  (uint32_t)nsid);
	if (status == CLI_OK)
		status = nvme_cli_show(cli, nsid ? ns_json((uint32_t)nsid, (void *)page)
		                                 : ctrlr_json((void *)page));
	pst_nvme_close(n);
	return status;
}

const struct cli_command nvme_identify = {
        .name = "nvme identify",
        .args = "DEVICE [--nsid N]",
        .summary = "Show what a controller, or a namespace, says of itself",
        .help = "Fields have the names of NVM Express where they are no words. Masks are numbers.\n"
                "\n"
                "Examples:\n"
                "  penstock nvme identify nvme+loop:disk\n"
                "  penstock nvme identify nvme+loop:disk --nsid 1 --json\n",
        .opts = identify_opts,
        .flags = CLI_NO_STORE | CLI_JSON,
        .run = run_identify,
};
