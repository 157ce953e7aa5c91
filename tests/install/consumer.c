/* SPDX-License-Identifier: BSD-3-Clause */
/* A stranger's program, built against the installed tree by scripts/install-check, as C and C++. */
#include <stdio.h>

#include <penstock/penstock.h>

static int talk(struct pst_client *client)
{
	struct pst_cont *cont = NULL;
	char buf[32] = "";
	size_t len = 0;
	int rc;

	if (pst_cont_create(client, "c", NULL) || pst_cont_open(client, "c", &cont))
		return 1;
	rc = pst_fs_create(cont, 0, "greeting", NULL, 0, "hello from penstock", 19, 0, NULL);
	if (!rc)
		rc = pst_fs_read(cont, 0, "greeting", buf, sizeof(buf) - 1, 0, 0, &len);
	if (!rc && len == 19)
		puts(buf);
	return pst_cont_close(cont) || rc;
}

int main(void)
{
	struct pst_client *client;
	struct pst_err err;
	int rc;

	if (pst_client_open(&client, "local:mem:256m", NULL, &err)) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	rc = talk(client);
	return pst_client_close(client) || rc;
}
