/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_device_string - device strings as a user writes them: splitting of options, sizes, numbers,
 * and opening a device by them. The first byte chooses. Only devices in memory are opened, whatever
 * the rest of the input says.
 */
#include <stdio.h>

#include "base/base.h"
#include "bdev/bdev.h"
#include "loop/loop.h"

#include "fuzz.h"

#define TEXT_MAX 1024
/* A device in memory that the input may ask for without making the fuzzer slow. */
#define SIZE_MAX_BYTES (64 * MIB)

static void split(const char *text)
{
	struct options o;
	struct pst_err err;
	uint64_t n = 0;
	bool yes = false;
	double d = 0;

	if (options_parse(&o, text, &err)) {
		pst_assert(err.code < 0 && *err.text);
		return;
	}
	(void)options_size(&o, "size", &n, &err);
	(void)options_u64(&o, "n", &n, &err);
	(void)options_bool(&o, "yes", &yes, &err);
	(void)options_double(&o, "p", &d, &err);
	if (options_finish(&o, "test", &err))
		pst_assert(err.code == -EINVAL && *err.text);
	options_done(&o);
}

static void sizes(const char *text)
{
	uint64_t bytes = 12345, again = 0;
	char buf[64];

	if (parse_size(text, &bytes)) {
		pst_assert(bytes == 12345);
		return;
	}
	pst_assert(!parse_size(text, &again) && again == bytes);
	pst_assert(strlen(format_size(bytes, buf, sizeof(buf))) < sizeof(buf));
}

/* False when the device would be larger than a fuzzer likes. */
static bool small(const char *rest)
{
	struct options o;
	uint64_t bytes = 0;
	bool ok;

	if (options_parse(&o, rest, NULL))
		return true; /* will be refused */
	/* A named one stays for as long as the process. */
	ok = parse_size(o.base, &bytes) ||
	     bytes <= (options_str(&o, "name") ? 4096 : SIZE_MAX_BYTES);
	options_done(&o);
	return ok;
}

static void open_memory(const char *prefix, const char *rest)
{
	struct bdev_open_opts opts = {0};
	struct loop_opts lo;
	struct bdev *b = NULL;
	struct loop *loop;
	struct pst_err err;
	char spec[TEXT_MAX + 32];

	if (!small(rest))
		return;
	loop_opts_default(&lo);
	lo.sim = true;
	if (loop_new(&loop, &lo, &err))
		return;
	snprintf(spec, sizeof(spec), "%s%s", prefix, rest);
	if (bdev_open(&b, spec, loop, &opts, &err))
		pst_assert(err.code < 0 && *err.text && !b);
	else
		pst_assert(b->info.size_bytes > 0);
	bdev_close(b);
	loop_free(loop);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char text[TEXT_MAX + 1];

	if (size < 1 || size > TEXT_MAX)
		return 0;
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	switch (data[0] % 4) {
	case 0:
		split(text);
		break;
	case 1:
		sizes(text);
		break;
	case 2:
		open_memory("mem:", text);
		break;
	default:
		open_memory("fault:mem:", text);
		break;
	}
	return 0;
}
