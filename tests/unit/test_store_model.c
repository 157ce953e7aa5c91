/* SPDX-License-Identifier: BSD-3-Clause */
/* The store contract, on the model: inline, and completing later in random order and often busy. */
#include "model_store.h"
#include "store_contract.h"

static bool later;

static void fresh(struct contract_env *env)
{
	struct model_store_opts opts = {.later = later, .busy = later ? 0.3 : 0, .seed = 1};
	struct loop_opts lo;

	loop_opts_default(&lo);
	lo.sim = true;
	lo.sim_start_ns = NSEC_PER_SEC;
	pst_assert(!loop_new(&env->loop, &lo, NULL));
	pst_assert(!model_store_new(&env->store, env->loop, &opts));
}

static void drop(struct contract_env *env)
{
	pst_assert(!store_close(env->store));
	loop_free(env->loop);
}

int main(int argc, char **argv)
{
	static const struct contract_factory now = {"store contract: model", fresh, NULL, drop};
	static const struct contract_factory slow = {"store contract: slow model", fresh, NULL,
	                                             drop};

	later = argc > 1 && !strcmp(argv[1], "later");
	return store_contract_run(later ? &slow : &now);
}
