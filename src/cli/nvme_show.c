/* SPDX-License-Identifier: BSD-3-Clause */
/* What the verbs of nvme share. Results are JSON values; for people each is printed as lines. */
#include "cli/nvme_show.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/base.h"
#include "cli/attr.h"
#include "nvme/status.h"

int nvme_cli_open(struct cli *cli, const char *device, struct pst_nvme **ret_nvme)
{
	struct pst_err err = {0};

	if (pst_nvme_open(ret_nvme, device, NULL, &err))
		return cli_fail(cli, 0, "%s: %s", device, err.text);
	return CLI_OK;
}

int nvme_cli_admin(struct cli *cli, struct pst_nvme *n, struct nvme_cmd *cmd, void *data,
                   size_t len, uint32_t *ret_dw0, const char *what)
{
	struct pst_nvme_cqe cqe = {0};
	struct pst_nvme_sqe sqe;
	int rc;

	memcpy(&sqe, cmd, sizeof(sqe));
	rc = pst_nvme_admin(n, &sqe, data, len, &cqe);
	if (rc && cqe.status >> 1)
		return cli_fail(cli, 0, "%s: %s (the controller says status %#x)", what,
		                nvme_status_text((uint16_t)(cqe.status >> 1), false),
		                NVME_STATUS_CODE(cqe.status >> 1));
	if (rc)
		return cli_fail(cli, rc, "%s", what);
	if (ret_dw0)
		*ret_dw0 = cqe.dw0;
	return CLI_OK;
}

int nvme_cli_identify(struct cli *cli, struct pst_nvme *n, uint32_t cns, uint32_t nsid, void *page)
{
	struct nvme_cmd cmd = {
	        .opc = NVME_ADMIN_IDENTIFY, .nsid = le32_make(nsid), .cdw10 = le32_make(cns)};

	return nvme_cli_admin(cli, n, &cmd, page, NVME_IDENTIFY_BYTES, NULL, "identify");
}

int nvme_cli_u32(struct cli *cli, const char *what, const char *text, uint32_t max, uint32_t *ret)
{
	unsigned long long v;
	char *end;

	errno = 0;
	v = strtoull(text, &end, 0);
	if (errno || end == text || *end || text[0] == '-' || v > max) {
		cli_usage(cli, "%s %s: not a number up to %u", what, text, max);
		return -1;
	}
	*ret = (uint32_t)v;
	return 0;
}

/* --- fields --- */

void json_set_padded(json_t *o, const char *key, const char *text, size_t len)
{
	char buf[257];

	len = strnlen(text, MIN(len, sizeof(buf) - 1));
	while (len && text[len - 1] == ' ')
		len--;
	for (size_t i = 0; i < len; i++)
		buf[i] = text[i] >= 32 && text[i] < 127 ? text[i] : '?';
	buf[len] = '\0';
	json_set_text(o, key, buf);
}

/* As a number where JSON has it exactly, else as the largest that there is. */
void json_set_u128(json_t *o, const char *key, const uint8_t v[16])
{
	uint64_t low, high;

	memcpy(&low, v, 8);
	memcpy(&high, v + 8, 8);
	low = le64_get(low);
	json_set_int(o, key, high || low > INT64_MAX ? INT64_MAX : low);
}

void json_set_int(json_t *o, const char *key, uint64_t v)
{
	json_object_set_new(o, key, json_integer((json_int_t)v));
}

void json_set_hex(json_t *o, const char *key, const uint8_t *v, size_t len)
{
	char buf[129];

	len = MIN(len, (sizeof(buf) - 1) / 2);
	for (size_t i = 0; i < len; i++)
		snprintf(buf + 2 * i, 3, "%02x", v[i]);
	buf[2 * len] = '\0';
	json_set_text(o, key, buf);
}

/* --- for people --- */

static void show_value(const json_t *v)
{
	if (json_is_string(v))
		printf("%s", json_string_value(v));
	else if (json_is_integer(v))
		printf("%" JSON_INTEGER_FORMAT, json_integer_value(v));
	else if (json_is_real(v))
		printf("%g", json_real_value(v));
	else if (json_is_boolean(v))
		printf("%s", json_is_true(v) ? "yes" : "no");
}

static bool is_plain(const json_t *v)
{
	return !json_is_object(v) && !json_is_array(v);
}

static void show(const json_t *v, unsigned depth);

static void show_array(const json_t *v, unsigned depth)
{
	size_t i;
	json_t *e;

	json_array_foreach(v, i, e)
	{
		if (is_plain(e)) {
			printf("%*s", (int)depth * 2, "");
			show_value(e);
			putchar('\n');
			continue;
		}
		if (i)
			putchar('\n');
		show(e, depth);
	}
}

static void show(const json_t *v, unsigned depth)
{
	const char *key;
	json_t *e;

	if (json_is_array(v)) {
		show_array(v, depth);
		return;
	}
	json_object_foreach((json_t *)(uintptr_t)v, key, e)
	{
		if (is_plain(e)) {
			printf("%*s%-*s ", (int)depth * 2, "", 24 - (int)depth * 2, key);
			show_value(e);
			putchar('\n');
		} else if (json_is_array(e) ? json_array_size(e) : json_object_size(e)) {
			printf("%*s%s:\n", (int)depth * 2, "", key);
			show(e, depth + 1);
		}
	}
}

int nvme_cli_show(struct cli *cli, json_t *value)
{
	if (!value)
		return cli_fail(cli, -ENOMEM, "the result");
	if (cli->json)
		return cli_print_json(cli, value);
	show(value, 0);
	json_decref(value);
	return CLI_OK;
}
