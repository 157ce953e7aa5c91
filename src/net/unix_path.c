/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The file of a listening unix socket. A server that was killed leaves its file behind, and bind()
 * refuses it; so a file that nobody listens on is removed. Two servers that start at once must not
 * take each other's for such a one: whoever binds holds a lock on "PATH.lock" for as long as it
 * listens, and goes no further without it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "net/net_int.h"

#define LOCK_SUFFIX ".lock"

struct unix_path {
	char path[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
	char lock_path[sizeof(((struct sockaddr_un *)0)->sun_path) + sizeof(LOCK_SUFFIX)];
	int lock_fd;
	dev_t dev; /* of the file that we made, */
	ino_t ino; /* so that we remove no other */
	bool bound;
};

/* True while @fd is still what the lock's name leads to: its last holder may have removed it. */
static bool lock_is_current(const struct unix_path *p, int fd)
{
	struct stat ours, there;

	return !fstat(fd, &ours) && !stat(p->lock_path, &there) && ours.st_dev == there.st_dev &&
	       ours.st_ino == there.st_ino;
}

static int take_lock(struct unix_path *p, struct pst_err *err)
{
	for (;;) {
		int fd = open(p->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

		if (fd < 0)
			return err_set(err, -errno, "cannot listen at unix:%s: %s: %s", p->path,
			               p->lock_path, strerror(errno));
		if (flock(fd, LOCK_EX | LOCK_NB)) {
			int error = errno;

			close(fd);
			if (error == EWOULDBLOCK)
				return err_set(err, -EADDRINUSE,
				               "unix:%s is in use by another program", p->path);
			return err_set(err, -error, "cannot lock %s: %s", p->lock_path,
			               strerror(error));
		}
		if (lock_is_current(p, fd)) {
			p->lock_fd = fd;
			return 0;
		}
		close(fd);
	}
}

/* 0 when nobody listens at @addr and the file is gone. */
static int remove_stale(const struct unix_path *p, const struct net_addr *addr, struct pst_err *err)
{
	struct stat st;
	int fd, r;

	if (lstat(p->path, &st))
		return errno == ENOENT ? 0
		                       : err_set(err, -errno, "cannot listen at unix:%s: %s",
		                                 p->path, strerror(errno));
	if (!S_ISSOCK(st.st_mode))
		/* Not "in use", which would be waited for: nobody's end makes a socket of it. */
		return err_set(err, -EEXIST, "cannot listen at unix:%s: it is there, and no socket",
		               p->path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_set(err, -errno, "cannot make a socket: %s", strerror(errno));
	r = connect(fd, (const struct sockaddr *)&addr->sa, addr->len) ? errno : 0;
	close(fd);
	if (r != ECONNREFUSED && r != ENOENT)
		return err_set(err, -EADDRINUSE, "unix:%s is in use by another program", p->path);
	if (unlink(p->path) && errno != ENOENT)
		return err_set(err, -errno, "cannot remove the stale socket %s: %s", p->path,
		               strerror(errno));
	return 0;
}

static int bind_file(struct unix_path *p, int fd, const struct net_addr *addr, unsigned mode,
                     struct pst_err *err)
{
	struct stat st;

	/* A new socket file gets the mode of its socket, less the umask: nobody whom the mode keeps
	 * out can get in before chmod() gives back what the umask took. */
	if (fchmod(fd, mode) || bind(fd, (const struct sockaddr *)&addr->sa, addr->len))
		return err_set(err, -errno, "cannot listen at unix:%s: %s", p->path,
		               strerror(errno));
	p->bound = true;
	if (chmod(p->path, mode) || lstat(p->path, &st))
		return err_set(err, -errno, "cannot set the permissions of %s: %s", p->path,
		               strerror(errno));
	p->dev = st.st_dev;
	p->ino = st.st_ino;
	return 0;
}

int unix_path_bind(struct unix_path **ret_path, int fd, const struct net_addr *addr, unsigned mode,
                   struct pst_err *err)
{
	const struct sockaddr_un *un = (const struct sockaddr_un *)&addr->sa;
	struct unix_path *p = mem_calloc(1, sizeof(*p));
	int r;

	if (!p)
		return err_set(err, -ENOMEM, "no memory for a listener");
	p->lock_fd = -1;
	snprintf(p->path, sizeof(p->path), "%.*s", (int)sizeof(un->sun_path), un->sun_path);
	snprintf(p->lock_path, sizeof(p->lock_path), "%s%s", p->path, LOCK_SUFFIX);
	r = take_lock(p, err);
	if (!r)
		r = remove_stale(p, addr, err);
	if (!r)
		r = bind_file(p, fd, addr, mode, err);
	if (r) {
		unix_path_remove(p);
		return r;
	}
	*ret_path = p;
	return 0;
}

void unix_path_remove(struct unix_path *p)
{
	struct stat st;

	if (!p)
		return;
	if (p->bound && !lstat(p->path, &st) && st.st_dev == p->dev && st.st_ino == p->ino)
		unlink(p->path);
	if (p->lock_fd >= 0) {
		unlink(p->lock_path);
		close(p->lock_fd);
	}
	mem_free(p);
}
