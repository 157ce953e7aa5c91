/* SPDX-License-Identifier: BSD-3-Clause */
/* nvme target - offers block devices until it is told to stop. */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "base/base.h"
#include "cli/nvme.h"
#include "nvme/target.h"

#define LIST_MAX 64u

enum {
	OPT_LOOP,
	OPT_LISTEN,
	OPT_INSECURE,
	OPT_NQN,
	OPT_SERIAL,
	OPT_ALLOW,
	OPT_ANA,
	OPT_GROUP,
	OPT_UUID,
	OPT_CONTROL,
	OPT_LBA,
	OPT_MDTS,
	OPT_READ_ONLY,
	OPT_FAULTS,
	OPT_POLL,
};

static const struct cli_opt opts[] = {
        [OPT_LOOP] = {0, "loop", "NAME", "a port for processes of this machine: nvme+loop:NAME"},
        [OPT_LISTEN] = {0, "listen", "ADDR", "a port for NVMe/TCP: tcp://127.0.0.1:4420"},
        [OPT_INSECURE] = {0, "insecure", NULL, "--listen also where other machines can come in"},
        [OPT_NQN] = {0, "nqn", "NQN", "of the subsystem (nqn.2026-11.io.penstock:target)"},
        [OPT_SERIAL] = {0, "serial", "TEXT", "serial number, at most 20 characters"},
        [OPT_ALLOW] = {0, "allow-host", "NQN", "let in only this host, and others so named"},
        [OPT_ANA] = {0, "ana", "[PORT:]GROUP=STATE", "ANA state of a group, through a port"},
        [OPT_GROUP] = {0, "group", "NSID=GROUP", "ANA group of a namespace (1)"},
        [OPT_UUID] = {0, "uuid", "NSID=UUID", "of a namespace (made from NQN, NSID and device)"},
        [OPT_CONTROL] = {0, "control", "NAME", "answer `penstock nvme ana NAME`, too"},
        [OPT_LBA] = {0, "lba", "BYTES", "of a logical block: 512 or 4096 (as the device's)"},
        [OPT_MDTS] = {0, "mdts", "SIZE", "largest transfer of a command, 8k to 4m (1m)"},
        [OPT_READ_ONLY] = {0, "read-only", NULL, "namespaces can't be written to"},
        [OPT_FAULTS] = {0, "faults", "PLAN", "of each controller, to test hosts: nvme+loop's"},
        [OPT_POLL] = {0, "poll", NULL, "never sleep: one core, for the shortest latency"},
        {0, NULL, NULL, NULL},
};

struct list_of {
	const char *item[LIST_MAX];
	unsigned count;
};

struct args {
	struct list_of ports, allow, ana, groups, uuids;
	struct nvme_target_opts o;
	const char *control;
	uint64_t lba;
	bool read_only, poll, insecure;
};

static int add(struct cli *cli, struct list_of *l, const char *value)
{
	if (l->count == LIST_MAX) {
		cli_usage(cli, "at most %u of one option", LIST_MAX);
		return -1;
	}
	l->item[l->count++] = value;
	return 0;
}

/* Ports are numbered in the order of their options; a name has no slash, an address has two. */
static int add_port(struct cli *cli, struct args *a, int opt, const char *value)
{
	bool is_url = strncmp(value, "tcp://", 6) == 0;

	if (opt == OPT_LISTEN && !is_url) {
		cli_usage(cli, "--listen %s: not tcp://ADDR or tcp://ADDR:PORT", value);
		return -1;
	}
	if (opt == OPT_LOOP && is_url) {
		cli_usage(cli, "--loop %s: not a name", value);
		return -1;
	}
	return add(cli, &a->ports, value);
}

static int take_mdts(struct cli *cli, const char *value, struct args *a)
{
	uint64_t mdts;

	if (cli_size(cli, "mdts", value, &mdts) < 0)
		return -1;
	if (mdts < 8192 || mdts > 4 * MIB || (mdts & (mdts - 1))) {
		cli_usage(cli, "--mdts %s: a power of two from 8k to 4m", value);
		return -1;
	}
	a->o.ctrlr.mdts = (unsigned)__builtin_ctzll(mdts) - 12;
	return 0;
}

static int take(struct cli *cli, int opt, const char *value, struct args *a)
{
	switch (opt) {
	case OPT_LOOP:
	case OPT_LISTEN:
		return add_port(cli, a, opt, value);
	case OPT_INSECURE:
		a->insecure = true;
		return 0;
	case OPT_NQN:
		a->o.nqn = value;
		return 0;
	case OPT_SERIAL:
		a->o.serial = value;
		return 0;
	case OPT_ALLOW:
		return add(cli, &a->allow, value);
	case OPT_ANA:
		return add(cli, &a->ana, value);
	case OPT_GROUP:
		return add(cli, &a->groups, value);
	case OPT_UUID:
		return add(cli, &a->uuids, value);
	case OPT_CONTROL:
		a->control = value;
		return 0;
	case OPT_LBA:
		return cli_number(cli, "lba", value, 512, 4096, &a->lba);
	case OPT_MDTS:
		return take_mdts(cli, value, a);
	case OPT_READ_ONLY:
		a->read_only = true;
		return 0;
	case OPT_FAULTS:
		a->o.faults = value;
		return 0;
	default:
		a->poll = true;
		return 0;
	}
}

