/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * penstock/client.h - open a store, see how it is, close it.
 *
 * A client is one open store. It works in one of two ways, chosen when it is opened:
 *
 *   threaded (the default): the library runs one reactor thread of its own. Calls may come from any
 *       thread. Blocking calls put the calling thread to sleep.
 *   driven (opts.drive): the library has no thread. All calls come from the thread that opened the
 *       client, and the store makes progress only inside them: in blocking calls, in pst_cq_poll()
 *       and in pst_client_turn(). This is the fastest way for a program with a loop of its own.
 *
 * Handles made from a client (containers, files, queues, memory) must be closed before it.
 *
 * fork(). A child must not use a client that it inherited: every call on it or on its handles
 * returns -EOWNERDEAD in the child (calls that return nothing do nothing), and the parent is not
 * disturbed. A child may open clients of its own; it can open the same store only after the parent,
 * and every child that still holds the inherited descriptors, is gone (they close on exec).
 */
#ifndef PENSTOCK_CLIENT_H
#define PENSTOCK_CLIENT_H

#include <stdbool.h>

#include "penstock/error.h"
#include "penstock/types.h"

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

struct pst_client;
struct pst_cq;

/*
 * How a client behaves. Fill it with pst_client_opts_default(), then change what you want. It grows
 * at its end only; @size tells the library which version the caller was built with.
 */
struct pst_client_opts {
	size_t size;              /* sizeof(struct pst_client_opts) */
	bool drive;               /* driven: see the head of this file */
	bool read_only;           /* every change is refused with -EROFS */
	bool poll;                /* threaded: the reactor never sleeps (it takes a whole core) */
	uint64_t spin_ns;         /* how long an idle reactor spins before it sleeps */
	uint64_t op_timeout_ns;   /* calls that take longer end with -ETIMEDOUT; 0: no limit */
	uint32_t mem_regions_max; /* how many pst_mem_alloc() may be alive; 0: 64 */
};

/*
 * pst_client_opts_default - fill @opts with the defaults.
 *
 * @size: sizeof(*opts), as the caller's compiler knows it. Any thread; never blocks, never fails.
 */
void pst_client_opts_default(struct pst_client_opts *opts, size_t size);

/*
 * pst_client_open - open the store that @uri names.
 *
 * @uri: "local:DEV[,DEV...][?option=value&...]" runs the whole stack in this process. DEV is a
 *       path (io_uring with O_DIRECT on a file or block device), "mem:SIZE" (memory; it is
 *       formatted by the open and gone after the close), or "fault:DEV?..." (a device that
 *       misbehaves on request). `penstock help devices` lists devices and options.
 *       "pst://HOST[:PORT][?option=value&...]" is a store that `penstock serve` serves; see
 *       `penstock help serve`. NULL: the value of the environment variable PENSTOCK_STORE.
 * @opts: NULL for the defaults; read during the call only.
 * @err: says in a sentence what went wrong; may be NULL.
 *
 * Blocks: it takes the devices' locks, reads the checkpoint and replays the log. On success
 * *ret_client is the caller's; pst_client_close() ends it. Any thread.
 *
 * -EINVAL: bad syntax or options, no store named. -ENOENT, -EACCES: a device can't be opened.
 * -EBUSY: another process has it open. -ENOTSUP: an unknown scheme, or a device can't do what was
 * asked. -ENODATA: what is there is no store. -EPROTONOSUPPORT: the store is newer than this program.
 * -ENXIO: a device of the store is missing, or one is another store's. -EIO, -EBADMSG: what was read
 * is damaged (run `penstock fsck`). -ENOSPC: the index does not fit in index_limit. -ENOMEM. Of a
 * server: -ECONNREFUSED and other errors of connecting, -ETIMEDOUT, -EACCES: no capability for this
 * client, -EPROTONOSUPPORT: another version of the protocol, -ESTALE: not the store that it was.
 */
int pst_client_open(struct pst_client **ret_client, const char *uri,
                    const struct pst_client_opts *opts, struct pst_err *err);

/*
 * pst_client_close - make everything durable and close the store.
 *
 * Accepts NULL. Blocks until done. Threaded: any thread but the library's own, and no other call
 * may be under way.
 *
 * 0; -EBUSY: a handle made from it is still open, and nothing was done; any other error: the client
 * is closed and gone, but not everything that was written with PST_F_VOLATILE is durable. What was
 * acknowledged as durable always is.
 */
int pst_client_close(struct pst_client *client);

/*
 * pst_client_turn - make progress (driven clients).
 *
 * @timeout_ns: sleep at most this long, in nanoseconds, when there is nothing to do; 0: don't
 * sleep; UINT64_MAX: until something happens.
 *
 * A turn works off a few of the completions that are there, so that the caller can submit between them:
 * as long as it returns more than 0 there may be more.
 *
 * Returns how many things happened (0: none in that time), or -EINVAL for a threaded client.
 */
int pst_client_turn(struct pst_client *client, uint64_t timeout_ns);

/*
 * pst_client_wake - make a turn or poll of a driven client that sleeps return soon, or the next one
 * not sleep.
 *
 * The one call on a driven client that may come from any thread: it is how other threads tell the
 * driving one that they have something for it. Never blocks. -EINVAL for a threaded client.
 */
int pst_client_wake(struct pst_client *client);

/*
 * pst_client_flush - make everything durable that was completed with PST_F_VOLATILE before the
 * call, in all containers. Blocks.
 *
 * -EIO and others: the device failed; the store has stopped and must be reopened.
 */
int pst_client_flush(struct pst_client *client);

#define PST_DEVICES_MAX 16

