/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_config - the configuration's text. What is taken keeps its promises: every string is one, every
 * number is in its range; what is refused says so in a sentence that begins with the file's name.
 */
#include "server/config.h"

#include "fuzz.h"

static void check_text(const char *text)
{
	pst_assert(!text || strlen(text) > 0);
}

static void check_good(const struct config *c)
{
	const struct server_opts *o = &c->opts;
	enum pst_log_level level;

	pst_assert(c->device_count <= PST_DEVICES_MAX && o->listen_count <= SERVER_LISTEN_MAX);
	for (unsigned i = 0; i < c->device_count; i++)
		check_text(c->devices[i]);
	for (unsigned i = 0; i < o->listen_count; i++)
		check_text(o->listen[i]);
	check_text(o->socket);
	check_text(o->metrics);
	check_text(o->tls_key);
	pst_assert(!o->log_level || server_log_level(o->log_level, &level));
	pst_assert(o->session.slots_default <= SESSION_SLOTS_MAX);
	for (unsigned i = 0; i < o->tenant_count; i++) {
		pst_assert(o->tenant[i].qos.weight <= 1000);
		pst_assert(memchr(o->tenant[i].name, 0, sizeof(o->tenant[i].name)));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pst_err err = {0};
	struct config c;
	int rc = config_parse(&c, "fuzz.yaml", data, size, &err);

	if (rc == 0) {
		check_good(&c);
		config_done(&c);
	} else {
		pst_assert(rc == err.code && !strncmp(err.text, "fuzz.yaml", 9));
	}
	return 0;
}
