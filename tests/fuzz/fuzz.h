/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz.h - the one function that a fuzz target defines. It is called with hostile bytes, must keep
 * no state from call to call, and returns 0; whatever goes wrong must end the process.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
