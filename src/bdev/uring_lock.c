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
 *
 * Who took the lock need not be who has it: a locked file is inherited, as from flock(1) by the shell that
 * called it. So where the one that took it is gone, or not to be seen, all processes are looked
 * at for one that has that file: there is nothing to be waited for then.
 */
#include <ctype.h>
#include <dirent.h>
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
#define LOOK_NS       (500 * NSEC_PER_MSEC) /* between looks at other processes, and how */
#define SCAN_NS       (50 * NSEC_PER_MSEC)  /* long one takes: the next goes on from there */
#define TELL_NS       (1 * NSEC_PER_SEC)    /* after so long, that there is a wait, and for whom */

enum holder { HOLDER_ALIVE, HOLDER_DEAD, HOLDER_UNKNOWN };

/* Is this line, of /proc/locks or of a descriptor's fdinfo, of an flock on @st? (A file system may number its
 * devices differently there.) */
static bool is_flock_on(const char *line, const struct stat *st, int *ret_pid)
{
	unsigned major_nr, minor_nr;
	unsigned long long inode;

	/* 1: FLOCK  ADVISORY  WRITE 708 fd:00:1234 0 EOF; "-> FLOCK" are those who wait */
	return sscanf(line, "%*d: FLOCK %*s %*s %d %x:%x:%llu", ret_pid, &major_nr, &minor_nr,
	              &inode) == 4 &&
	       inode == st->st_ino && makedev(major_nr, minor_nr) == st->st_dev;
}

/* The process that /proc/locks names as holder of an flock on @st; 0 when there is none to be seen
 * (another name space, say). */
