/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stack_local - the whole stack in this process: devices, the engine on them, the fs layer on that.
 * The engine owns the devices once it is open; until then they are closed here.
 */
#include "client/stack.h"

#include "fs/fs.h"
#include "store/local/local.h"

/* What a local: name says, split and checked. */
struct local_name {
	char *specs[PST_DEVICES_MAX];
	unsigned count;
	struct local_opts engine;
	struct local_format_opts format; /* for memory devices */
};

static void name_done(struct local_name *n)
{
	for (unsigned i = 0; i < n->count; i++)
		mem_free(n->specs[i]);
	n->count = 0;
}

static char *copy_range(const char *text, size_t len)
{
	char *copy = mem_alloc(len + 1);

	if (copy) {
		memcpy(copy, text, len);
		copy[len] = 0;
	}
	return copy;
}

/* Is @item an option of the store? Then takes it: 1; 0: no; or -EINVAL. */
static int store_option(struct local_name *n, const char *item, struct pst_err *err)
{
	static const char *const names[] = {"index_limit", "csum_cache", "journal_cache",
	                                    "ops",         "shards",     "journal"};
	uint64_t value, *const sizes[] = {&n->engine.index_limit_bytes,
	                                  &n->engine.csum_cache_bytes,
	                                  &n->engine.journal_cache_bytes,
	                                  NULL,
	                                  NULL,
	                                  &n->format.journal_bytes};
	const char *eq = strchr(item, '=');
	size_t len = eq ? (size_t)(eq - item) : strlen(item);

	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		if (strlen(names[i]) != len || strncmp(names[i], item, len) != 0)
			continue;
		if (!eq || parse_size(eq + 1, &value) < 0 || (!sizes[i] && value > 1u << 20))
			return err_set(err, -EINVAL, "option %s: not a good value", item);
		if (sizes[i])
			*sizes[i] = value;
		else if (i == 3)
			n->engine.ops_max = (unsigned)value;
		else
			n->format.shards = (unsigned)value;
		return 1;
	}
	return 0;
}

/* Takes the store's options out of "DEV?a=1&b=2", in place. */
static int spec_strip(struct local_name *n, char *spec, struct pst_err *err)
{
	char *in = strchr(spec, '?'), *out = in, *save = NULL;
	char sep = '?';

	if (!in)
		return 0;
	in = copy_range(in + 1, strlen(in + 1));
	if (!in)
		return err_set(err, -ENOMEM, "no memory");
	*out = 0;
	for (char *item = strtok_r(in, "&", &save); item; item = strtok_r(NULL, "&", &save)) {
		int rc = store_option(n, item, err);

		if (rc < 0) {
			mem_free(in);
			return rc;
		}
		if (rc == 0) {
			size_t len = strlen(item);

			*out++ = sep;
			memmove(out, item, len + 1);
			out += len;
			sep = '&';
		}
	}
	mem_free(in);
	return 0;
}

static int name_parse(struct local_name *n, const char *text, struct pst_err *err)
{
	const char *comma;
	int rc = 0;

	memset(n, 0, sizeof(*n));
	do {
		comma = strchrnul(text, ',');
		if (comma == text)
			rc = err_set(err, -EINVAL, "local: a device name is empty");
		else if (n->count == PST_DEVICES_MAX)
			rc = err_set(err, -EINVAL, "local: more than %d devices", PST_DEVICES_MAX);
		else if (!(n->specs[n->count] = copy_range(text, (size_t)(comma - text))))
			rc = err_set(err, -ENOMEM, "no memory");
		else
			rc = spec_strip(n, n->specs[n->count++], err);
		text = comma + 1;
	} while (rc == 0 && *comma);
	if (rc < 0)
		name_done(n);
	return rc;
}

/* --- devices --- */

static bool spec_is_mem(const char *spec)
{
	while (strncmp(spec, "fault:", 6) == 0)
		spec += 6;
	return strncmp(spec, "mem:", 4) == 0;
}

void stack_devs_close(struct stack_devs *devs)
{
	while (devs->count > 0)
		bdev_close(devs->dev[--devs->count]);
}

uint64_t stack_dev_bytes(uint64_t bytes, unsigned count)
{
	return ALIGN_DOWN(bytes / count, 4096);
}

int stack_devs_open(struct stack_devs *ret_devs, const char *const *specs, unsigned count,
                    struct loop *loop, const struct bdev_open_opts *opts, struct pst_err *err)
{
	struct stack_devs devs = {.all_mem = true};
	struct bdev_open_opts one = *opts;

