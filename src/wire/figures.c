/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * figures - what the listener counts of each request that was answered, and the log of slow ones.
 *
 * A request's time is cut into phases by the loop's clock, which is read once a turn: marks cost a
 * load each, and what happened within one turn took no time by them.
 *
 *   born ---- queue ----> admitted ---- in ----> run ---- store ----> done ---- out ----> answered
 *     the session's turn      memory, payload        the store            payload, credits
 */
#include <inttypes.h>
#include <stdio.h>

#include "wire/listener_int.h"

#define SLOW_LINES_PER_S 10

#define OP(op, class) [PST_OP_##op] = WIRE_CLASS_##class + 1
/* By opcode, one more than the class; 0: OTHER. */
static const uint8_t classes[256] = {
        OP(READ, READ),          OP(FILE_READ, READ), OP(WRITE, WRITE),     OP(FILE_WRITE, WRITE),
        OP(BATCH, BATCH),        OP(KV_GET, GET),     OP(STAT, STAT),       OP(EXTENTS, STAT),
        OP(LOOKUP, STAT),        OP(GETATTR, STAT),   OP(READLINK, STAT),   OP(GETXATTR, STAT),
        OP(STATFS, STAT),        OP(OBJ_LIST, LIST),  OP(KV_LIST, LIST),    OP(READDIR, LIST),
        OP(LISTXATTR, LIST),     OP(CONT_LIST, LIST), OP(SNAP_LIST, LIST),  OP(CREATE, CHANGE),
        OP(MKDIR, CHANGE),       OP(SYMLINK, CHANGE), OP(LINK, CHANGE),     OP(UNLINK, CHANGE),
        OP(RMDIR, CHANGE),       OP(RENAME, CHANGE),  OP(SETATTR, CHANGE),  OP(SETXATTR, CHANGE),
        OP(REMOVEXATTR, CHANGE), OP(FILE_OPEN, OPEN), OP(FILE_CLOSE, OPEN), OP(FLUSH, FLUSH),
        OP(FSYNC, FLUSH),
};
#undef OP

const char *wire_class_name(enum wire_class class)
{
	static const char *const names[] = {
	        [WIRE_CLASS_READ] = "read",     [WIRE_CLASS_WRITE] = "write",
	        [WIRE_CLASS_BATCH] = "batch",   [WIRE_CLASS_GET] = "kv-get",
	        [WIRE_CLASS_STAT] = "stat",     [WIRE_CLASS_LIST] = "list",
	        [WIRE_CLASS_CHANGE] = "change", [WIRE_CLASS_OPEN] = "open",
	        [WIRE_CLASS_FLUSH] = "flush",   [WIRE_CLASS_OTHER] = "other",
	};

	return names[class];
}

const char *wire_phase_name(enum wire_phase phase)
{
	static const char *const names[] = {"queue", "in", "store", "out"};

	return names[phase];
}

const struct wire_class_figures *wire_listener_class(const struct wire_listener *l,
                                                     enum wire_class class)
{
	return &l->class[class];
}

/* --- slow ones --- */

/* Out of line: what it needs would be saved and restored by every request. */
static __attribute__((noinline)) void slow_tell(struct sreq *r, enum wire_class class, uint64_t now)
{
	const struct pst_op *op = &r->s.op;
	const struct session *s = r->conn->sc.session;
	struct wire_listener *l = r->conn->l;
	char where[96];

	l->fig.slow++;
	if (!log_may(&l->slow, now, SLOW_LINES_PER_S))
		return;
	if (wire_op_of(op->opcode)->is & WIRE_OP_OBJECT)
		(void)snprintf(where, sizeof(where), "oid=%" PRIx64 ".%" PRIx64, op->oid.hi,
		               op->oid.lo);
	else
		(void)snprintf(where, sizeof(where), "ino=%" PRIu64, op->ino);
	log_warn("slow op: total=%.3fms queue=%.3fms in=%.3fms store=%.3fms out=%.3fms op=%s "
	         "opcode=%u status=%d cont=%u %s off=%" PRIu64 " len=%" PRIu64
	         " tenant=%u session=%" PRIx64 " who=%s peer=%s untold=%" PRIu64,
	         (double)(now - r->mark.born) / 1e6,
	         (double)(r->mark.admitted - r->mark.born) / 1e6,
	         (double)(r->mark.run - r->mark.admitted) / 1e6,
	         (double)(r->mark.done - r->mark.run) / 1e6, (double)(now - r->mark.done) / 1e6,
	         wire_class_name(class), op->opcode, r->resp.status, op->cont, where, op->off,
	         op->len, op->tenant, s ? session_number(s) : 0, s ? session_ident(s)->who : "-",
	         r->conn->chan ? r->conn->chan->peer.addr : "-", l->slow.untold);
	l->slow.untold = 0;
}

/* --- each one --- */

