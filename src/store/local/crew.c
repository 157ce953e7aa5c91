/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crew - parting a store among reactors and bringing it together again; and what the parts share:
 * regions, limits, the fact that the store has stopped, and the notes about containers.
 */
#include <stdio.h>

#include "store/local/crew.h"
#include "store/local/stall.h"

#define WORD_BITS 64u

/* --- regions --- */

/* What this part's shards have and may need, as of now. */
static void publish(struct mate *m)
{
	uint64_t index = 0, regions = 0, data = 0;

	for (unsigned i = 0; i < m->l->owned; i++) {
		const struct shard *s = m->l->own[i];

		index += bt_env_used(&s->env);
		regions += space_index_regions(s);
		data += s->space.class[SPACE_DATA].free;
	}
	atomic_store_explicit(&m->pub.index_bytes, index, memory_order_relaxed);
	atomic_store_explicit(&m->pub.index_regions, regions, memory_order_relaxed);
	atomic_store_explicit(&m->pub.data_free, data, memory_order_relaxed);
}

/* As meta_reserve_regions() of space.c, of all parts; a region more for each other one, whose figures
 * are a turn old. */
static uint64_t reserve_regions(const struct crew *c)
{
	uint64_t need = c->count;

	for (unsigned i = 0; i < c->count; i++)
		need += atomic_load_explicit(&c->mate[i].pub.index_regions, memory_order_relaxed);
	return need;
}

uint64_t crew_region_take(struct local *l, bool data, uint64_t first)
{
	struct crew *c = l->crew;
	uint64_t reserve, found = UINT64_MAX;

	publish(mate_of(l));
	reserve = data ? reserve_regions(c) + space_growth_regions(c->regions) : 0;
	pthread_mutex_lock(&c->lock);
	for (uint64_t k = 0; k < c->regions && c->regions_free > reserve; k++) {
		uint64_t r = (first + k) % c->regions;

		if (c->taken[r / WORD_BITS] >> (r % WORD_BITS) & 1)
			continue;
		c->taken[r / WORD_BITS] |= 1ull << (r % WORD_BITS);
		atomic_store(&c->free_now, --c->regions_free);
		found = r;
		break;
	}
	pthread_mutex_unlock(&c->lock);
	return found;
}

void crew_region_give(struct local *l, uint64_t r)
{
	struct crew *c = l->crew;

	pthread_mutex_lock(&c->lock);
	pst_assert(c->taken[r / WORD_BITS] >> (r % WORD_BITS) & 1);
	c->taken[r / WORD_BITS] &= ~(1ull << (r % WORD_BITS));
	atomic_store(&c->free_now, ++c->regions_free);
	pthread_mutex_unlock(&c->lock);
}

bool crew_index_fits(struct local *l, uint64_t more)
{
	publish(mate_of(l));
	return atomic_load(&l->crew->free_now) >= reserve_regions(l->crew) + more;
}

uint64_t crew_space_available(struct local *l)
{
	struct crew *c = l->crew;
	uint64_t n = 0, reserve, free;

	publish(mate_of(l));
	reserve = reserve_regions(c) + space_growth_regions(c->regions);
	for (unsigned i = 0; i < c->count; i++)
		if (i != l->part)
			n += atomic_load_explicit(&c->mate[i].pub.data_free, memory_order_relaxed);
	pthread_mutex_lock(&c->lock);
	free = c->regions_free;
	pthread_mutex_unlock(&c->lock);
	return n + (free > reserve ? (free - reserve) * l->geo.region_span : 0);
}

/* --- stopping --- */

void crew_stop(struct local *l)
{
	struct crew *c = l->crew;
	bool first;

	pthread_mutex_lock(&c->lock);
	first = !c->stop_status;
	if (first) {
		c->stop_status = l->stop_status;
		memcpy(c->stop_why, l->stop_why, sizeof(c->stop_why));
	}
	pthread_mutex_unlock(&c->lock);
	if (!first)
		return;
	atomic_store(&c->stopped, true);
	for (unsigned i = 0; i < c->count; i++)
		if (i != l->part)
			loop_post(c->mate[i].l->store.loop, &c->mate[i].halt_msg);
}

