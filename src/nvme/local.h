/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * local - between processes of one machine: where targets leave their sockets, and messages with
 * file descriptors. What is said over a socket stands in shm.h.
 *
 * The run directory is $PENSTOCK_RUN_DIR, or /run/penstock for root, or $XDG_RUNTIME_DIR/penstock,
 * or /tmp/penstock-UID. It must belong to the user (or to root), and nobody else may write there.
 */
#ifndef NVME_LOCAL_H
#define NVME_LOCAL_H

#include <sys/types.h>

#include "base/base.h"

#define LOCAL_NAME_MAX 60u
#define LOCAL_FDS_MAX  4u

/* Letters, digits, '-', '_' and '.', not first; LOCAL_NAME_MAX at most. */
bool local_name_ok(const char *name);
/* The run directory. @make: made if it is not there. 0, or why it can't be used. */
int local_run_dir(char *buf, size_t size, bool make, struct pst_err *err);

/*
 * A socket that listens under @name (SOCK_SEQPACKET, not blocking), and the lock that keeps others
 * off the name as long as it is open. -EADDRINUSE: another process has it; -EINVAL: bad name.
 */
int local_listen(const char *name, int *ret_fd, int *ret_lock, struct pst_err *err);
/* Ends it: both are closed, the name is free. */
void local_unlisten(const char *name, int fd, int lock);
/* Connected to @name. -ENOENT: nobody listens there. Blocks, briefly. */
int local_connect(const char *name, int *ret_fd, struct pst_err *err);
/* The same without waiting: -EAGAIN when too many others do. */
int local_connect_now(const char *name, int *ret_fd, struct pst_err *err);
/* Who is at the other end. 0, or getsockopt's error. */
int local_peer(int fd, uid_t *ret_uid, pid_t *ret_pid);

/* One message with @fd_count descriptors. 0 or a negative errno value; never a part. */
int local_send(int fd, const void *msg, size_t len, const int *fds, unsigned fd_count);
/*
 * One message, waiting at most @timeout_ms for it (0: not at all: -EAGAIN). *ret_fds get what came
 * with it, close-on-exec, *fd_count as many as there is room for on the way in; more are closed.
 * Returns its length, 0 when the other side is gone; -EMSGSIZE when it was longer than @len.
 */
ssize_t local_recv(int fd, void *msg, size_t len, int *ret_fds, unsigned *fd_count, int timeout_ms);

#endif
