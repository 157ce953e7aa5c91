/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * commands - the subcommands, each in cmd_NAME.c.
 */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "cli/cli.h"

extern const struct cli_command cmd_format, cmd_container, cmd_snapshot, cmd_put, cmd_get, cmd_ls,
        cmd_stat, cmd_cat, cmd_mkdir, cmd_mv, cmd_ln, cmd_rm, cmd_du, cmd_verify, cmd_kv, cmd_bench,
        cmd_perf, cmd_nvme, cmd_status, cmd_scrub, cmd_fsck, cmd_serve, cmd_top, cmd_watch,
        cmd_capability, cmd_version, cmd_help;

#endif
