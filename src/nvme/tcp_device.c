/* SPDX-License-Identifier: BSD-3-Clause */
/* "nvme+tcp://HOST:PORT/NQN?options". */
#include <stdio.h>

#include "nvme/tcp_host.h"

static const char help[] =
        "nvme+tcp://HOST[:PORT]/NQN   a namespace that an NVMe/TCP target offers (port 4420)\n"
        "  nsid=N               which namespace (1)\n"
        "  hdgst=0|1, ddgst=0|1 digests over headers, over data (0)\n"
        "  hostnqn=NQN          who we say we are\n"
        "  keepalive=MS         the target must answer as often; 0: no keep alive (10000)\n"
        "  reconnect=SECONDS    how long to try before a lost target counts as gone (60)\n"
        "  entries=N            of the I/O queue, 2 to 1024 (128)\n"
        "  timeout=MS           a command that takes longer is aborted (10000)\n";

/* "//HOST:PORT/NQN" into the address and the NQN. */
static int take_address(struct nvme_device *d, const char *base, struct pst_err *err)
{
	const char *host = base, *nqn;
	struct net_addr addr;
	int rc;

	if (strncmp(base, "//", 2) != 0 || !(nqn = strchr(base + 2, '/')))
		return err_set(err, -EINVAL, "nvme+tcp:%s: not //HOST:PORT/NQN", base);
	host += 2;
	snprintf(d->spec, sizeof(d->spec), "%.*s", (int)MIN(nqn - host, 255), host);
	nqn++;
	if (!*nqn || strlen(nqn) > NVME_NQN_MAX)
		return err_set(err, -EINVAL, "nvme+tcp: an NQN has 1 to %u bytes", NVME_NQN_MAX);
	snprintf(d->subnqn, sizeof(d->subnqn), "%s", nqn);
	if (d->spec[0] != '[' && !strchr(d->spec, ':'))
		snprintf(d->spec + strlen(d->spec), 8, ":%u", NVME_TCP_PORT);
	rc = net_addr_parse(&addr, d->spec, NVME_TCP_PORT, err);
	return rc == -EDESTADDRREQ ? 0 : rc;
}

static int take(struct nvme_device *d, struct options *o, struct pst_err *err)
{
	const char *nqn = options_str(o, "hostnqn");
	uint64_t kato = 10000, reconnect = 60;
	bool sized = options_str(o, "entries");
	int rc;

	if ((rc = nvme_device_common(d, o, err)) ||
	    (rc = options_bool(o, "hdgst", &d->hdgst, err)) ||
	    (rc = options_bool(o, "ddgst", &d->ddgst, err)) ||
	    (rc = nvme_device_ranged(o, "keepalive", 0, 3600000, &kato, err)) ||
	    (rc = nvme_device_ranged(o, "reconnect", 0, 500, &reconnect, err)))
		return rc;
	if (nqn && (!nqn[0] || strlen(nqn) > NVME_NQN_MAX))
		return err_set(err, -EINVAL, "nvme+tcp: an NQN has 1 to %u bytes", NVME_NQN_MAX);
	snprintf(d->hostnqn, sizeof(d->hostnqn), "%s", nqn ? nqn : nvme_host_nqn());
	d->kato_ms = (uint32_t)kato;
	d->reconnect_s = (uint32_t)reconnect;
	d->entries = sized ? MIN(d->entries, 1024u) : 128;
	return options_finish(o, "nvme+tcp:", err);
}

static int tcp_parse(struct nvme_device *d, const char *rest, struct pst_err *err)
{
	struct options o;
	int rc = options_parse(&o, rest, err);

	if (rc)
		return rc;
	rc = take_address(d, o.base, err);
	if (!rc)
		rc = take(d, &o, err);
	options_done(&o);
	return rc;
}

static int tcp_open(struct nvme_transport **ret_t, const struct nvme_device *d, struct loop *loop,
                    const struct bdev_open_opts *opts, struct pst_err *err)
{
	return nvme_tcp_connect(ret_t, d, loop, err);
}

const struct nvme_carrier nvme_carrier_tcp = {
        .scheme = "nvme+tcp",
        .name = "tcp",
        .parse = tcp_parse,
        .connect = tcp_open,
};

static int open_bdev(struct bdev **ret_bdev, const char *rest, struct loop *loop,
                     const struct bdev_open_opts *opts, struct pst_err *err)
{
	return nvme_bdev_open(ret_bdev, &nvme_carrier_tcp, rest, loop, opts, err);
}

static int check(const char *rest, struct pst_err *err)
{
	return nvme_device_check(&nvme_carrier_tcp, rest, err);
}

struct bdev_driver bdev_driver_nvme_tcp = {
        .scheme = "nvme+tcp",
        .help = help,
        .open = open_bdev,
        .check = check,
};

__attribute__((constructor)) static void nvme_tcp_register(void)
{
	bdev_driver_register(&bdev_driver_nvme_tcp);
}
