/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shm - the loop transport between processes. The controller is in one process (shm_target.c), the
 * host in another (shm_host.c); registers, doorbells, queues and data are memory that both map.
 *
 *   host                                 target
 *   HELLO (who it is)         ------>    checks the peer's uid, makes a controller
 *                             <------    WELCOME, with the BAR's memfd and two eventfds
 *   MAP address, length, memfd ----->    checks its seals and size, maps it
 *                             <------    ANSWER
 *   UNMAP address             ------>    refuses the address from now on; keeps the memory mapped
 *                             <------    until nothing uses it; ANSWER
 *   (closes)                             ends the controller, then unmaps all
 *
 * Messages go over a unix socket (SOCK_SEQPACKET); its end is how each side notices the other's
 * death. Requests are the host's, one at a time. On the same socket a manager may say CONTROL.
 *
 * Both sides distrust what they share. Memory is a memfd sealed against shrinking, or it is not
 * mapped: a peer that cut it off would kill us with SIGBUS. What is read there is copied, and the
 * copy is checked (ctrlr_int.h I1; the host's rules Q1 to Q4 of penstock/nvme_queue.h).
 *
 * Sleep. A side that is about to sleep (loop_poller.sleeps: spinning is over) sets its flag in the
 * control page behind the BAR, and looks once more whether there is work; the other side, after it
 * left work, looks at the flag, and if it is set clears it and writes the eventfd. Both do store,
 * barrier, load, so one of them sees the other. Before its flag the target leaves the doorbells as it
 * saw them last: a host whose users ring them without a word wakes it when one of them is another now.
 * (Compared with what they were at the last wake-up, they may have come round to the same values.) A
 * peer that lies about its flag loses wake-ups, or gets too many: its own.
 */
#ifndef NVME_SHM_H
#define NVME_SHM_H

#include "nvme/local.h"
#include "nvme/loop.h"

#define SHM_MAGIC      0x314c4e50u /* "PNL1" */
#define SHM_TEXT_MAX   4096u
#define SHM_RANGES_MAX 64u
#define SHM_BYTES_MAX  (64 * GIB) /* mapped for one host */
#define SHM_ANSWER_MS  5000       /* how long a host waits for an answer */

enum shm_type {
	SHM_HELLO = 1,   /* text: the host's NQN */
	SHM_WELCOME = 2, /* len: of the BAR's memory, addr: of the registers and doorbells in it */
	SHM_MAP = 3,
	SHM_UNMAP = 4,
	SHM_ANSWER = 5,
	SHM_CONTROL = 6, /* text: a command of target.h; the ANSWER's text is what it says */
};

/* All fields little-endian. A message is the head, and text_len bytes of text without a NUL. */
struct shm_msg {
	le32 magic;
	le16 type;
	le16 text_len;
	le32 status; /* ANSWER: 0, or an errno value */
	le32 nsids;  /* WELCOME: unused, 0 */
	le64 addr, len;
	char text[SHM_TEXT_MAX];
};
#define SHM_HEAD_BYTES offsetof(struct shm_msg, text)
_Static_assert(SHM_HEAD_BYTES == 32, "the head of a message");

/* Behind the BAR, in a page of its own. One cache line for each side's flag. */
struct shm_ctl {
	le32 target_asleep;
	uint8_t pad4[60];
	le32 host_asleep;
	uint8_t pad68[60];
	uint8_t seen[NVME_DB_SQ(NVME_CTRLR_QUEUES_MAX + 1,
	                        0)]; /* doorbells, when target_asleep was set */
};
_Static_assert(offsetof(struct shm_ctl, host_asleep) == 64, "a cache line of its own");
_Static_assert(offsetof(struct shm_ctl, seen) == 128, "behind the flags");
_Static_assert(sizeof(struct shm_ctl) <= 4096, "one page");

static inline void shm_flag_set(le32 *flag)
{
	/* Before the look at what the other side left: see the head. */
	(void)__atomic_exchange_n(flag, le32_make(1), __ATOMIC_SEQ_CST);
}
/* After work was left: whether the other side must be woken. */
static inline bool shm_flag_take(le32 *flag)
{
	PST_NVME_MB();
	if (likely(!__atomic_load_n(flag, __ATOMIC_RELAXED)))
		return false;
	return __atomic_exchange_n(flag, 0, __ATOMIC_SEQ_CST) != 0;
}

/* --- shm_msg.c --- */

/* Fills the head and the text (NULL: none). */
void shm_msg_make(struct shm_msg *m, enum shm_type type, const char *text);
int shm_msg_send(int fd, const struct shm_msg *m, const int *fds, unsigned fd_count);
/* One message, checked, its text ended by a NUL in @m->text (so it is one shorter than it may be).
 * 1; 0: the other side is gone; -EAGAIN, -ETIMEDOUT, -EPROTO. *fd_count as local_recv(). */
int shm_msg_recv(int fd, struct shm_msg *m, int *ret_fds, unsigned *fd_count, int timeout_ms);
/* Maps a memfd that is sealed against shrinking and has @len bytes. -EPERM: not sealed so. */
int shm_map_fd(int fd, size_t len, void **ret_mem);

/* --- shm_link.c --- */

/* The way to the controller that the target @d->name makes for us. Blocks. */
int nvme_shm_connect(struct nvme_transport **ret_t, const struct nvme_device *d, struct loop *loop,
                     struct pst_err *err);
/* --- shm_control.c --- */

/* For managers: says @command to the target @name, and takes its answer. 0, -ENOENT (no target), or
 * what it answered, with a sentence in @err. */
int nvme_shm_control(const char *name, const char *command, char *ret_text, size_t size,
                     struct pst_err *err);

#endif