/* What goes on until somebody ends it has no time that would say anything. */
void figures_init(struct wire_listener *l)
{
	for (unsigned op = 0; op < ARRAY_LEN(l->class_of); op++)
		if (wire_ops[op].is && !(wire_ops[op].is & WIRE_OP_STEADY))
			l->class_of[op] =
			        &l->class[classes[op] ? classes[op] - 1u : WIRE_CLASS_OTHER];
}

void figures_answered(struct sreq *r)
{
	struct wire_listener *l = r->conn->l;
	struct wire_class_figures *f = l->class_of[r->s.op.opcode];
	uint64_t took = r->mark.sent - r->mark.born;

	if (unlikely(!f || r->resp.what & WIRE_AGAIN))
		return;
	if (r->mark.run != r->mark.born) { /* else it was both admitted and run in one turn */
		f->phase_ns[WIRE_PHASE_QUEUE] += r->mark.admitted - r->mark.born;
		f->phase_ns[WIRE_PHASE_IN] += r->mark.run - r->mark.admitted;
	}
	f->phase_ns[WIRE_PHASE_STORE] += r->mark.done - r->mark.run;
	f->phase_ns[WIRE_PHASE_OUT] += r->mark.sent - r->mark.done;
	hist_add(&f->latency, took);
	if (unlikely(r->resp.status < 0))
		f->errors++;
	else if (wire_ops[r->s.op.opcode].is & (WIRE_OP_DATA_IN | WIRE_OP_VAL_IN | WIRE_OP_BATCH))
		f->bytes_in += r->len;
	f->bytes_out += r->resp.len;
	if (unlikely(l->opts.slow_ns && took >= l->opts.slow_ns))
		slow_tell(r, (enum wire_class)(f - l->class), r->mark.sent);
}

/* --- channels --- */

static struct wire_channel_figures *channel_of(struct wire_channel_figures *all, unsigned *count,
                                               const char *provider)
{
	for (unsigned i = 0; i < *count; i++)
		if (!strcmp(all[i].provider, provider))
			return &all[i];
	if (*count == WIRE_CHANNELS_MAX)
		return NULL;
	all[*count] = (struct wire_channel_figures){.provider = provider};
	return &all[(*count)++];
}

static void channel_add(struct wire_channel_figures *f, const struct chan *ch)
{
	f->msgs_in += ch->count.msgs_in;
	f->msgs_out += ch->count.msgs_out;
	f->bytes_in += ch->count.bytes_in;
	f->bytes_out += ch->count.bytes_out;
	f->doorbells += ch->count.doorbells;
	f->sleeps += ch->count.sleeps;
	f->no_credit += ch->count.no_credit;
}

void figures_chan_up(struct wire_listener *l, const struct chan *ch)
{
	struct wire_channel_figures *f =
	        channel_of(l->channel, &l->channel_count, ch->provider->name);

	if (f)
		f->accepted++;
}

void figures_chan_gone(struct wire_listener *l, const struct chan *ch)
{
	struct wire_channel_figures *f =
	        channel_of(l->channel, &l->channel_count, ch->provider->name);

	if (f)
		channel_add(f, ch);
}

unsigned wire_listener_channels(const struct wire_listener *l,
                                struct wire_channel_figures ret_f[WIRE_CHANNELS_MAX])
{
	unsigned count = l->channel_count;
	const struct conn *c;

	memcpy(ret_f, l->channel, sizeof(l->channel));
	list_for_each (c, &l->conns, link) {
		struct wire_channel_figures *f =
		        c->chan ? channel_of(ret_f, &count, c->chan->provider->name) : NULL;

		if (!f)
			continue;
		f->conns++;
		channel_add(f, c->chan);
	}
	return count;
}

/* --- all the others --- */

/* Scrubs that run have a decoder each. */
static void scrubs(const struct wire_listener *l, struct wire_figures *f)
{
	for (unsigned i = 0; i < l->opts.colds_max; i++) {
		const struct sreq *r = l->cold_all[i].owner;
		const struct pst_scrub_report *rep = &l->cold_all[i].scratch.scrub;

		if (!r || r->state != SREQ_RUN || r->s.op.opcode != PST_OP_SCRUB)
			continue;
		f->scrubs++;
		f->scrub_done_bytes += rep->done_bytes;
		f->scrub_total_bytes += rep->total_bytes;
		f->scrub_errors += rep->errors;
		f->scrub_repaired += rep->repaired;
	}
}

void figures_scrub_ended(struct sreq *r)
{
	struct wire_figures *f = &r->conn->l->fig;
	const struct pst_scrub_report *rep = r->s.op.scrub;

	f->scrubs_ended++;
	f->scrub_errors += rep->errors;
	f->scrub_repaired += rep->repaired;
}

void wire_listener_figures(const struct wire_listener *l, struct wire_figures *ret_f)
{
	const struct conn *c;
	const struct list *n;

	*ret_f = l->fig;
	list_for_each (c, &l->conns, link)
		ret_f->inflight += c->count;
	for (n = l->mem_wait.next; n != &l->mem_wait; n = n->next)
		ret_f->mem_waiting++;
	scrubs(l, ret_f);
}
