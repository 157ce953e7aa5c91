/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * remote_conn - the connection of a remote store: made, lost, and made again. What is said first on it is in
 * remote_greet.c.
 *
 *                  retry            up()             WELCOME
 *   REMOTE_DOWN ---------> CONNECTING ------> HELLO ---------> UP
 *        ^                     |                |               |
 *        '---------------------'----- lost -----'---------------'
 *
 * and from any of them to REMOTE_DEAD, when the server says something that time will not change:
 * no access, another version, another store, or the same one from an older copy; or when a connection was
 * lost and opts.no_reconnect is set.
 *
 * The places in opts.at are tried in order each time, so that a better channel is found again when
 * it comes back. One that is offered (the last) is not tried: a server that says WELCOME at the place before
 * it says, too, that it has it; then the session goes on there, and nothing is sent before:
 *
 *   WELCOME, at tcp --> DOWN --> CONNECTING, at ofi --> HELLO --> UP
 *                                    '--- no good --> CONNECTING, at tcp --> ... and stays there, and says so
 */
#include <stdio.h>

#include "wire/place.h"
#include "wire/remote_int.h"

#define BACKOFF_MIN_NS (20 * NSEC_PER_MSEC)
#define BACKOFF_MAX_NS (2 * NSEC_PER_SEC)
#define OFFER_MAX_NS   (10 * NSEC_PER_SEC)
#define BRIEF_NS       (10 * NSEC_PER_SEC)

static void try_connect(struct remote *rm);
static const struct chan_handlers sealed_handlers;

/* --- when it is lost --- */

static void retry_at(struct remote *rm, uint64_t in_ns)
{
	if (loop_timer_arm(rm->loop, &rm->retry, loop_now(rm->loop) + in_ns) < 0)
		log_error("no memory for a timer: the connection is not made again");
}

/* Ends every op that is not under way already: @unknown for changes that may have been made. */
void remote_fail_all(struct remote *rm, int status, bool only_sent_changes)
{
	/* By number: done() may submit, and what ends may let others go on, and end. */
	for (uint32_t i = 0; i < rm->req_count; i++) {
		struct rreq *r = &rm->reqs[i];
		bool unknown = r->sent && r->has_slot;

		/* What waits; and what will, once its window is closed. */
		if (r->state != RREQ_WAIT && !(r->state == RREQ_CLOSING && r->then == THEN_AGAIN))
			continue;
		if (only_sent_changes && !unknown)
			continue;
		rm->fig.lost += unknown;
		rreq_close(r, THEN_FAIL, unknown ? -ESTALE : status);
	}
}

void remote_dead(struct remote *rm, int status, const char *text)
{
	if (rm->state == REMOTE_DEAD)
		return;
	rm->state = REMOTE_DEAD;
	rm->error = status;
	if (text != rm->text)
		(void)snprintf(rm->text, sizeof(rm->text), "%s", text);
	if (rm->used)
		log_error("%s", rm->text);
	loop_timer_disarm(rm->loop, &rm->retry);
	remote_fail_all(rm, status, false);
}

/* Takes the channel away from all requests, and closes it. */
static void drop(struct remote *rm)
{
	struct chan *ch = rm->chan;

	if (!ch)
		return;
	for (uint32_t i = 0; i < rm->req_count; i++) { /* as in fail_all() */
		struct rreq *r = &rm->reqs[i];

		rreq_uncount(r);
		if (r->state == RREQ_SENT && !r->op)
			rreq_free(r);
		else if (r->state == RREQ_SENT || (r->state == RREQ_WAIT && r->win_open))
			rreq_close(r, THEN_AGAIN, 0);
	}
	rm->chan = NULL;
	chan_close(ch);
}

static void backoff(struct remote *rm)
{
	rm->backoff_ns = rm->backoff_ns ? MIN(2 * rm->backoff_ns, BACKOFF_MAX_NS) : BACKOFF_MIN_NS;
	retry_at(rm, rm->backoff_ns / 2 + rng_below(&rm->rng, rm->backoff_ns));
}

