/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * greet - how a connection begins: it is sealed, or need not be; its hello says who comes; the welcome says who is
 * there, or why not.
 */
#include <stdio.h>

#include "wire/listener_int.h"

void greet_send(struct conn *c)
{
	struct iovec iov = {c->welcome, c->welcome_len};
	int rc = chan_send(c->chan, &iov, 1);

	if (rc == -EAGAIN)
		return;
	c->welcome_len = 0;
	if (c->refused)
		conn_doom(c, -EACCES);
}

static void welcome(struct conn *c, struct wire_welcome *w, const char *text)
{
	w->version = w->version ? w->version : WIRE_VERSION_MIN;
	w->text = text;
	w->text_len = (uint32_t)MIN(strlen(text), WIRE_TEXT_MAX);
	c->welcome_len = wire_welcome_put(c->welcome, sizeof(c->welcome), w);
	greet_send(c);
}

/* Which store this is, and which opening of it. */
static void introduce(const struct conn *c, struct wire_welcome *w)
{
	const struct wire_listener *l = c->l;

	memcpy(w->store, l->uuid, sizeof(w->store));
	w->epoch = l->epoch;
	w->opening = session_table_opening(l->table, l->epoch);
	if (c->knows_store)
		w->opening_seen = session_table_opening(l->table, c->epoch_seen);
}

static void refuse(struct conn *c, int status, const char *text)
{
	struct wire_welcome w = {.status = status, .version = c->version};

	/* An older copy knows less of sessions and capabilities: the client has to see that first. Whoever does
	 * not know the store is not told. */
	if (c->knows_store)
		introduce(c, &w);
	c->l->fig.refused++;
	conn_complain(c, "refused", text);
	c->refused = true;
	c->state = CONN_OPENING; /* deaf from here on */
	welcome(c, &w, text);
}

void greet_no_room(struct conn *c)
{
	if (c->state == CONN_HELLO)
		refuse(c, -EAGAIN, "as many connections as may be are open");
	conn_doom(c, -EUSERS);
}

/* For what the channel is: nobody else tells the audit of that. */
static void refuse_channel(struct conn *c, int status, const char *text)
{
	session_conn_refused(&c->sc, status, text);
	refuse(c, status, text);
}

static void accept_client(struct conn *c, const uint8_t secret[16], bool resumed)
{
	const struct wire_listener *l = c->l;
	struct wire_welcome w = {
	        .version = c->version,
	        .resumed = resumed,
	        .session = session_number(c->sc.session),
	        .caps = l->store->caps | PST_CAP_WATCH |
	                l->offers, /* watches: the sessions see to it */
	        .slots = session_slots(c->sc.session),
	        .depth = c->depth,
	        .lease_ms = (uint32_t)(c->so.lease_ns / NSEC_PER_MSEC),
	        .expiry_s = (uint32_t)(c->so.expiry_ns / NSEC_PER_SEC),
	};

	memcpy(w.secret, secret, sizeof(w.secret));
	introduce(c, &w);
	c->state = CONN_UP;
	chan_known(c->chan);
	log_debug("%s: session %llu is %s", c->chan->peer.addr, (unsigned long long)w.session,
	          resumed ? "back" : "open");
	welcome(c, &w, l->name);
	explicit_bzero(w.secret, sizeof(w.secret));
}

/* What the client can do about it depends on how it came. */
static void refuse_stranger(struct conn *c)
{
	const struct fabric_peer *p = &c->chan->peer;
	char text[WIRE_TEXT_MAX + 1];

	if (p->has_cert)
		(void)snprintf(
		        text, sizeof(text),
		        "no capability was granted to cert:%.64s; show a token of one, or ask "
		        "for a grant",
		        p->cert_name);
	else if (p->has_cred)
		(void)snprintf(
		        text, sizeof(text),
		        "no capability was granted to uid:%u or gid:%u; show a token of one, "
		        "or ask for a grant",
		        p->uid, p->gid);
	else
		(void)snprintf(
		        text, sizeof(text),
		        "nobody knows who this client is: come as a user of the server's host "
		        "(channel=pipe), with a capability's token (token=TEXT or "
		        "$PENSTOCK_TOKEN), or over TLS with a certificate (tls-cert, tls-key)");
	refuse(c, -EACCES, text);
}

