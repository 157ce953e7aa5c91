/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * idle_clients URI COUNT [URI COUNT]...: opens so many clients, says "ready", and does nothing until
 * its input ends.
 */
#include <stdio.h>
#include <stdlib.h>

#include "penstock/client.h"

#define CLIENTS_MAX 1000

int main(int argc, char **argv)
{
	static struct pst_client *clients[CLIENTS_MAX];
	unsigned count = 0;

	for (int i = 1; i + 1 < argc; i += 2) {
		for (int k = atoi(argv[i + 1]); k > 0 && count < CLIENTS_MAX; k--) {
			struct pst_err err = {0};

			if (pst_client_open(&clients[count], argv[i], NULL, &err) < 0) {
				fprintf(stderr, "idle_clients: %u: %s\n", count, err.text);
				return 1;
			}
			count++;
		}
	}
	printf("ready\n");
	(void)fflush(stdout);
	while (getchar() != EOF)
		continue;
	while (count)
		if (pst_client_close(clients[--count]) < 0)
			return 1;
	return 0;
}
