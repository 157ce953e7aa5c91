/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Secrets are gone when they are not needed any more: from memory that is given back, and from the stack of who
 * worked with them.
 */
#include <openssl/crypto.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "served.h"
#include "session/session_int.h"
#include "wire/remote_int.h"

#define STACK_BYTES (8 * MIB)

static void options_are_wiped(void **state)
{
	static const char token[] = "pst1-a-token-that-nobody-may-see";
	char text[128];
	struct options o;

	(void)snprintf(text, sizeof(text), "//host?channel=tcp&token=%s", token);
	(void)mem_freed_with(token, strlen(token));
	assert_int_equal(options_parse(&o, text, NULL), 0);
	assert_string_equal(options_str(&o, "token"), token);
	options_done(&o);
	/* Refused options, too. */
	(void)snprintf(text, sizeof(text), "//host?token=%s&token=x", token);
	assert_int_equal(options_parse(&o, text, NULL), -EINVAL);
	assert_int_equal(mem_freed_with(NULL, 0), 0);
}

/* --- stacks --- */

/* A thread whose stack can be looked at when it has ended. What it found out lies elsewhere. */
struct worker {
	void (*run)(struct worker *w);
	uint8_t *stack;
	uint8_t secret[2][64];
	size_t len[2];
	unsigned left; /* found before the end */
	int rc;
};

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	w->run(w);
	return NULL;
}

static unsigned times_in(const uint8_t *at, size_t len, const void *what, size_t what_len)
{
	const uint8_t *end = at + len;
	unsigned n = 0;

	while ((at = memmem(at, (size_t)(end - at), what, what_len))) {
		at++;
		n++;
	}
	return n;
}

static void work(struct worker *w)
{
	uint8_t *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
	                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	pthread_attr_t attr;
	pthread_t thread;

	assert_ptr_not_equal(stack, MAP_FAILED);
	w->stack = stack;
	assert_int_equal(pthread_attr_init(&attr), 0);
	assert_int_equal(pthread_attr_setstack(&attr, stack, STACK_BYTES), 0);
	assert_int_equal(pthread_create(&thread, &attr, worker_main, w), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	pthread_attr_destroy(&attr);
	for (unsigned i = 0; i < 2; i++)
		if (w->len[i])
			assert_int_equal(times_in(stack, STACK_BYTES, w->secret[i], w->len[i]), 0);
	munmap(stack, STACK_BYTES);
}

static char token[CAP_TOKEN_MAX];

static void run_bytes(struct worker *w)
{
	w->rc = cap_token_bytes(token, strlen(token), w->secret[0]);
}

/* The half of it that is the secret is nowhere but where it was wanted. */
static void token_is_no_more_on_the_stack(void **state)
{
	static const char head[4] = {'p', 's', 't', '1'};
	struct worker *w = calloc(1, sizeof(*w));

	memset(token, 'a', 58); /* base64url of some bytes */
	memcpy(token, head, sizeof(head));
	token[57] = 'A'; /* no bits are left over */
	assert_non_null(w);
	w->run = run_bytes;
	w->len[0] = TOKEN_HEAD_BYTES + TOKEN_SECRET_BYTES;
	work(w);
	assert_int_equal(w->rc, 0);
	free(w);
}

static struct served served;

static int rotate_status;

static void rotated(struct cap_op *o, int status)
{
	rotate_status = status;
}

/* The new handle key, and the one before. */
static void run_rotate(struct worker *w)
{
	served_start(&served, NSEC_PER_SEC);
	rotate_status = 1;
	served.op = (struct cap_op){.done = rotated};
	w->rc = session_key_rotate(served.table, &served.op);
	while (!w->rc && rotate_status == 1)
		(void)loop_turn(served.loop, NSEC_PER_MSEC);
	w->rc = w->rc ? w->rc : rotate_status;
	for (unsigned i = 0; i < 2; i++) {
		w->len[i] = sizeof(served.table->key[i].key);
		memcpy(w->secret[i], served.table->key[i].key, w->len[i]);
	}
	served_end(&served);
}

static void keys_are_no_more_on_the_stack(void **state)
{
	struct worker *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->run = run_rotate;
	work(w);
	assert_int_equal(w->rc, 0);
	free(w);
}

/* What calls that have returned left below the caller's frame, which later ones may write over. */
static __attribute__((noinline)) unsigned left_on(const struct worker *w, const void *secret,
                                                  size_t len)
{
	const uint8_t *here = __builtin_frame_address(0);

	return times_in(w->stack, (size_t)(here - w->stack), secret, len);
}

static __attribute__((noinline)) void clean_below(const struct worker *w)
{
	uint8_t *here = __builtin_frame_address(0);

	memset(w->stack, 0, (size_t)(here - w->stack) - 1024);
}

/* The client is cut, and comes back by its session's secret. Returns how often that was left on the stack. */
static unsigned cut_and_back(const struct worker *w, struct remote *rm)
{
	unsigned left = 0, turns = 0;

	remote_cut(served.remote);
	for (; rm->state == REMOTE_UP && turns < 10000; turns++)
		(void)loop_turn(served.loop, NSEC_PER_MSEC);
	for (; rm->state != REMOTE_UP && turns < 10000; turns++) {
		(void)loop_turn(served.loop, NSEC_PER_MSEC);
		left += left_on(w, rm->secret, sizeof(rm->secret));
	}
	return turns < 10000 ? left : 10000;
}

static void run_session(struct worker *w)
{
	uint8_t bytes[TOKEN_HEAD_BYTES + TOKEN_SECRET_BYTES];
	struct remote *rm;

	memset(&served, 0, sizeof(served));
	served_start(&served, NSEC_PER_SEC);
	served_grant(&served, &(struct cap_info){.rights = RIGHTS_ALL});
	w->rc = served_client(&served, served.op.token);
	if (w->rc)
		return;
	rm = remote_of(served.remote);
	/* At a function's first call the loader saves all registers, whatever is in them. */
	(void)cut_and_back(w, rm);
	clean_below(w);
	w->left = cut_and_back(w, rm);
	w->len[0] = sizeof(rm->secret);
	memcpy(w->secret[0], rm->secret, w->len[0]);
	w->rc = cap_token_bytes(served.op.token, strlen(served.op.token), bytes);
	w->len[1] = TOKEN_SECRET_BYTES;
	memcpy(w->secret[1], bytes + TOKEN_HEAD_BYTES, w->len[1]);
	OPENSSL_cleanse(bytes, sizeof(bytes));
	served_end(&served);
}

/* Nor is the session's secret, of which hello and welcome have copies on both sides, nor the token's. */
static void sessions_are_no_more_on_the_stack(void **state)
{
	struct worker *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->run = run_session;
	work(w);
	assert_int_equal(w->rc, 0);
	assert_int_equal(w->left, 0);
	free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(options_are_wiped),
	        cmocka_unit_test(token_is_no_more_on_the_stack),
	        cmocka_unit_test(keys_are_no_more_on_the_stack),
	        cmocka_unit_test(sessions_are_no_more_on_the_stack),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
