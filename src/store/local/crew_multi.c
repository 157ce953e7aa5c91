/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crew_multi - ops that concern more than one reactor: each visits the parts one after the other, as
 * FLUSH of one reactor goes through its shards, and adds up what they say.
 */
#include "store/local/crew.h"
#include "store/local/stall.h"

#define LIST_NAMES    32
#define SCRUB_LOOK_NS (200 * NSEC_PER_MSEC) /* how old the figures of one under way get */

struct journey {
	struct errand e;
	unsigned part; /* where it is */
	int status;
	struct pst_op inner;
};

static struct crew *crew_of_journey(const struct journey *j)
{
	return j->e.crew;
}

static void journey_begin(struct journey *j, struct crew *c, struct pst_op *op,
                          void (*back)(struct errand *e))
{
	errand_init(&j->e, c, op);
	j->e.back = back;
}

/* Frees @mem, which @j is part of, and ends its op. */
static void journey_end(struct journey *j, void *mem, int status)
{
	struct pst_op *op = j->e.asked;

	errand_end(&j->e);
	mem_free(mem);
	op->status = status;
	op->done(op);
}

/* --- FLUSH of all containers --- */

static void flush_go(struct journey *j)
{
	j->inner = (struct pst_op){.opcode = PST_OP_FLUSH,
	                           .tenant = j->e.asked->tenant,
	                           .deadline_ns = j->e.asked->deadline_ns};
	j->e.op = &j->inner;
	errand_send(&j->e, j->part);
}

static void flush_back(struct errand *e)
{
	struct journey *j = container_of(e, struct journey, e);

	if (!j->status)
		j->status = j->inner.status;
	if (++j->part < crew_of_journey(j)->count)
		flush_go(j);
	else
		journey_end(j, j, j->status);
}

enum pst_outcome multi_flush(struct crew *c, struct pst_op *op)
{
	struct journey *j = mem_calloc(1, sizeof(*j));

	if (!j)
		return op_fail(op, -ENOMEM);
	journey_begin(j, c, op, flush_back);
	flush_go(j);
	return PST_QUEUED;
}

/* --- STATUS --- */

struct status_journey {
	struct journey j;
	struct pst_store_status one;
};

static void status_there(struct errand *e)
{
	status_fill(e->to->l, &container_of(e, struct status_journey, j.e)->one);
}

static void status_add(struct pst_store_status *sum, const struct pst_store_status *one)
{
	bool refused = false;

	if (sum->reactors < PST_REACTORS_MAX)
		sum->reactor[sum->reactors++] = one->reactor[0];
	sum->stopped |= one->stopped;
	if (!sum->stopped_why[0])
		memcpy(sum->stopped_why, one->stopped_why, sizeof(sum->stopped_why));
	sum->used_bytes += one->used_bytes;
	sum->objects += one->objects;
	sum->index_bytes += one->index_bytes;
	sum->index_items += one->index_items;
	sum->index_pages += one->index_pages;
	sum->extents += one->extents;
	sum->csum_cache_bytes += one->csum_cache_bytes;
	sum->csum_cache_limit_bytes += one->csum_cache_limit_bytes;
	sum->csum_hits += one->csum_hits;
	sum->csum_misses += one->csum_misses;
	sum->journal_bytes += one->journal_bytes;
	sum->journal_used_bytes += one->journal_used_bytes;
	sum->journal_cache_bytes += one->journal_cache_bytes;
	sum->commits += one->commits;
	sum->commit_records += one->commit_records;
	sum->checkpoints += one->checkpoints;
	sum->dev_read_bytes += one->dev_read_bytes;
	sum->dev_write_bytes += one->dev_write_bytes;
	sum->dev_flushes += one->dev_flushes;
	sum->user_read_bytes += one->user_read_bytes;
	sum->user_write_bytes += one->user_write_bytes;
	sum->mirror_repairs += one->mirror_repairs;
	sum->csum_errors += one->csum_errors;
	for (unsigned i = 0; i < PST_SCARCE_KINDS; i++) {
		sum->refused[i] += one->refused[i];
		refused |= one->refused[i] != 0;
	}
	if (refused)
		sum->refused_last = one->refused_last;
}

static void status_back(struct errand *e)
{
	struct status_journey *s = container_of(e, struct status_journey, j.e);
	struct pst_store_status *sum = e->asked->status_out;

	if (s->j.part)
		status_add(sum, &s->one);
	else
		*sum = s->one;
	if (++s->j.part < e->crew->count) {
		errand_send(e, s->j.part);
		return;
	}
	sum->reserved_bytes =
	        sum->size_bytes - MIN(sum->size_bytes, sum->used_bytes + sum->free_bytes);
	journey_end(&s->j, s, 0);
}

enum pst_outcome multi_status(struct crew *c, struct pst_op *op)
{
	struct status_journey *s = mem_calloc(1, sizeof(*s));

