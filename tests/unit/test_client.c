/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client: libpenstock over the model store, threaded and driven: every kind of call, limits, busy
 * stores, queues that fill, forks, and handles that are still open.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/client.h"
#include "model_store.h"

static const struct pst_oid OID = {.hi = 1, .lo = 2};

static int make_model(struct store **ret_store, struct loop *loop, void *arg, struct pst_err *err)
{
	return model_store_new(ret_store, loop, arg);
}

static struct pst_client *client_new(bool drive, bool read_only, struct model_store_opts *model)
{
	struct pst_client_opts opts;
	struct pst_client *c;
	struct pst_err err;

	pst_client_opts_default(&opts, sizeof(opts));
	opts.drive = drive;
	opts.read_only = read_only;
	assert_int_equal(client_open_over(&c, make_model, model, &opts, &err), 0);
	return c;
}

/* A client with a container "c" open in it. */
struct fixture {
	struct pst_client *client;
	struct pst_cont *cont;
};

static struct fixture fixture_new(bool drive, struct model_store_opts *model)
{
	struct fixture f = {.client = client_new(drive, false, model)};

	assert_int_equal(pst_cont_create(f.client, "c", NULL), 0);
	assert_int_equal(pst_cont_open(f.client, "c", &f.cont), 0);
	return f;
}

static void fixture_done(struct fixture *f)
{
	assert_int_equal(pst_cont_close(f->cont), 0);
	assert_int_equal(pst_client_close(f->client), 0);
}

/* The model in its three moods. */
static struct model_store_opts moods[] = {
        {.later = false},
        {.later = true, .seed = 7},
        {.later = true, .busy = 0.3, .seed = 8},
};

static void each_mood(void (*fn)(struct fixture *f))
{
	for (unsigned i = 0; i < ARRAY_LEN(moods); i++) {
		for (int drive = 0; drive < 2; drive++) {
			struct fixture f = fixture_new(drive, &moods[i]);

			fn(&f);
			fixture_done(&f);
		}
	}
}

/* --- containers and snapshots --- */

static bool count_cont(void *arg, const struct pst_cont_info *info)
{
	unsigned *n = arg;

	assert_true(info->name[0] == 'c' || info->name[0] == 'n');
	return ++*n < 1000;
}

static bool name_snap(void *arg, const struct pst_snap_info *info)
{
	strcat(arg, info->name);
	return true;
}

