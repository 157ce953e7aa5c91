/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * store_contract - what every store that takes object ops must do: one suite of cases, run on the
 * model and on each engine. A case gets a fresh, empty store from the factory.
 */
#ifndef TESTS_STORE_CONTRACT_H
#define TESTS_STORE_CONTRACT_H

#include "store/store.h"

struct contract_env {
	struct loop *loop; /* the factory's */
	struct store *store;
	void *priv; /* the factory's */
};

struct contract_factory {
	const char *name;
	/* Makes env->loop and env->store, a store with room for 64 MiB of data at least. */
	void (*fresh)(struct contract_env *env);
	/* Closes the store and opens it again on what it has kept. NULL: it keeps nothing. */
	void (*reopen)(struct contract_env *env);
	/* Closes and frees all. */
	void (*drop)(struct contract_env *env);
};

/* Returns how many cases failed, for main(). */
int store_contract_run(const struct contract_factory *factory);

#endif