/* What a call that ended with -ENOSPC lacked. */
enum pst_scarce {
	PST_SCARCE_NONE,
	PST_SCARCE_DATA,  /* space on the devices */
	PST_SCARCE_INDEX, /* memory for the index: its limit is reached */
	PST_SCARCE_KINDS,
};

#define PST_REACTORS_MAX 64

/* A thread that works for a store, on a core of its own (`penstock serve --cores`). */
struct pst_reactor_status {
	int32_t core; /* -1: on any */
	uint32_t reserved;
	uint64_t up_ns;   /* since its loop began to turn */
	uint64_t busy_ns; /* of these: in turns that found something to do */
	uint64_t ops;     /* that its part of the engine was given since the open */
};

/* How a store is. Sizes in bytes. Counters count from the open, unless they say otherwise. */
struct pst_store_status {
	uint8_t uuid[16];
	uint64_t epoch; /* grows at each open */
	uint32_t shards, devices;
	bool stopped; /* a flush or log write failed: only reads work until it is reopened */
	char stopped_why[160];
	uint64_t size_bytes, used_bytes, free_bytes, reserved_bytes; /* of the data space */
	uint64_t objects, containers;
	uint64_t index_bytes, index_limit_bytes; /* DRAM that the index takes */
	uint64_t index_items, index_pages, extents;
	uint64_t csum_cache_bytes, csum_cache_limit_bytes, csum_hits, csum_misses;
	uint64_t journal_bytes, journal_used_bytes, journal_cache_bytes;
	uint64_t commits, commit_records, checkpoints;
	uint64_t dev_read_bytes, dev_write_bytes, dev_flushes; /* since it was opened */
	uint64_t user_read_bytes, user_write_bytes;
	uint64_t mirror_repairs, csum_errors;
	uint64_t recovery_ns, recovery_records, recovery_index_bytes; /* of the open */
	struct {
		char name[256];
		uint64_t size_bytes;
	} device[PST_DEVICES_MAX];
	char label[64]; /* what format was given; "": nothing */
	/* Of a store that is served: how this client reaches it. */
	char channel[128];      /* "tcp 127.0.0.1:7440"; "": in this process */
	uint64_t connects;      /* times that the connection was made */
	uint64_t fallbacks;     /* of these, those over a channel that was not the first choice */
	uint64_t resent;        /* requests that were sent again */
	uint64_t bounce_copies; /* payloads copied because the channel can't reach their memory */
	uint64_t
	        refused[PST_SCARCE_KINDS]; /* changes that ended with -ENOSPC, by enum pst_scarce */
	uint32_t refused_last;             /* enum pst_scarce: of the last of them */
	char sealed[32]; /* what the channel is sealed with: "aes-256-gcm"; "": it is not */
	/* That the store is parted among; the first has what is not parted. 0: a server that doesn't say. */
	uint32_t reactors;
	struct pst_reactor_status reactor[PST_REACTORS_MAX];
	/* Why the channel is not the first choice; "": it is, or the store is in this process. */
	char fallback_why[200];
};

/*
 * pst_client_status - how the store is now. Blocks shortly; fills *ret_status.
 */
int pst_client_status(struct pst_client *client, struct pst_store_status *ret_status);

/*
 * pst_client_figures - what the server of this store counts, as Prometheus' text (version 0.0.4).
 *
 * @buf: is filled with text and a NUL behind it; @cap: its bytes, at most 1 MiB are used.
 * @ret_len: bytes of the text, without the NUL; may be NULL.
 *
 * Takes the right to manage the server. Blocks shortly. -EACCES: without that right; -ENOTSUP: a store
 * in this process, or a server that is too old; -E2BIG: it does not fit; -EINVAL: no room at all.
 */
int pst_client_figures(struct pst_client *client, char *buf, size_t cap, size_t *ret_len);

/*
 * pst_client_explain - what the error that a call returned means, in a sentence.
 *
 * @status: what it returned, or its event's status: a negative errno value.
 * @ret_err: is filled in. For -ENOSPC it says whether the devices' space or the index's memory has
 *           run out (by what was refused last, if several calls were), for an error of a store that
 *           has stopped why that was.
 *
 * Blocks shortly, and no longer than some seconds: a server that is gone, or silent, is not waited for.
 * 0, or the error for which the store could not be asked (-ENOTCONN, -ETIMEDOUT): then *ret_err is
 * untouched.
 */
int pst_client_explain(struct pst_client *client, int status, struct pst_err *ret_err);

/* A scrub: what it should do, and how far it is. */
struct pst_scrub_report {
	uint64_t rate_bytes_per_s; /* in; 0: no limit */
	uint64_t total_bytes, done_bytes;
	uint64_t objects, errors, repaired;
	/* Called for each bad block on the thread that runs the store: which object, at which byte,
	 * and -EIO or what else happened. Must not call the library. May be NULL. */
	void (*bad)(struct pst_scrub_report *r, uint32_t cont, struct pst_oid oid, uint64_t off,
	            int status);
	uint64_t
	        bad_view; /* set before bad() is called: 0: the live view, else a snapshot's number */
};

/*
 * pst_client_scrub_async - read everything in the store and verify its checksums.
 *
 * @report: zeroed but for what is "in"; belongs to the library until the event. Its counters move
 *       meanwhile: a driven client may read them between turns, others only after the event.
 *
 * One event on @cq when all was read: status 0 even if blocks were bad (report->errors says how
 * many); -EBUSY: another scrub runs. Returns as all asynchronous calls do (penstock/cq.h).
 */
int pst_client_scrub_async(struct pst_client *client, struct pst_scrub_report *report,
                           struct pst_cq *cq, void *user_data);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif
#endif
