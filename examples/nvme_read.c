/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reads the first 128 blocks of a namespace, 16 commands at a time, and prints how many bytes are not
 * zero. Build it against an installed Penstock, and try it on a controller in this process:
 *
 *   cc nvme_read.c -o nvme_read $(pkg-config --cflags --libs penstock)
 *   ./nvme_read loop:mem:64m
 */
#include <stdio.h>
#include <penstock/nvme.h>

#define BATCH 16
#define COUNT 128

static int run(struct pst_nvme *nvme, struct pst_nvme_queue *q, uint32_t bytes, uint8_t *buf,
               uint64_t dma)
{
	struct pst_nvme_batch batch;
	struct pst_nvme_reap reap;
	struct pst_nvme_done done;
	unsigned sent = 0, came = 0, set = 0;

	while (came < COUNT) {
		pst_nvme_batch_begin(q, &batch);
		for (unsigned n = 0; n < BATCH && sent < COUNT; n++, sent++)
			if (!pst_nvme_batch_rw(&batch, PST_NVME_OPC_READ, buf + sent * bytes, 1,
			                       sent, 1, dma + (uint64_t)sent * bytes, bytes, 0))
				break;      /* full: some must come back first */
		pst_nvme_batch_end(&batch); /* rings once for all of them */
		if (pst_nvme_poll(nvme, 0) < 0)
			return 1;
		pst_nvme_reap_begin(q, &reap);
		for (; pst_nvme_reap_next(&reap, &done); came++) {
			const uint8_t *block = (const uint8_t *)done.arg;

			if (done.status)
				return fprintf(stderr, "status %#x\n", (unsigned)done.status), 1;
			for (uint32_t i = 0; i < bytes; i++)
				set += block[i] != 0;
		}
		pst_nvme_reap_end(&reap);
	}
	printf("%u blocks of %u bytes, %u bytes are not zero\n", came, bytes, set);
	return 0;
}

int main(int argc, char **argv)
{
	struct pst_nvme *nvme = NULL;
	struct pst_nvme_queue *q = NULL;
	struct pst_nvme_namespace ns;
	struct pst_err err;
	void *buf = NULL;
	uint64_t dma = 0;
	int rc = pst_nvme_open(&nvme, argc > 1 ? argv[1] : "loop:mem:64m", NULL, &err);

	if (rc)
		return fprintf(stderr, "%s\n", err.text), 1;
	rc = pst_nvme_namespace(nvme, 1, &ns);
	if (!rc)
		rc = pst_nvme_queue_new(nvme, NULL, &q);
	if (!rc)
		rc = pst_nvme_mem_alloc(nvme, (size_t)ns.block_bytes * COUNT, &buf, &dma);
	if (!rc)
		rc = run(nvme, q, ns.block_bytes, (uint8_t *)buf, dma);
	if (rc < 0)
		fprintf(stderr, "nvme_read: error %d\n", rc);
	pst_nvme_mem_free(nvme, buf);
	pst_nvme_queue_free(nvme, q);
	pst_nvme_close(nvme);
	return rc != 0;
}
