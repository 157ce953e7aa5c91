/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * capability - what a capability says, as people write and read it.
 */
#ifndef CLI_CAPABILITY_H
#define CLI_CAPABILITY_H

#include "cli/cli.h"
#include "session/session.h"

/* "read,list", "ro", "rw", "all" -> RIGHT_*; false: a word is not known. */
bool capability_rights(const char *text, uint32_t *ret_rights);
/* The other way round; returns @buf. */
const char *capability_rights_text(uint32_t rights, char *buf, size_t len);
/* "never", or "90s", "30m", "12h", "7d" from @now_ns on: ns since 1970, 0: never. */
bool capability_expiry(const char *text, uint64_t now_ns, uint64_t *ret_ns);
/* "any", "UID:GID" (all are that one) or "N-N,N-N" (those; the first without a wish). */
bool capability_ids(const char *text, struct cap_info *info);

struct json_t *capability_json(const struct cap_info *info);
void capability_print(const struct cap_info *info);

#endif
