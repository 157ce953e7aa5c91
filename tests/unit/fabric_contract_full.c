/* SPDX-License-Identifier: BSD-3-Clause */
/* What every provider of channels must do when more come than may. See fabric_contract.h. */
#include "fabric_contract.h"

static void test_conns_max(void **state)
{
	struct fix *f = *state;
	struct side s = {0};

	f->opts.conns_max = 1;
	fix_pair(f);
	fix_connect(f, &s);
	WAIT(f, s.ups);
	if (s.up_status == 0)
		WAIT(f, s.downs);
	assert_int_equal(f->accepted, 1);
	side_close(&s);
	/* The first is well, and when it is gone, which may take its peer a while, there is room for another. */
	WAIT(f, side_send(&f->a, 100) == 0);
	WAIT(f, f->b.got == 1);
	side_close(&f->b);
	for (unsigned i = 0; i == 0 || (f->a.up_status && i < 100); i++) {
		side_close(&f->a);
		settle(f);
		fix_connect(f, &f->a);
		WAIT(f, f->a.ups);
	}
	assert_int_equal(f->a.up_status, 0);
}

static void on_cut(struct fabric_listener *l, struct chan *c)
{
	struct fix *f = l->user;

	f->cuts++;
	side_close(c->user);
}

/* Who is known has his place; of the others the oldest makes room; nobody does when all are known. */
static void test_strangers_make_room(void **state)
{
	struct fix *f = *state;
	struct side s[4] = {{0}};

	if (!strcmp(f->c->provider, "sim"))
		skip(); /* nobody strange comes to it */
	f->opts.conns_max = 3;
	fix_listen(f);
	f->l->cut = on_cut;
	fix_pair(f);
	chan_known(f->b.c);
	for (unsigned i = 0; i < 3; i++) {
		fix_connect(f, &s[i]);
		WAIT(f, s[i].ups && f->accepted == i + 2);
		assert_int_equal(s[i].up_status, 0);
	}
	assert_int_equal(f->cuts, 1);
	assert_null(f->more[0].c);
	WAIT(f, s[0].downs);
	chan_known(f->more[1].c);
	chan_known(f->more[2].c);
	fix_connect(f, &s[3]);
	WAIT(f, s[3].ups);
	assert_int_equal(s[3].up_status, -ECONNREFUSED);
	if (!f->opts.tls)
		assert_non_null(strstr(s[3].c->why, "as many connections as may be are open"));
	assert_int_equal(f->cuts, 1);
	WAIT(f, side_send(&f->a, 100) == 0 && side_send(&s[1], 100) == 0);
	WAIT(f, f->b.got == 1 && f->more[1].got == 1);
	for (unsigned i = 0; i < 4; i++)
		side_close(&s[i]);
}

const struct fabric_contract_test fabric_contract_full[] = {
        {"conns_max", test_conns_max},
        {"strangers_make_room", test_strangers_make_room},
};
const size_t fabric_contract_full_count = ARRAY_LEN(fabric_contract_full);
