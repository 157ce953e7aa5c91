/* SPDX-License-Identifier: BSD-3-Clause */
/* "nvme+loop:SPEC?options": what is ours is taken, the rest belongs to SPEC. */
#include <stdio.h>

#include "nvme/shm.h"

static const char help[] =
        "nvme+loop:SPEC         an NVMe controller in this process over the device SPEC, driven\n"
        "                       through queues as a real one is; SPEC's options follow, too\n"
        "nvme+loop:NAME         a namespace of the target NAME, another process of this machine\n"
        "                       (penstock nvme target ... --loop NAME)\n"
        "  nsid=N               which namespace (1)\n"
        "  reconnect=SECONDS    how long to look for a target that is lost before it counts as\n"
        "                       gone (60); 0: not at all\n"
        "  hostnqn=NQN          who we say we are, to a target\n"
        "  lba=512|4096         bytes of a logical block (SPEC's)\n"
        "  mdts=SIZE            largest transfer of one command, 4k to 4m (128k)\n"
        "  entries=N            of the I/O queue, 2 to 4096 (1024)\n"
        "  timeout=MS           a command that takes longer is aborted (10000)\n"
        "  sgl=0|1              use SGLs (1)\n"
        "  shadow=0|1           use shadow doorbells (0)\n"
        "  strict=0|1           the controller reaches only what was mapped (0)\n"
        "  faults=PLAN          faults of the controller: ACTION:KEY=N,KEY=N;ACTION... with\n"
        "                       drop, delay, dup, cid, status, fatal, remove, link\n";

static const char *const ours[] = {"nsid",   "lba",    "mdts",   "entries", "timeout", "sgl",
                                   "shadow", "strict", "faults", "hostnqn", NULL};

static bool is_ours(const char *key)
{
	for (unsigned i = 0; ours[i]; i++) {
		if (!strcmp(ours[i], key))
			return true;
	}
	return false;
}

/* SPEC with the options that are its own. The '?' is always there, so that one in a path stays. */
static int spec_rest(struct nvme_device *d, const struct options *o, struct pst_err *err)
{
	size_t len = (size_t)snprintf(d->spec, sizeof(d->spec), "%s?", o->base);
	const char *sep = "";

	for (unsigned i = 0; i < o->count && len < sizeof(d->spec); i++) {
		if (is_ours(o->kv[i].key))
			continue;
		len += (size_t)snprintf(d->spec + len, sizeof(d->spec) - len, "%s%s=%s", sep,
		                        o->kv[i].key, o->kv[i].value);
		sep = "&";
	}
	if (len >= sizeof(d->spec))
		return err_set(err, -EINVAL, "nvme+loop: longer than %zu bytes", sizeof(d->spec));
	return 0;
}

/* Another process: what that decides about is no option here. */
static int take_name(struct nvme_device *d, struct options *o, struct pst_err *err)
{
	static const char *const spec_only[] = {"lba", "strict", "faults"};
	uint64_t reconnect = 60;
	int rc;

	if (!local_name_ok(o->base))
		return err_set(err, -EINVAL,
		               "nvme+loop: '%s' is neither a device (SCHEME:..., /path or ./path) "
		               "nor a target's name",
		               o->base);
	rc = nvme_device_ranged(o, "reconnect", 0, 500, &reconnect, err);
	if (rc)
		return rc;
	d->reconnect_s = (uint32_t)reconnect;
	for (unsigned i = 0; i < ARRAY_LEN(spec_only); i++) {
		if (options_str(o, spec_only[i]))
			return err_set(err, -EINVAL, "nvme+loop: %s is the target's to say",
			               spec_only[i]);
	}
	snprintf(d->name, sizeof(d->name), "%s", o->base);
	return 0;
}

static int take_hostnqn(struct nvme_device *d, struct options *o, struct pst_err *err)
{
	const char *nqn = options_str(o, "hostnqn");

	if (nqn && (!nqn[0] || strlen(nqn) > NVME_NQN_MAX))
		return err_set(err, -EINVAL, "nvme: an NQN has 1 to %u bytes", NVME_NQN_MAX);
	snprintf(d->hostnqn, sizeof(d->hostnqn), "%s", nqn ? nqn : nvme_host_nqn());
	return 0;
}

