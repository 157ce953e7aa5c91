/* SPDX-License-Identifier: BSD-3-Clause */
/* Reads the first 64 blocks of a namespace with one ring of the doorbell. To build and to try it:
 * cc nvme_read.c -o nvme_read $(pkg-config --cflags --libs penstock) && ./nvme_read loop:mem:64m */
#include <stdio.h>
#include <penstock/nvme.h>

#define COUNT 64

static int read_all(struct pst_nvme *nvme, struct pst_nvme_queue *q, uint32_t size, uint64_t dma)
{
	unsigned came = 0, failed = 0;
	struct pst_nvme_batch b;
	struct pst_nvme_reap reap;
	struct pst_nvme_done done;

	pst_nvme_batch_begin(q, &b);
	for (uint64_t lba = 0; lba < COUNT; lba++)
		pst_nvme_batch_rw(&b, PST_NVME_OPC_READ, NULL, 1, lba, 1, dma + lba * size, size,
		                  0);
	pst_nvme_batch_end(&b);                               /* rings */
	while (came < COUNT && pst_nvme_poll(nvme, 0) >= 0) { /* does what is due: timeouts... */
		pst_nvme_reap_begin(q, &reap);
		for (; pst_nvme_reap_next(&reap, &done); came++)
			failed += done.status != 0;
		pst_nvme_reap_end(&reap);
	}
	printf("%u blocks of %u bytes read, %u failed\n", came, size, failed);
	return came != COUNT || failed;
}

int main(int argc, char **argv)
{
	struct pst_nvme_namespace ns;
	struct pst_nvme_queue *q = NULL;
	struct pst_nvme *nvme;
	struct pst_err err;
	void *buf = NULL;
	uint64_t dma;
	int rc;

	if (pst_nvme_open(&nvme, argc > 1 ? argv[1] : "loop:mem:64m", NULL, &err))
		return fprintf(stderr, "%s\n", err.text), 1;
	rc = pst_nvme_namespace(nvme, 1, &ns) || pst_nvme_queue_new(nvme, NULL, &q) ||
	     pst_nvme_mem_alloc(nvme, (size_t)COUNT * ns.block_bytes, &buf, &dma) ||
	     read_all(nvme, q, ns.block_bytes, dma);
	pst_nvme_mem_free(nvme, buf);
	pst_nvme_queue_free(nvme, q);
	pst_nvme_close(nvme);
	return rc;
}