void remote_patience(struct remote *rm, uint64_t now)
{
	if (rm->state == REMOTE_UP || rm->state == REMOTE_DEAD || rm->given_up || !rm->used ||
	    now - rm->lost_ns < rm->opts.reconnect_ns)
		return;
	rm->given_up = true;
	rm->error = rm->error ? rm->error : -ETIMEDOUT;
	log_error("%s; for longer than it may be: ops fail until it is back", rm->text);
	remote_fail_all(rm, rm->error, false);
}

/* --- what is offered --- */

/* The other place needs time, too, and whoever waits for ops. */
static uint64_t offer_ns(const struct remote *rm)
{
	return MIN(OFFER_MAX_NS, MIN(rm->opts.connect_ns, rm->opts.reconnect_ns) / 2);
}

bool remote_hello_late(const struct remote *rm, uint64_t now)
{
	return remote_offered(rm) ? now >= rm->offer_end_ns
	                          : now - rm->heard_ns >= rm->opts.connect_ns;
}

/* To the place that is offered. The session goes on there. */
static void move(struct remote *rm)
{
	uint64_t begun = loop_now(rm->loop);

	rm->moving = false;
	rm->away_ns = rm->heard_ns;
	rm->lost_ns = begun; /* until now the server was there */
	drop(rm);
	rm->at++;
	rm->offer_end_ns = UINT64_MAX;
	try_connect(rm);
	rm->blocked_ns += loop_now(rm->loop) - begun;
	rm->offer_end_ns = loop_now(rm->loop) + offer_ns(rm);
}

/* It was no good: there is the one where it was offered. */
static void move_back(struct remote *rm, const char *why)
{
	(void)snprintf(rm->passed_over, sizeof(rm->passed_over), "%.*s",
	               (int)sizeof(rm->passed_over) - 1, why);
	rm->offer_failed = true;
	rm->at--;
	try_connect(rm);
}

/* --- and again --- */

/* Not connected any more, or not yet: tries again, now or later. */
static void lost(struct remote *rm, int status)
{
	bool was_up = rm->state == REMOTE_UP || rm->was_up;

	drop(rm);
	if (rm->state == REMOTE_DEAD)
		return;
	if (remote_offered(rm) && !was_up) {
		move_back(rm, rm->text);
		return;
	}
	if (remote_offered(rm))
		rm->brief = loop_now(rm->loop) - rm->up_ns < BRIEF_NS ? rm->brief + 1 : 0;
	rm->state = REMOTE_DOWN;
	rm->was_up = false;
	rm->error = status;
	if (was_up && rm->opts.no_reconnect) {
		remote_dead(rm, status, rm->text);
		return;
	}
	if (was_up) {
		rm->away_ns = rm->heard_ns;
		rm->lost_ns = loop_now(rm->loop);
		rm->backoff_ns = 0;
		log_warn("%s; connecting again", rm->text);
	}
	remote_patience(rm, loop_now(rm->loop));
	if (was_up)
		retry_at(rm, rng_below(&rm->rng, BACKOFF_MIN_NS));
	else
		backoff(rm);
}

static void kick_run(struct loop_msg *m)
{
	struct remote *rm = container_of(m, struct remote, kick);

	rm->kicked = false;
	if (rm->state == REMOTE_DEAD)
		drop(rm);
	else if (rm->moving)
		move(rm);
	else
		lost(rm, -ECONNRESET);
}

/* Out of the handlers of the channel. */
void remote_kick(struct remote *rm)
{
	if (rm->kicked)
		return;
	rm->kicked = true;
	rm->kick.run = kick_run;
	loop_post(rm->loop, &rm->kick);
}

void remote_bad(struct remote *rm, const char *what)
{
	if (rm->state == REMOTE_DEAD || rm->state == REMOTE_DOWN)
		return;
	(void)snprintf(rm->text, sizeof(rm->text), "%s: the connection is closed: %s",
	               remote_where(rm), what);
	rm->was_up = rm->state == REMOTE_UP;
	rm->lost_ns = rm->was_up ? loop_now(rm->loop) : rm->lost_ns;
	rm->state = REMOTE_DOWN;
	remote_kick(rm);
}

/* --- connecting --- */

/* Somebody is there, and what is wrong with a certificate, a token or a version is not better a
 * moment later. */
