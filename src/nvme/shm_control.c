/* SPDX-License-Identifier: BSD-3-Clause */
/* A manager's side of a target's socket: one command, one answer. */
#include <unistd.h>

#include "nvme/shm.h"

int nvme_shm_control(const char *name, const char *command, char *ret_text, size_t size,
                     struct pst_err *err)
{
	struct shm_msg *m = mem_alloc(sizeof(*m));
	unsigned none = 0;
	int fd = -1, rc;

	if (!m)
		return err_set(err, -ENOMEM, "out of memory");
	rc = local_connect(name, &fd, err);
	if (rc)
		goto out;
	shm_msg_make(m, SHM_CONTROL, command);
	rc = shm_msg_send(fd, m, NULL, 0);
	if (!rc)
		rc = shm_msg_recv(fd, m, NULL, &none, SHM_ANSWER_MS);
	if (rc != 1 || le16_get(m->type) != SHM_ANSWER || le32_get(m->status) > 4095) {
		rc = err_set(err, rc < 0 ? rc : -EPROTO, "target %s does not answer", name);
		goto out;
	}
	rc = -(int)le32_get(m->status);
	if (rc)
		err_set(err, rc, "target %s: %s", name, m->text);
	else
		strncat(strcpy(ret_text, ""), m->text, size - 1);
out:
	if (fd >= 0)
		close(fd);
	mem_free(m);
	return rc;
}
