/* SPDX-License-Identifier: BSD-3-Clause */
/* nvme discover, nvme connect - what a target offers over the network, and whether it can be had. */
#include "cli/nvme_show.h"

#include <errno.h>
#include <string.h>

#include "base/base.h"
#include "cli/attr.h"
#include "nvme/tcp_host.h"

/* --- discover --- */

static const char *transport_name(uint8_t trtype)
{
	switch (trtype) {
	case NVME_TRTYPE_TCP:
		return "tcp";
	case NVME_TRTYPE_RDMA:
		return "rdma";
	case NVME_TRTYPE_FC:
		return "fc";
	default:
		return "unknown";
	}
}

static json_t *entry_json(const struct nvme_discovery_entry *e)
{
	static const char *const subtypes[] = {"unknown", "referral", "nvm", "discovery"};
	char addr[257], port[33], nqn[257], device[640];
	bool v6 = e->adrfam == NVME_ADRFAM_IPV6;
	json_t *o = json_object();

	json_set_text(o, "transport", transport_name(e->trtype));
	json_set_text(o, "subtype", subtypes[e->subtype < 4 ? e->subtype : 0]);
	json_set_padded(o, "address", e->traddr, sizeof(e->traddr));
	json_set_padded(o, "service", e->trsvcid, sizeof(e->trsvcid));
	json_set_padded(o, "nqn", e->subnqn, sizeof(e->subnqn));
	json_set_int(o, "port", le16_get(e->portid));
	snprintf(addr, sizeof(addr), "%s", json_string_value(json_object_get(o, "address")));
	snprintf(port, sizeof(port), "%s", json_string_value(json_object_get(o, "service")));
	snprintf(nqn, sizeof(nqn), "%s", json_string_value(json_object_get(o, "nqn")));
	if (e->trtype == NVME_TRTYPE_TCP && e->subtype == NVME_SUBTYPE_NVM) {
		snprintf(device, sizeof(device), "nvme+tcp://%s%s%s:%s/%s", v6 ? "[" : "", addr,
		         v6 ? "]" : "", port, nqn);
		json_set_text(o, "device", device);
	}
	return o;
}

enum { OPT_HOSTNQN };
static const struct cli_opt discover_opts[] = {
        [OPT_HOSTNQN] = {0, "hostnqn", "NQN", "who we say we are"},
        {0, NULL, NULL, NULL},
};

static int discover(struct cli *cli, const char *addr, const char *hostnqn)
{
	struct nvme_discovery_log *log = NULL;
	const struct nvme_discovery_entry *e;
	struct pst_err err = {0};
	struct loop_opts lo;
	struct loop *loop;
	uint64_t n = 0;
	json_t *all;
	int rc;

	loop_opts_default(&lo);
	if (loop_new(&loop, &lo, &err))
		return cli_fail(cli, 0, "%s", err.text);
	rc = nvme_tcp_discover(addr, hostnqn, loop, &log, &n, &err);
	net_finish(loop);
	loop_free(loop);
	if (rc)
		return cli_fail(cli, 0, "%s", err.text);
	all = json_array();
	e = (const void *)((const char *)log + sizeof(*log));
	for (uint64_t i = 0; i < n; i++)
		json_array_append_new(all, entry_json(&e[i]));
	mem_free(log);
	return nvme_cli_show(cli, all);
}

static int run_discover(struct cli *cli, int argc, char **argv)
{
	const char *value, *hostnqn = nvme_host_nqn(), *addr;
	char with_port[300];
	int opt;

	while ((opt = cli_option(cli, argc, argv, &value)) >= 0)
		hostnqn = value;
	if (opt == -2)
		return cli_end_status(cli);
	if (cli_operand_count(cli, 1, 1) != CLI_OK)
		return CLI_USAGE;
	addr = cli->args[0];
	if (strncmp(addr, "tcp://", 6) != 0)
		return cli_usage(cli, "%s: not tcp://HOST or tcp://HOST:PORT", addr);
	if (!hostnqn[0] || strlen(hostnqn) > NVME_NQN_MAX || strlen(addr) > 255)
		return cli_usage(cli, "too long");
	addr += 6;
	snprintf(with_port, sizeof(with_port), "%s", addr);
	if (addr[0] != '[' && !strchr(addr, ':'))
		snprintf(with_port, sizeof(with_port), "%s:%u", addr, NVME_TCP_PORT_DISC);
	return discover(cli, with_port, hostnqn);
}

