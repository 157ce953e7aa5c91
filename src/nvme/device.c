/* SPDX-License-Identifier: BSD-3-Clause */
/* Device strings "nvme+loop:SPEC?options": what is ours is taken, the rest belongs to SPEC. */
#include <stdio.h>

#include "nvme/loop.h"

const char nvme_device_help[] =
        "nvme+loop:SPEC         an NVMe controller in this process over the device SPEC, driven\n"
        "                       through queues as a real one is; SPEC's options follow, too\n"
        "  lba=512|4096         bytes of a logical block (SPEC's)\n"
        "  mdts=SIZE            largest transfer of one command, 4k to 4m (128k)\n"
        "  entries=N            of the I/O queue, 2 to 4096 (1024)\n"
        "  timeout=MS           a command that takes longer is aborted (10000)\n"
        "  sgl=0|1              use SGLs (1)\n"
        "  shadow=0|1           use shadow doorbells (0)\n"
        "  strict=0|1           the controller reaches only what was mapped (0)\n"
        "  faults=PLAN          faults of the controller: ACTION:KEY=N,KEY=N;ACTION... with\n"
        "                       drop, delay, dup, cid, status, fatal, remove\n";

static const char *const ours[] = {"lba",    "mdts",   "entries", "timeout", "sgl",
                                   "shadow", "strict", "faults",  NULL};

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

static int ranged(struct options *o, const char *key, uint64_t min, uint64_t max, uint64_t *val,
                  struct pst_err *err)
{
	int rc = options_u64(o, key, val, err);

	if (rc || (*val >= min && *val <= max))
		return rc;
	return err_set(err, -EINVAL, "nvme+loop: %s is %llu to %llu", key, (unsigned long long)min,
	               (unsigned long long)max);
}

static int take(struct nvme_device *d, struct options *o, struct pst_err *err)
{
	uint64_t lba = 0, mdts = 4096ull << d->ctrlr.mdts, entries = 1024;
	uint64_t timeout = d->host.timeout_ms;
	const char *faults;
	int rc;

	if ((rc = options_size(o, "lba", &lba, err)) ||
	    (rc = options_size(o, "mdts", &mdts, err)) ||
	    (rc = ranged(o, "entries", 2, PST_NVME_ENTRIES_MAX, &entries, err)) ||
	    (rc = ranged(o, "timeout", 0, 3600000, &timeout, err)) ||
	    (rc = options_bool(o, "sgl", &d->host.sgl, err)) ||
	    (rc = options_bool(o, "shadow", &d->host.shadow, err)) ||
	    (rc = options_bool(o, "strict", &d->strict, err)))
		return rc;
	if (lba != 0 && lba != 512 && lba != 4096)
		return err_set(err, -EINVAL, "nvme+loop: lba is 512 or 4096");
	if (mdts < 4096 || mdts > 4 * MIB || (mdts & (mdts - 1)))
		return err_set(err, -EINVAL, "nvme+loop: mdts is a power of two from 4k to 4m");
	/* The interface takes an exponent from 1 on; one page is the host's own limit then. */
	d->ctrlr.mdts = MAX((unsigned)__builtin_ctzll(mdts) - 12, 1u);
	d->host.io_max_bytes = (uint32_t)mdts;
	d->lba_bytes = (uint32_t)lba;
	d->entries = (uint32_t)entries;
	d->ctrlr.entries_max = MAX(d->ctrlr.entries_max, d->entries);
	d->host.timeout_ms = (uint32_t)timeout;
	faults = options_str(o, "faults");
	if (faults && strlen(faults) >= sizeof(d->faults))
		return err_set(err, -EINVAL, "nvme+loop: a fault plan of %zu bytes at most",
		               sizeof(d->faults) - 1);
	snprintf(d->faults, sizeof(d->faults), "%s", faults ? faults : "");
	return 0;
}

int nvme_device_parse(struct nvme_device *d, const char *rest, struct pst_err *err)
{
	struct options o;
	int rc;

	memset(d, 0, sizeof(*d));
	nvme_ctrlr_opts_default(&d->ctrlr);
	pst_nvme_opts_default(&d->host);
	rc = options_parse(&o, rest, err);
	if (rc)
		return rc;
	if (!strchr(o.base, ':') && o.base[0] != '/' && o.base[0] != '.')
		rc = err_set(err, -EINVAL,
		             "nvme+loop: '%s' is no device (SCHEME:..., /path or ./path)", o.base);
	if (!rc)
		rc = take(d, &o, err);
	if (!rc)
		rc = spec_rest(d, &o, err);
	options_done(&o);
	return rc;
}
