/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_top - the figures that a hostile server tells `penstock top`. The input is two samples, cut at
 * its first zero byte; what is taken gives finite rates and quantiles.
 */
#include <math.h>

#include "base/base.h"
#include "cli/top.h"

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct top_sample a, b;
	char *first = mem_calloc(1, size + 2), *second;

	pst_assert(first);
	memcpy(first, data, size);
	second = first + strlen(first) + 1;
	if (top_parse(&a, first) && top_parse(&b, second <= first + size ? second : first + size)) {
		pst_assert(a.ops <= TOP_OPS_MAX && b.edges <= TOP_EDGES_MAX);
		for (unsigned i = 0; i < b.ops; i++) {
			(void)top_rate(i < a.ops ? a.op[i].count : 0, b.op[i].count, 1);
			(void)top_quantile(&a, &b, i, 0.99);
		}
		for (unsigned i = 0; i < b.tenants; i++)
			pst_assert(memchr(b.tenant[i].name, 0, sizeof(b.tenant[i].name)));
	}
	mem_free(first);
	return 0;
}