const struct cli_command nvme_discover = {
        .name = "nvme discover",
        .args = "tcp://HOST[:PORT] [--hostnqn NQN]",
        .summary = "Ask a discovery controller what there is",
        .help = "Each port of penstock nvme target --listen answers for all of them; other "
                "targets\n"
                "have theirs at port 8009, which is the default, or at 4420. For each subsystem "
                "the\n"
                "device string is shown that opens it.\n"
                "\n"
                "Examples:\n"
                "  penstock nvme discover tcp://127.0.0.1:4420\n"
                "  penstock nvme discover tcp://storage1 --json\n",
        .opts = discover_opts,
        .flags = CLI_NO_STORE | CLI_JSON,
        .run = run_discover,
};

/* --- connect --- */

static json_t *connect_json(const char *device, const struct pst_nvme_info *info, unsigned queues,
                            uint64_t admin_ns)
{
	json_t *o = json_object();

	json_set_text(o, "device", device);
	json_set_text(o, "nqn", info->subnqn);
	json_set_int(o, "controller", info->cntlid);
	json_set_int(o, "queues", queues);
	json_set_int(o, "queues_max", info->queues_max);
	json_set_int(o, "entries_max", info->entries_max);
	json_set_int(o, "round_trip_us", admin_ns / 1000);
	return o;
}

/* Queues, as many as asked for, then a round trip of the admin queue. */
static int try_out(struct cli *cli, struct pst_nvme *n, const char *device, unsigned queues)
{
	struct pst_nvme_queue *q[NVME_HOST_QUEUES_MAX] = {NULL};
	uint8_t page[NVME_IDENTIFY_BYTES];
	struct pst_nvme_info info;
	int status = CLI_OK;
	uint64_t start;
	unsigned made;

	for (made = 0; made < queues; made++) {
		int rc = pst_nvme_queue_new(n, NULL, &q[made]);

		if (rc) {
			status = cli_fail(cli, rc, "%s: queue %u", device, made + 1);
			break;
		}
	}
	start = clock_mono_ns();
	if (status == CLI_OK)
		status = nvme_cli_identify(cli, n, NVME_CNS_CTRLR, 0, page);
	start = clock_mono_ns() - start;
	pst_nvme_info(n, &info);
	while (made)
		pst_nvme_queue_free(n, q[--made]);
	return status == CLI_OK ? nvme_cli_show(cli, connect_json(device, &info, queues, start))
	                        : status;
}

enum { OPT_QUEUES };
static const struct cli_opt connect_opts[] = {
        [OPT_QUEUES] = {0, "queues", "N", "I/O queues to make (1)"},
        {0, NULL, NULL, NULL},
};

static int run_connect(struct cli *cli, int argc, char **argv)
{
	struct pst_nvme *n = NULL;
	uint64_t queues = 1;
	const char *value;
	int opt, status;

	while ((opt = cli_option(cli, argc, argv, &value)) >= 0) {
		if (cli_number(cli, "queues", value, 0, NVME_HOST_QUEUES_MAX, &queues) < 0)
			return CLI_USAGE;
	}
	if (opt == -2)
		return cli_end_status(cli);
	if (cli_operand_count(cli, 1, 1) != CLI_OK)
		return CLI_USAGE;
	status = nvme_cli_open(cli, cli->args[0], &n);
	if (status != CLI_OK)
		return status;
	status = try_out(cli, n, cli->args[0], (unsigned)queues);
	pst_nvme_close(n);
	return status;
}

const struct cli_command nvme_connect = {
        .name = "nvme connect",
        .args = "DEVICE [--queues N]",
        .summary = "Try a controller out: connect, make queues, ask it something, leave",
        .help = "In user space each program connects for itself, by its device string; nothing is\n"
                "left behind. This says whether it would work, and with what.\n"
                "\n"
                "Example:\n"
                "  penstock nvme connect nvme+tcp://127.0.0.1:4420/nqn.2026-11.a:b --queues 4\n",
        .opts = connect_opts,
        .flags = CLI_NO_STORE | CLI_JSON,
        .run = run_connect,
};
