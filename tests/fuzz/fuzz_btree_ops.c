/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_btree_ops - the index driven by the input, against a sorted array: puts, deletes, views, and
 * pages sealed and checked.
 *
 * An op is one byte and what it takes. A key is the first bytes of a pattern that the input set,
 * followed by up to 7 bytes of its own: long common prefixes and keys that begin one another are
 * cheap to write.
 */
#include "store/local/bt_internal.h"

#include "bt_ref.h"
#include "fuzz.h"

#define OPS_MAX   2000
#define VIEWS_MAX 3

struct world {
	struct bt_env env;
	struct btree live, view[VIEWS_MAX];
	struct bt_ref ref, view_ref[VIEWS_MAX];
	bool has_view[VIEWS_MAX];
	uint8_t pattern[BT_KEY_MAX];
	uint64_t addr, assigned, released;
};

static void release(struct bt_env *env, uint64_t addr)
{
	struct world *w = container_of(env, struct world, env);

	pst_assert(addr > 0 && addr <= w->addr);
	w->released++;
}

static uint64_t assign(void *arg)
{
	struct world *w = arg;

	w->assigned++;
	return ++w->addr;
}

static void emit(void *arg, struct bt_node *node, uint64_t addr)
{
	struct world *w = arg;
	uint8_t image[BT_PAGE_BYTES];

	bt_page_seal(&w->env, node, 1, 1, image);
	pst_assert(bt_page_check(&w->env, image, addr, NULL) == 0);
}

/* 2 length bytes: how much of the pattern, and how many bytes after it; then those. */
static size_t take_key(struct world *w, struct input *in, uint8_t key[BT_KEY_MAX])
{
	unsigned tail = byte(in), len = byte(in) | (tail & 8 ? 256 : 0);

	tail &= 7;
	len = MIN(len, BT_KEY_MAX - tail);
	memcpy(key, w->pattern, len);
	for (; tail > 0; tail--)
		key[len++] = byte(in);
	if (len == 0)
		key[len++] = 0;
	return len;
}

static void toggle_view(struct world *w, unsigned i)
{
	if (!w->has_view[i]) {
		bt_clone(&w->view[i], &w->live);
		bt_ref_clone(&w->view_ref[i], &w->ref);
	} else {
		bt_ref_compare(&w->view[i], &w->view_ref[i]);
		bt_drop(&w->view[i]);
		bt_ref_drop(&w->view_ref[i]);
	}
	w->has_view[i] = !w->has_view[i];
}

static void checkpoint(struct world *w)
{
	struct btree view;

	bt_clone(&view, &w->live);
	bt_dirty_assign(&view, 1, 1, assign, emit, w);
	pst_assert(bt_dirty_count(&w->live) == 0);
	bt_drop(&view);
}

static void step(struct world *w, struct input *in)
{
	uint8_t key[BT_KEY_MAX], val[BT_VALUE_MAX];
	unsigned op = byte(in);
	size_t len, val_len;

	switch (op % 8) {
	case 0: /* the pattern changes from some place on */
		len = byte(in);
		memset(w->pattern + len, byte(in), BT_KEY_MAX - len);
		return;
	case 1:
		toggle_view(w, op / 8 % VIEWS_MAX);
		return;
	case 2:
		if (op / 8 % 4 == 0)
			checkpoint(w);
		else
			bt_ref_compare(&w->live, &w->ref);
		return;
	case 3:
	case 4:
		len = take_key(w, in, key);
		pst_assert(bt_reserve(&w->env, 1, false) == 0);
		pst_assert(bt_del(&w->live, key, len) == bt_ref_del(&w->ref, key, len));
		bt_ref_probe(&w->live, &w->ref, key, len);
		return;
	default:
		len = take_key(w, in, key);
		val_len = byte(in) * (op & 128 ? 2 : 1);
		memset(val, op, val_len);
		pst_assert(bt_reserve(&w->env, 1, false) == 0);
		bt_put(&w->live, key, len, val, val_len);
		bt_ref_put(&w->ref, key, len, val, val_len);
		bt_ref_probe(&w->live, &w->ref, key, len);
		return;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct world w = {.env = {.release = release}};

	pst_assert(bt_env_init(&w.env) == 0);
	w.live.env = &w.env;
	for (unsigned i = 0; i < OPS_MAX && in.len; i++)
		step(&w, &in);
	bt_ref_compare(&w.live, &w.ref);
	for (unsigned i = 0; i < VIEWS_MAX; i++) {
		if (w.has_view[i])
			toggle_view(&w, i);
	}
	bt_drop(&w.live);
	bt_ref_drop(&w.ref);
	pst_assert(w.env.pages == 0 && w.assigned == w.released && w.env.overdrafts == 0);
	bt_env_done(&w.env);
	return 0;
}
