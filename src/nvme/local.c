/* SPDX-License-Identifier: BSD-3-Clause */
/* The run directory, sockets in it, and messages with descriptors: see local.h. */
#include "nvme/local.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* --- names --- */

bool local_name_ok(const char *name)
{
	size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	                          "-_.");

	return len && len <= LOCAL_NAME_MAX && !name[len] && name[0] != '.';
}

static int run_dir_name(char *buf, size_t size)
{
	const char *own = getenv("PENSTOCK_RUN_DIR"), *xdg = getenv("XDG_RUNTIME_DIR");
	int n;

	if (own && own[0])
		n = snprintf(buf, size, "%s", own);
	else if (geteuid() == 0)
		n = snprintf(buf, size, "/run/penstock");
	else if (xdg && xdg[0])
		n = snprintf(buf, size, "%s/penstock", xdg);
	else
		n = snprintf(buf, size, "/tmp/penstock-%u", (unsigned)geteuid());
	return n > 0 && (size_t)n < size ? 0 : -ENAMETOOLONG;
}

int local_run_dir(char *buf, size_t size, bool make, struct pst_err *err)
{
	struct stat st;
	int rc = run_dir_name(buf, size);

	if (rc)
		return err_set(err, rc, "the run directory's name is too long");
	if (make && mkdir(buf, 0700) && errno != EEXIST)
		return err_set(err, -errno, "%s: %s", buf, strerror(errno));
	if (lstat(buf, &st))
		return err_set(err, -errno, "%s: %s", buf, strerror(errno));
	if (!S_ISDIR(st.st_mode) || (st.st_uid != geteuid() && st.st_uid != 0) ||
	    (st.st_mode & 022))
		return err_set(err, -EACCES,
		               "%s: not a directory that only its owner, you or root, may write to",
		               buf);
	return 0;
}

static int address(const char *name, bool make, struct sockaddr_un *ret_addr, struct pst_err *err)
{
	char dir[80];
	int rc;

	if (!local_name_ok(name))
		return err_set(err, -EINVAL,
		               "'%s' is no name for a target: letters, digits, '-', '_', '.'; %u "
		               "at most",
		               name, LOCAL_NAME_MAX);
	rc = local_run_dir(dir, sizeof(dir), make, err);
	if (rc)
		return rc;
	*ret_addr = (struct sockaddr_un){.sun_family = AF_UNIX};
	rc = snprintf(ret_addr->sun_path, sizeof(ret_addr->sun_path), "%s/%s.nvme", dir, name);
	if (rc < 0 || (size_t)rc >= sizeof(ret_addr->sun_path))
		return err_set(err, -ENAMETOOLONG, "%s/%s.nvme: longer than a socket's name may be",
		               dir, name);
	return 0;
}

/* --- listening --- */

/* The lock outlives no process; the socket's file does, and is removed under the lock. */
static int lock_name(const struct sockaddr_un *a, int *ret_lock, struct pst_err *err)
{
	char path[sizeof(a->sun_path) + 8];
	int fd;

	snprintf(path, sizeof(path), "%s.lock", a->sun_path);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		close(fd);
		return err_set(err, -EADDRINUSE, "%s: another target has this name", a->sun_path);
	}
	*ret_lock = fd;
	return 0;
}

int local_listen(const char *name, int *ret_fd, int *ret_lock, struct pst_err *err)
{
	struct sockaddr_un a;
	int fd, lock = -1, rc = address(name, true, &a, err);

	if (!rc)
		rc = lock_name(&a, &lock, err);
	if (rc)
		return rc;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		rc = err_set(err, -errno, "a socket: %s", strerror(errno));
		close(lock);
		return rc;
	}
	unlink(a.sun_path);
	if (bind(fd, (const struct sockaddr *)&a, sizeof(a)) || chmod(a.sun_path, 0600) ||
	    listen(fd, 64)) {
		rc = err_set(err, -errno, "%s: %s", a.sun_path, strerror(errno));
		close(fd);
		close(lock);
		return rc;
	}
	*ret_fd = fd;
	*ret_lock = lock;
	return 0;
}