/* Is it still there to be answered? */
static bool still_opening(struct conn *c)
{
	c->opening = false;
	if (c->state == CONN_GONE)
		conn_req_gone(c);
	else if (c->state == CONN_OPENING)
		return true;
	return false;
}

/* Why no session could be recorded: what the store says of itself. c->opening holds the connection meanwhile. */
struct why {
	struct pst_op op;
	struct conn *c;
	int status;
	struct pst_store_status store;
};

static void why_told(struct pst_op *op)
{
	struct why *y = container_of(op, struct why, op);
	struct conn *c = y->c;
	char text[WIRE_TEXT_MAX + 1];

	(void)snprintf(text, sizeof(text), "%s", strerror(-y->status));
	if (op->status == 0 && y->store.stopped)
		(void)snprintf(text, sizeof(text), "the store has stopped: %s",
		               y->store.stopped_why);
	if (still_opening(c))
		refuse(c, y->status, text);
	mem_free(y);
}

/* False: it can't be asked now. */
static bool ask_why(struct conn *c, int status)
{
	struct why *y = mem_calloc(1, sizeof(*y));

	if (!y)
		return false;
	y->c = c;
	y->status = status;
	y->op = (struct pst_op){.opcode = PST_OP_STATUS, .status_out = &y->store, .done = why_told};
	c->opening = true;
	switch (store_submit(c->l->store, &y->op)) {
	case PST_DONE:
		why_told(&y->op);
		return true;
	case PST_QUEUED:
		return true;
	case PST_BUSY:
		break;
	}
	c->opening = false;
	mem_free(y);
	return false;
}

static void opened(struct session_open *o, int status)
{
	struct conn *c = container_of(o, struct conn, so);

	if (!still_opening(c))
		return;
	if (status == -EACCES)
		refuse_stranger(c);
	else if (status == -EAGAIN || status == -EDQUOT)
		refuse(c, status, "as many sessions as may be are open");
	else if (status < 0 && !ask_why(c, status))
		refuse(c, status, strerror(-status));
	else if (status == 0)
		accept_client(c, o->secret, false);
}

/* Everything that the client can show is looked at. 0, or what was said at a token. */
static int identify(struct conn *c, const struct wire_hello *h, struct ident *id)
{
	const struct fabric_peer *p = &c->chan->peer;
	struct session_table *t = c->l->table;

	memset(id, 0, sizeof(*id));
	id->peer = c->sc.peer;
	if (h->cred_len) {
		/* Who shows a token acts by it alone: it may say less than what the client is. */
		id->uid = p->has_cred ? p->uid : 0;
		id->gid = p->has_cred ? p->gid : 0;
		return session_auth_token(t, id, h->cred, h->cred_len);
	}
	if (p->has_cred)
		(void)session_auth_peer(t, id, p->uid, p->gid);
	if (p->has_cert)
		(void)session_auth_cert(t, id, p->cert_name);
	(void)session_auth_open(t, id);
	return 0;
}

static void hello_new(struct conn *c, const struct wire_hello *h)
{
	int rc = identify(c, h, &c->so.ident);

	if (rc < 0) {
		refuse(c, rc,
		       rc == -EKEYEXPIRED   ? "the capability token has expired"
		       : rc == -EKEYREVOKED ? "the capability was revoked"
		                            : "the capability token is not one of this store's");
		return;
	}
	if (!session_conn_takes(&c->sc, &c->so.ident)) {
		refuse(c, -EACCES, "the token is not the one that sealed the channel");
		return;
	}
	c->so.conn = &c->sc;
	c->so.slots = MIN(h->slots, SESSION_SLOTS_MAX);
	c->so.done = opened;
	c->state = CONN_OPENING;
	c->opening = true;
	chan_known(c->chan); /* or it is refused, and closed at once */
	rc = session_open(&c->so);
	if (rc < 0)
		opened(&c->so, rc);
}

static void hello_resume(struct conn *c, const struct wire_hello *h)
{
	int rc = session_resume(&c->sc, h->session, h->secret);

	if (rc == -ESTALE)
		refuse(c, rc, "the session has expired, or is another store's");
	else if (rc < 0)
		refuse(c, rc,
		       "the session's secret is wrong, or it is not of the capability that sealed "
		       "the channel");
	else
		accept_client(c, h->secret, true);
}

