/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who this host is: its NQN and its 16-byte identifier. As nvme-cli has it: /etc/nvme/hostnqn if it
 * is there, else made from /etc/machine-id, else the same for all processes of this boot.
 */
#include <ctype.h>
#include <pthread.h>
#include <stdio.h>

#include "nvme/host.h"

static char host_nqn[NVME_NQN_BYTES];
static uint8_t host_id[16];
static pthread_once_t made = PTHREAD_ONCE_INIT;

/* The first line of @path without white space at its end. */
static bool first_line(const char *path, char *buf, size_t size)
{
	FILE *f = fopen(path, "re");
	size_t len = 0;

	if (!f)
		return false;
	if (fgets(buf, (int)size, f))
		len = strlen(buf);
	fclose(f);
	while (len && isspace((unsigned char)buf[len - 1]))
		buf[--len] = '\0';
	return len > 0;
}

static void id_of(const char *text, uint8_t id[16])
{
	uint64_t half[2];

	half[0] = hash_u64(crc32c(0, text, strlen(text)) + 0x9e3779b97f4a7c15ull);
	half[1] = hash_u64(half[0] ^ crc32c(1, text, strlen(text)));
	memcpy(id, half, 16);
	id[6] = (uint8_t)((id[6] & 0x0f) | 0x80); /* a UUID of version 8: custom */
	id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
}

static void make(void)
{
	char line[NVME_NQN_BYTES];
	uint8_t *u = host_id;

	if (first_line("/etc/nvme/hostnqn", line, sizeof(line)) && strlen(line) <= NVME_NQN_MAX) {
		id_of(line, host_id);
		snprintf(host_nqn, sizeof(host_nqn), "%s", line);
		return;
	}
	if (!first_line("/etc/machine-id", line, sizeof(line)) &&
	    !first_line("/proc/sys/kernel/random/boot_id", line, sizeof(line)))
		snprintf(line, sizeof(line), "unknown");
	id_of(line, host_id);
	snprintf(host_nqn, sizeof(host_nqn),
	         "nqn.2014-08.org.nvmexpress:uuid:%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-"
	         "%02x%02x%02x%02x%02x%02x",
	         u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12],
	         u[13], u[14], u[15]);
}

const char *nvme_host_nqn(void)
{
	pthread_once(&made, make);
	return host_nqn;
}

const uint8_t *nvme_host_id(void)
{
	pthread_once(&made, make);
	return host_id;
}
