/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * penstock/version.h - which Penstock this is.
 */
#ifndef PENSTOCK_VERSION_H
#define PENSTOCK_VERSION_H

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

/* The version of these headers. A change of MAJOR (of MINOR while MAJOR is 0) may break callers. */
#define PST_VERSION_MAJOR 0
#define PST_VERSION_MINOR 1
#define PST_VERSION_PATCH 0

/* One number for comparisons: PST_VERSION >= PST_VERSION_NUMBER(0, 1, 0). */
#define PST_VERSION_NUMBER(major, minor, patch) ((major)*10000 + (minor)*100 + (patch))
#define PST_VERSION                             PST_VERSION_NUMBER(PST_VERSION_MAJOR, PST_VERSION_MINOR, PST_VERSION_PATCH)

/*
 * pst_version - the version of the library that is running, as PST_VERSION counts it.
 *
 * Any thread; never blocks, never fails.
 */
int pst_version(void);

/*
 * pst_version_text - the same as text, such as "0.1.0".
 *
 * The text is static. Any thread; never blocks, never fails.
 */
const char *pst_version_text(void);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif
#endif