static int take(struct nvme_device *d, struct options *o, struct pst_err *err)
{
	uint64_t lba = 0, mdts = d->name[0] ? MIB : 4096ull << d->ctrlr.mdts;
	const char *faults;
	int rc;

	if ((rc = options_size(o, "lba", &lba, err)) ||
	    (rc = options_size(o, "mdts", &mdts, err)) || (rc = nvme_device_common(d, o, err)) ||
	    (rc = take_hostnqn(d, o, err)) || (rc = options_bool(o, "strict", &d->strict, err)))
		return rc;
	if (lba != 0 && lba != 512 && lba != 4096)
		return err_set(err, -EINVAL, "nvme+loop: lba is 512 or 4096");
	if (mdts < 4096 || mdts > 4 * MIB || (mdts & (mdts - 1)))
		return err_set(err, -EINVAL, "nvme+loop: mdts is a power of two from 4k to 4m");
	/* The interface takes an exponent from 1 on; one page is the host's own limit then. */
	d->ctrlr.mdts = MAX((unsigned)__builtin_ctzll(mdts) - 12, 1u);
	d->host.io_max_bytes = (uint32_t)mdts;
	d->lba_bytes = (uint32_t)lba;
	d->ctrlr.entries_max = MAX(d->ctrlr.entries_max, d->entries);
	faults = options_str(o, "faults");
	if (faults && strlen(faults) >= sizeof(d->faults))
		return err_set(err, -EINVAL, "nvme+loop: a fault plan of %zu bytes at most",
		               sizeof(d->faults) - 1);
	snprintf(d->faults, sizeof(d->faults), "%s", faults ? faults : "");
	return 0;
}

static int loop_parse(struct nvme_device *d, const char *rest, struct pst_err *err)
{
	struct options o;
	int rc;

	nvme_ctrlr_opts_default(&d->ctrlr);
	rc = options_parse(&o, rest, err);
	if (rc)
		return rc;
	if (!strchr(o.base, ':') && o.base[0] != '/' && o.base[0] != '.')
		rc = take_name(d, &o, err);
	if (!rc)
		rc = take(d, &o, err);
	if (!rc && !d->name[0] && d->nsid > NVME_SUBSYS_NS_MAX)
		rc = err_set(err, -EINVAL, "nvme+loop: nsid is 1 to %u", NVME_SUBSYS_NS_MAX);
	if (!rc && d->name[0])
		rc = options_finish(&o, "nvme+loop:", err);
	else if (!rc)
		rc = spec_rest(d, &o, err);
	options_done(&o);
	return rc;
}

static int loop_connect(struct nvme_transport **ret_t, const struct nvme_device *d,
                        struct loop *loop, const struct bdev_open_opts *opts, struct pst_err *err)
{
	return nvme_loop_new(ret_t, d, loop, opts, NULL, err);
}

const struct nvme_carrier nvme_carrier_loop = {
        .scheme = "nvme+loop",
        .name = "loop",
        .parse = loop_parse,
        .connect = loop_connect,
};

static int open_bdev(struct bdev **ret_bdev, const char *rest, struct loop *loop,
                     const struct bdev_open_opts *opts, struct pst_err *err)
{
	return nvme_bdev_open(ret_bdev, &nvme_carrier_loop, rest, loop, opts, err);
}

static int check(const char *rest, struct pst_err *err)
{
	return nvme_device_check(&nvme_carrier_loop, rest, err);
}

/* A target's are the target's. */
static int files(const char *rest, int (*each)(void *arg, const char *path), void *arg,
                 struct pst_err *err)
{
	struct nvme_device *d = mem_alloc(sizeof(*d));
	int rc = d ? nvme_device_parse(d, &nvme_carrier_loop, rest, err)
	           : err_set(err, -ENOMEM, "out of memory");

	if (!rc && d->spec[0])
		rc = bdev_files(d->spec, each, arg, err);
	mem_free(d);
	return rc;
}

struct bdev_driver bdev_driver_nvme_loop = {
        .scheme = "nvme+loop",
        .help = help,
        .open = open_bdev,
        .check = check,
        .files = files,
};

__attribute__((constructor)) static void nvme_loop_register(void)
{
	bdev_driver_register(&bdev_driver_nvme_loop);
}
