/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * version - which library is running.
 */
#include "penstock/version.h"

#define TEXT_(x) #x
#define TEXT(x)  TEXT_(x)

int pst_version(void)
{
	return PST_VERSION;
}

const char *pst_version_text(void)
{
	return TEXT(PST_VERSION_MAJOR) "." TEXT(PST_VERSION_MINOR) "." TEXT(PST_VERSION_PATCH);
}