	if (!s)
		return op_fail(op, -ENOMEM);
	journey_begin(&s->j, c, op, status_back);
	s->j.e.there = status_there;
	errand_send(&s->j.e, 0);
	return PST_QUEUED;
}

/* --- CONT_LIST: the names are here, what they use is known at their homes --- */

struct list_journey {
	struct journey j;
	unsigned count;
	struct pst_cont_info info[LIST_NAMES];
};

static void list_there(struct errand *e)
{
	struct list_journey *l = container_of(e, struct list_journey, j.e);

	for (unsigned i = 0; i < l->count; i++) {
		struct cont_name *n = cont_name_by_id(e->to->l, l->info[i].id);

		if (n && e->to->l->shard[n->home])
			cont_info_fill(e->to->l, n, &l->info[i]);
	}
}

/* False: the caller wants no more. */
static bool list_hand_out(struct list_journey *l)
{
	struct pst_op *op = l->j.e.asked;

	for (unsigned i = 0; i < l->count; i++) {
		const struct pst_cont_info *info = &l->info[i];
		struct pst_entry e = {.name = info->name,
		                      .name_len = (uint32_t)strlen(info->name),
		                      .id = info->id,
		                      .cont = info};

		if (!op->entry(op, &e))
			return false;
	}
	return true;
}

static void list_back(struct errand *e)
{
	struct list_journey *l = container_of(e, struct list_journey, j.e);
	char last[PST_NAME_MAX + 1];
	bool more;

	if (++l->j.part < e->crew->count) {
		errand_send(e, l->j.part);
		return;
	}
	more = list_hand_out(l) && l->count == LIST_NAMES;
	if (more) {
		memcpy(last, l->info[l->count - 1].name, sizeof(last));
		l->count = cont_names_after(crew_root(e->crew), last, (uint32_t)strlen(last),
		                            l->info, LIST_NAMES);
	}
	if (!more || !l->count || e->cancelled) {
		journey_end(&l->j, l, more && l->count ? -ECANCELED : 0);
		return;
	}
	l->j.part = 1;
	errand_send(e, 1);
}

enum pst_outcome multi_list(struct crew *c, struct pst_op *op)
{
	struct list_journey *l = mem_calloc(1, sizeof(*l));

	if (!l)
		return op_fail(op, -ENOMEM);
	l->count = cont_names_after(crew_root(c), op->start, op->start_len, l->info, LIST_NAMES);
	l->j.part = 1;
	journey_begin(&l->j, c, op, list_back);
	l->j.e.there = list_there;
	errand_send(&l->j.e, 1);
	return PST_QUEUED;
}

/* --- CONT_CREATE that comes again: what the container uses by now is known at its home --- */

static void figures_there(struct errand *e)
{
	struct cont_name *n = cont_name_by_id(e->to->l, e->asked->cont);

	if (n)
		cont_info_fill(e->to->l, n, e->asked->cont_info);
}

static void figures_back(struct errand *e)
{
	struct journey *j = container_of(e, struct journey, e);

	journey_end(j, j, j->status);
}

static void created(struct errand *e)
{
	struct journey *j = container_of(e, struct journey, e);
	struct local *root = crew_root(e->crew);
	struct cont_name *n = cont_name_by_id(root, e->asked->cont);

	j->status = e->asked->status;
	if (j->status || !n || root->shard[n->home]) {
		journey_end(j, j, j->status);
		return;
	}
	e->op = NULL;
	e->there = figures_there;
	e->back = figures_back;
	errand_send(e, crew_part_of_shard(e->crew, n->home));
}

enum pst_outcome multi_create(struct crew *c, struct pst_op *op)
{
	struct local *root = crew_root(c);
	struct media_reply reply;
	struct journey *j;

	if (!op->cont_info || !op->token.session ||
	    token_lookup(root->shard[0], &op->token, &reply) == -ENOENT)
		return store_submit(&root->store, op);
	j = mem_calloc(1, sizeof(*j));
	if (!j)
		return op_fail(op, -ENOMEM);
	journey_begin(j, c, op, created);
	j->e.op = op;
	errand_send(&j->e, 0);
	return PST_QUEUED;
}

/* --- CONT_DESTROY of a container at home elsewhere --- */

/*
 * Its home says whether there are snapshots, and takes none from then on (a hold); the root shard's
 * record ends it; the hold is let go, if there still is something to hold.
 */
struct destroy_journey {
	struct journey j;
	uint32_t cont;
	unsigned home;
	int answer;
	uint32_t asked_cont, asked_name_len; /* the op's own, while it stands for @cont */
};

