/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * remote_conn - the connection of a remote store: made, lost, made again, and what a session has to
 * say about it.
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
 * it comes back.
 */
#include <stdio.h>

#include "wire/place.h"
#include "wire/remote_int.h"

#define BAD_TOKEN "the token is none: it begins with pst1 and is 58 characters long"

#define BACKOFF_MIN_NS (20 * NSEC_PER_MSEC)
#define BACKOFF_MAX_NS (2 * NSEC_PER_SEC)

static void try_connect(struct remote *rm);

/* --- when it is lost --- */

static void retry_at(struct remote *rm, uint64_t in_ns)
{
	if (loop_timer_arm(rm->loop, &rm->retry, loop_now(rm->loop) + in_ns) < 0)
		log_error("no memory for a timer: the connection is not made again");
}

/* Ends every op that is not under way already: @unknown for changes that may have been made. */
static void fail_all(struct remote *rm, int status, bool only_sent_changes)
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

static void dead(struct remote *rm, int status, const char *text)
{
	if (rm->state == REMOTE_DEAD)
		return;
	rm->state = REMOTE_DEAD;
	rm->error = status;
	if (text != rm->text)
		(void)snprintf(rm->text, sizeof(rm->text), "%s", text);
	if (rm->known)
		log_error("%s", rm->text);
	loop_timer_disarm(rm->loop, &rm->retry);
	fail_all(rm, status, false);
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
	if (rm->state == REMOTE_UP || rm->state == REMOTE_DEAD || rm->given_up || !rm->known ||
	    now - rm->lost_ns < rm->opts.reconnect_ns)
		return;
	rm->given_up = true;
	rm->error = rm->error ? rm->error : -ETIMEDOUT;
	log_error("%s; for longer than it may be: ops fail until it is back", rm->text);
	fail_all(rm, rm->error, false);
}