static bool is_final(int status)
{
	return status == -EPROTONOSUPPORT || status == -EKEYREJECTED || status == -EKEYEXPIRED ||
	       status == -EKEYREVOKED || status == -ENOKEY || status == -EBADF;
}

static void first_place(struct remote *rm)
{
	rm->at = 0;
	rm->offer_failed = false;
	rm->passed_over[0] = 0;
	rm->passed_there = false;
	rm->passed_status = 0;
}

/* Of several places, that which is there and takes nobody says more than one that is not there. */
static void pass_over(struct remote *rm, int status, const char *text)
{
	if ((rm->passed_there && status == -ENOENT) || is_final(rm->passed_status))
		return;
	(void)snprintf(rm->passed_over, sizeof(rm->passed_over), "%s", text);
	rm->passed_there = status != -ENOENT;
	rm->passed_status = status;
}

/* One place was no good: the next, or all of them again later. */
static void place_failed(struct remote *rm, int status, const char *text)
{
	struct chan *ch = rm->chan;

	rm->chan = NULL;
	chan_close(ch);
	rm->state = REMOTE_DOWN;
	if (remote_offered(rm)) {
		move_back(rm, text);
		return;
	}
	if (rm->at + 1 < rm->opts.at_count && !rm->opts.at[rm->at + 1].offered) {
		log_info("%s; trying the next channel", text);
		pass_over(rm, status, text);
		rm->at++;
		try_connect(rm);
		return;
	}
	if ((rm->passed_there && status == -ENOENT) ||
	    (is_final(rm->passed_status) && !is_final(status))) {
		text = rm->passed_over;
		status = rm->passed_status;
	}
	(void)snprintf(rm->text, sizeof(rm->text), "%s", text);
	first_place(rm);
	if (!rm->used && (!rm->opts.connect_wait || is_final(status)))
		remote_dead(rm, status, rm->text);
	else
		lost(rm, status);
}

/* Here for good, as rm->text says; where it was offered there is another place. */
void remote_no_good(struct remote *rm, int status)
{
	if (remote_offered(rm))
		rm->state = REMOTE_DOWN;
	else
		remote_dead(rm, status, rm->text);
	remote_kick(rm);
}

void remote_not_so(struct remote *rm, int status, const char *why)
{
	(void)snprintf(rm->text, sizeof(rm->text), "%s: %s", remote_where(rm), why);
	remote_no_good(rm, status);
}

static void on_up(struct chan *ch, int status)
{
	struct remote *rm = ch->user;
	char text[sizeof(rm->text)];

	if (status < 0 || ch->msg_max < WIRE_MSG_MIN) {
		(void)snprintf(text, sizeof(text), "%s: can't connect over %s: %s",
		               remote_where(rm), rm->opts.at[rm->at].provider,
		               status == 0  ? "its messages are too short"
		               : ch->why[0] ? ch->why
		                            : strerror(-status));
		place_failed(rm, status < 0 ? status : -EMSGSIZE, text);
		return;
	}
	rm->state = REMOTE_HELLO;
	rm->heard_ns = loop_now(rm->loop);
	remote_begin(rm, &sealed_handlers);
}

/* What the server says about it nobody vouches for: who knows the store asks again. */
static void on_sealed(struct chan *ch, int status)
{
	struct remote *rm = ch->user;
	char text[sizeof(rm->text)];

	if (rm->state != REMOTE_HELLO)
		return;
	if (status == 0) {
		rm->heard_ns = loop_now(rm->loop);
		remote_hello(rm);
		return;
	}
	(void)snprintf(text, sizeof(text), "%s: %s", remote_where(rm), ch->why);
	if (rm->used || rm->opts.connect_wait) {
		place_failed(rm, status, text);
		return;
	}
	remote_dead(rm, status, text);
	remote_kick(rm);
}

/* --- messages --- */