static void hold_there(struct errand *e)
{
	struct destroy_journey *d = container_of(e, struct destroy_journey, j.e);
	struct cont_name *n = cont_name_by_id(e->to->l, d->cont);
	struct cont *c = n ? cont_find(e->to->l->shard[n->home], d->cont) : NULL;

	if (n)
		n->holds++;
	d->answer = c && c->snap_count ? -EBUSY : 0;
}

static void unhold_there(struct errand *e)
{
	struct destroy_journey *d = container_of(e, struct destroy_journey, j.e);
	struct cont_name *n = cont_name_by_id(e->to->l, d->cont);

	if (n)
		n->holds--;
	shard_release(e->to->l->shard[d->home]);
}

static void unhold_back(struct errand *e)
{
	struct destroy_journey *d = container_of(e, struct destroy_journey, j.e);

	errand_end(e);
	mem_free(d);
}

/* The op has its answer; what is left to do is nobody's business. */
static void unhold(struct destroy_journey *d)
{
	struct errand *e = &d->j.e;
	struct pst_op *op = e->asked;

	e->asked = e->op = NULL;
	e->there = unhold_there;
	e->back = unhold_back;
	errand_send(e, crew_part_of_shard(e->crew, d->home));
	op->done(op);
}

static void destroyed(struct errand *e)
{
	struct destroy_journey *d = container_of(e, struct destroy_journey, j.e);

	e->asked->cont = d->asked_cont;
	e->asked->name_len = d->asked_name_len;
	unhold(d);
}

static void held(struct errand *e)
{
	struct destroy_journey *d = container_of(e, struct destroy_journey, j.e);

	if (d->answer || e->cancelled) {
		e->asked->status = d->answer ? d->answer : -ECANCELED;
		unhold(d);
		return;
	}
	/* The one that was asked, and not another one that has its name by now. */
	d->asked_cont = e->asked->cont;
	d->asked_name_len = e->asked->name_len;
	e->asked->cont = d->cont;
	e->asked->name_len = 0;
	e->op = e->asked;
	e->back = destroyed;
	errand_send(e, 0);
}

enum pst_outcome multi_destroy(struct crew *c, struct pst_op *op)
{
	struct local *root = crew_root(c);
	struct cont_name *n = op->name_len ? cont_name_find(root, op->name, op->name_len)
	                                   : cont_name_by_id(root, op->cont);
	struct destroy_journey *d;
	struct media_reply reply;

	/* One that was done before is answered by its record, whatever is there by now. */
	if (!n || root->shard[n->home] ||
	    (op->token.session && token_lookup(root->shard[0], &op->token, &reply) != -ENOENT))
		return store_submit(&root->store, op);
	d = mem_calloc(1, sizeof(*d));
	if (!d)
		return op_fail(op, -ENOMEM);
	d->cont = n->id;
	d->home = n->home;
	journey_begin(&d->j, c, op, held);
	d->j.e.there = hold_there;
	errand_send(&d->j.e, crew_part_of_shard(c, n->home));
	return PST_QUEUED;
}

/* --- SCRUB --- */

struct scrub_journey {
	struct journey j;
	struct pst_scrub_report there; /* the part's, while it scrubs */
	struct errand look;            /* fetches a copy of it now and then */
	struct pst_scrub_report seen;
	uint64_t done_bytes, objects, repaired; /* of the parts before */
	uint64_t errors, told;                  /* found in all, and told of by then */
	struct loop_timer timer;
	bool looking;
	bool back; /* the part has ended its own, and waits for who looks */
};

struct bad_note { /* a bad block, from the part that found it */
	struct loop_msg msg;
	struct scrub_journey *s;
	uint32_t cont;
	struct pst_oid oid;
	uint64_t off, view;
	int status;
};

static void bad_home(struct loop_msg *msg)
{
	struct bad_note *b = container_of(msg, struct bad_note, msg);
	struct pst_scrub_report *rep = b->s->j.e.asked->scrub;

	b->s->told++;
	rep->errors = MAX(rep->errors, b->s->told);
	rep->bad_view = b->view;
	rep->bad(rep, b->cont, b->oid, b->off, b->status);
	mem_free(b);
}

static void bad_there(struct pst_scrub_report *r, uint32_t cont, struct pst_oid oid, uint64_t off,
                      int status)
{
	struct scrub_journey *s = container_of(r, struct scrub_journey, there);
	struct bad_note *b = mem_calloc(1, sizeof(*b));

	if (!b) {
		log_error("scrub: no memory to tell of a bad block of container %u", cont);
		return; /* it is counted, and the engine's log names it */
	}
	*b = (struct bad_note){.msg = {.run = bad_home},
	                       .s = s,
	                       .cont = cont,
	                       .oid = oid,
	                       .off = off,
	                       .view = r->bad_view,
	                       .status = status};
	loop_post(s->j.e.crew->store.loop, &b->msg);
}

