/* SPDX-License-Identifier: BSD-3-Clause */
/* nvme - the verbs of `penstock nvme`, each a command of its own: what cmd_nvme.c lists. */
#ifndef CLI_NVME_H
#define CLI_NVME_H

#include "cli/cli.h"

/* NULL-terminated. Their names are "nvme VERB". */
extern const struct cli_command *const nvme_verbs[];
/* The verb of "VERB"; NULL. */
const struct cli_command *nvme_verb_find(const char *verb);

extern const struct cli_command nvme_target, nvme_ana, nvme_list, nvme_identify, nvme_log,
        nvme_feature, nvme_format, nvme_reset, nvme_discover, nvme_connect, nvme_bind, nvme_unbind;

#endif