static void containers(struct fixture *f)
{
	struct pst_cont_info info = {.layout = PST_LAYOUT_OBJECT, .quota_objects = 9};
	unsigned n = 0;
	char name[PST_NAME_MAX + 2];

	assert_int_equal(pst_cont_create(f->client, "c", NULL), -EEXIST);
	assert_int_equal(pst_cont_create(f->client, "", NULL), -EINVAL);
	assert_int_equal(pst_cont_create(f->client, "a/b", NULL), -EINVAL);
	assert_int_equal(pst_cont_create(f->client, "a@b", NULL), -EINVAL);
	memset(name, 'n', sizeof(name));
	name[sizeof(name) - 1] = 0;
	assert_int_equal(pst_cont_create(f->client, name, NULL), -ENAMETOOLONG);
	assert_int_equal(pst_cont_create(f->client, "n", &info), 0);
	assert_string_equal(info.name, "n");
	assert_int_equal(info.layout, PST_LAYOUT_OBJECT);
	info.quota_bytes = 1 << 20;
	assert_int_equal(pst_cont_set(f->client, "n", 1u << 9, &info), -EINVAL);
	assert_int_equal(pst_cont_set(f->client, "n", PST_SET_QUOTA_BYTES, &info), 0);
	memset(&info, 0, sizeof(info));
	assert_int_equal(pst_cont_get(f->client, "n", &info), 0);
	assert_int_equal(info.quota_bytes, 1 << 20);
	assert_int_equal(info.quota_objects, 9);
	assert_int_equal(pst_cont_list(f->client, count_cont, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(pst_cont_destroy(f->client, "n"), 0);
	assert_int_equal(pst_cont_get(f->client, "n", &info), -ENOENT);
}

static void test_containers(void **state)
{
	each_mood(containers);
}

static void snapshots(struct fixture *f)
{
	char names[64] = "", buf[8];
	struct pst_snap_info info;
	struct pst_cont *snap;
	size_t len;

	assert_int_equal(pst_obj_write(f->cont, OID, "before", 6, 0, 0), 0);
	assert_int_equal(pst_snap_create(f->client, "c", "s1", &info), 0);
	assert_string_equal(info.name, "s1");
	assert_int_equal(pst_snap_create(f->client, "c", "s1", &info), -EEXIST);
	assert_int_equal(pst_snap_create(f->client, "c", "s2", NULL), 0);
	assert_int_equal(pst_snap_list(f->client, "c", name_snap, names), 0);
	assert_string_equal(names, "s1s2");
	assert_int_equal(pst_obj_write(f->cont, OID, "after!", 6, 0, 0), 0);
	assert_int_equal(pst_cont_open(f->client, "c@no", &snap), -ENOENT);
	assert_int_equal(pst_cont_open(f->client, "c@s1", &snap), 0);
	assert_int_equal(pst_obj_read(snap, OID, buf, sizeof(buf), 0, 0, &len), 0);
	assert_int_equal(len, 6);
	assert_memory_equal(buf, "before", 6);
	assert_int_equal(pst_obj_write(snap, OID, "x", 1, 0, 0), -EROFS);
	assert_int_equal(pst_cont_close(snap), 0);
	assert_int_equal(pst_snap_destroy(f->client, "c", "s1"), 0);
	assert_int_equal(pst_snap_destroy(f->client, "c", "s2"), 0);
}

static void test_snapshots(void **state)
{
	each_mood(snapshots);
}

/* --- objects, keys, batches --- */

static bool count_oid(void *arg, struct pst_oid oid)
{
	uint64_t *next = arg;

	assert_int_equal(oid.lo, (*next)++); /* in order, each once, over many pages */
	return true;
}

static void objects(struct fixture *f)
{
	struct pst_obj_stat st;
	char buf[16] = "";
	uint64_t off, next = 1;
	size_t len;

	assert_int_equal(pst_obj_stat(f->cont, OID, &st), 0);
	assert_false(st.exists);
	assert_int_equal(pst_obj_write(f->cont, OID, "hello", 5, 0, PST_F_VOLATILE), 0);
	assert_int_equal(pst_obj_append(f->cont, OID, " you", 4, 0, &off), 0);
	assert_int_equal(off, 5);
	assert_int_equal(pst_obj_read(f->cont, OID, buf, sizeof(buf), 0, 0, &len), 0);
	assert_int_equal(len, 9);
	assert_memory_equal(buf, "hello you", 9);
	assert_int_equal(pst_obj_punch(f->cont, OID, 0, 5, 0), 0);
	assert_int_equal(pst_obj_read(f->cont, OID, buf, 5, 0, 0, &len), 0);
	assert_memory_equal(buf, "\0\0\0\0\0", 5);
	assert_int_equal(pst_obj_resize(f->cont, OID, 3, 0), 0);
	assert_int_equal(pst_obj_stat(f->cont, OID, &st), 0);
	assert_int_equal(st.size_bytes, 3);
	assert_int_equal(pst_obj_delete(f->cont, OID, 0), 0);
	assert_int_equal(pst_obj_write(f->cont, OID, buf, PST_IO_MAX + 1, 0, 0), -E2BIG);
	assert_int_equal(pst_obj_write(f->cont, OID, buf, 1, 0, PST_F_EXCL), -EINVAL);
	assert_int_equal(pst_cont_flush(f->cont), 0);
	assert_int_equal(pst_client_flush(f->client), 0);
	for (uint64_t i = 1; i <= 4000; i++)
		assert_int_equal(pst_obj_resize(f->cont, (struct pst_oid){.lo = i}, 1, 0), 0);
	assert_int_equal(pst_obj_list(f->cont, count_oid, &next), 0);
	assert_int_equal(next, 4001);
}

static void test_objects(void **state)
{
	each_mood(objects);
}

struct kv_seen {
	unsigned count, limit;
};

static bool see_kv(void *arg, const struct pst_kv *kv)
{
	struct kv_seen *seen = arg;
	char want[16];

	snprintf(want, sizeof(want), "key%05u", seen->count++);
	assert_int_equal(kv->key_len, 8);
	assert_memory_equal(kv->key, want, 8);
	assert_int_equal(kv->val_len, 1000);
	assert_int_equal(((const char *)kv->val)[999], 'v');
	return seen->count < seen->limit;
}

static void keys(struct fixture *f)
{
	static char big[PST_VALUE_MAX + 1];
	struct kv_seen seen = {.limit = UINT32_MAX};
	char key[16], val[1000];
	uint32_t len;

	memset(val, 'v', sizeof(val));
	assert_int_equal(pst_kv_get(f->cont, OID, "k", 1, val, 1, &len), -ENOENT);
	assert_int_equal(pst_kv_put(f->cont, OID, "k", 1, "x", 1, PST_F_REPLACE), -ENOENT);
	assert_int_equal(pst_kv_put(f->cont, OID, "k", 1, "x", 1, PST_F_EXCL), 0);
	assert_int_equal(pst_kv_put(f->cont, OID, "k", 1, "y", 1, PST_F_EXCL), -EEXIST);
	assert_int_equal(pst_kv_put(f->cont, OID, "k", 1, "long", 4, PST_F_REPLACE), 0);
	assert_int_equal(pst_kv_get(f->cont, OID, "k", 1, big, sizeof(big), &len), 0);
	assert_int_equal(len, 4);
	assert_int_equal(pst_kv_get(f->cont, OID, "k", 1, big, 3, &len), -ERANGE);
	assert_int_equal(pst_kv_put(f->cont, OID, "k", 0, "x", 1, 0), -EINVAL);
	assert_int_equal(pst_kv_put(f->cont, OID, big, PST_KEY_MAX + 1, "x", 1, 0), -ENAMETOOLONG);
	assert_int_equal(pst_kv_put(f->cont, OID, "k", 1, big, sizeof(big), 0), -E2BIG);
	assert_int_equal(pst_kv_put(f->cont, OID, "big", 3, big, PST_VALUE_MAX, 0), 0);
	assert_int_equal(pst_kv_del(f->cont, OID, "k", 1, PST_F_REPLACE), 0);
	assert_int_equal(pst_kv_del(f->cont, OID, "k", 1, PST_F_REPLACE), -ENOENT);
	assert_int_equal(pst_kv_del(f->cont, OID, "k", 1, 0), 0);
	for (unsigned i = 0; i < 2000; i++) {
		snprintf(key, sizeof(key), "key%05u", i);
		assert_int_equal(pst_kv_put(f->cont, OID, key, 8, val, sizeof(val), 0), 0);
	}
	assert_int_equal(pst_kv_list(f->cont, OID, "key", 3, NULL, 0, true, see_kv, &seen), 0);
	assert_int_equal(seen.count, 2000);
	seen = (struct kv_seen){.count = 1500, .limit = 1510};
	assert_int_equal(pst_kv_list(f->cont, OID, "key", 3, "key01499", 8, true, see_kv, &seen),
	                 0);
	assert_int_equal(seen.count, 1510);
}

static void test_keys(void **state)
{
	each_mood(keys);
}

static void batches(struct fixture *f)
{
	struct pst_mut muts[3] = {
	        {.kind = PST_IF_OBJ_ABSENT, .oid = OID, .err = -EEXIST},
	        {.kind = PST_KV_PUT,
	         .oid = OID,
	         .key = "a",
	         .key_len = 1,
	         .val = "1",
	         .val_len = 1},
	        {.kind = PST_ARRAY_WRITE, .oid = OID, .val = "data", .val_len = 4, .len = 4},
	};
	struct pst_event e;
	struct pst_cq *cq;
	uint32_t index = 77;

	assert_int_equal(pst_batch(f->cont, muts, 0, 0, &index), -EINVAL);
	assert_int_equal(pst_batch(f->cont, muts, PST_BATCH_MAX + 1, 0, &index), -E2BIG);
	assert_int_equal(pst_batch(f->cont, muts, 3, 0, &index), 0);
	assert_int_equal(index, 77);
	assert_int_equal(pst_batch(f->cont, muts, 3, 0, &index), -EEXIST);
	assert_int_equal(index, 0);
	assert_int_equal(pst_cq_new(&cq, f->client, 1), 0);
	muts[0].kind = PST_IF_OBJ_PRESENT;
	assert_int_equal(pst_batch_async(f->cont, muts, 3, 0, cq, muts), 0);
	assert_int_equal(pst_cq_poll(cq, &e, 1, UINT64_MAX), 1);
	assert_int_equal(e.status, 0);
	assert_ptr_equal(e.user_data, muts);
	assert_int_equal(pst_cq_free(cq), 0);
}

static void test_batches(void **state)
{
	each_mood(batches);
}

/* --- queues --- */

#define DEPTH 8

/* Writes and reads back 200 blocks with DEPTH under way, and never loses one. */
static void pipeline(struct fixture *f)
{
	static uint8_t bufs[200][512];
	struct pst_event events[3];
	unsigned done = 0, next = 0, again = 0;
	struct pst_cq *cq;
	size_t len;

	assert_int_equal(pst_cq_new(&cq, f->client, 0), -EINVAL);
	assert_int_equal(pst_cq_new(&cq, f->client, DEPTH), 0);
	assert_int_equal(pst_cq_poll(cq, events, 0, 0), -EINVAL);
	assert_int_equal(pst_cq_poll(cq, events, 3, 1000), 0);
	while (done < 200) {
		int n;

		while (next < 200) {
			memset(bufs[next], (int)next, 512);
			n = pst_obj_write_async(f->cont, OID, bufs[next], 512, next * 512ull, 0, cq,
			                        bufs[next]);
			if (n == -EAGAIN) {
				assert_int_equal(pst_cq_pending(cq), DEPTH);
				again++;
				break;
			}
			assert_int_equal(n, 0);
			next++;
		}
		n = pst_cq_poll(cq, events, 3, UINT64_MAX);
		assert_true(n > 0 && n <= 3);
		for (int i = 0; i < n; i++) {
			assert_int_equal(events[i].status, 0);
			assert_int_equal(((uint8_t *)events[i].user_data)[0],
			                 ((uint8_t(*)[512])events[i].user_data - bufs) & 255);
		}
		done += (unsigned)n;
	}
	assert_true(again > 0);
	assert_int_equal(pst_cq_pending(cq), 0);
	for (unsigned i = 0; i < 200; i++) {
		uint8_t buf[512];

		assert_int_equal(pst_obj_read(f->cont, OID, buf, 512, i * 512ull, 0, &len), 0);
		assert_int_equal(len, 512);
		assert_int_equal(buf[511], i & 255);
	}
	assert_int_equal(pst_cq_free(cq), 0);
}

static void test_pipeline(void **state)
{
	each_mood(pipeline);
}

static void vectors(struct fixture *f)
{
	char a[3], b[4];
	struct iovec out[2] = {{"abc", 3}, {"defg", 4}}, in[2] = {{a, 3}, {b, 4}};
	struct iovec huge[2] = {{a, PST_IO_MAX}, {b, 1}};
	struct pst_event e;
	struct pst_cq *cq;

	assert_int_equal(pst_cq_new(&cq, f->client, 1), 0);
	assert_int_equal(pst_obj_writev_async(f->cont, OID, out, 0, 0, 0, cq, NULL), -EINVAL);
	assert_int_equal(pst_obj_writev_async(f->cont, OID, huge, 2, 0, 0, cq, NULL), -E2BIG);
	assert_int_equal(pst_obj_writev_async(f->cont, OID, out, 2, 0, 0, cq, NULL), 0);
	assert_int_equal(pst_cq_poll(cq, &e, 1, UINT64_MAX), 1);
	assert_int_equal(e.status, 0);
	assert_int_equal(pst_obj_readv_async(f->cont, OID, in, 2, 0, 0, cq, NULL), 0);
	assert_int_equal(pst_cq_poll(cq, &e, 1, UINT64_MAX), 1);
	assert_int_equal(e.len, 7);
	assert_memory_equal(a, "abc", 3);
	assert_memory_equal(b, "defg", 4);
	assert_int_equal(pst_cq_free(cq), 0);
}

static void test_vectors(void **state)
{
	each_mood(vectors);
}

static void test_eventfd(void **state)
{
	struct fixture f = fixture_new(false, &moods[1]), driven = fixture_new(true, &moods[0]);
	struct pst_event e;
	struct pst_cq *cq;
	int fd;

	assert_int_equal(pst_cq_new(&cq, driven.client, 4), 0);
	assert_int_equal(pst_cq_eventfd(cq, &fd), -ENOTSUP);
	assert_int_equal(pst_cq_free(cq), 0);
	assert_int_equal(pst_cq_new(&cq, f.client, 4), 0);
	assert_int_equal(pst_cq_eventfd(cq, &fd), 0);
	for (int round = 0; round < 200; round++) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int got = 0, sent = 1 + round % 4;
		uint64_t count;

		for (int i = 0; i < sent; i++)
			assert_int_equal(pst_obj_write_async(f.cont, OID, "x", 1, 0, 0, cq, NULL),
			                 0);
		while (got < sent) {
			assert_int_equal(poll(&p, 1, 10000), 1);
			assert_int_equal(read(fd, &count, sizeof(count)), sizeof(count));
			while (pst_cq_poll(cq, &e, 1, 0) == 1)
				got++;
		}
		assert_int_equal(got, sent);
	}
	assert_int_equal(pst_cq_free(cq), 0);
	fixture_done(&f);
	fixture_done(&driven);
}

/* --- threads --- */

struct worker {
	pthread_t thread;
	struct fixture *f;
	unsigned id;
	int failed;
};

/* Each on its own object: blocking calls and a queue, mixed. */
static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct pst_oid oid = {.hi = 9, .lo = w->id};
	struct pst_event e[4];
	struct pst_cq *cq;
	uint64_t sum = 0;
	size_t len;

	if (pst_cq_new(&cq, w->f->client, 4) < 0)
		return NULL;
	for (uint64_t i = 0; i < 500; i++) {
		uint64_t back = 0;

		w->failed |= pst_obj_write(w->f->cont, oid, &i, 8, i * 8, 0);
		w->failed |= pst_obj_read_async(w->f->cont, oid, &back, 8, i * 8, 0, cq, NULL);
		w->failed |= pst_cq_poll(cq, e, 4, UINT64_MAX) != 1 || e[0].status || back != i;
		sum += back;
		w->failed |= pst_obj_read(w->f->cont, oid, &back, 8, i / 2 * 8, 0, &len);
		w->failed |= back != i / 2;
	}
	w->failed |= pst_cq_free(cq);
	return sum == 500 * 499 / 2 ? w : NULL;
}