static void note(struct remote *rm, const void *data, uint32_t len)
{
	struct wire_note n;

	if (len < sizeof(n)) {
		remote_bad(rm, "a message is too short");
		return;
	}
	wire_note_get(&n, data);
	switch (n.kind) {
	case WIRE_EVENT:
		remote_event(rm, data, len);
		break;
	case WIRE_PING:
		(void)remote_note(rm, WIRE_PONG, n.id); /* or the next ping gets one */
		break;
	case WIRE_PONG:
		break;
	case WIRE_BYE:
		/* Answers to what is under way still come; the channel's end tells when that is
		 * over. Nothing new is sent. */
		(void)snprintf(rm->text, sizeof(rm->text), "%s: the server shuts down",
		               remote_where(rm));
		rm->depth = 0;
		break;
	default:
		remote_bad(rm, "a message of an unknown kind");
	}
}

static void on_msg(struct chan *ch, const void *data, uint32_t len)
{
	struct remote *rm = ch->user;

	rm->heard_ns = loop_now(rm->loop);
	rm->pinged = false;
	if (likely(rm->state == REMOTE_UP && len && *(const uint8_t *)data == WIRE_RESP))
		remote_resp(rm, data, len);
	else if (rm->state == REMOTE_UP)
		note(rm, data, len);
	else if (rm->state == REMOTE_HELLO)
		remote_welcome(rm, data, len);
}

static void on_ready(struct chan *ch)
{
	struct remote *rm = ch->user;

	if (rm->state == REMOTE_HELLO && rm->hello_due)
		remote_hello(rm);
	remote_pump(rm);
}

static void on_down(struct chan *ch, int status)
{
	struct remote *rm = ch->user;

	if (rm->state == REMOTE_DOWN || rm->state == REMOTE_DEAD)
		return; /* known: the kick does the rest */
	if (rm->state == REMOTE_UP || !rm->text[0] || remote_offered(rm))
		(void)snprintf(rm->text, sizeof(rm->text), "%s: the connection was lost: %s",
		               remote_where(rm), ch->why[0] ? ch->why : strerror(-status));
	if (rm->state != REMOTE_UP && !rm->used && !remote_offered(rm) && !rm->opts.connect_wait) {
		remote_dead(rm, status, rm->text);
		remote_kick(rm);
		return;
	}
	lost(rm, status);
}

static const struct chan_handlers handlers = {
        .up = on_up,
        .msg = on_msg,
        .ready = on_ready,
        .down = on_down,
};

static const struct chan_handlers sealed_handlers = {
        .up = on_sealed,
        .msg = on_msg,
        .ready = on_ready,
        .down = on_down,
};

static void try_connect(struct remote *rm)
{
	struct pst_err err = {0};
	struct fabric_opts fo;
	int rc;

	rm->state = REMOTE_CONNECTING;
	if (rm->opts.fabric.seed) /* simulation: no two channels have the same fate */
		rm->opts.fabric.seed = rng_next(&rm->rng);
	fo = rm->opts.fabric;
	fo.tls = rm->opts.at[rm->at].tls ? rm->opts.tls : NULL;
	if (remote_offered(rm))
		fo.connect_ns = offer_ns(rm);
	if (rm->opts.at[rm->at].own && wire_place_trust(remote_where(rm)) == -EPERM)
		rc = err_set(&err, -EPERM,
		             "%s: its folder is another user's, or others can write there: whoever "
		             "listens is not trusted",
		             remote_where(rm));
	else
		rc = fabric_connect(&rm->chan, rm->loop, rm->opts.at[rm->at].provider,
		                    remote_where(rm), &fo, &handlers, rm, &err);
	if (rc < 0) {
		rm->chan = NULL;
		place_failed(rm, rc, err.text);
	}
}

static void retry(struct loop_timer *t)
{
	struct remote *rm = container_of(t, struct remote, retry);

	if (rm->state != REMOTE_DOWN || rm->closing)
		return;
	first_place(rm);
	try_connect(rm);
}

void remote_start(struct remote *rm)
{
	rm->retry.fired = retry;
	rm->lost_ns = loop_now(rm->loop);
	try_connect(rm);
}

void remote_stop(struct remote *rm)
{
	loop_timer_disarm(rm->loop, &rm->retry);
	if (rm->state == REMOTE_UP)
		(void)remote_note(rm, WIRE_BYE, 0); /* or it sees the channel's end */
	rm->state = REMOTE_DEAD;
	drop(rm);
}
