/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One process at a time, by flock() on the open file that does the I/O (of the first reactor: the
 * rings of others keep that file, too).
 *
 * That open file belongs to the io_uring as well, on purpose: when a process is killed, the kernel
 * keeps the file, and with it the lock, until the last of the process's requests has left the
 * device. So whoever gets the lock after a crash knows that no late write of the dead can come. The
 * price is a moment in which the lock is held by a process that is gone, which is why a lock whose
 * holder doesn't live is waited for, and one whose holder does is refused.
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "bdev/uring.h"

/* How long a dead holder's requests may take; and how long to bear with a holder that can't be
 * identified, or with udev, which takes a short look at block devices under a lock of its own. */
#define DEAD_WAIT_NS    (30 * NSEC_PER_SEC)
#define UNKNOWN_WAIT_NS (1 * NSEC_PER_SEC)
/* Between taking its death signal and showing it, a process looks alive for an instant. */
#define ALIVE_WAIT_NS (20 * NSEC_PER_MSEC)
#define STEP_MS       2

enum holder { HOLDER_ALIVE, HOLDER_DEAD, HOLDER_UNKNOWN };

/* The process that /proc/locks names as holder of an flock on @st; 0 when there is none to be seen
 * (another name space, a file system that numbers its devices differently). */
static int holder_pid(const struct stat *st)
{
	FILE *f = fopen("/proc/locks", "re");
	char line[256];
	int ret = 0;

	if (!f)
		return 0;
	while (!ret && fgets(line, sizeof(line), f)) {
		unsigned major_nr, minor_nr;
		unsigned long long inode;
		int pid;

		/* 1: FLOCK  ADVISORY  WRITE 708 fd:00:1234 0 EOF; "-> FLOCK" are those who wait */
		if (sscanf(line, "%*d: FLOCK %*s %*s %d %x:%x:%llu", &pid, &major_nr, &minor_nr,
		           &inode) == 4 &&
		    inode == st->st_ino && makedev(major_nr, minor_nr) == st->st_dev)
			ret = MAX(pid, 0);
	}
	fclose(f);
	return ret;
}

/* @text: what /proc/PID/stat says from field 3, the state, on. A process that is exiting or has
 * SIGKILL waiting for it is dead: it will do nothing more. */
static bool stat_says_dead(const char *text)
{
	enum { FIELD_STATE = 3, FIELD_FLAGS = 9, FIELD_PENDING = 31 };
	const unsigned long long exiting = 4; /* PF_EXITING */

	for (int field = FIELD_STATE; text && field <= FIELD_PENDING; field++) {
		if (field == FIELD_STATE && (*text == 'Z' || *text == 'X'))
			return true;
		if (field == FIELD_FLAGS && strtoull(text, NULL, 10) & exiting)
			return true;
		if (field == FIELD_PENDING && strtoull(text, NULL, 10) >> (SIGKILL - 1) & 1)
			return true;
		text = strchr(text, ' ');
		text += text != NULL;
	}
	return false;
}

/* Fills @name with the command of @pid. */
static enum holder holder_state(int pid, char *name, size_t name_len)
{
	char path[64], text[512], *end, *begin;
	FILE *f;
	size_t n;

	if (!pid)
		return HOLDER_UNKNOWN;
	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return HOLDER_DEAD;
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	/* 708 (name, which may hold anything) S ... */
	begin = strchr(text, '(');
	end = strrchr(text, ')');
	if (!begin || !end || strlen(end) < 3)
		return HOLDER_UNKNOWN;
	snprintf(name, name_len, "%.*s", (int)(end - begin - 1), begin + 1);
	if (stat_says_dead(end + 2))
		return HOLDER_DEAD;
	return strstr(name, "udev") ? HOLDER_UNKNOWN : HOLDER_ALIVE;
}

static int refuse(struct pst_err *err, const char *path, int pid, const char *name)
{
	if (pid == getpid())
		return err_set(err, -EBUSY,
		               "'%s' is in use by this process: named twice, or open already",
		               path);
	if (pid && *name)
		return err_set(err, -EBUSY, "'%s' is in use by process %d (%s)", path, pid, name);
	return err_set(err, -EBUSY, "'%s' is in use by another process", path);
}

static uint64_t patience_ns(enum holder state)
{
	switch (state) {
	case HOLDER_ALIVE:
		return ALIVE_WAIT_NS;
	case HOLDER_DEAD:
		return DEAD_WAIT_NS;
	default:
		return UNKNOWN_WAIT_NS;
	}
}

int uring_lock(int fd, const char *path, bool shared, struct pst_err *err)
{
	const uint64_t start = clock_mono_ns();
	struct stat st;

	if (fstat(fd, &st))
		return err_set(err, -errno, "cannot look at '%s': %s", path, strerror(errno));
	while (flock(fd, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB)) {
		char name[64] = "";
		enum holder state;
		uint64_t waited = clock_mono_ns() - start;
		int pid;

		if (errno == EINTR)
			continue;
		if (errno != EWOULDBLOCK)
			return err_set(err, -errno, "cannot lock '%s': %s", path, strerror(errno));
		pid = holder_pid(&st);
		state = holder_state(pid, name, sizeof(name));
		if (waited > patience_ns(state))
			return refuse(err, path, pid, name);
		poll(NULL, 0,
		     STEP_MS); /* nothing announces that a lock is free but blocking for it */
	}
	return 0;
}