static void test_threads(void **state)
{
	struct fixture f = fixture_new(false, &moods[2]);
	struct worker w[4] = {0};
	void *ok;

	for (unsigned i = 0; i < 4; i++) {
		w[i].f = &f;
		w[i].id = i;
		assert_int_equal(pthread_create(&w[i].thread, NULL, worker_main, &w[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++) {
		pthread_join(w[i].thread, &ok);
		assert_non_null(ok);
		assert_int_equal(w[i].failed, 0);
	}
	fixture_done(&f);
}

/* --- lifetimes --- */

static void test_close_with_open_handles(void **state)
{
	struct fixture f = fixture_new(false, NULL);
	struct pst_cq *cq;

	assert_int_equal(pst_client_close(f.client), -EBUSY);
	assert_int_equal(pst_cq_new(&cq, f.client, 4), 0);
	assert_int_equal(pst_cont_close(f.cont), 0);
	assert_int_equal(pst_client_close(f.client), -EBUSY);
	assert_int_equal(pst_cq_free(cq), 0);
	assert_int_equal(pst_client_close(f.client), 0);
	assert_int_equal(pst_client_close(NULL), 0);
	assert_int_equal(pst_cont_close(NULL), 0);
	assert_int_equal(pst_cq_free(NULL), 0);
}

static void test_cq_free_busy(void **state)
{
	struct fixture f = fixture_new(true, &moods[1]);
	struct pst_event e;
	struct pst_cq *cq;

	assert_int_equal(pst_cq_new(&cq, f.client, 4), 0);
	assert_int_equal(pst_obj_write_async(f.cont, OID, "x", 1, 0, 0, cq, NULL), 0);
	assert_int_equal(pst_cq_free(cq), -EBUSY);
	assert_int_equal(pst_cq_poll(cq, &e, 1, UINT64_MAX), 1);
	assert_int_equal(pst_cq_free(cq), 0);
	fixture_done(&f);
}

static void test_read_only(void **state)
{
	struct pst_client *c = client_new(true, true, NULL);
	struct pst_client_opts opts;
	unsigned n = 0;

	assert_int_equal(pst_cont_create(c, "x", NULL), -EROFS);
	assert_int_equal(pst_cont_list(c, count_cont, &n), 0);
	assert_true(pst_client_turn(c, 0) >= 0);
	assert_int_equal(pst_client_close(c), 0);
	memset(&opts, 0, sizeof(opts)); /* size not set */
	assert_int_equal(client_open_over(&c, make_model, NULL, &opts, NULL), -EINVAL);
}

/* What has run out, in words: space on the device, or memory for the index. */
static void test_explain(void **state)
{
	static const char *const store[] = {"local:mem:16m", "local:mem:192m?index_limit=1m"};
	static const char *const say[] = {"no space left in the store for data",
	                                  "no memory left for the store's index"};
	static uint8_t buf[256 * 1024];

	for (unsigned i = 0; i < 2; i++) {
		struct pst_cont_info info = {.layout = PST_LAYOUT_OBJECT};
		struct pst_client_opts opts;
		struct pst_store_status st;
		struct pst_client *c;
		struct pst_cont *t;
		struct pst_err err = {0};
		uint64_t n = 0;
		int r = 0;

		pst_client_opts_default(&opts, sizeof(opts));
		opts.drive = true;
		assert_int_equal(pst_client_open(&c, store[i], &opts, &err), 0);
		assert_int_equal(pst_cont_create(c, "t", &info), 0);
		assert_int_equal(pst_cont_open(c, "t", &t), 0);
		assert_int_equal(pst_client_explain(c, -EDQUOT, &err), 0);
		assert_int_equal(err.code, -EDQUOT);
		while (!r && n++ < 100000)
			r = pst_obj_write(t, (struct pst_oid){1, n}, buf, i ? 1 : sizeof(buf), 0,
			                  PST_F_VOLATILE);
		assert_int_equal(r, -ENOSPC);
		assert_int_equal(pst_client_explain(c, r, &err), 0);
		assert_int_equal(err.code, -ENOSPC);
		if (!strstr(err.text, say[i]))
			fail_msg("store %u says: %s", i, err.text);
		assert_int_equal(pst_client_status(c, &st), 0);
		assert_true(st.refused[i ? PST_SCARCE_INDEX : PST_SCARCE_DATA] > 0);
		assert_true(st.refused[i ? PST_SCARCE_DATA : PST_SCARCE_INDEX] == 0);
		assert_int_equal(pst_cont_close(t), 0);
		assert_int_equal(pst_client_close(c), 0);
	}
}

/* A caller with an older, shorter structure, and one with a newer, longer one. */
static void test_opts_sizes(void **state)
{
	struct {
		struct pst_client_opts opts;
		uint64_t later;
	} newer;
	struct pst_client *c;
	struct pst_err err;

	pst_client_opts_default((void *)&newer, sizeof(newer));
	assert_int_equal(newer.later, 0);
	newer.opts.drive = true;
	assert_int_equal(client_open_over(&c, make_model, NULL, &newer.opts, &err), 0);
	assert_int_equal(pst_client_close(c), 0);
	newer.later = 1;
	assert_int_equal(client_open_over(&c, make_model, NULL, &newer.opts, &err), -EINVAL);
	newer.opts.size = offsetof(struct pst_client_opts, spin_ns);
	assert_int_equal(client_open_over(&c, make_model, NULL, &newer.opts, &err), 0);
	assert_int_equal(pst_client_close(c), 0);
}

static void test_open_errors(void **state)
{
	struct pst_client *c = (void *)1;
	struct pst_err err;

	unsetenv("PENSTOCK_STORE");
	assert_int_equal(pst_client_open(&c, NULL, NULL, &err), -EINVAL);
	assert_int_equal(pst_client_open(&c, "nonsense", NULL, &err), -EINVAL);
	assert_int_equal(pst_client_open(&c, "gopher:x", NULL, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "gopher"));
	assert_ptr_equal(c, (void *)1);
}

static int make_fails(struct store **ret_store, struct loop *loop, void *arg, struct pst_err *err)
{
	return err_set(err, -ENODEV, "there is no %s", (const char *)arg);
}

static void test_open_fails(void **state)
{
	struct pst_client_opts opts;
	struct pst_client *c;
	struct pst_err err;

	pst_client_opts_default(&opts, sizeof(opts));
	for (int drive = 0; drive < 2; drive++) {
		opts.drive = drive;
		assert_int_equal(client_open_over(&c, make_fails, (void *)"disk", &opts, &err),
		                 -ENODEV);
		assert_string_equal(err.text, "there is no disk");
	}
}

/* Opening with the n-th allocation failing gives -ENOMEM and leaks nothing, for every n. */
static void test_open_oom(void **state)
{
	struct pst_client_opts opts;
	struct pst_client *c;
	uint64_t n = 0;
	int rc;

	pst_client_opts_default(&opts, sizeof(opts));
	opts.drive = true;
	do {
		mem_alloc_fail_at(++n, false);
		rc = client_open_over(&c, make_model, NULL, &opts, NULL);
		mem_alloc_fail_at(0, false);
		assert_true(rc == 0 || rc == -ENOMEM);
	} while (rc < 0);
	assert_true(n > 2);
	assert_int_equal(pst_client_close(c), 0);
}

static void test_fork(void **state)
{
	struct fixture f = fixture_new(false, NULL);
	struct pst_cq *cq;
	char x;
	int st;
	pid_t pid;

	assert_int_equal(pst_cq_new(&cq, f.client, 2), 0);
	pid = fork();
	if (pid == 0) {
		bool ok = pst_obj_read(f.cont, OID, &x, 1, 0, 0, NULL) == -EOWNERDEAD &&
		          pst_obj_read_async(f.cont, OID, &x, 1, 0, 0, cq, NULL) == -EOWNERDEAD &&
		          pst_cq_free(cq) == -EOWNERDEAD && pst_cont_close(f.cont) == -EOWNERDEAD &&
		          pst_client_flush(f.client) == -EOWNERDEAD &&
		          pst_client_close(f.client) == -EOWNERDEAD;

		_exit(ok ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &st, 0), pid);
	assert_int_equal(st, 0);
	assert_int_equal(pst_obj_write(f.cont, OID, "x", 1, 0, 0), 0); /* the parent goes on */
	assert_int_equal(pst_cq_free(cq), 0);
	fixture_done(&f);
}

/* --- memory --- */

static void memory(struct fixture *f)
{
	void *p[5];
	size_t len;

	assert_int_equal(pst_mem_alloc(f->client, 0, &p[0]), -EINVAL);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(pst_mem_alloc(f->client, 10000 * (size_t)(i + 1), &p[i]), 0);
		assert_true(IS_ALIGNED((uintptr_t)p[i], 4096));
		assert_int_equal(((char *)p[i])[0], 0);
	}
	for (int i = 4; i >= 0; i--) {
		memset(p[i], 'a' + i, 10000);
		assert_int_equal(pst_obj_write(f->cont, OID, p[i], 10000, 0, 0), 0);
		assert_int_equal(pst_obj_read(f->cont, OID, p[4], 10000, 0, 0, &len), 0);
		assert_int_equal(((char *)p[4])[9999], 'a' + i);
	}
	assert_int_equal(pst_mem_free(f->client, (char *)p[1] + 1), -EINVAL);
	assert_int_equal(pst_mem_free(f->client, NULL), 0);
	assert_int_equal(pst_mem_free(f->client, p[1]), 0);
	assert_int_equal(pst_mem_free(f->client, p[1]), -EINVAL);
	/* The others go with the client. */
}

static void test_memory(void **state)
{
	each_mood(memory);
}

static void test_memory_find(void **state)
{
	struct fixture f = fixture_new(true, NULL);
	struct mem_region *r;
	char *p;

	assert_int_equal(pst_mem_alloc(f.client, 8192, (void **)&p), 0);
	r = client_mem_find(f.client, p, 8192);
	assert_non_null(r);
	assert_ptr_equal(client_mem_find(f.client, p + 8191, 1), r);
	assert_null(client_mem_find(f.client, p + 1, 8192)); /* reaches beyond */
	assert_null(client_mem_find(f.client, p + 8192, 1));
	assert_null(client_mem_find(f.client, p - 1, 1));
	assert_null(client_mem_find(f.client, p + 1, SIZE_MAX));
	fixture_done(&f);
}

static void test_version(void **state)
{
	char text[32];

	snprintf(text, sizeof(text), "%d.%d.%d", PST_VERSION_MAJOR, PST_VERSION_MINOR,
	         PST_VERSION_PATCH);
	assert_string_equal(pst_version_text(), text);
	assert_int_equal(pst_version(), PST_VERSION);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_containers),   cmocka_unit_test(test_snapshots),
	        cmocka_unit_test(test_objects),      cmocka_unit_test(test_keys),
	        cmocka_unit_test(test_batches),      cmocka_unit_test(test_pipeline),
	        cmocka_unit_test(test_vectors),      cmocka_unit_test(test_eventfd),
	        cmocka_unit_test(test_threads),      cmocka_unit_test(test_close_with_open_handles),
	        cmocka_unit_test(test_cq_free_busy), cmocka_unit_test(test_read_only),
	        cmocka_unit_test(test_explain),      cmocka_unit_test(test_opts_sizes),
	        cmocka_unit_test(test_open_errors),  cmocka_unit_test(test_open_fails),
	        cmocka_unit_test(test_open_oom),     cmocka_unit_test(test_fork),
	        cmocka_unit_test(test_memory),       cmocka_unit_test(test_memory_find),
	        cmocka_unit_test(test_version),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