static void follow(struct mate *m)
{
	struct crew *c = m->crew;
	char why[sizeof(c->stop_why)];
	int status;

	pthread_mutex_lock(&c->lock);
	status = c->stop_status;
	memcpy(why, c->stop_why, sizeof(why));
	pthread_mutex_unlock(&c->lock);
	local_stop_too(m->l, status, why);
}

static void halted(struct loop_msg *msg)
{
	struct mate *m = container_of(msg, struct mate, halt_msg);

	follow(m);
	(void)settle_step(m);
}

/* The part's reactor can reach no device any more. Everybody who waits for it is told. */
static void loop_failed(struct loop_failure *f, int status, const char *who)
{
	struct mate *m = container_of(f, struct mate, failure_of_loop);

	local_stop(m->l, status, "io_uring of %s fails", who);
}

/* --- notes about containers, from the root shard's reactor to their home's --- */

struct note {
	struct cont_name
	        name; /* first: it becomes a line of the part's table, and is freed as one */
	struct loop_msg msg;
	struct list link; /* crew->gone */
	struct mate *home;
	uint64_t frame; /* of the root shard's log: it is gone when that is durable */
};
_Static_assert(sizeof(struct note) <= CREW_NOTE_BYTES, "a note fits in the room for it");

static struct note *note_new(struct crew *c, const struct cont_name *n, void *mem)
{
	struct note *note = mem;

	memset(note, 0, sizeof(*note));
	note->name = *n;
	note->name.hash_next = NULL;
	note->name.holds = 0;
	list_init(&note->name.link);
	note->home = &c->mate[crew_part_of_shard(c, n->home)];
	return note;
}

static void note_post(struct note *note, struct local *to, void (*run)(struct loop_msg *m))
{
	note->msg.run = run;
	loop_post(to->store.loop, &note->msg);
}

static void made_there(struct loop_msg *msg)
{
	struct note *note = container_of(msg, struct note, msg);

	/* One of that name that was there before has a note of its own, which came first. */
	pst_assert(!cont_name_add(note->home->l, &note->name));
}

void crew_cont_made(struct local *l, const struct cont_name *n, void *mem)
{
	struct note *note = note_new(l->crew, n, mem);

	note_post(note, note->home->l, made_there);
}

/* Its end is durable: its space goes. */
static void drop_there(struct loop_msg *msg)
{
	struct note *note = container_of(msg, struct note, msg);
	struct shard *s = note->home->l->shard[note->name.home];
	struct cont *c = cont_find(s, note->name.id);

	if (c && !s->l->stopped)
		cont_drop_tree(s, c);
	mem_free(note);
}

static void gone_back(struct loop_msg *msg)
{
	struct note *note = container_of(msg, struct note, msg);

	list_push(&note->home->crew->gone, &note->link);
}

static void gone_there(struct loop_msg *msg)
{
	struct note *note = container_of(msg, struct note, msg);
	struct local *l = note->home->l;
	struct cont_name *n = cont_name_by_id(l, note->name.id);

	pst_assert(n);
	cont_name_free(l, n);
	shard_release(l->shard[note->name.home]); /* snapshots that waited for this are too late */
	note_post(note, crew_root(l->crew), gone_back);
}

void crew_cont_gone(struct local *l, const struct cont_name *n, uint64_t frame, void *mem)
{
	struct note *note = note_new(l->crew, n, mem);

	note->frame = frame;
	l->crew->gone_count++;
	note_post(note, note->home->l, gone_there);
}

/* The first part's. */
static void gone_step(struct crew *c)
{
	struct local *l = crew_root(c);
	struct list *n, *next;

	if (l->stopped)
		return;
	for (n = c->gone.next; n != &c->gone; n = next) {
		struct note *note = list_entry(n, struct note, link);

		next = n->next;
		if (note->frame > l->shard[0]->log.durable)
			continue;
		list_del(n);
		c->gone_count--;
		note_post(note, note->home->l, drop_there);
	}
}

