/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * remote_greet - how the connection of a remote store begins: it is sealed, or need not be; who comes says hello;
 * and what the welcome says is compared with what is known of the store and the session. greet.c is the other end.
 */
#include <stdio.h>

#include "wire/remote_int.h"

#define BRIEF_MAX 3 /* losses in a row, each soon: the server may have been started again */

#define BAD_TOKEN "the token is none: it begins with pst1 and is 58 characters long"

/* --- the hello --- */

void remote_hello(struct remote *rm)
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
		remote_not_so(rm, -EBADF, BAD_TOKEN);
		return;
	}
	rc = chan_send(rm->chan, &iov, 1);
	rm->hello_due = rc == -EAGAIN;
	if (rc < 0 && rc != -EAGAIN)
		remote_bad(rm, "the hello can't be sent");
}

/* --- sealing --- */

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

static void seal(struct remote *rm, const struct chan_handlers *handlers)
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
		rc = seal_connect(&rm->chan, rm->chan, &o, handlers, rm);
	if (rc == -EINVAL)
		remote_not_so(rm, rc,
		              "seal=required takes a capability's token (token=TEXT or "
		              "$PENSTOCK_TOKEN)");
	else if (rc == -EBADF)
		remote_not_so(rm, rc, BAD_TOKEN);
	else if (rc < 0)
		remote_not_so(rm, rc, strerror(-rc));
}

/* Of a session that was opened where others can read they know the secret: it is not made worse. */
static bool has_secret(const struct remote *rm)
{
	return rm->opts.cred || (rm->session && !rm->secret_seen);
}

/* Whoever can read the channel could use the token, or the session, after us. */
static void keep_secret(struct remote *rm)
{
	remote_not_so(
	        rm, -EPERM,
	        "others can read this channel: the token is shown where that is sealed (seal=off "
	        "forbids it), over TLS (tls-ca=FILE or tls=yes), or with insecure=yes");
}

void remote_begin(struct remote *rm, const struct chan_handlers *sealed)
{
	if (must_seal(rm, rm->chan))
		seal(rm, sealed);
	else if (has_secret(rm) && !rm->opts.insecure && !(rm->chan->traits & FABRIC_PRIVATE))
		keep_secret(rm);
	else
		remote_hello(rm);
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
	         remote_where(rm));
	remote_fail_all(rm, -ESTALE, true);
	rm->session = 0;
}

static void went_back(struct remote *rm, const char *why)
{
	char text[300];

	(void)snprintf(text, sizeof(text),
	               "%s: the store went back in time: %s: it was restored from an older copy",
	               remote_where(rm), why);
	remote_dead(rm, -ESTALE, text);
}