/* Not connected any more, or not yet: tries again, now or later. */
static void lost(struct remote *rm, int status)
{
	bool was_up = rm->state == REMOTE_UP || rm->was_up;

	drop(rm);
	if (rm->state == REMOTE_DEAD)
		return;
	rm->state = REMOTE_DOWN;
	rm->was_up = false;
	rm->error = status;
	if (was_up && rm->opts.no_reconnect) {
		dead(rm, status, rm->text);
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

	if (rm->state != REMOTE_DEAD)
		lost(rm, -ECONNRESET);
	else
		drop(rm);
	rm->kicked = false;
}

/* Out of the handlers of the channel. */
static void kick(struct remote *rm)
{
	if (rm->kicked)
		return;
	rm->kicked = true;
	rm->kick.run = kick_run;
	loop_post(rm->loop, &rm->kick);
}

static const char *where(const struct remote *rm)
{
	return rm->opts.at[rm->at].addr;
}

void remote_bad(struct remote *rm, const char *what)
{
	if (rm->state == REMOTE_DEAD || rm->state == REMOTE_DOWN)
		return;
	(void)snprintf(rm->text, sizeof(rm->text), "%s: the connection is closed: %s", where(rm),
	               what);
	rm->was_up = rm->state == REMOTE_UP;
	rm->lost_ns = rm->was_up ? loop_now(rm->loop) : rm->lost_ns;
	rm->state = REMOTE_DOWN;
	kick(rm);
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
	if (rm->at + 1 < rm->opts.at_count) {
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
	if (!rm->known && (!rm->opts.connect_wait || is_final(status)))
		dead(rm, status, rm->text);
	else
		lost(rm, status);
}

static void not_so(struct remote *rm, int status, const char *why)
{
	(void)snprintf(rm->text, sizeof(rm->text), "%s: %s", where(rm), why);
	dead(rm, status, rm->text);
	kick(rm);
}

static void say_hello(struct remote *rm)
{
	struct wire_hello h = {.version = (uint8_t)rm->opts.version,
	                       .version_min = WIRE_VERSION_MIN,
	                       .session = rm->session,
	                       .epoch = rm->epoch,
	                       .slots = rm->opts.slots,
	                       .depth = rm->opts.ops_max,
	                       .cred = rm->opts.cred,
	                       .cred_len = rm->opts.cred ? (uint32_t)strlen(rm->opts.cred) : 0,
	                       .name = rm->opts.name,
	                       .name_len = (uint32_t)MIN(strlen(rm->opts.name), WIRE_TEXT_MAX)};
	struct iovec iov = {rm->body, 0};
	int rc;

	memcpy(h.client, rm->client, sizeof(h.client));
	memcpy(h.secret, rm->secret, sizeof(h.secret));
	memcpy(h.store, rm->uuid, sizeof(h.store));
	iov.iov_len = wire_hello_put(rm->body, WIRE_HELLO_MAX, &h);
	explicit_bzero(h.secret, sizeof(h.secret));
	if (!iov.iov_len) { /* nothing else in it can be that long */
		not_so(rm, -EBADF, BAD_TOKEN);
		return;
	}
	rc = chan_send(rm->chan, &iov, 1);
	rm->hello_due = rc == -EAGAIN;
	if (rc < 0 && rc != -EAGAIN)
		remote_bad(rm, "the hello can't be sent");
}

/* Whoever can read the channel could use the token after us. */
static void keep_secret(struct remote *rm)
{
	not_so(rm, -EPERM,
	       "others can read this channel: the token is shown where that is sealed (seal=off "
	       "forbids it), over TLS (tls-ca=FILE or tls=yes), or with insecure=yes");
}

/* --- sealing --- */

static const struct chan_handlers sealed_handlers;

/* Decided here alone: nobody between can talk us out of it. */
static bool must_seal(const struct remote *rm, const struct chan *ch)
{
	if (rm->opts.seal != SEAL_AUTO)
		return rm->opts.seal == SEAL_REQUIRED;
	return rm->opts.cred && !rm->opts.insecure && !(ch->traits & FABRIC_PRIVATE);
}

static int seal_memory(struct remote *rm)
{
	return rm->seal_bufs.region ? 0 : wire_bufs_init(&rm->seal_bufs, MEM_SHARED, rm->opts.bufs);
}

static void seal(struct remote *rm)
{
	struct seal_opts o = {
	        .token = rm->opts.cred, .bufs = &rm->seal_bufs, .epoch_max = rm->opts.seal_epoch};
	uint8_t random[32];
	int rc = rm->opts.cred ? seal_memory(rm) : -EINVAL;

	if (rm->opts.seed) { /* simulation */
		for (unsigned i = 0; i < sizeof(random); i++)
			random[i] = (uint8_t)rng_next(&rm->rng);
		o.random = random;
	}
	if (rc == 0)
		rc = seal_connect(&rm->chan, rm->chan, &o, &sealed_handlers, rm);
	if (rc == -EINVAL)
		not_so(rm, rc,
		       "seal=required takes a capability's token (token=TEXT or "
		       "$PENSTOCK_TOKEN)");
	else if (rc == -EBADF)
		not_so(rm, rc, BAD_TOKEN);
	else if (rc < 0)
		not_so(rm, rc, strerror(-rc));
}

static void on_up(struct chan *ch, int status)
{
	struct remote *rm = ch->user;
	char text[sizeof(rm->text)];

	if (status < 0 || ch->msg_max < WIRE_MSG_MIN) {
		(void)snprintf(text, sizeof(text), "%s: can't connect over %s: %s", where(rm),
		               rm->opts.at[rm->at].provider,
		               status == 0  ? "its messages are too short"
		               : ch->why[0] ? ch->why
		                            : strerror(-status));
		place_failed(rm, status < 0 ? status : -EMSGSIZE, text);
		return;
	}
	rm->state = REMOTE_HELLO;
	rm->heard_ns = loop_now(rm->loop);
	if (must_seal(rm, ch))
		seal(rm);
	else if ((rm->opts.cred || rm->session) && !rm->opts.insecure &&
	         !(ch->traits & FABRIC_PRIVATE))
		keep_secret(rm);
	else
		say_hello(rm);
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
		say_hello(rm);
		return;
	}
	(void)snprintf(text, sizeof(text), "%s: %s", where(rm), ch->why);
	if (rm->known || rm->opts.connect_wait) {
		place_failed(rm, status, text);
		return;
	}
	dead(rm, status, text);
	kick(rm);
}

/* --- the welcome --- */

static void session_new(struct remote *rm, const struct wire_welcome *w)
{
	rm->slot_count = MIN(w->slots, rm->opts.slots);
	rm->slots_free = 0;
	rm->slots_lost = 0;
	memset(rm->slot, 0, rm->opts.slots * sizeof(*rm->slot));
	for (uint32_t i = rm->slot_count; i-- > 0;)
		rm->slot_stack[rm->slots_free++] = i;
	for (uint32_t i = 0; i < rm->req_count; i++) /* those that were never sent */
		rm->reqs[i].has_slot = false;
}

static void session_lost(struct remote *rm)
{
	log_warn("%s: the session has expired: what was under way has an unknown outcome",
	         where(rm));
	fail_all(rm, -ESTALE, true);
	rm->session = 0;
}

static void went_back(struct remote *rm, const char *why)
{
	char text[300];

	(void)snprintf(text, sizeof(text),
	               "%s: the store went back in time: %s: it was restored from an older copy",
	               where(rm), why);
	dead(rm, -ESTALE, text);
}

/* Is it the store that we knew? 0, or -ESTALE, and says why. */
static int same_store(struct remote *rm, const struct wire_welcome *w)
{
	char text[200];

	if (!rm->known)
		return 0;
	if (memcmp(rm->uuid, w->store, 16)) {
		(void)snprintf(text, sizeof(text), "%s: another store is served here than before",
		               where(rm));
		dead(rm, -ESTALE, text);
		return -ESTALE;
	}
#ifdef PST_TEST_FAULTS
	if (rm->opts.plant == REMOTE_PLANT_NO_EPOCH)
		return 0;
#endif
	if (w->epoch < rm->epoch) {
		(void)snprintf(text, sizeof(text),
		               "it was opened %llu times, and %llu when it was last seen",
		               (unsigned long long)w->epoch, (unsigned long long)rm->epoch);
		went_back(rm, text);
		return -ESTALE;
	}
	if (rm->opening && w->opening_seen && w->opening_seen != rm->opening) {
		(void)snprintf(text, sizeof(text),
		               "of the %llu times that it was opened, the %lluth is not the one "
		               "that was seen",
		               (unsigned long long)w->epoch, (unsigned long long)rm->epoch);
		went_back(rm, text);
		return -ESTALE;
	}
	return 0;
}

/* Several places of one channel (sockets of the user and of the system) are one choice. */
static bool second_choice(const struct remote *rm)
{
	return strcmp(rm->opts.at[rm->at].provider, rm->opts.at[0].provider) != 0;
}

static void refused(struct remote *rm, const struct wire_welcome *w)
{
	bool second = second_choice(rm) && !rm->known; /* the first may have been let in */

	(void)snprintf(rm->text, sizeof(rm->text), "%s: refused: %.*s%s%s%s", where(rm),
	               (int)w->text_len, w->text, second ? " (" : "", second ? rm->passed_over : "",
	               second ? ")" : "");
	if (w->status == -ESTALE && rm->session) {
		session_lost(rm);
		rm->state = REMOTE_DOWN;
		rm->was_up = true; /* no need to wait */
		kick(rm);
	} else if ((w->status == -EAGAIN || w->status == -ESHUTDOWN) && rm->known) {
		rm->state = REMOTE_DOWN;
		kick(rm);
	} else {
		dead(rm, w->status == -EXDEV ? -ESTALE : w->status, rm->text);
		kick(rm);
	}
}

/* A slower path is never taken without a word. */
static void tell_choice(struct remote *rm)
{
	const char *how = rm->opts.at[rm->at].provider, *first = rm->opts.at[0].provider;

	log_info("%s: connected over %s, session %016llx", where(rm), how,
	         (unsigned long long)rm->session);
	if (!second_choice(rm)) {
		rm->passed_over[0] = 0;
		return;
	}
	rm->fig.fallbacks++;
	log_warn("%s: connected over %s and not over %s, which is better (channel=%s if that is "
	         "meant): %s",
	         where(rm), how, first, how, rm->passed_over);
}

static void welcomed(struct remote *rm, const struct wire_welcome *w)
{
	static const uint8_t untold[16];
	bool same, let_go;

	/* First of all: an older copy refuses a client for what it does not know any more. */
	if ((w->status == 0 || memcmp(w->store, untold, sizeof(untold))) && same_store(rm, w) < 0) {
		kick(rm);
		return;
	}
	if (w->status < 0) {
		refused(rm, w);
		return;
	}
	same = w->resumed && rm->session;
	if (!same)
		session_new(rm, w);
	let_go = rm->known && (w->epoch > rm->epoch || loop_now(rm->loop) - rm->away_ns >=
	                                                       rm->lease_ms * NSEC_PER_MSEC / 2);
	if (rm->known && w->epoch > rm->epoch)
		remote_volatile_lost(rm);
	rm->version = w->version;
	rm->session = w->session;
	memcpy(rm->secret, w->secret, sizeof(rm->secret));
	memcpy(rm->uuid, w->store, sizeof(rm->uuid));
	rm->epoch = w->epoch;
	rm->opening = w->opening;
	rm->known = true;
	rm->depth = MIN(w->depth, rm->opts.ops_max);
	/* Tokens are given here, and watches are not told of yet. */
	rm->store.caps = w->caps & ~PST_CAP_REPLAY;
	if (!rm->opts.volatile_ok)
		rm->store.caps &= ~PST_CAP_VOLATILE;
	rm->state = REMOTE_UP;
	rm->inline_max =
	        MIN(rm->chan->inline_max, rm->chan->msg_max - (uint32_t)sizeof(struct wire_resp));
	rm->given_up = false;
	rm->pinged = false;
	rm->backoff_ns = 0;
	rm->fig.connects++;
	tell_choice(rm);
	rm->lease_ms = w->lease_ms ? w->lease_ms : rm->lease_ms; /* a new session's */
	remote_probe(rm);
	handles_resumed(rm, same, let_go);
	remote_pump(rm);
}

static void welcome(struct remote *rm, const void *msg, uint32_t len)
{
	struct wire_welcome w;

	if (wire_welcome_get(&w, msg, len) < 0) {
		const char *what = "not a Penstock server, or one of another version";

		if (rm->known)
			remote_bad(rm, what);
		else
			not_so(rm, -EPROTONOSUPPORT, what); /* nor in a moment */
		return;
	}
	welcomed(rm, &w);
	explicit_bzero(w.secret, sizeof(w.secret)); /* the session's */
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
		(void)snprintf(rm->text, sizeof(rm->text), "%s: the server shuts down", where(rm));
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
		welcome(rm, data, len);
}

static void on_ready(struct chan *ch)
{
	struct remote *rm = ch->user;

	if (rm->state == REMOTE_HELLO && rm->hello_due)
		say_hello(rm);
	remote_pump(rm);
}

static void on_down(struct chan *ch, int status)
{
	struct remote *rm = ch->user;

	if (rm->state == REMOTE_DOWN || rm->state == REMOTE_DEAD)
		return; /* known: the kick does the rest */
	if (rm->state == REMOTE_UP || !rm->text[0])
		(void)snprintf(rm->text, sizeof(rm->text), "%s: the connection was lost: %s",
		               where(rm), ch->why[0] ? ch->why : strerror(-status));
	if (rm->state != REMOTE_UP && !rm->known && !rm->opts.connect_wait) {
		dead(rm, status, rm->text);
		kick(rm);
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
	int rc;

	rm->state = REMOTE_CONNECTING;
	rm->opts.fabric.tls = rm->opts.at[rm->at].tls ? rm->opts.tls : NULL;
	if (rm->opts.fabric.seed) /* simulation: no two channels have the same fate */
		rm->opts.fabric.seed = rng_next(&rm->rng);
	if (rm->opts.at[rm->at].own && wire_place_trust(where(rm)) == -EPERM)
		rc = err_set(&err, -EPERM,
		             "%s: its folder is another user's, or others can write there: whoever "
		             "listens is not trusted",
		             where(rm));
	else
		rc = fabric_connect(&rm->chan, rm->loop, rm->opts.at[rm->at].provider, where(rm),
		                    &rm->opts.fabric, &handlers, rm, &err);
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
