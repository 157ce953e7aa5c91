/* SPDX-License-Identifier: BSD-3-Clause */
#include "tape.h"

void (*tape_made)(struct tape *t);
static struct fabric_listener *listening;
static unsigned alive;

struct said {
	struct list link;
	uint32_t len;
	uint8_t bytes[];
};

static struct tape *tape_of(struct chan *c)
{
	return container_of(c, struct tape, chan);
}

static int tape_send(struct chan *c, const struct iovec *iov, unsigned count)
{
	struct tape *t = tape_of(c);
	uint8_t msg[64 * KIB];
	size_t len = 0;

	if (t->is_down)
		return -ECONNRESET;
	for (unsigned i = 0; i < count; i++) {
		pst_assert(len + iov[i].iov_len <= sizeof(msg));
		if (iov[i].iov_len)
			memcpy(msg + len, iov[i].iov_base, iov[i].iov_len);
		len += iov[i].iov_len;
	}
	if (len > c->msg_max)
		return -EMSGSIZE;
	if (t->sent) {
		struct said *s = malloc(sizeof(*s) + len);

		s->len = (uint32_t)len;
		memcpy(s->bytes, msg, len);
		list_push(&t->said, &s->link);
	}
	return 0;
}

static int start(struct chan *c, struct chan_xfer *x, bool write)
{
	struct tape *t = tape_of(c);
	uint64_t at = x->off;

	if (t->is_down)
		return -ECONNRESET;
	x->priv[0] = (uint64_t)(x->len > t->mem_len || x->off > t->mem_len - x->len ? -EACCES : 0);
	for (uint32_t i = 0; !x->priv[0] && i < x->iov_count; i++) {
		if (write)
			memcpy(t->mem + at, x->iov[i].iov_base, x->iov[i].iov_len);
		else
			memcpy(x->iov[i].iov_base, t->mem + at, x->iov[i].iov_len);
		at += x->iov[i].iov_len;
	}
	if (x->keep) {
		t->lent++;
		t->crammed += t->full;
		t->full |= t->fills;
	}
	list_push(&t->xfers, &x->link);
	return 0;
}

static int tape_write(struct chan *c, struct chan_xfer *x)
{
	return start(c, x, true);
}

static int tape_read(struct chan *c, struct chan_xfer *x)
{
	return start(c, x, false);
}

static bool tape_room(struct chan *c)
{
	return !tape_of(c)->full;
}

static int window_open(struct chan *c, struct chan_window *w)
{
	struct tape *t = tape_of(c);

	if (t->is_down)
		return -ECONNRESET;
	w->desc = (struct fabric_desc){.key = 0x1000 + ++t->windows, .region = 7};
	for (uint32_t i = 0; i < w->iov_count; i++)
		w->desc.len += w->iov[i].iov_len;
	t->window = w;
	return 0;
}

static void window_close(struct chan *c, struct chan_window *w)
{
	struct tape *t = tape_of(c);

	if (t->window == w)
		t->window = NULL;
	if (t->hold_close)
		t->held = w;
	else
		w->closed(w);
}

static int xfers_end(struct tape *t, int status)
{
	struct list *n;
	int count = 0;

	while ((n = list_pop(&t->xfers))) {
		struct chan_xfer *x = list_entry(n, struct chan_xfer, link);

		x->done(x, status ? status : (int)(int64_t)x->priv[0]);
		count++;
	}
	return count;
}

static int poll(struct loop_poller *p)
{
	struct tape *t = container_of(p, struct tape, poller);
	struct list *n;

	if (t->tell_up) {
		t->tell_up = false;
		t->chan.handlers->up(&t->chan, 0);
		return 1;
	}
	n = list_pop(&t->said);
	if (n) {
		struct said *s = list_entry(n, struct said, link);

		t->sent(t, s->bytes, s->len);
		free(s);
		return 1;
	}
	return xfers_end(t, 0);
}

static bool may_sleep(struct loop_poller *p)
{
	struct tape *t = container_of(p, struct tape, poller);

	return !t->tell_up && list_empty(&t->xfers) && list_empty(&t->said);
}

static void tape_close(struct chan *c)
{
	struct tape *t = tape_of(c);

	struct list *n;

	t->is_down = true;
	xfers_end(t, -ECANCELED);
	while ((n = list_pop(&t->said)))
		free(list_entry(n, struct said, link));
	loop_poller_del(c->loop, &t->poller);
	alive--;
	if (t->gone)
		t->gone(t);
	mem_free(t);
}

static const struct chan_ops ops = {
        .send = tape_send,
        .write = tape_write,
        .read = tape_read,
        .window_open = window_open,
        .window_close = window_close,
        .close = tape_close,
        .flush = fabric_flush_none,
        .room = tape_room,
};

static struct tape *tape_new(struct loop *loop)
{
	struct tape *t = mem_calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	alive++;
	list_init(&t->xfers);
	list_init(&t->said);
	t->chan.ops = &ops;
	t->chan.provider = fabric_provider_find("tape");
	t->chan.loop = loop;
	t->chan.traits = FABRIC_ANY_MEMORY | FABRIC_WRITE_THEN_MSG | FABRIC_PRIVATE;
	t->chan.msg_max = 16 * KIB;
	t->chan.inline_max = 4096;
	t->chan.xfers_max = 16;
	t->poller.poll = poll;
	t->poller.may_sleep = may_sleep;
	loop_poller_add(loop, &t->poller);
	return t;
}

static int tape_connect(struct chan **ret_c, struct loop *loop, const char *addr,
                        const struct fabric_opts *opts, const struct chan_handlers *handlers,
                        void *user, struct pst_err *err)
{
	struct tape *t = tape_new(loop);

	if (!t)
		return -ENOMEM;
	t->chan.handlers = handlers;
	t->chan.user = user;
	t->tell_up = true;
	if (tape_made)
		tape_made(t);
	*ret_c = &t->chan;
	return 0;
}

static void listener_close(struct fabric_listener *l)
{
	listening = NULL;
	mem_free(l);
}

static int tape_listen(struct fabric_listener **ret_l, struct loop *loop, const char *addr,
                       const struct fabric_opts *opts, struct pst_err *err)
{
	struct fabric_listener *l = mem_calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->loop = loop;
	l->close = listener_close;
	*ret_l = listening = l;
	return 0;
}

struct tape *tape_accept(struct loop *loop, void (*made)(struct tape *t))
{
	struct tape *t = tape_new(loop);

	if (made)
		made(t);
	if (listening && listening->accept(listening, &t->chan))
		return t;
	tape_close(&t->chan);
	return NULL;
}

void tape_say(struct tape *t, const void *msg, uint32_t len)
{
	uint8_t *copy = malloc(len ? len : 1); /* so that a sanitizer sees its end */

	memcpy(copy, msg, len);
	if (!t->is_down)
		t->chan.handlers->msg(&t->chan, copy, len);
	free(copy);
}

void tape_down(struct tape *t, int status)
{
	t->is_down = true;
	xfers_end(t, status);
	t->chan.handlers->down(&t->chan, status);
}

unsigned tape_alive(void)
{
	return alive;
}

static struct fabric_provider provider = {
        .name = "tape",
        .listen = tape_listen,
        .connect = tape_connect,
        .check = fabric_check_any,
};

static void __attribute__((constructor)) add(void)
{
	fabric_provider_add(&provider);
}