/* "NSID=GROUP" for namespace @nsid, or 1. */
static uint32_t group_of(const struct args *a, uint32_t nsid)
{
	for (unsigned i = 0; i < a->groups.count; i++) {
		char *end;
		unsigned long n = strtoul(a->groups.item[i], &end, 10);

		if (n == nsid && *end == '=')
			return (uint32_t)strtoul(end + 1, NULL, 10);
	}
	return 1;
}

static int check_groups(struct cli *cli, const struct args *a)
{
	for (unsigned i = 0; i < a->groups.count; i++) {
		unsigned nsid, group;
		char tail;

		if (sscanf(a->groups.item[i], "%u=%u%c", &nsid, &group, &tail) != 2 || !nsid ||
		    nsid > (unsigned)cli->arg_count || !group || group > NVME_ANA_GROUPS_MAX)
			return cli_usage(cli, "--group %s: not NSID=GROUP of a device here",
			                 a->groups.item[i]);
	}
	return CLI_OK;
}

/* "NSID=UUID", 32 digits with '-' where one likes. False: it is not that. */
static bool parse_uuid(const char *text, uint32_t *ret_nsid, uint8_t uuid[16])
{
	char *end;
	unsigned long nsid = strtoul(text, &end, 10);
	unsigned n = 0;

	if (end == text || *text < '0' || *text > '9' || *end != '=' || nsid > NVME_SUBSYS_NS_MAX)
		return false;
	memset(uuid, 0, 16);
	for (const char *c = end + 1; *c; c++) {
		static const char digits[] = "0123456789abcdefABCDEF";
		const char *d = strchr(digits, *c);
		unsigned value = d ? (unsigned)(d - digits) : 0;

		if (*c == '-' && n && n < 32)
			continue;
		if (!d || n == 32)
			return false;
		value = value > 15 ? value - 6 : value;
		uuid[n / 2] |= (uint8_t)(n % 2 ? value : value << 4);
		n++;
	}
	*ret_nsid = (uint32_t)nsid;
	return n == 32;
}

static int check_uuids(struct cli *cli, const struct args *a)
{
	static const uint8_t none[16];

	for (unsigned i = 0; i < a->uuids.count; i++) {
		uint8_t uuid[16];
		uint32_t nsid;

		if (!parse_uuid(a->uuids.item[i], &nsid, uuid) || !nsid ||
		    nsid > (uint32_t)cli->arg_count || !memcmp(uuid, none, sizeof(none)))
			return cli_usage(cli, "--uuid %s: not NSID=UUID of a device here",
			                 a->uuids.item[i]);
	}
	return CLI_OK;
}

/* Zeroes when nothing is said. */
static void uuid_of(const struct args *a, uint32_t nsid, uint8_t uuid[16])
{
	memset(uuid, 0, 16);
	for (unsigned i = 0; i < a->uuids.count; i++) {
		uint8_t its[16];
		uint32_t n;

		if (parse_uuid(a->uuids.item[i], &n, its) && n == nsid)
			memcpy(uuid, its, sizeof(its));
	}
}

/* --- the target --- */

static int offer(struct cli *cli, struct nvme_target *t, const struct args *a)
{
	struct pst_err err = {0};

	for (int i = 0; i < cli->arg_count; i++) {
		struct nvme_ns_opts no = {.nsid = (uint32_t)i + 1,
		                          .lba_bytes = (uint32_t)a->lba,
		                          .ana_group = group_of(a, (uint32_t)i + 1),
		                          .read_only = a->read_only};

		uuid_of(a, no.nsid, no.uuid);
		if (nvme_target_add(t, cli->args[i], &no, &err))
			return cli_fail(cli, 0, "%s: %s", cli->args[i], err.text);
	}
	return CLI_OK;
}

static int open_ports(struct cli *cli, struct nvme_target *t, const struct args *a)
{
	struct pst_err err = {0};
	unsigned port;

	for (unsigned i = 0; i < a->ports.count; i++) {
		const char *at = a->ports.item[i];
		bool tcp = strncmp(at, "tcp://", 6) == 0;

		if (tcp ? nvme_target_listen_tcp(t, at + 6, a->insecure, &port, &err)
		        : nvme_target_listen_loop(t, at, &port, &err))
			return cli_fail(cli, 0, "%s: %s", at, err.text);
		printf("port %u: nvme+%s%s%s%s\n", port,
		       tcp ? "tcp://" : "loop:", nvme_target_address(t, port), tcp ? "/" : "",
		       tcp ? a->o.nqn : "");
	}
	if (a->control && nvme_target_listen_control(t, a->control, &err))
		return cli_fail(cli, 0, "--control %s: %s", a->control, err.text);
	for (unsigned i = 0; i < a->ana.count; i++) {
		enum nvme_ana_state state;
		uint32_t group;

		if (nvme_ana_parse_rule(a->ana.item[i], &port, &group, &state))
			return cli_usage(cli, "--ana %s: not [PORT:]GROUP=STATE", a->ana.item[i]);
		if (nvme_target_ana_set(t, port, group, state))
			return cli_usage(cli, "--ana %s: there is no port %u", a->ana.item[i],
			                 port);
	}
	return CLI_OK;
}

