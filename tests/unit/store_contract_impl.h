/* SPDX-License-Identifier: BSD-3-Clause */
/* store_contract_impl - what the two files of the suite share. */
#ifndef TESTS_STORE_CONTRACT_IMPL_H
#define TESTS_STORE_CONTRACT_IMPL_H

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "ops.h"
#include "store_contract.h"

#define CASE(f) cmocka_unit_test_setup_teardown(f, contract_setup, contract_teardown)

extern const struct contract_factory *contract_factory;
extern const struct CMUnitTest contract_more_cases[];
extern const size_t contract_more_count;

int contract_setup(void **state);
int contract_teardown(void **state);

struct store *store_of(void **state);
uint32_t make_cont(struct store *s);
void fill(void *buf, size_t len, unsigned seed);
/* Reads [off, off + len) whole and compares it with @want (NULL: zeros). */
void expect_bytes(struct store *s, uint32_t cont, uint64_t view, struct pst_oid oid, uint64_t off,
                  const void *want, size_t len);
/* UINT64_MAX: it does not exist. */
uint64_t size_of(struct store *s, uint32_t cont, uint64_t view, struct pst_oid oid);

#endif
