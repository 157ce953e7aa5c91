/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ofi_lib - libfabric, loaded when the first channel wants it, and not before: it brings some thirty
 * libraries along, and libinfinipath among them takes the process's signals as it is loaded (its
 * handler of SIGTERM calls exit(), which is a deadlock when malloc() was interrupted). A program that
 * never asks for the channel ofi has nothing of this, and one that does keeps its signals.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "fabric/ofi_int.h"

struct ofi_lib ofi_lib;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Signals that had no handler of their own keep having none. A handler that somebody sets in another
 * thread just now may be undone; load before, if that matters. */
static void *open_quietly(void)
{
	struct sigaction was[NSIG];
	bool known[NSIG];
	void *lib;

	for (int sig = 1; sig < NSIG; sig++)
		known[sig] = sigaction(sig, NULL, &was[sig]) == 0;
	/* What its authors offer, for libinfinipath and for libpsm2. */
	(void)setenv("IPATH_NO_BACKTRACE", "1", 0);
	(void)setenv("HFI_NO_BACKTRACE", "1", 0);
	lib = dlopen("libfabric.so.1", RTLD_NOW | RTLD_LOCAL);
	for (int sig = 1; sig < NSIG; sig++)
		if (known[sig])
			(void)sigaction(sig, &was[sig], NULL);
	return lib;
}

static int load(struct pst_err *err)
{
	const struct {
		const char *name;
		void *at;
	} want[] = {
	        {"fi_dupinfo", &ofi_lib.dupinfo},   {"fi_freeinfo", &ofi_lib.freeinfo},
	        {"fi_getinfo", &ofi_lib.getinfo},   {"fi_fabric", &ofi_lib.fabric},
	        {"fi_strerror", &ofi_lib.strerror},
	};
	void *lib = open_quietly();

	if (!lib)
		return err_set(err, -ENOTSUP, "ofi: libfabric can't be loaded: %s", dlerror());
	for (unsigned i = 0; i < ARRAY_LEN(want); i++) {
		void *symbol = dlsym(lib, want[i].name);

		if (!symbol)
			return err_set(err, -ENOTSUP, "ofi: libfabric has no %s", want[i].name);
		memcpy(want[i].at, &symbol, sizeof(symbol)); /* ISO C has no such cast */
	}
	return 0;
}

int ofi_lib_load(struct pst_err *err)
{
	int rc = 0;

	pthread_mutex_lock(&lock);
	if (!ofi_lib.getinfo) /* tests bring one of their own */
		rc = load(err);
	if (rc < 0)
		ofi_lib = (struct ofi_lib){0};
	pthread_mutex_unlock(&lock);
	return rc;
}