/* --- a part's turn --- */

static void quiet_told(struct loop_msg *msg)
{
	container_of(msg, struct mate, quiet_msg)->crew->quiet_count++;
}

static void leave_step(struct mate *m)
{
	if (m->quiet || io_inflight(m->l) || m->settling)
		return;
	m->quiet = true;
	loop_post(crew_root(m->crew)->store.loop, &m->quiet_msg);
}

static int mate_poll(struct loop_poller *p)
{
	struct local *l = container_of(p, struct local, poller);
	struct mate *m = mate_of(l);
	struct crew *c = l->crew;
	uint64_t others = 0;
	int did;

	if (unlikely(atomic_load_explicit(&c->stopped, memory_order_relaxed)) && !l->stopped)
		follow(m);
	did = settle_step(m);
	if (unlikely(m->leaving)) {
		leave_step(m);
		return did;
	}
	for (unsigned i = 0; i < c->count; i++)
		if (&c->mate[i] != m)
			others += atomic_load_explicit(&c->mate[i].pub.index_bytes,
			                               memory_order_relaxed);
	l->index_others_bytes = others;
	did += door_step(m);
	did += local_poll(p);
	if (m == &c->mate[0] && !list_empty(&c->gone))
		gone_step(c);
	publish(m);
	return did;
}

static bool mate_may_sleep(struct loop_poller *p)
{
	struct local *l = container_of(p, struct local, poller);

	return mate_of(l)->leaving || local_may_sleep(p);
}

/* --- questions: the first part waits for an answer of another --- */

struct question {
	struct loop_msg msg;
	struct mate *m;
	int (*ask)(struct mate *m, struct pst_err *err);
	struct loop *asker;
	struct pst_err *err;
	int answer;
	bool answered;
};

static void answered(struct loop_msg *msg)
{
	container_of(msg, struct question, msg)->answered = true;
}

static void asked(struct loop_msg *msg)
{
	struct question *q = container_of(msg, struct question, msg);

	q->answer = q->ask(q->m, q->err);
	q->msg.run = answered;
	loop_post(q->asker, &q->msg);
}

/* Runs @fn on the part's thread. Turns the loop. */
static int ask(struct mate *m, int (*fn)(struct mate *m, struct pst_err *err), struct pst_err *err)
{
	struct loop *loop = crew_root(m->crew)->store.loop;
	struct question q = {.msg = {.run = asked}, .m = m, .ask = fn, .asker = loop, .err = err};

	loop_post(m->l->store.loop, &q.msg);
	while (!q.answered) {
		int rc = loop_turn(loop, NSEC_PER_SEC);

		/* The question is on our stack: without a loop that turns there is no way out. */
		pst_assert(rc >= 0 || rc == -EINTR || rc == -EAGAIN || rc == -EBUSY);
	}
	return q.answer;
}

/* --- parting --- */

static int devices_close(struct mate *m, struct pst_err *err)
{
	for (unsigned i = 0; i < m->l->geo.devs && !m->shares_loop; i++) {
		bdev_close(m->l->dev[i]);
		m->l->dev[i] = NULL;
	}
	return 0;
}

static int devices_open(struct mate *m, struct pst_err *err)
{
	const struct local *root = crew_root(m->crew);
	int rc = 0;

	for (unsigned i = 0; i < m->l->geo.devs && !rc; i++) {
		if (m->shares_loop)
			m->l->dev[i] = root->dev[i];
		else
			rc = bdev_also(&m->l->dev[i], root->dev[i], m->l->store.loop, err);
	}
	if (rc)
		(void)devices_close(m, NULL);
	return rc;
}

static int start(struct mate *m, struct pst_err *err)
{
	m->l->poller.poll = mate_poll;
	m->l->poller.may_sleep = mate_may_sleep;
	loop_poller_add(m->l->store.loop, &m->l->poller);
	loop_failure_add(m->l->store.loop, &m->failure_of_loop);
	return 0;
}