static void greeted(struct conn *c, const struct wire_hello *h, int rc)
{
	static const uint8_t nobody[16];

	if (rc == 0 && h->version_min > c->l->opts.version)
		rc = -EPROTONOSUPPORT;
	if (rc == -EPROTONOSUPPORT) {
		char text[128];

		(void)snprintf(
		        text, sizeof(text),
		        "this server speaks version %u to %u of the protocol, the client %u to %u",
		        WIRE_VERSION_MIN, c->l->opts.version, h->version_min, h->version);
		refuse_channel(c, rc, text);
		return;
	}
	if (rc < 0) {
		conn_bad(c, "not a Penstock client");
		return;
	}
	c->version = (uint8_t)MIN(h->version, c->l->opts.version);
	c->depth = MIN(h->depth ? h->depth : c->l->opts.depth_max, c->l->opts.depth_max);
	c->knows_store = !memcmp(h->store, c->l->uuid, 16);
	c->epoch_seen = h->epoch;
	if (memcmp(h->store, nobody, 16) && !c->knows_store)
		refuse_channel(c, -EXDEV, "another store is served here than before");
	else if (c->chan->msg_max < WIRE_MSG_MIN)
		refuse_channel(c, -EMSGSIZE, "the channel's messages are too short");
	else if (h->session)
		hello_resume(c, h);
	else
		hello_new(c, h);
}

static void hello(struct conn *c, const void *data, uint32_t len)
{
	struct wire_hello h = {0};

	greeted(c, &h, wire_hello_get(&h, data, len));
	explicit_bzero(h.secret, sizeof(h.secret)); /* the session's */
}

/* --- sealing: before the hello --- */

static bool must_seal(const struct conn *c)
{
	uint32_t traits = c->chan->traits;

	if (c->l->opts.seal == SEAL_AUTO)
		return !(traits & FABRIC_PRIVATE);
	return c->l->opts.seal == SEAL_REQUIRED && !c->private && !(traits & FABRIC_SEALED);
}

static void seal_refuse(struct conn *c, int status)
{
	const char *text = status == -EKEYREVOKED ? "the capability was revoked"
	                   : status == -EBADF   ? "the capability token is not one of this store's"
	                   : status == -ENOTSUP ? "this server does not seal channels (--seal off)"
	                   : status == -EPROTONOSUPPORT
	                           ? "this server knows no such sealing: it is another version"
	                           : "the channel can't be sealed";

	/* What was said at the token is told with that. */
	if (status != -EKEYREVOKED && status != -EBADF)
		session_conn_refused(&c->sc, status, text);
	c->l->fig.refused++;
	conn_complain(c, "refused", text);
	c->refused = true;
	c->state = CONN_OPENING; /* deaf from here on */
	c->welcome_len = seal_refusal(c->welcome, status, text);
	greet_send(c);
}

static void sealed(struct conn *c, const void *begin)
{
	c->l->fig.sealed++;
	session_conn_sealed(&c->sc, seal_token_head(begin));
	c->sc.peer = c->chan->peer.addr; /* the channel below may end before this one */
}

static void seal(struct conn *c, const void *data, uint32_t len)
{
	struct chan *below = c->chan;
	int rc = c->l->opts.seal == SEAL_OFF
	                 ? -ENOTSUP
	                 : seal_accept(&c->chan, c->chan, c->l->table, data, len);

	if (rc == 0)
		chan_known(below); /* somebody had the token */
	if (rc == -EPROTO)
		conn_bad(c, "not a Penstock client");
	else if (rc < 0)
		seal_refuse(c, rc);
	else
		sealed(c, data);
}

void greet_first(struct conn *c, const void *data, uint32_t len)
{
	if (unlikely(seal_begins(data, len) && !(c->chan->traits & FABRIC_SEALED)))
		seal(c, data, len);
	else if (unlikely(must_seal(c)))
		refuse_channel(c, -EPERM,
		               c->l->opts.seal == SEAL_REQUIRED
		                       ? "this server takes sealed channels only: name it with "
		                         "seal=required, and "
		                         "give a capability's token (token=TEXT or $PENSTOCK_TOKEN)"
		                       : "others can read this channel: it has to be sealed, which "
		                         "takes a "
		                         "capability's token (token=TEXT or $PENSTOCK_TOKEN)");
	else
		hello(c, data, len);
}
