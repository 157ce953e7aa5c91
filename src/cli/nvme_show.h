/* SPDX-License-Identifier: BSD-3-Clause */
/* nvme_show - what the verbs of nvme share: controllers opened, admin commands, results shown. */
#ifndef CLI_NVME_SHOW_H
#define CLI_NVME_SHOW_H

#include <jansson.h>

#include "cli/nvme.h"
#include "nvme/spec.h"
#include "penstock/nvme.h"

/* Opens the controller of @device. CLI_OK, or a status with the message printed. */
int nvme_cli_open(struct cli *cli, const char *device, struct pst_nvme **ret_nvme);
/* An admin command; @what for the message when it fails. @len: a page at most. *ret_dw0 may be
 * NULL. CLI_OK or CLI_FAILED. */
int nvme_cli_admin(struct cli *cli, struct pst_nvme *n, struct nvme_cmd *cmd, void *data,
                   size_t len, uint32_t *ret_dw0, const char *what);
/* Identify, of 4096 bytes. */
int nvme_cli_identify(struct cli *cli, struct pst_nvme *n, uint32_t cns, uint32_t nsid, void *page);
/* Shows @value and frees it: as JSON when asked for, else one line for each field, tables for lists
 * of objects. A status. */
int nvme_cli_show(struct cli *cli, json_t *value);
/* "0x1f" or "31", up to @max. 0, or -1 with a usage message. */
int nvme_cli_u32(struct cli *cli, const char *what, const char *text, uint32_t max, uint32_t *ret);

/* Adds fields: text padded with spaces, @len bytes; 16 bytes as a number (little-endian). */
void json_set_padded(json_t *o, const char *key, const char *text, size_t len);
void json_set_u128(json_t *o, const char *key, const uint8_t v[16]);
void json_set_int(json_t *o, const char *key, uint64_t v);
void json_set_hex(json_t *o, const char *key, const uint8_t *v, size_t len);

#endif
