/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * config - `penstock serve --config FILE.yaml`: every option of the server as YAML, read by libcyaml.
 * What is unknown, given twice, of a wrong kind or out of range is refused with FILE:LINE and a
 * sentence. packaging/serve.yaml is the annotated example.
 */
#ifndef SERVER_CONFIG_H
#define SERVER_CONFIG_H

#include "server/server.h"

#define CONFIG_BYTES_MAX (256u * 1024)
#define CONFIG_TEXTS_MAX (PST_DEVICES_MAX + SERVER_LISTEN_MAX + 16)

struct config {
	struct server_opts opts; /* opts.store is made of devices by the caller */
	const char *devices[PST_DEVICES_MAX];
	unsigned device_count;
	bool poll;
	/* private: what the strings above point into, and where those stand that server_check() looks at */
	void *raw;
	struct {
		const char *text;
		unsigned line;
	} at[CONFIG_TEXTS_MAX];
	unsigned at_count;
};

/* -ENOENT, -EACCES, ...: it can't be read; -E2BIG; -EINVAL; -ENOMEM, with a sentence. Blocks. */
int config_load(struct config *ret_c, const char *path, struct pst_err *err);
/* The same out of memory; @file is what sentences call it. */
int config_parse(struct config *ret_c, const char *file, const void *text, size_t len,
                 struct pst_err *err);
void config_done(struct config *c);
/* The line of @text, which server_check() found fault with; 0: it is not of this file. */
unsigned config_line(const struct config *c, const char *text);

/* What the command line gave (@over, else zeroed) goes before what is in @opts. */
void config_override(struct server_opts *opts, const struct server_opts *over);

#endif