/* A part's copies of what does not change, and of its lines of the table. */
static int part_fill(struct local *l, const struct local *root)
{
	const struct cont_name *n;

	l->geo = root->geo;
	l->super = root->super;
	l->epoch = root->epoch;
	l->mem_align = root->mem_align;
	l->next_cont = root->next_cont;
	memcpy(l->dev_dirty, root->dev_dirty, sizeof(l->dev_dirty));
	l->region = mem_calloc(l->geo.regions, sizeof(*l->region));
	if (!l->region)
		return -ENOMEM;
	list_for_each (n, &root->names, link) {
		struct cont_name *copy;

		if (crew_part_of_shard(l->crew, n->home) != l->part)
			continue;
		copy = mem_calloc(1, sizeof(*copy));
		if (!copy)
			return -ENOMEM;
		*copy = *n;
		pst_assert(!cont_name_add(l, copy));
	}
	return 0;
}

/* Nothing is under way: shards and their regions go to @l. */
static void shards_move(struct local *from, struct local *to, unsigned part)
{
	for (unsigned i = 0; i < from->geo.shards; i++) {
		if (!from->shard[i] || i % from->crew->count != part)
			continue;
		to->shard[i] = from->shard[i];
		to->shard[i]->l = to;
		from->shard[i] = NULL;
	}
	for (uint64_t r = 0; r < from->geo.regions; r++) {
		struct region *reg = &from->region[r];

		if (reg->class == SPACE_NONE || reg->owner % from->crew->count != part)
			continue;
		to->region[r] = *reg;
		*reg = (struct region){0};
	}
	local_shards_note(from);
	local_shards_note(to);
}

static void mate_init(struct mate *m, struct crew *c, struct local *l, unsigned part)
{
	m->crew = c;
	m->l = l;
	m->halt_msg.run = halted;
	m->failure_of_loop.failed = loop_failed;
	list_init(&m->failure_of_loop.link);
	m->quiet_msg.run = quiet_told;
	list_init(&m->waiting);
	settle_init(m);
	l->crew = c;
	l->part = part;
}

/* Without the parts, which are the caller's by now. */
static void crew_free(struct crew *c)
{
	if (!c)
		return;
	while (!list_empty(&c->gone)) {
		struct note *note = list_first(&c->gone, struct note, link);

		list_del(&note->link);
		mem_free(note);
	}
	door_done(c);
	pthread_mutex_destroy(&c->lock);
	mem_free(c->taken);
	mem_free(c->mate);
	mem_free(c);
}

static void part_free(struct local *l)
{
	l->crew = NULL;
	local_free(l);
}

static const struct store_ops crew_ops;

static int crew_new(struct crew **ret_crew, struct local *root, struct loop *const *loops,
                    unsigned count)
{
	struct crew *c = mem_calloc(1, sizeof(*c));
	int rc = 0;

	if (!c)
		return -ENOMEM;
	list_init(&c->out);
	list_init(&c->gone);
	pthread_mutex_init(&c->lock, NULL);
	c->store = (struct store){&crew_ops, root->store.loop, root->store.caps};
	c->regions = root->geo.regions;
	c->regions_free = root->regions_free;
	atomic_init(&c->free_now, c->regions_free);
	c->mate = mem_alloc_aligned(_Alignof(struct mate), count * sizeof(*c->mate));
	c->taken = mem_calloc(DIV_ROUND_UP(c->regions, WORD_BITS), sizeof(*c->taken));
	if (!c->mate || !c->taken) {
		crew_free(c);
		return -ENOMEM;
	}
	for (uint64_t r = 0; r < c->regions; r++)
		if (root->region[r].class != SPACE_NONE)
			c->taken[r / WORD_BITS] |= 1ull << (r % WORD_BITS);
	mate_init(&c->mate[0], c, root, 0);
	c->mate[0].shares_loop = true;
	c->count = 1;
	while (c->count < count && !rc) {
		struct local *l = local_new(loops[c->count], &root->opts);

		if (!l) {
			rc = -ENOMEM;
			break;
		}
		mate_init(&c->mate[c->count], c, l, c->count);
		c->mate[c->count].shares_loop = loops[c->count] == root->store.loop;
		c->count++;
	}
	for (unsigned i = 1; i < c->count && !rc; i++)
		rc = part_fill(c->mate[i].l, root);
	if (!rc)
		rc = door_init(c);
	if (!rc) {
		*ret_crew = c;
		return 0;
	}
	for (unsigned i = 1; i < c->count; i++)
		part_free(c->mate[i].l);
	root->crew = NULL;
	crew_free(c);
	return rc;
}