/* Is it the store that we knew? 0, or -ESTALE, and says why. */
static int same_store(struct remote *rm, const struct wire_welcome *w)
{
	char text[200];

	if (!rm->known)
		return 0;
	if (memcmp(rm->uuid, w->store, 16)) {
		(void)snprintf(text, sizeof(text), "%s: another store is served here than before",
		               remote_where(rm));
		remote_dead(rm, -ESTALE, text);
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
		               "of the %llu times that it was opened, number %llu is not the one "
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
	unsigned in_turn = rm->at - remote_offered(rm);

	return rm->offer_failed ||
	       strcmp(rm->opts.at[in_turn].provider, rm->opts.at[0].provider) != 0;
}

static void refused(struct remote *rm, const struct wire_welcome *w)
{
	bool second = second_choice(rm) && !rm->used; /* the first may have been let in */

	(void)snprintf(rm->text, sizeof(rm->text), "%s: refused: %.*s%s%s%s", remote_where(rm),
	               (int)w->text_len, w->text, second ? " (" : "", second ? rm->passed_over : "",
	               second ? ")" : "");
	if (w->status == -ESTALE && rm->session) {
		session_lost(rm);
		rm->state = REMOTE_DOWN;
		rm->was_up = !remote_offered(rm); /* no need to wait */
		remote_kick(rm);
	} else if ((w->status == -EAGAIN || w->status == -ESHUTDOWN) &&
	           (rm->used || rm->opts.connect_wait)) {
		rm->state = REMOTE_DOWN;
		remote_kick(rm);
	} else {
		remote_no_good(rm, w->status == -EXDEV ? -ESTALE : w->status);
	}
}

/* A slower path is never taken without a word. */
static void tell_choice(struct remote *rm)
{
	const char *how = rm->opts.at[rm->at].provider;
	const char *first = rm->opts.at[rm->offer_failed ? rm->at + 1 : 0].provider;
	bool ofi = !strcmp(how, "ofi") && rm->opts.fabric.provider;

	log_info("%s: connected over %s, session %016llx", remote_where(rm), how,
	         (unsigned long long)rm->session);
	if (!second_choice(rm)) {
		rm->passed_over[0] = 0;
		return;
	}
	rm->fig.fallbacks++;
	log_warn("%s: connected over %s and not over %s, which is better (channel=%s%s%s if that "
	         "is meant): %s",
	         remote_where(rm), how, first, how, ofi ? ":" : "",
	         ofi ? rm->opts.fabric.provider : "", rm->passed_over);
}

/* Something better is offered, and was not found to be no good. */
static bool shall_move(struct remote *rm, const struct wire_welcome *w)
{
	if (!(w->caps & WIRE_OFFERS_RDMA) || rm->at + 1 == rm->opts.at_count ||
	    !rm->opts.at[rm->at + 1].offered || rm->offer_failed)
		return false;
	if (rm->brief < BRIEF_MAX)
		return true;
	(void)snprintf(rm->passed_over, sizeof(rm->passed_over),
	               "it was lost %u times in a row, soon after it was made: %.120s", rm->brief,
	               rm->text);
	rm->offer_failed = true;
	rm->brief = 0; /* after the next loss it has another chance */
	return false;
}

static void welcomed(struct remote *rm, const struct wire_welcome *w)
{
	static const uint8_t untold[16];
	bool same, anew, let_go;

	/* First of all: an older copy refuses a client for what it does not know any more. */
	if ((w->status == 0 || memcmp(w->store, untold, sizeof(untold))) && same_store(rm, w) < 0) {
		remote_kick(rm);
		return;
	}
	if (w->status < 0) {
		refused(rm, w);
		return;
	}
	same = w->resumed && rm->session;
	if (!same) {
		session_new(rm, w);
		rm->secret_seen = !(rm->chan->traits & FABRIC_PRIVATE);
		rm->anew = true;
	}
	rm->let_go |=
	        rm->known && (w->epoch > rm->epoch ||
	                      loop_now(rm->loop) - rm->away_ns >= rm->lease_ms * NSEC_PER_MSEC / 2);
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
	rm->lease_ms = w->lease_ms ? w->lease_ms : rm->lease_ms; /* a new session's */
	/* Tokens are given here, and watches are not told of yet. */
	rm->store.caps = w->caps & WIRE_STORE_CAPS & ~PST_CAP_REPLAY;
	if (!rm->opts.volatile_ok)
		rm->store.caps &= ~PST_CAP_VOLATILE;
	if (shall_move(rm, w)) {
		log_debug("%s: %s is offered there, too", remote_where(rm),
		          rm->opts.at[rm->at + 1].provider);
		rm->moving = true;
		rm->state = REMOTE_DOWN;
		remote_kick(rm);
		return;
	}
	rm->state = REMOTE_UP;
	rm->used = true;
	rm->up_ns = loop_now(rm->loop);
	rm->inline_max =
	        MIN(rm->chan->inline_max, rm->chan->msg_max - (uint32_t)sizeof(struct wire_resp));
	rm->given_up = false;
	rm->pinged = false;
	rm->backoff_ns = 0;
	rm->fig.connects++;
	tell_choice(rm);
	anew = rm->anew;
	let_go = rm->let_go;
	rm->anew = rm->let_go = false;
	remote_probe(rm);
	handles_resumed(rm, !anew, let_go);
	remote_pump(rm);
}

void remote_welcome(struct remote *rm, const void *msg, uint32_t len)
{
	struct wire_welcome w;

	if (wire_welcome_get(&w, msg, len) < 0) {
		const char *what = "not a Penstock server, or one of another version";

		if (rm->used || remote_offered(rm))
			remote_bad(rm, what);
		else
			remote_not_so(rm, -EPROTONOSUPPORT, what); /* nor in a moment */
		return;
	}
	welcomed(rm, &w);
	explicit_bzero(w.secret, sizeof(w.secret)); /* the session's */
}