static int holder_pid(const struct stat *st)
{
	FILE *f = fopen("/proc/locks", "re");
	int pid, ret = 0;
	char line[256];

	if (!f)
		return 0;
	while (!ret && fgets(line, sizeof(line), f))
		if (is_flock_on(line, st, &pid))
			ret = MAX(pid, 0);
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

/*
 * Does this descriptor stand for the open file that is locked? The kernel writes what holds for all files
 * first, locks at its end; then the file's own kind adds what it likes, and some of it is anybody's text: a
 * ring tells the names of its files, in which there may be a line like a lock's. So nothing is believed
 * from the first line on that is not one of all files'. (Without that who has no right to the device could
 * keep a server from waiting for its own last requests; and no more.)
 */
bool uring_fdinfo_locked(FILE *f, const struct stat *st)
{
	static const char *const of_all[] = {"pos:", "flags:", "mnt_id:", "ino:"};
	char line[256];
	int by;

	while (fgets(line, sizeof(line), f)) {
		bool known = false;

		if (!strncmp(line, "lock:", 5)) {
			if (is_flock_on(line + 5, st, &by))
				return true;
			continue;
		}
		for (unsigned i = 0; i < ARRAY_LEN(of_all); i++)
			known |= !strncmp(line, of_all[i], strlen(of_all[i]));
		if (!known)
			return false;
	}
	return false;
}

/* Its file is not touched: it may be of a file system that hangs. */
static bool fd_is_locked(const char *pid, const char *fd, const struct stat *st)
{
	char path[96];
	bool ret;
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/%.16s/fdinfo/%.16s", pid, fd);
	f = fopen(path, "re"); /* of another user's process only root may */
	if (!f)
		return false;
	ret = uring_fdinfo_locked(f, st);
	fclose(f);
	return ret;
}

/* How much is looked at in one go. */
struct slice {
	uint64_t until_ns;
	unsigned looks;
};

static bool is_over(struct slice *s)
{
	return ++s->looks % URING_KEEPER_LOOKS == 0 && clock_mono_ns() >= s->until_ns;
}

enum found { FOUND, FOUND_NOT, FOUND_TOO_MUCH };

static enum found has_locked(const char *pid, const struct stat *st, struct slice *s)
{
	enum found ret = is_over(s) ? FOUND_TOO_MUCH : FOUND_NOT;
	struct dirent *e;
	char path[64];
	DIR *d;

	(void)snprintf(path, sizeof(path), "/proc/%.16s/fdinfo", pid);
	d = opendir(path);
	while (d && ret == FOUND_NOT && (e = readdir(d)) != NULL) {
		if (isdigit((unsigned char)e->d_name[0]) && fd_is_locked(pid, e->d_name, st))
			ret = FOUND;
		else if (is_over(s))
			ret = FOUND_TOO_MUCH;
	}
	if (d)
		closedir(d);
	return ret;
}

/* They come in the order of their numbers. One that is too much even for a slice of its own is passed over. */
int uring_keeper(int *at, const struct stat *st, uint64_t budget_ns)
{
	struct slice s = {.until_ns = clock_mono_ns() + budget_ns};
	DIR *d = opendir("/proc");
	int first = 0, ret = 0;
	struct dirent *e;
	char name[64];

	while (d && !ret && (e = readdir(d)) != NULL) {
		int pid = isdigit((unsigned char)e->d_name[0]) ? atoi(e->d_name) : 0;
		enum found found;

		if (!pid || pid < *at)
			continue;
		first = first ? first : pid;
		found = has_locked(e->d_name, st, &s);
		if (found == FOUND_TOO_MUCH) {
			*at = pid == first ? pid + 1 : pid;
			closedir(d);
			return 0;
		}
		if (found == FOUND && holder_state(pid, name, sizeof(name)) != HOLDER_DEAD)
			ret = pid;
	}
	if (d)
		closedir(d);
	*at = 0;
	return ret;
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

/* What is known of the one in the way, at one look. */
struct holder_look {
	int pid;
	enum holder state;
	char name[64];
	uint64_t next_ns; /* when processes are looked at again, */
	int next_pid;     /* and from which one on */
	bool told;
};

static void look(struct holder_look *h, const struct stat *st, uint64_t waited)
{
	int keeper = 0;

	h->name[0] = 0;
	h->pid = holder_pid(st);
	h->state = holder_state(h->pid, h->name, sizeof(h->name));
	if (h->state == HOLDER_ALIVE || (h->state == HOLDER_UNKNOWN && h->pid) ||
	    waited < MAX(h->next_ns, ALIVE_WAIT_NS))
		return;
	h->next_ns = waited + LOOK_NS;
	keeper = uring_keeper(&h->next_pid, st, SCAN_NS);
	if (!keeper)
		return;
	h->pid = keeper;
	h->state = holder_state(keeper, h->name, sizeof(h->name));
}

static void tell(struct holder_look *h, const char *path, uint64_t waited)
{
	if (h->told || waited < TELL_NS || h->state != HOLDER_DEAD)
		return;
	h->told = true;
	log_warn("'%s' is locked by a process that is gone (%d), whose last requests may be under "
	         "way: "
	         "waiting for %llu s at most",
	         path, h->pid, (unsigned long long)(DEAD_WAIT_NS / NSEC_PER_SEC));
}

int uring_lock(int fd, const char *path, bool shared, struct pst_err *err)
{
	const uint64_t start = clock_mono_ns();
	struct holder_look h = {0};
	struct stat st;

	if (fstat(fd, &st))
		return err_set(err, -errno, "cannot look at '%s': %s", path, strerror(errno));
	while (flock(fd, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB)) {
		uint64_t waited = clock_mono_ns() - start;

		if (errno == EINTR)
			continue;
		if (errno != EWOULDBLOCK)
			return err_set(err, -errno, "cannot lock '%s': %s", path, strerror(errno));
		look(&h, &st, waited);
		if (waited > patience_ns(h.state))
			return refuse(err, path, h.pid, h.name);
		tell(&h, path, waited);
		poll(NULL, 0,
		     STEP_MS); /* nothing announces that a lock is free but blocking for it */
	}
	return 0;
}
