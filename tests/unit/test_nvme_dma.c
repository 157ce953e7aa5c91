/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nvme/dma: ranges, their edges, and a reader beside a writer.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <cmocka.h>
#include <pthread.h>

#include "nvme/dma.h"

static void test_ranges(void **state)
{
	static struct nvme_dma_map m;
	static uint8_t a[4096], b[8192];

	nvme_dma_map_init(&m);
	assert_null(nvme_dma_map_translate(&m, 0, 1));
	assert_int_equal(nvme_dma_map_add(&m, 0x10000, a, 0), -EINVAL);
	assert_int_equal(nvme_dma_map_add(&m, UINT64_MAX - 10, a, 12), -EINVAL);
	assert_int_equal(nvme_dma_map_add(&m, 0x10000, a, sizeof(a)), 0);
	assert_int_equal(nvme_dma_map_add(&m, 0x10fff, b, sizeof(b)), -EEXIST);
	assert_int_equal(nvme_dma_map_add(&m, 0xf000, b, 0x1001), -EEXIST);
	assert_int_equal(nvme_dma_map_add(&m, 0x11000, b, sizeof(b)), 0);
	assert_ptr_equal(nvme_dma_map_translate(&m, 0x10000, 4096), a);
	assert_ptr_equal(nvme_dma_map_translate(&m, 0x10fff, 1), a + 4095);
	assert_ptr_equal(nvme_dma_map_translate(&m, 0x11001, 8191), b + 1);
	/* Neighbours here are none there: a piece lies in one range. */
	assert_null(nvme_dma_map_translate(&m, 0x10fff, 2));
	assert_null(nvme_dma_map_translate(&m, 0xffff, 1));
	assert_null(nvme_dma_map_translate(&m, 0x13000, 1));
	assert_null(nvme_dma_map_translate(&m, 0x10001, SIZE_MAX));
	assert_int_equal(nvme_dma_map_del(&m, 0x10001), -ENOENT);
	assert_int_equal(nvme_dma_map_del(&m, 0x10000), 0);
	assert_null(nvme_dma_map_translate(&m, 0x10000, 1));
	assert_int_equal(nvme_dma_map_add_self(&m, a, sizeof(a)), 0);
	assert_ptr_equal(nvme_dma_map_translate(&m, (uintptr_t)a + 8, 16), a + 8);
}

static void test_end_of_space(void **state)
{
	static struct nvme_dma_map m;
	static uint8_t a[4096];

	nvme_dma_map_init(&m);
	assert_int_equal(nvme_dma_map_add(&m, UINT64_MAX - 4095, a, 4096), 0);
	assert_ptr_equal(nvme_dma_map_translate(&m, UINT64_MAX, 1), a + 4095);
	assert_null(nvme_dma_map_translate(&m, UINT64_MAX, 2));
	for (unsigned i = 1; i < NVME_DMA_RANGES_MAX; i++)
		assert_int_equal(nvme_dma_map_add(&m, i * 8192ull, a, 4096), 0);
	assert_int_equal(nvme_dma_map_add(&m, 0x7000000, a, 4096), -ENOSPC);
	assert_int_equal(nvme_dma_map_del(&m, 8192), 0);
	assert_int_equal(nvme_dma_map_add(&m, 0x7000000, a, 4096), 0);
}

/* Whole pages, all of them within what it was opened on. */
static void test_window(void **state)
{
	struct nvme_dma_window w = {0};
	static uint8_t a[4 * 4096];

	assert_null(nvme_dma_window_find(&w, 0, 1));
	nvme_dma_window_open(&w, 0x10000, a, sizeof(a));
	assert_ptr_equal(nvme_dma_window_find(&w, 0x10000, sizeof(a)), a);
	assert_ptr_equal(nvme_dma_window_find(&w, 0x13fff, 1), a + 0x3fff);
	assert_null(nvme_dma_window_find(&w, 0x13fff, 2));
	assert_null(nvme_dma_window_find(&w, 0xffff, 1));
	assert_null(nvme_dma_window_find(&w, 0x10001, UINT64_MAX));
	nvme_dma_window_open(&w, 0x10010, a, sizeof(a));
	assert_null(nvme_dma_window_find(&w, 0x10010, 1));
	assert_ptr_equal(nvme_dma_window_find(&w, 0x11000, 1), a + 0xff0);
	assert_ptr_equal(nvme_dma_window_find(&w, 0x13fff, 1), a + 0x3fef);
	assert_null(nvme_dma_window_find(&w, 0x14000, 1));
	nvme_dma_window_open(&w, 0x10010, a, 4096);
	assert_null(nvme_dma_window_find(&w, 0x11000, 1));
	nvme_dma_window_open(&w, UINT64_MAX - 100, a, 100);
	assert_null(nvme_dma_window_find(&w, 0, 1));
	assert_null(nvme_dma_window_find(&w, UINT64_MAX - 50, 1));
	nvme_dma_window_open(&w, 0x10000, a, sizeof(a));
	nvme_dma_window_close(&w);
	assert_null(nvme_dma_window_find(&w, 0x10000, 1));
}

struct race {
	struct nvme_dma_map map;
	uint8_t mem[2][65536];
	bool stop;
};

/* A range that changes between a long one at one address and a short one at another. */
static void *race_writer(void *arg)
{
	struct race *r = arg;

	for (unsigned i = 0; i < 200000; i++) {
		uint64_t addr = i & 1 ? 0x100000 : 0x200000;

		pst_assert(!nvme_dma_map_add(&r->map, addr, r->mem[i & 1], i & 1 ? 16 : 65536));
		pst_assert(!nvme_dma_map_del(&r->map, addr));
	}
	__atomic_store_n(&r->stop, true, __ATOMIC_RELEASE);
	return NULL;
}

static void test_race(void **state)
{
	static struct race r;
	pthread_t t;

	nvme_dma_map_init(&r.map);
	assert_int_equal(pthread_create(&t, NULL, race_writer, &r), 0);
	while (!__atomic_load_n(&r.stop, __ATOMIC_ACQUIRE)) {
		uint8_t *p = nvme_dma_map_translate(&r.map, 0x200000 + 32, 64);

		assert_true(!p || p == r.mem[0] + 32);
		assert_null(nvme_dma_map_translate(&r.map, 0x100000 + 32, 1));
		p = nvme_dma_map_translate(&r.map, 0x100000, 16);
		assert_true(!p || p == r.mem[1]);
	}
	assert_int_equal(pthread_join(t, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_ranges),
	        cmocka_unit_test(test_end_of_space),
	        cmocka_unit_test(test_window),
	        cmocka_unit_test(test_race),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
