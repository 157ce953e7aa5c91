/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The store contract, on a remote store: client and server in one process, over each channel that
 * this build has, with the model or the engine (and the names layer on it) behind the listener.
 * Reopening closes the server's store as well.
 */
#include <stdio.h>
#include <unistd.h>

#include "bdev/bdev.h"
#include "fabric/sim.h"
#include "fs/fs.h"
#include "model_store.h"
#include "store/local/local.h"
#include "store_contract.h"
#include "wire/wire.h"

struct setup {
	const char *name;
	const char *provider;
	bool engine; /* or the model */
	uint64_t seed;
	unsigned client, server; /* versions that they speak, 0: the newest */
	bool sealed;             /* and with keys that change after few messages */
};

static const struct setup setups[] = {
        {.name = "sim-model", .provider = "sim", .seed = 1},
        {.name = "sim-local", .provider = "sim", .engine = true, .seed = 2},
        {.name = "sim-local-3", .provider = "sim", .engine = true, .seed = 3},
        {.name = "old-client", .provider = "sim", .engine = true, .seed = 4, .client = 1},
        {.name = "old-server", .provider = "sim", .engine = true, .seed = 5, .server = 1},
        {.name = "pipe-local", .provider = "pipe", .engine = true},
        {.name = "tcp-local", .provider = "tcp", .engine = true},
        {.name = "ofi-local", .provider = "ofi", .engine = true},
        {.name = "sealed-sim", .provider = "sim", .engine = true, .seed = 6, .sealed = true},
        {.name = "sealed-sim-2", .provider = "sim", .seed = 7, .sealed = true},
        {.name = "sealed-tcp", .provider = "tcp", .engine = true, .sealed = true},
        {.name = "sealed-ofi", .provider = "ofi", .engine = true, .sealed = true},
};
static const struct setup *setup;

struct server {
	struct store *store;
	struct session_table *table;
	struct wire_listener *listener;
	const char *addr;
};

static void die(const char *what, const struct pst_err *err)
{
	(void)fprintf(stderr, "%s: %s\n", what, err->text);
	abort();
}

static void open_store(struct server *s, struct loop *loop, bool format)
{
	struct local_format_opts fo = {0};
	struct pst_err err = {0};
	struct store *engine;
	struct bdev *dev;

	if (!setup->engine) {
		pst_assert(!model_store_new(&s->store, loop, NULL));
		return;
	}
	if (bdev_open(&dev, "mem:256m?name=remote", loop, NULL, &err) ||
	    (format && local_format(&dev, 1, &fo, &err)) ||
	    local_open(&engine, loop, &dev, 1, NULL, &err) || fs_new(&s->store, engine, NULL, &err))
		die("store", &err);
}

static const char *address(char *buf, size_t len)
{
	if (!strcmp(setup->provider, "pipe"))
		(void)snprintf(buf, len, "/tmp/pst-remote-%d.sock", (int)getpid());
	else
		(void)snprintf(buf, len, "%s",
		               strcmp(setup->provider, "sim") ? "127.0.0.1:0" : "here");
	return buf;
}

static void granted(struct cap_op *op, int status)
{
	pst_assert(!status);
	op->info.id = 0; /* the token is there */
}

/* Of all that there is. */
static void token_get(struct session_table *t, struct loop *loop, char token[CAP_TOKEN_MAX])
{
	struct cap_op op = {.info = {.rights = RIGHTS_ALL}, .done = granted};

	pst_assert(!cap_grant(t, &op));
	op.info.id = op.info.id ? op.info.id : 1;
	while (op.info.id)
		(void)loop_turn(loop, NSEC_PER_MSEC);
	memcpy(token, op.token, CAP_TOKEN_MAX);
}

static void up(struct contract_env *env, bool format)
{
	struct session_opts so = {.open_access = true, .sim_seed = setup->seed};
	const struct fabric_opts fo = {.seed = setup->seed, .provider = "tcp"}; /* ofi's */
	struct remote_opts ro = {.seed = setup->seed, .version = setup->client, .fabric = fo};
	struct wire_listener_opts lo = {.version = setup->server};
	struct server *s = env->priv;
	struct pst_err err = {0};
	char addr[128], token[CAP_TOKEN_MAX];

	lo.seal = setup->sealed ? SEAL_REQUIRED : SEAL_AUTO;
	open_store(s, env->loop, format);
	if (session_table_open(&s->table, s->store, &so, &err) ||
	    wire_listener_new(&s->listener, s->table, &lo, &err) ||
	    wire_listener_add(s->listener, setup->provider, address(addr, sizeof(addr)), &fo,
	                      &s->addr, &err))
		die("server", &err);
	ro.at[0].provider = setup->provider;
	ro.at[0].addr = s->addr;
	ro.at_count = 1;
	if (setup->sealed) {
		token_get(s->table, env->loop, token);
		ro.cred = token;
		ro.seal = SEAL_REQUIRED;
		ro.seal_epoch = 1000;
	}
	if (remote_open(&env->store, env->loop, &ro, &err))
		die("client", &err);
	pst_assert(!!(remote_chan(env->store)->traits & FABRIC_SEALED) == setup->sealed);
}

static void down(struct contract_env *env)
{
	struct server *s = env->priv;

	pst_assert(!store_close(env->store));
	wire_listener_close(s->listener, NSEC_PER_SEC);
	session_table_close(s->table);
	pst_assert(!store_close(s->store));
}

static void fresh(struct contract_env *env)
{
	struct loop_opts lo;

	bdev_mem_forget("remote");
	env->priv = calloc(1, sizeof(struct server));
	loop_opts_default(&lo);
	lo.sim = !strcmp(setup->provider, "sim");
	lo.sim_start_ns = NSEC_PER_SEC;
	pst_assert(!loop_new(&env->loop, &lo, NULL));
	up(env, true);
}

static void reopen(struct contract_env *env)
{
	down(env);
	up(env, false);
}

static void drop(struct contract_env *env)
{
	down(env);
	fabric_finish(env->loop);
	loop_free(env->loop);
	free(env->priv);
}

static void log_to_stderr(void *arg, enum pst_log_level level, const char *line)
{
	(void)fprintf(stderr, "# %s\n", line);
}

int main(int argc, char **argv)
{
	char name[64];
	struct contract_factory f = {name, fresh, reopen, drop};

	pst_log_set(log_to_stderr, NULL, PST_LOG_WARN);
	for (size_t i = 0; i < ARRAY_LEN(setups); i++)
		if (argc > 1 && !strcmp(argv[1], setups[i].name))
			setup = &setups[i];
	if (setup && !strcmp(setup->provider, "ofi") && !fabric_provider_find("ofi")) {
		printf("1..0 # SKIP this build has no libfabric\n");
		return 0;
	}
	if (!setup || !fabric_provider_find(setup->provider)) {
		(void)fprintf(stderr, "usage: %s SETUP, over a channel of this build\n", argv[0]);
		return 2;
	}
	if (!setup->engine)
		f.reopen = NULL;
	(void)snprintf(name, sizeof(name), "store contract: remote, %s", setup->name);
	return store_contract_run(&f);
}