static struct loop *stopping; /* what the signal handler stops */

static void on_signal(int sig)
{
	loop_stop(stopping);
}

static int serve(struct cli *cli, struct loop *loop)
{
	struct sigaction act = {.sa_handler = on_signal};
	int rc;

	stopping = loop;
	sigaction(SIGINT, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
	puts("ready");
	if (fflush(stdout))
		return cli_fail(cli, -errno, "writing to the standard output");
	rc = loop_run(loop);
	return rc ? cli_fail(cli, rc, "the loop") : CLI_OK;
}

static int run_target(struct cli *cli, struct loop *loop, const struct args *a)
{
	struct nvme_target *t;
	struct pst_err err = {0};
	int status;

	if (nvme_target_new(&t, loop, &a->o, &err))
		return cli_fail(cli, 0, "%s", err.text);
	status = offer(cli, t, a);
	if (status == CLI_OK)
		status = open_ports(cli, t, a);
	if (status == CLI_OK)
		status = serve(cli, loop);
	nvme_target_free(t);
	return status;
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct pst_err err = {0};
	struct loop_opts lo;
	struct loop *loop;
	struct args a = {0};
	const char *value;
	int opt, status;

	nvme_target_opts_default(&a.o);
	while ((opt = cli_option(cli, argc, argv, &value)) >= 0) {
		if (take(cli, opt, value, &a) < 0)
			return CLI_USAGE;
	}
	if (opt == -2)
		return cli_end_status(cli);
	if (cli_operand_count(cli, 1, (int)NVME_SUBSYS_NS_MAX) != CLI_OK ||
	    check_groups(cli, &a) != CLI_OK || check_uuids(cli, &a) != CLI_OK)
		return CLI_USAGE;
	if (a.lba && a.lba != 512 && a.lba != 4096)
		return cli_usage(cli, "--lba is 512 or 4096");
	if (!a.ports.count)
		return cli_usage(cli, "--loop NAME or --listen tcp://ADDR: nobody could reach it "
		                      "without a port");
	a.o.allow = a.allow.item;
	a.o.allow_count = a.allow.count;
	loop_opts_default(&lo);
	lo.poll = a.poll;
	if (loop_new(&loop, &lo, &err))
		return cli_fail(cli, 0, "%s", err.text);
	status = run_target(cli, loop, &a);
	loop_free(loop);
	return status;
}

const struct cli_command nvme_target = {
        .name = "nvme target",
        .args = "BDEV... [--listen tcp://ADDR:PORT]... [--loop NAME]... [--nqn NQN]\n"
                "  [--allow-host NQN]...\n"
                "  [--ana [PORT:]GROUP=STATE]... [--group NSID=GROUP]...",
        .summary = "Offer block devices as NVMe namespaces",
        .help = "Each BDEV (see penstock help devices) becomes a namespace, numbered from 1, of "
                "one\n"
                "subsystem. Each host that connects gets a controller of its own. Ports are\n"
                "numbered from 1, in the order of the options; the command prints them, then\n"
                "\"ready\", and serves until it is interrupted. What hosts were told is durable "
                "is\n"
                "so also when it is killed.\n"
                "\n"
                "Hosts know a namespace again by its UUID: one that comes back with another is\n"
                "refused by hosts that had it open. It is made from NQN, number and the device's\n"
                "name, and is random for memory; two targets that offer one device by different\n"
                "names need --uuid.\n"
                "\n"
                "--loop NAME is for other processes of this user: they use nvme+loop:NAME as a\n"
                "device. Registers, queues and data are memory that both sides map.\n"
                "\n"
                "--listen tcp://ADDR:PORT is for NVMe/TCP hosts, here and on other machines, "
                "Linux's\n"
                "among them. It neither encrypts nor asks for proof of who comes: any address but\n"
                "a loopback one needs --insecure. Hosts that ask for discovery find all such "
                "ports.\n"
                "\n"
                "ANA states say which way to a namespace a host should take: optimized,\n"
                "non-optimized, inaccessible, persistent-loss, change. They hold for a group of\n"
                "namespaces through one port, or all, and can be changed while it runs: penstock\n"
                "nvme ana NAME.\n"
                "\n"
                "Examples:\n"
                "  penstock nvme target /srv/disk.img --loop disk\n"
                "  penstock nvme target /srv/disk.img --listen tcp://127.0.0.1:4420 --nqn "
                "nqn.2026-11.a:b\n"
                "  penstock nvme target mem:1g null:1t --loop a --loop b --ana 2:1=non-optimized\n"
                "  penstock perf nvme+loop:disk --rw randread --qdepth 32\n",
        .opts = opts,
        .flags = CLI_NO_STORE,
        .run = run,
};
