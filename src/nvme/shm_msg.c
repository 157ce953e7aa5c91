/* SPDX-License-Identifier: BSD-3-Clause */
/* Messages of the loop transport between processes, and the check of memory that came with one. */
#include "nvme/shm.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

void shm_msg_make(struct shm_msg *m, enum shm_type type, const char *text)
{
	size_t len = text ? strnlen(text, SHM_TEXT_MAX - 1) : 0;

	memset(m, 0, SHM_HEAD_BYTES);
	m->magic = le32_make(SHM_MAGIC);
	m->type = le16_make(type);
	m->text_len = le16_make((uint16_t)len);
	if (len)
		memcpy(m->text, text, len);
	m->text[len] = '\0';
}

int shm_msg_send(int fd, const struct shm_msg *m, const int *fds, unsigned fd_count)
{
	return local_send(fd, m, SHM_HEAD_BYTES + le16_get(m->text_len), fds, fd_count);
}

int shm_msg_recv(int fd, struct shm_msg *m, int *ret_fds, unsigned *fd_count, int timeout_ms)
{
	ssize_t n = local_recv(fd, m, sizeof(*m), ret_fds, fd_count, timeout_ms);
	size_t text;

	if (n <= 0)
		return n == -EMSGSIZE ? -EPROTO : (int)n;
	text = (size_t)n - SHM_HEAD_BYTES;
	if ((size_t)n < SHM_HEAD_BYTES || le32_get(m->magic) != SHM_MAGIC ||
	    le16_get(m->text_len) != text || text >= SHM_TEXT_MAX) {
		while (*fd_count)
			close(ret_fds[--*fd_count]);
		return -EPROTO;
	}
	m->text[text] = '\0';
	return 1;
}

int shm_map_fd(int fd, size_t len, void **ret_mem)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;
	void *p;

	if (seals < 0 || !(seals & F_SEAL_SHRINK))
		return -EPERM;
	if (fstat(fd, &st))
		return -errno;
	if (!len || st.st_size < 0 || (uint64_t)st.st_size < len)
		return -EINVAL;
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	*ret_mem = p;
	return 0;
}
