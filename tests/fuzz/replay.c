/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replay - runs a fuzz target over the files of its corpus, in builds without libFuzzer. Prints
 * TAP: one test for each file, which passes if the process outlives it, and one for what the corpus is
 * there to reach (fuzz_missing()). An empty corpus fails.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

#define INPUT_MAX_BYTES (16u << 20)

static int replay_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	uint8_t *exact = NULL, *buf = malloc(INPUT_MAX_BYTES);
	size_t len = 0;
	int rc = -1;

	if (f && buf) {
		len = fread(buf, 1, INPUT_MAX_BYTES, f);
		/* An allocation of just this size, so that a sanitizer sees an overrun. */
		exact = malloc(len ? len : 1);
	}
	if (exact && !ferror(f)) {
		memcpy(exact, buf, len);
		rc = LLVMFuzzerTestOneInput(exact, len);
	}
	free(exact);
	free(buf);
	if (f)
		fclose(f);
	return rc;
}

/* Has the whole of it reached what the target says that it should? */
static bool all_reached(unsigned number)
{
	const char *what = fuzz_missing();

	printf("%sok %u - all that the corpus is for was reached%s%s\n", what ? "not " : "", number,
	       what ? ", but not: " : "", what ? what : "");
	return !what;
}

int main(int argc, char **argv)
{
	struct dirent **entries;
	unsigned done = 0;
	int count, bad = 0;

	if (argc != 2) {
		fprintf(stderr, "usage: %s CORPUS-DIRECTORY\n", argv[0]);
		return 2;
	}
	count = scandir(argv[1], &entries, NULL, alphasort);
	if (count < 0) {
		printf("Bail out! %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	for (int i = 0; i < count; i++) {
		const char *name = entries[i]->d_name;
		char path[4096];
		int rc;

		if (name[0] == '.') {
			free(entries[i]);
			continue;
		}
		snprintf(path, sizeof(path), "%s/%s", argv[1], name);
		rc = replay_file(path);
		bad |= rc != 0;
		done++;
		printf("%sok %u - %s\n", rc ? "not " : "", done, name);
		fflush(stdout);
		free(entries[i]);
	}
	free(entries);
	if (done && fuzz_missing)
		bad |= !all_reached(++done);
	printf("1..%u\n", done);
	return bad || !done;
}
