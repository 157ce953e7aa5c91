/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory regions, their registrations, and pools. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mem/mem.h"

/* --- regions --- */

static void check_zeroed_and_usable(struct mem_region *r)
{
	uint8_t *p = r->addr;

	for (size_t i = 0; i < r->len_bytes; i++)
		assert_int_equal(p[i], 0);
	memset(p, 0x5a, r->len_bytes);
}

static void test_host(void **state)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct mem_region *r;

	assert_int_equal(mem_region_new(&r, MEM_HOST, 1), 0);
	assert_int_equal(r->len_bytes, page);
	assert_int_equal((uintptr_t)r->addr % page, 0);
	assert_int_equal(r->fd, -1);
	check_zeroed_and_usable(r);
	mem_region_free(r);
	mem_region_free(NULL);
}

static void test_bad_arguments(void **state)
{
	struct mem_region *r = NULL;
	char byte;

	assert_int_equal(mem_region_new(&r, MEM_HOST, 0), -EINVAL);
	assert_int_equal(mem_region_new(&r, MEM_HOST, SIZE_MAX), -EINVAL);
	assert_int_equal(mem_region_new(&r, (enum mem_kind)9, 4096), -EINVAL);
	assert_int_equal(mem_region_new(&r, MEM_HOST, (size_t)1 << 60), -ENOMEM);
	assert_int_equal(mem_region_wrap(&r, NULL, 1), -EINVAL);
	assert_int_equal(mem_region_wrap(&r, &byte, 0), -EINVAL);
	assert_int_equal(mem_region_wrap(&r, &byte, SIZE_MAX), -EINVAL);
	assert_null(r);
}