static int devices_open_all(struct crew *c, struct pst_err *err)
{
	int rc = 0;

	for (unsigned i = 1; i < c->count && !rc; i++) {
		rc = ask(&c->mate[i], devices_open, err);
		while (rc && --i)
			(void)ask(&c->mate[i], devices_close, NULL);
	}
	return rc;
}

/* @root was opened, and its loop has not turned since: nothing is under way. */
static int crew_part(struct crew **ret_crew, struct local *root, struct loop *const *loops,
                     unsigned count, struct pst_err *err)
{
	struct crew *c;
	int rc = crew_new(&c, root, loops, count);

	if (rc)
		return err_set(err, rc, "no memory to open the store on %u reactors", count);
	rc = devices_open_all(c, err);
	if (rc) {
		for (unsigned i = 1; i < count; i++)
			part_free(c->mate[i].l);
		root->crew = NULL;
		crew_free(c);
		return rc;
	}
	for (unsigned i = 1; i < count; i++)
		shards_move(root, c->mate[i].l, i);
	for (unsigned i = 0; i < count; i++)
		publish(&c->mate[i]);
	for (unsigned i = 1; i < count; i++)
		(void)ask(&c->mate[i], start, NULL);
	(void)start(&c->mate[0], NULL);
	*ret_crew = c;
	return 0;
}

int local_open_on(struct store **ret_store, struct loop *const *loops, unsigned count,
                  struct bdev *const *devs, unsigned dev_count, const struct local_opts *opts,
                  struct pst_err *err)
{
	struct store *one = NULL;
	struct crew *c = NULL;
	struct local *l;
	int rc = local_open(&one, loops[0], devs, dev_count, opts, err);

	if (rc || count == 1) {
		if (!rc)
			*ret_store = one;
		return rc;
	}
	l = local_of(one);
	loop_poller_del(loops[0], &l->poller);
	if (count > l->geo.shards)
		rc = err_set(err, -EINVAL,
		             "the store has %u shard%s: %u reactors are more than can share it "
		             "(format --shards says how many it has)",
		             l->geo.shards, l->geo.shards == 1 ? "" : "s", count);
	else
		rc = crew_part(&c, l, loops, count, err);
	if (rc) {
		local_abandon(l);
		return rc;
	}
	*ret_store = &c->store;
	return 0;
}

/* --- together again --- */

static int leave(struct mate *m, struct pst_err *err)
{
	m->leaving = true;
	return 0;
}

static int part_end(struct mate *m, struct pst_err *err)
{
	local_detach(m->l);
	loop_failure_del(m->l->store.loop, &m->failure_of_loop);
	return devices_close(m, NULL);
}

/* Lets what is under way end, and nothing new begin. Turns the loop. */
static void all_quiet(struct crew *c)
{
	struct loop *loop = c->store.loop;

	for (unsigned i = 1; i < c->count; i++)
		(void)ask(&c->mate[i], leave, NULL);
	c->mate[0].leaving = true;
	while (c->quiet_count < c->count)
		(void)loop_turn(loop, NSEC_PER_SEC);
}

/* Nothing is under way: one part has it all, and the crew is no more. */
static struct local *gather(struct crew *c)
{
	struct local *root = crew_root(c);

