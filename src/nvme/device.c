/* SPDX-License-Identifier: BSD-3-Clause */
/* The carriers, and what their device strings have in common. */
#include "nvme/device.h"

static const struct nvme_carrier *const carriers[] = {
        &nvme_carrier_loop,
        &nvme_carrier_pcie,
        &nvme_carrier_tcp,
};

const struct nvme_carrier *nvme_carrier_find(const char *device, const char **ret_rest)
{
	size_t len = strcspn(device, ":");

	if (!device[len])
		return NULL;
	for (unsigned i = 0; i < ARRAY_LEN(carriers); i++) {
		const struct nvme_carrier *c = carriers[i];

		if ((strlen(c->scheme) == len && !memcmp(c->scheme, device, len)) ||
		    (strlen(c->name) == len && !memcmp(c->name, device, len))) {
			*ret_rest = device + len + 1;
			return c;
		}
	}
	return NULL;
}

int nvme_device_parse(struct nvme_device *d, const struct nvme_carrier *carrier, const char *rest,
                      struct pst_err *err)
{
	memset(d, 0, sizeof(*d));
	d->carrier = carrier;
	d->nsid = 1;
	pst_nvme_opts_default(&d->host);
	return carrier->parse(d, rest, err);
}

int nvme_device_check(const struct nvme_carrier *carrier, const char *rest, struct pst_err *err)
{
	struct nvme_device *d = mem_alloc(sizeof(*d));
	int rc = d ? nvme_device_parse(d, carrier, rest, err)
	           : err_set(err, -ENOMEM, "out of memory");

	mem_free(d);
	return rc;
}

int nvme_device_attach(struct nvme_host **ret_host, const struct nvme_device *d, struct loop *loop,
                       const struct bdev_open_opts *opts, struct pst_err *err)
{
	struct nvme_transport *t;
	int rc = d->carrier->connect(&t, d, loop, opts, err);

	return rc ? rc : nvme_host_new(ret_host, t, &d->host, err);
}

int nvme_device_ranged(struct options *o, const char *key, uint64_t min, uint64_t max,
                       uint64_t *val, struct pst_err *err)
{
	int rc = options_u64(o, key, val, err);

	if (rc || (*val >= min && *val <= max))
		return rc;
	return err_set(err, -EINVAL, "nvme: %s is %llu to %llu", key, (unsigned long long)min,
	               (unsigned long long)max);
}

int nvme_device_common(struct nvme_device *d, struct options *o, struct pst_err *err)
{
	uint64_t nsid = d->nsid, entries = 1024, timeout = d->host.timeout_ms;
	int rc;

	if ((rc = nvme_device_ranged(o, "nsid", 1, NVME_NSID_ALL - 1, &nsid, err)) ||
	    (rc = nvme_device_ranged(o, "entries", 2, PST_NVME_ENTRIES_MAX, &entries, err)) ||
	    (rc = nvme_device_ranged(o, "timeout", 0, 3600000, &timeout, err)) ||
	    (rc = options_bool(o, "sgl", &d->host.sgl, err)) ||
	    (rc = options_bool(o, "shadow", &d->host.shadow, err)))
		return rc;
	d->nsid = (uint32_t)nsid;
	d->entries = (uint32_t)entries;
	d->host.timeout_ms = (uint32_t)timeout;
	return 0;
}

uint32_t nvme_device_patience(const struct nvme_device *d)
{
	return MIN(MAX(2 * d->reconnect_s / (d->host.resets_max + 1), 4u), 255u);
}