/* Another process that maps it can neither shrink it under us nor take the seals off. */
static void test_shared_is_sealed(void **state)
{
	struct mem_region *r;
	uint8_t *other;

	assert_int_equal(mem_region_new(&r, MEM_SHARED, 10000), 0);
	check_zeroed_and_usable(r);
	assert_int_equal(fcntl(r->fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	assert_int_equal(ftruncate(r->fd, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_true(fcntl(r->fd, F_GETFD) & FD_CLOEXEC);
	other = mmap(NULL, r->len_bytes, PROT_READ, MAP_SHARED, r->fd, 0);
	assert_true(other != MAP_FAILED);
	((uint8_t *)r->addr)[9999] = 42;
	assert_int_equal(other[9999], 42);
	munmap(other, r->len_bytes);
	mem_region_free(r);
}

/* Huge pages that are there are used; those that are not are an error. Nothing in between. */
/* Who has the old memory mapped neither sees nor changes the new one. */
static void test_renew(void **state)
{
	struct mem_region *r;
	uint8_t *other, *at;

	assert_int_equal(mem_region_new(&r, MEM_SHARED, 10000), 0);
	at = r->addr;
	at[9999] = 7;
	other = mmap(NULL, r->len_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
	assert_ptr_not_equal(other, MAP_FAILED);
	assert_int_equal(mem_region_renew(r), 0);
	assert_ptr_equal(r->addr, at);
	assert_int_equal(at[9999], 7);
	other[9999] = 8;
	other[0] = 1;
	assert_int_equal(at[9999], 7);
	assert_int_equal(at[0], 0);
	munmap(other, r->len_bytes);
	other = mmap(NULL, r->len_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
	assert_ptr_not_equal(other, MAP_FAILED);
	at[1] = 3;
	assert_int_equal(other[1], 3); /* the new one can be shared, too */
	assert_int_not_equal(ftruncate(r->fd, 0), 0);
	munmap(other, r->len_bytes);
	mem_region_free(r);
	assert_int_equal(mem_region_new(&r, MEM_HOST, 4096), 0);
	assert_int_equal(mem_region_renew(r), -EINVAL);
	mem_region_free(r);
}

static void test_huge_is_huge_or_an_error(void **state)
{
	struct mem_region *r = NULL;
	int rc = mem_region_new(&r, MEM_HUGE, 1);

	if (rc) {
		assert_true(rc == -ENOMEM || rc == -EINVAL || rc == -ENOSYS || rc == -ENOENT);
		assert_null(r);
		return;
	}
	assert_int_equal(r->len_bytes, 2 * MIB);
	assert_int_equal((uintptr_t)r->addr % (2 * MIB), 0);
	check_zeroed_and_usable(r);
	mem_region_free(r);
	assert_int_equal(mem_region_new(&r, MEM_HUGE, (size_t)1 << 46), -ENOMEM);
}

static void test_wrap_is_not_unmapped(void **state)
{
	char buf[100] = "mine";
	struct mem_region *r;

	assert_int_equal(mem_region_wrap(&r, buf, sizeof(buf)), 0);
	assert_true(r->borrowed);
	assert_ptr_equal(r->addr, buf);
	assert_int_equal(r->len_bytes, sizeof(buf));
	mem_region_free(r);
	assert_string_equal(buf, "mine");
}

/* --- registrations --- */

struct dom {
	struct mem_domain d;
	unsigned regs, unregs;
	int fail;
	uint64_t last_key;
};

static int dom_reg(struct mem_domain *d, struct mem_region *r, uint64_t *ret_key)
{
	struct dom *m = container_of(d, struct dom, d);

	if (m->fail)
		return m->fail;
	*ret_key = 100 + m->regs++;
	return 0;
}

static void dom_unreg(struct mem_domain *d, struct mem_region *r, uint64_t key)
{
	struct dom *m = container_of(d, struct dom, d);

	assert_non_null(r->addr); /* the memory is still there */
	m->unregs++;
	m->last_key = key;
}

static struct dom dom_make(void)
{
	return (struct dom){.d = {.name = "test", .reg = dom_reg, .unreg = dom_unreg}};
}

static void test_registration(void **state)
{
	struct dom a = dom_make(), b = dom_make(), bad = dom_make();
	struct mem_region *r;
	uint64_t key = 7;

	bad.fail = -EFAULT;
	assert_int_equal(mem_region_new(&r, MEM_HOST, 4096), 0);
	assert_false(mem_region_key(r, &a.d, &key));
	assert_int_equal(mem_region_register(r, &bad.d), -EFAULT);
	assert_false(mem_region_key(r, &bad.d, &key));
	assert_int_equal(key, 7);
	assert_int_equal(mem_region_register(r, &a.d), 0);
	assert_int_equal(mem_region_register(r, &a.d), 0);
	assert_int_equal(a.regs, 1);
	assert_int_equal(mem_region_register(r, &b.d), 0);
	assert_true(mem_region_key(r, &a.d, &key));
	assert_int_equal(key, 100);
	mem_region_unregister(r, &a.d);
	mem_region_unregister(r, &a.d);
	assert_int_equal(a.unregs, 1);
	assert_int_equal(a.last_key, 100);
	assert_false(mem_region_key(r, &a.d, &key));
	assert_true(mem_region_key(r, &b.d, &key));
	mem_region_free(r);
	assert_int_equal(b.unregs, 1);
	assert_int_equal(a.unregs, 1);
}

static void test_too_many_domains(void **state)
{
	struct dom d[MEM_DOMAINS_MAX + 1];
	struct mem_region *r;

	assert_int_equal(mem_region_new(&r, MEM_HOST, 4096), 0);
	for (unsigned i = 0; i <= MEM_DOMAINS_MAX; i++) {
		d[i] = dom_make();
		assert_int_equal(mem_region_register(r, &d[i].d),
		                 i < MEM_DOMAINS_MAX ? 0 : -ENOSPC);
	}
	mem_region_unregister(r, &d[3].d);
	assert_int_equal(mem_region_register(r, &d[MEM_DOMAINS_MAX].d), 0);
	mem_region_free(r);
	for (unsigned i = 0; i <= MEM_DOMAINS_MAX; i++)
		assert_int_equal(d[i].unregs, 1);
}

/* --- pools --- */

static void test_pool(void **state)
{
	static const size_t sizes[] = {1, 100, 4095, 4096, 5000, 65536};
	enum { N = 9 };

	for (unsigned s = 0; s < ARRAY_LEN(sizes); s++) {
		struct mem_pool *p;
		uint8_t *buf[N];

		assert_int_equal(mem_pool_new(&p, MEM_HOST, sizes[s], N), 0);
		assert_int_equal(mem_pool_available(p), N);
		for (unsigned i = 0; i < N; i++) {
			struct mem_region *r = mem_pool_region(p);

			buf[i] = mem_pool_get(p);
			assert_non_null(buf[i]);
			assert_true((uint8_t *)r->addr <= buf[i]);
			assert_true(buf[i] + sizes[s] <= (uint8_t *)r->addr + r->len_bytes);
			assert_int_equal((uintptr_t)buf[i] % (sizes[s] >= 4096 ? 4096 : 64), 0);
			memset(buf[i], (int)i, sizes[s]);
		}
		assert_null(mem_pool_get(p));
		assert_int_equal(mem_pool_available(p), 0);
		for (unsigned i = 0; i < N; i++) {
			assert_int_equal(buf[i][0], i); /* nobody else wrote there */
			assert_int_equal(buf[i][sizes[s] - 1], i);
			mem_pool_put(p, buf[i]);
		}
		assert_ptr_equal(mem_pool_get(p), buf[N - 1]); /* the warm one first */
		mem_pool_put(p, buf[N - 1]);
		mem_pool_free(p);
	}
	mem_pool_free(NULL);
}

static void test_pool_bad_arguments(void **state)
{
	struct mem_pool *p = NULL;

	assert_int_equal(mem_pool_new(&p, MEM_HOST, 0, 1), -EINVAL);
	assert_int_equal(mem_pool_new(&p, MEM_HOST, 1, 0), -EINVAL);
	assert_int_equal(mem_pool_new(&p, MEM_HOST, SIZE_MAX, 1), -EINVAL);
	assert_int_equal(mem_pool_new(&p, MEM_HOST, (size_t)1 << 50, 1u << 20), -EINVAL);
	assert_null(p);
}

static void test_no_memory(void **state)
{
	struct mem_pool *p = NULL;
	struct mem_region *r = NULL;
	char byte;

	for (uint64_t n = 1; n <= 2; n++) {
		mem_alloc_fail_at(n, false);
		assert_int_equal(mem_pool_new(&p, MEM_HOST, 4096, 4), -ENOMEM);
		mem_alloc_fail_at(0, false);
	}
	mem_alloc_fail_at(1, true);
	assert_int_equal(mem_region_new(&r, MEM_SHARED, 4096), -ENOMEM);
	assert_int_equal(mem_region_wrap(&r, &byte, 1), -ENOMEM);
	mem_alloc_fail_at(0, false);
	assert_null(p);
	assert_null(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_host),
	        cmocka_unit_test(test_bad_arguments),
	        cmocka_unit_test(test_shared_is_sealed),
	        cmocka_unit_test(test_renew),
	        cmocka_unit_test(test_huge_is_huge_or_an_error),
	        cmocka_unit_test(test_wrap_is_not_unmapped),
	        cmocka_unit_test(test_registration),
	        cmocka_unit_test(test_too_many_domains),
	        cmocka_unit_test(test_pool),
	        cmocka_unit_test(test_pool_bad_arguments),
	        cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests_name("mem", tests, NULL, NULL);
}