	for (unsigned i = 1; i < c->count; i++) {
		struct local *l = c->mate[i].l;

		(void)ask(&c->mate[i], part_end, NULL);
		pst_assert(!l->ops && list_empty(&c->mate[i].waiting));
		shards_move(l, root, i);
		local_take_stat(root, l);
		for (unsigned d = 0; d < root->geo.devs; d++)
			root->dev_dirty[d] |= l->dev_dirty[d];
	}
	loop_poller_del(root->store.loop, &root->poller);
	loop_failure_del(root->store.loop, &c->mate[0].failure_of_loop);
	root->poller.poll = local_poll;
	root->poller.may_sleep = local_may_sleep;
	loop_poller_add(root->store.loop, &root->poller);
	root->regions_free = c->regions_free;
	for (unsigned i = 1; i < c->count; i++)
		part_free(c->mate[i].l);
	if (atomic_load(&c->stopped))
		follow(&c->mate[0]);
	root->crew = NULL;
	root->index_others_bytes = 0;
	crew_free(c);
	return root;
}

static struct crew *crew_of(struct store *store)
{
	return container_of(store, struct crew, store);
}

static int crew_close(struct store *store)
{
	struct crew *c = crew_of(store);

	/* The last of a destruction goes on behind its answer. */
	while ((c->gone_count && !atomic_load(&c->stopped)) || !list_empty(&c->out))
		(void)loop_turn(store->loop, NSEC_PER_SEC);
	all_quiet(c);
	return store_close(&gather(c)->store);
}

bool local_is_crew(const struct store *store)
{
	return store->ops == &crew_ops;
}

/* As local_crash(): only where all parts share the loop. */
void crew_crash(struct store *store)
{
	struct crew *c = crew_of(store);
	struct loop *loop = store->loop;

	for (unsigned i = 0; i < c->count; i++) {
		pst_assert(c->mate[i].shares_loop);
		c->mate[i].l->closing = true;
		local_stop_too(c->mate[i].l, -ESHUTDOWN, "");
		c->mate[i].l->stop_status = -ESHUTDOWN;
	}
	atomic_store(&c->stopped, true);
	while (io_inflight(crew_root(c)))
		(void)loop_turn(loop, NSEC_PER_SEC);
	for (unsigned i = 0; i < c->count; i++)
		local_stop_tell(c->mate[i].l, -ESHUTDOWN);
	while (!list_empty(&c->out) || crew_root(c)->ops)
		(void)loop_turn(loop, 0);
	all_quiet(c);
	local_abandon(gather(c));
}

/* --- ops --- */

/* The part that carries @op out. What is not there is the first one's to say so. */
static unsigned part_of(struct crew *c, const struct pst_op *op)
{
	struct local *root = crew_root(c);
	bool by_name = op->opcode >= PST_OP_CONT_CREATE && op->opcode <= PST_OP_SNAP_DESTROY;
	const struct cont_name *n;

	if (op->opcode == PST_OP_SESSION_CLOSE)
		return op->off < root->geo.shards ? crew_part_of_shard(c, (unsigned)op->off) : 0;
	n = by_name && op->name_len ? cont_name_find(root, op->name, op->name_len)
	                            : cont_name_by_id(root, op->cont);
	return n ? crew_part_of_shard(c, n->home) : 0;
}

static enum pst_outcome crew_submit(struct store *store, struct pst_op *op)
{
	struct crew *c = crew_of(store);
	unsigned part;

	loop_assert(store->loop);
	switch (op->opcode) {
	case PST_OP_FLUSH:
		if (!op->cont)
			return multi_flush(c, op);
		break;
	case PST_OP_STATUS:
		return multi_status(c, op);
	case PST_OP_SCRUB:
		return multi_scrub(c, op);
	case PST_OP_CONT_LIST:
		return multi_list(c, op);
	case PST_OP_CONT_DESTROY:
		return multi_destroy(c, op);
	case PST_OP_CONT_CREATE:
		return multi_create(c, op);
	}
	part = part_of(c, op);
	return part ? door_send(c, op, part) : store_submit(&crew_root(c)->store, op);
}

static void crew_cancel(struct store *store, struct pst_op *op)
{
	door_cancel(crew_of(store), op);
}

static const struct store_ops crew_ops = {
        .name = "local",
        .submit = crew_submit,
        .cancel = crew_cancel,
        .close = crew_close,
};
