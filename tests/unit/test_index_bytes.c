/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * index_bytes: what the index takes of memory, as `penstock status` tells it, is what is promised: at
 * most 256 bytes for a file of one extent whose name has up to 32 bytes, 48 for each further extent.
 * Names and extents come in random order, which leaves pages less full than any other. Some pages are
 * kept ready for changes to come, however small the index: of these, SPARE_BYTES.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/base.h"
#include "penstock/penstock.h"

#define FILES       100000
#define EXTENTS     100000
#define DIRS        100
#define FILE_BYTES  256ull
#define EXT_BYTES   48ull
#define SPARE_BYTES (5 * MIB)

struct fixture {
	struct pst_client *client;
	struct pst_cont *cont;
	struct pst_store_status before;
	struct rng rng;
};

static void start(struct fixture *f, uint8_t layout)
{
	struct pst_cont_info info = {.layout = layout};
	struct pst_client_opts opts;

	pst_client_opts_default(&opts, sizeof(opts));
	opts.drive = true;
	rng_seed(&f->rng, 7);
	assert_int_equal(pst_client_open(&f->client, "local:mem:768m", &opts, NULL), 0);
	assert_int_equal(pst_cont_create(f->client, "c", &info), 0);
	assert_int_equal(pst_cont_open(f->client, "c", &f->cont), 0);
	assert_int_equal(pst_client_status(f->client, &f->before), 0);
}

/* Pages that change while a checkpoint is written are there twice until it ends: waits for that. */
static void rest(struct fixture *f, uint64_t pages_max, struct pst_store_status *ret_st)
{
	uint64_t until = clock_mono_ns() + 60 * NSEC_PER_SEC;

	assert_int_equal(pst_client_flush(f->client), 0);
	do {
		assert_true(pst_client_turn(f->client, NSEC_PER_MSEC) >= 0);
		assert_int_equal(pst_client_status(f->client, ret_st), 0);
	} while (ret_st->index_pages - f->before.index_pages > pages_max &&
	         clock_mono_ns() < until);
}

/* The index holds @things of @bytes each more than at the start, and has no memory beyond. */
static void end(struct fixture *f, uint64_t things, uint64_t bytes)
{
	struct pst_store_status st;
	uint64_t pages, all;

	rest(f, things * bytes / 4096, &st);
	pages = (st.index_pages - f->before.index_pages) * 4096;
	all = st.index_bytes - f->before.index_bytes;
	print_message("%.1f bytes each in pages, %.1f in all\n", (double)pages / (double)things,
	              (double)all / (double)things);
	assert_true(pages > things * 16); /* it is measured, not guessed */
	assert_in_range(pages, 1, things * bytes);
	assert_in_range(all, 1, things * bytes + SPARE_BYTES);
	assert_int_equal(pst_cont_close(f->cont), 0);
	assert_int_equal(pst_client_close(f->client), 0);
}

static void files(void **state)
{
	const uint32_t mask =
	        PST_ATTR_MODE | PST_ATTR_UID | PST_ATTR_GID | PST_ATTR_ATIME | PST_ATTR_MTIME;
	struct pst_attr attr = {
	        .mode = 0100644, .uid = 1000, .gid = 1000, .atime_ns = 1, .mtime_ns = 2};
	struct fixture f;
	char path[64];

	start(&f, PST_LAYOUT_POSIX);
	for (unsigned d = 0; d < DIRS; d++) {
		(void)snprintf(path, sizeof(path), "d%u", d);
		assert_int_equal(pst_fs_mkdir(f.cont, 0, path, NULL, 0, PST_F_VOLATILE, NULL), 0);
	}
	for (unsigned i = 0; i < FILES; i++) {
		(void)snprintf(path, sizeof(path), "d%u/%016llx%016llx",
		               (unsigned)(rng_next(&f.rng) % DIRS),
		               (unsigned long long)rng_next(&f.rng),
		               (unsigned long long)rng_next(&f.rng));
		assert_int_equal(pst_fs_create(f.cont, 0, path, &attr, mask, "data", 4,
		                               PST_F_EXCL | PST_F_VOLATILE, NULL),
		                 0);
	}
	end(&f, FILES, FILE_BYTES);
}

static void extents(void **state)
{
	static const uint8_t block[4096] = {1};
	struct pst_oid oid = {.hi = 1, .lo = 2};
	struct pst_store_status st;
	struct fixture f;

	start(&f, PST_LAYOUT_OBJECT);
	for (unsigned i = 0; i < EXTENTS; i++) {
		/* Every other block: no two become one extent. */
		uint64_t lblk = 2 * (rng_next(&f.rng) % (8ull * EXTENTS));

		assert_int_equal(pst_obj_write(f.cont, oid, block, sizeof(block), lblk * 4096,
		                               PST_F_VOLATILE),
		                 0);
	}
	assert_int_equal(pst_client_flush(f.client), 0);
	assert_int_equal(pst_client_status(f.client, &st), 0);
	assert_true(st.extents > EXTENTS * 9ull / 10);
	end(&f, st.extents, EXT_BYTES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(files),
	        cmocka_unit_test(extents),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
