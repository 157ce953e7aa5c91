/* SPDX-License-Identifier: BSD-3-Clause */
/* status - what a status of NVM Express means: as an errno value, and as words. */
#ifndef NVME_STATUS_H
#define NVME_STATUS_H

#include <stdbool.h>
#include <stdint.h>

/* A status as an errno value: 0, or what to tell a caller. True: worth sending again. */
int nvme_status_errno(uint16_t status);
bool nvme_status_retry(uint16_t status);
/* For a message that also has the number: never NULL, static. @fabrics: of a Fabrics command, whose
 * specific codes mean other things (Base 2.0 figures 95 to 99; codes without words of ours are few). */
const char *nvme_status_text(uint16_t status, bool fabrics);

#endif