static void scrub_figures(struct scrub_journey *s, const struct pst_scrub_report *now)
{
	struct pst_scrub_report *rep = s->j.e.asked->scrub;

	rep->done_bytes = s->done_bytes + now->done_bytes;
	rep->objects = s->objects + now->objects;
	rep->repaired = s->repaired + now->repaired;
	rep->errors = MAX(s->errors + now->errors, s->told);
}

static void look_there(struct errand *e)
{
	struct scrub_journey *s = container_of(e, struct scrub_journey, look);

	/* It does not go on to another part while somebody looks: what stands in `there` is ours. */
	pst_assert(e->to == s->j.e.to);
	s->seen = s->there;
}

static void scrub_ended(struct scrub_journey *s)
{
	loop_timer_disarm(s->j.e.crew->store.loop, &s->timer);
	journey_end(&s->j, s, s->j.status);
}

static void look_again(struct scrub_journey *s)
{
	struct loop *loop = s->j.e.crew->store.loop;

	/* Without memory for it the figures come when a part has ended. */
	(void)loop_timer_arm(loop, &s->timer, loop_now(loop) + SCRUB_LOOK_NS);
}

static void scrub_on(struct scrub_journey *s);

static void look_back(struct errand *e)
{
	struct scrub_journey *s = container_of(e, struct scrub_journey, look);

	s->looking = false;
	errand_end(e);
	look_again(s);
	if (s->back)
		scrub_on(s);
	else
		scrub_figures(s, &s->seen);
}

static void look(struct loop_timer *t)
{
	struct scrub_journey *s = container_of(t, struct scrub_journey, timer);

	if (s->looking)
		return;
	s->looking = true;
	errand_init(&s->look, s->j.e.crew, NULL);
	s->look.there = look_there;
	s->look.back = look_back;
	errand_send(&s->look, s->j.part);
}

static void scrub_go(struct scrub_journey *s)
{
	struct pst_op *op = s->j.e.asked;

	s->there = (struct pst_scrub_report){.rate_bytes_per_s = op->scrub->rate_bytes_per_s,
	                                     .bad = op->scrub->bad ? bad_there : NULL};
	s->j.inner = (struct pst_op){.opcode = PST_OP_SCRUB,
	                             .tenant = op->tenant,
	                             .deadline_ns = op->deadline_ns,
	                             .scrub = &s->there};
	s->j.e.op = &s->j.inner;
	errand_send(&s->j.e, s->j.part);
}

/* A part has ended its own, and nobody looks at that: on to the next one. */
static void scrub_on(struct scrub_journey *s)
{
	struct crew *c = crew_of_journey(&s->j);
	struct pst_scrub_report none = {0};

	s->back = false;
	s->done_bytes += s->there.done_bytes;
	s->objects += s->there.objects;
	s->repaired += s->there.repaired;
	s->errors += s->there.errors;
	scrub_figures(s, &none);
	s->j.status = s->j.inner.status;
	if (!s->j.status && s->j.e.cancelled)
		s->j.status = -ECANCELED;
	if (!s->j.status && ++s->j.part < c->count)
		scrub_go(s);
	else
		scrub_ended(s);
}

static void scrub_back(struct errand *e)
{
	struct scrub_journey *s = container_of(e, struct scrub_journey, j.e);

	s->back = true;
	if (!s->looking)
		scrub_on(s);
}

/* How much there is to read, before anything is read. */
static void total_there(struct errand *e)
{
	struct scrub_journey *s = container_of(e, struct scrub_journey, j.e);

	s->there.total_bytes = 0;
	for (unsigned i = 0; i < e->to->l->owned; i++)
		s->there.total_bytes +=
		        e->to->l->own[i]->space.class[SPACE_DATA].used * (uint64_t)BLOCK_BYTES;
}

static void total_back(struct errand *e)
{
	struct scrub_journey *s = container_of(e, struct scrub_journey, j.e);

	e->asked->scrub->total_bytes += s->there.total_bytes;
	if (++s->j.part < e->crew->count && !e->cancelled) {
		errand_send(e, s->j.part);
		return;
	}
	if (e->cancelled) {
		s->j.status = -ECANCELED;
		scrub_ended(s);
		return;
	}
	s->j.part = 0;
	e->back = scrub_back;
	scrub_go(s);
	look_again(s);
}

enum pst_outcome multi_scrub(struct crew *c, struct pst_op *op)
{
	struct pst_scrub_report *rep = op->scrub;
	struct scrub_journey *s;

	if (!rep)
		return op_fail(op, -EINVAL);
	s = mem_calloc(1, sizeof(*s));
	if (!s)
		return op_fail(op, -ENOMEM);
	rep->total_bytes = rep->done_bytes = rep->objects = rep->errors = 0;
	s->timer.fired = look;
	journey_begin(&s->j, c, op, total_back);
	s->j.e.there = total_there;
	errand_send(&s->j.e, 0);
	return PST_QUEUED;
}