	if (count == 0 || count > PST_DEVICES_MAX)
		return err_set(err, -EINVAL, "%u devices: it takes 1 to %d", count,
		               PST_DEVICES_MAX);
	one.size_bytes = stack_dev_bytes(opts->size_bytes, count);
	for (unsigned i = 0; i < count; i++) {
		int rc = bdev_open(&devs.dev[i], specs[i], loop, &one, err);

		if (rc < 0) {
			stack_devs_close(&devs);
			return rc;
		}
		devs.count++;
		devs.all_mem &= spec_is_mem(specs[i]);
	}
	*ret_devs = devs;
	return 0;
}

/* Memory that holds no store yet gets one; what else it may hold is an error. */
static int format_mem(const struct stack_devs *devs, const struct local_name *n,
                      struct pst_err *err)
{
	for (unsigned i = 0; i < devs->count; i++) {
		int rc = local_probe(devs->dev[i], err);

		if (rc == -EEXIST)
			return 0; /* named memory of an earlier open: local_open() says what it is
			           */
		if (rc < 0)
			return rc;
	}
	return local_format(devs->dev, devs->count, &n->format, err);
}

static int engine_open(struct store **ret_engine, struct loop *loop, const struct stack_devs *devs,
                       const struct local_opts *engine, const struct stack_opts *opts,
                       struct pst_err *err)
{
	struct loop *loops[LOCAL_REACTORS_MAX] = {loop};
	unsigned more = opts ? opts->more_loop_count : 0;

	if (more >= LOCAL_REACTORS_MAX)
		return err_set(err, -EINVAL, "more than %d reactors", LOCAL_REACTORS_MAX);
	for (unsigned i = 0; i < more; i++)
		loops[i + 1] = opts->more_loops[i];
	return local_open_on(ret_engine, loops, 1 + more, devs->dev, devs->count, engine, err);
}

/* Options of the formatting go with what is formatted by its opening. */
static int formatting_check(const struct local_name *n, struct pst_err *err)
{
	for (unsigned i = 0; i < n->count; i++) {
		if (spec_is_mem(n->specs[i]) || (!n->format.shards && !n->format.journal_bytes))
			continue;
		return err_set(err, -EINVAL,
		               "options shards and journal are of the formatting of mem: devices: "
		               "%s has been formatted",
		               n->specs[i]);
	}
	return 0;
}

int stack_local_check(const char *text, struct pst_err *err)
{
	struct local_name n;
	int rc = name_parse(&n, text, err);

	if (rc < 0)
		return rc;
	rc = formatting_check(&n, err);
	for (unsigned i = 0; rc == 0 && i < n.count; i++)
		rc = bdev_check(n.specs[i], err);
	name_done(&n);
	return rc;
}

struct each_file {
	int (*each)(void *arg, unsigned device, const char *path);
	void *arg;
	unsigned device;
};

static int each_file(void *arg, const char *path)
{
	const struct each_file *e = arg;

	return e->each(e->arg, e->device, path);
}

int stack_local_files(const char *text, int (*each)(void *arg, unsigned device, const char *path),
                      void *arg, struct pst_err *err)
{
	struct each_file e = {.each = each, .arg = arg};
	struct local_name n;
	int rc = name_parse(&n, text, err);

	if (rc < 0)
		return rc;
	for (; rc == 0 && e.device < n.count; e.device++)
		rc = bdev_files(n.specs[e.device], each_file, &e, err);
	name_done(&n);
	return rc;
}

int stack_local_open(struct store **ret_store, const char *text, struct loop *loop,
                     const struct stack_opts *opts, struct pst_err *err)
{
	struct bdev_open_opts dev_opts = {0};
	struct fs_opts fs_opts = {.grace_ns = opts ? opts->grace_ns : 0};
	struct stack_devs devs;
	struct store *engine = NULL;
	struct local_name n;
	int rc = name_parse(&n, text, err);

	if (rc < 0)
		return rc;
	/* Memory is formatted now, so it is opened for writing; the client refuses the rest. */
	for (unsigned i = 0; i < n.count; i++)
		dev_opts.read_only |= opts && opts->read_only && !spec_is_mem(n.specs[i]);
	n.engine.read_only = dev_opts.read_only;
	n.engine.journal_ahead = opts && opts->memory_ahead;
	rc = formatting_check(&n, err);
	if (rc < 0)
		goto out_name;
	rc = stack_devs_open(&devs, (const char *const *)n.specs, n.count, loop, &dev_opts, err);
	if (rc < 0)
		goto out_name;
	if (devs.all_mem && !n.engine.read_only)
		rc = format_mem(&devs, &n, err);
	if (rc == 0)
		rc = engine_open(&engine, loop, &devs, &n.engine, opts, err);
	if (rc < 0) {
		stack_devs_close(&devs);
		goto out_name;
	}
	rc = fs_new(ret_store, engine, &fs_opts, err);
	if (rc < 0)
		store_close(engine);
out_name:
	name_done(&n);
	return rc;
}
