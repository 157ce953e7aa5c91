/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The contract of bdev/bdev.h as tests: one suite, run on every block device. A device joins with a
 * struct bdev_case in test_bdev.c and nothing else.
 */
#ifndef TESTS_BDEV_CONTRACT_H
#define TESTS_BDEV_CONTRACT_H

#include "bdev_util.h"

#define BDEV_CONTRACT_TESTS 17
#define CONTRACT_DEV_BYTES  (2 * MIB)

struct bdev_case {
	const char *label;                  /* before the test's name */
	char spec[512];                     /* CONTRACT_DEV_BYTES large; contents survive closing */
	bool sim;                           /* runs on a simulated loop */
	void (*fresh)(struct bdev_case *c); /* before each test: as if never used */
};

/* Appends the suite for @c, BDEV_CONTRACT_TESTS at most; returns how many. */
size_t bdev_contract_add(struct CMUnitTest *tests, struct bdev_case *c);

#endif
