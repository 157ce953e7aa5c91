/* SPDX-License-Identifier: BSD-3-Clause */
/* pipe, shared memory: making an inbox, and mapping one that a peer has shown. See pipe_int.h. */
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "fabric/pipe_int.h"

/*
 * Memory that the peer could shrink, or that could turn out not to be there when it is first
 * touched (huge pages are promised to nobody), would end this process with SIGBUS. Only a memfd can
 * have the seal: a file of a tmpfs that is mounted somewhere, and maybe full, can't.
 */
int pipe_fd_check(int fd, uint64_t len)
{
	struct statfs fs;
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || !(seals & F_SEAL_SHRINK))
		return -EPROTO;
	if (fstatfs(fd, &fs) || fs.f_type != TMPFS_MAGIC)
		return -EPROTO;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size < 0 || (uint64_t)st.st_size < len)
		return -EPROTO;
	return 0;
}

/* Head and ring, and the ring once more behind itself, so that nothing in it has a seam. */
static int map_twice(struct pipe_map *m, int fd)
{
	const size_t head = m->ring_off, ring = m->ring_bytes;
	const int prot = PROT_READ | PROT_WRITE;
	uint8_t *at = mmap(NULL, head + 2 * ring, PROT_NONE,
	                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		return -errno;
	if (mmap(at, head + ring, prot, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ||
	    mmap(at + head + ring, ring, prot, MAP_SHARED | MAP_FIXED, fd, (off_t)head) ==
	            MAP_FAILED) {
		int rc = -errno;

		munmap(at, head + 2 * ring);
		return rc;
	}
	m->box = (struct pipe_inbox *)(void *)at;
	m->ring = at + head;
	return 0;
}

void pipe_unmap(struct pipe_map *m)
{
	if (m->box)
		munmap(m->box, (size_t)m->ring_off + 2 * (size_t)m->ring_bytes);
	m->box = NULL;
}

static uint64_t lists_off(const struct pipe_map *m)
{
	return sizeof(struct pipe_inbox) + (uint64_t)m->windows * sizeof(struct pipe_slot);
}

static uint64_t head_bytes(const struct pipe_map *m)
{
	return lists_off(m) + (uint64_t)m->lists * PIPE_LIST_PIECES * sizeof(struct pipe_piece);
}

struct pipe_piece *pipe_list(const struct pipe_map *m, uint32_t list)
{
	char *at = (char *)m->box + lists_off(m);

	return (struct pipe_piece *)(void *)at + (size_t)list * PIPE_LIST_PIECES;
}

/* A ring holds some of the largest messages; dozens of those that carry a block. */
static uint32_t ring_bytes_for(uint32_t msg_max)
{
	uint32_t bytes = PIPE_RING_MIN;

	while (bytes < PIPE_RING_MAX && bytes / PIPE_RING_MSGS < msg_max)
		bytes *= 2;
	return bytes;
}

int pipe_map_new(struct pipe_map *ret_map, int *ret_fd, const struct fabric_opts *opts)
{
	struct pipe_map m = {.windows = MIN(opts->windows_max, PIPE_WINDOWS_LIMIT),
	                     .lists = PIPE_LISTS,
	                     .ring_bytes = ring_bytes_for(opts->msg_max)};
	int fd, rc;

	m.ring_off = (uint32_t)ALIGN_UP(head_bytes(&m), PIPE_ALIGN);
	fd = memfd_create("penstock-pipe", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)m.ring_off + m.ring_bytes) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		rc = -errno;
	else
		rc = map_twice(&m, fd);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	*ret_map = m;
	*ret_fd = fd;
	return 0;
}

static bool hello_makes_sense(const struct pipe_map *m)
{
	return m->windows >= 1 && m->windows <= PIPE_WINDOWS_LIMIT && m->lists <= PIPE_LISTS &&
	       m->ring_bytes >= PIPE_RING_MIN && m->ring_bytes <= PIPE_RING_MAX &&
	       (m->ring_bytes & (m->ring_bytes - 1)) == 0 && IS_ALIGNED(m->ring_off, PIPE_ALIGN) &&
	       m->ring_off >= head_bytes(m) &&
	       m->ring_off <= ALIGN_UP(head_bytes(m), PIPE_ALIGN) + PIPE_ALIGN;
}

int pipe_map_peer(struct pipe_map *ret_map, int fd, const struct pipe_frame *hello)
{
	struct pipe_map m = {.windows = le32_get(hello->hello.windows),
	                     .lists = le32_get(hello->hello.lists),
	                     .ring_bytes = le32_get(hello->hello.ring_bytes),
	                     .ring_off = le32_get(hello->hello.ring_off)};
	int rc;

	if (!hello_makes_sense(&m))
		return -EPROTO;
	rc = pipe_fd_check(fd, (uint64_t)m.ring_off + m.ring_bytes);
	if (rc == 0)
		rc = map_twice(&m, fd);
	if (rc == 0)
		*ret_map = m;
	return rc;
}
