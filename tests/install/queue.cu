/* SPDX-License-Identifier: BSD-3-Clause */
/* The hot path in a kernel, on queues and data that the GPU reaches: it only has to compile. */
#include <penstock/nvme_queue.h>

__global__ void read_blocks(struct pst_nvme_queue *q, uint64_t dma, unsigned count, unsigned *ret_good)
{
	struct pst_nvme_batch batch;
	struct pst_nvme_reap reap;
	struct pst_nvme_done done;
	unsigned sent = 0, came = 0;

	while (came < count) {
		pst_nvme_batch_begin(q, &batch);
		while (sent < count && pst_nvme_batch_rw(&batch, PST_NVME_OPC_READ, NULL, 1, sent, 1,
		                                         dma + sent * 512ull, 512, 0))
			sent++;
		pst_nvme_batch_end(&batch);
		pst_nvme_reap_begin(q, &reap);
		for (; pst_nvme_reap_next(&reap, &done); came++)
			*ret_good += done.status == 0;
		pst_nvme_reap_end(&reap);
	}
}