void local_unlisten(const char *name, int fd, int lock)
{
	struct sockaddr_un a;

	if (fd < 0)
		return;
	if (!address(name, false, &a, NULL))
		unlink(a.sun_path);
	close(fd);
	close(lock);
}

static int connect_to(const char *name, bool now, int *ret_fd, struct pst_err *err)
{
	struct sockaddr_un a;
	int fd, rc = address(name, false, &a, err);

	if (rc)
		return rc;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | (now ? SOCK_NONBLOCK : 0), 0);
	if (fd < 0)
		return err_set(err, -errno, "a socket: %s", strerror(errno));
	do /* a signal leaves a unix socket unconnected */
		rc = connect(fd, (const struct sockaddr *)&a, sizeof(a));
	while (rc && errno == EINTR);
	if (rc || (now && fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK))) {
		rc = errno == ECONNREFUSED ? -ENOENT : -errno;
		close(fd);
		return err_set(err, rc, "%s: %s", a.sun_path,
		               rc == -ENOENT ? "no target has this name" : strerror(-rc));
	}
	*ret_fd = fd;
	return 0;
}

int local_connect(const char *name, int *ret_fd, struct pst_err *err)
{
	return connect_to(name, false, ret_fd, err);
}

int local_connect_now(const char *name, int *ret_fd, struct pst_err *err)
{
	return connect_to(name, true, ret_fd, err);
}

int local_peer(int fd, uid_t *ret_uid, pid_t *ret_pid)
{
	struct ucred c;
	socklen_t len = sizeof(c);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &len))
		return -errno;
	*ret_uid = c.uid;
	*ret_pid = c.pid;
	return 0;
}

/* --- messages --- */

union control {
	char buf[CMSG_SPACE(LOCAL_FDS_MAX * sizeof(int))];
	struct cmsghdr align;
};

int local_send(int fd, const void *msg, size_t len, const int *fds, unsigned fd_count)
{
	union control control = {.buf = {0}};
	struct iovec v = {.iov_base = (void *)(uintptr_t)msg, .iov_len = len};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
	ssize_t n;

	pst_assert(fd_count <= LOCAL_FDS_MAX);
	if (fd_count) {
		struct cmsghdr *c;

		m.msg_control = control.buf;
		m.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(c), fds, fd_count * sizeof(int));
	}
	do
		n = sendmsg(fd, &m, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EIO;
}

/* Keeps the descriptors that there is room for, closes the others. */
static void take_fds(struct msghdr *m, int *ret_fds, unsigned room, unsigned *ret_count)
{
	*ret_count = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int got;

			memcpy(&got, CMSG_DATA(c) + i * sizeof(int), sizeof(got));
			if (*ret_count < room)
				ret_fds[(*ret_count)++] = got;
			else
				close(got);
		}
	}
}

/* Whether there is something to take, or an end, within @timeout_ms, however many signals come. */
static bool await_message(int fd, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	uint64_t end_ns = clock_mono_ns() + (uint64_t)timeout_ms * NSEC_PER_MSEC, now_ns;
	int n;

	do {
		n = poll(&p, 1, timeout_ms);
		now_ns = clock_mono_ns();
		timeout_ms = now_ns < end_ns ? (int)((end_ns - now_ns) / NSEC_PER_MSEC) + 1 : 0;
	} while (n < 0 && errno == EINTR);
	return n != 0;
}

ssize_t local_recv(int fd, void *msg, size_t len, int *ret_fds, unsigned *fd_count, int timeout_ms)
{
	union control control = {.buf = {0}};
	struct iovec v = {.iov_base = msg, .iov_len = len};
	struct msghdr m = {.msg_iov = &v,
	                   .msg_iovlen = 1,
	                   .msg_control = control.buf,
	                   .msg_controllen = sizeof(control.buf)};
	unsigned room = *fd_count;
	ssize_t n;

	if (timeout_ms && !await_message(fd, timeout_ms))
		return -ETIMEDOUT;
	do
		n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	*fd_count = 0;
	if (n < 0)
		return errno == ECONNRESET ? 0 : -errno;
	take_fds(&m, ret_fds, room, fd_count);
	if (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
		while (*fd_count)
			close(ret_fds[--*fd_count]);
		return -EMSGSIZE;
	}
	return n;
}
