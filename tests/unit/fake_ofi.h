/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A provider of libfabric inside the test: what the channel ofi posts is kept, and the test is the
 * peer, and the network: it says what arrives, what completes, in which order, and what fails. It
 * stands in for the library (ofi_lib), so nothing of that is loaded. One thread.
 */
#ifndef TESTS_FAKE_OFI_H
#define TESTS_FAKE_OFI_H

#include "fabric/ofi_int.h"

/* A domain and all that is in it: one for each channel (docs/fabric.md). */
struct fake_ofi;

/* Before the first channel. @verbs: as that provider is: local registrations, keys of its own, virtual
 * addresses; otherwise as tcp is. */
void fake_ofi_use(bool verbs);
/* Everything that was opened has been closed. */
bool fake_ofi_clean(void);
/* The endpoint that was enabled last; NULL: it is closed. */
struct fake_ofi *fake_ofi_last(void);

/* Bytes arrive. False: there is no receive for them. */
bool fake_ofi_deliver(struct fake_ofi *f, const void *bytes, size_t len);
/* The @nth of what is under way completes, oldest first: a message, or a transfer, whose bytes are
 * read from where they lie, or set to @fill. @err: an errno value; 0: well. False: there is none. */
bool fake_ofi_complete(struct fake_ofi *f, unsigned nth, int err, uint8_t fill);
/* The next @n posts are refused: try again. */
void fake_ofi_refuse(struct fake_ofi *f, unsigned n);
/* The peer reaches into memory that it knows @key of. -EACCES: there is none, or it may not. */
int fake_ofi_reach(struct fake_ofi *f, uint64_t key, uint64_t addr, size_t len, bool write,
                   uint8_t fill);
/* The frames that were sent and not yet looked at, oldest first. False: none. */
bool fake_ofi_sent(struct fake_ofi *f, struct ofi_head *ret_head);

#endif
