/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Asynchronous events (Base 5.2). The host leaves requests here; an event completes one. After that
 * its type is masked until the host has read the log page that the event names. Events for which
 * there is no request, or whose type is masked, wait; the same one waits only once.
 */
#include "nvme/ctrlr_int.h"

/* Completes requests while there are both a request and an event that is not masked. */
static void events_send(struct nvme_ctrlr *c)
{
	unsigned i = 0;

	while (i < c->event_count && c->aer_count) {
		struct nvme_event e = c->events[i];
		struct nvme_req *r;

		if (c->masked_page[e.type]) {
			i++;
			continue;
		}
		c->event_count--;
		memmove(&c->events[i], &c->events[i + 1],
		        (c->event_count - i) * sizeof(c->events[0]));
		c->masked_page[e.type] = e.page;
		r = list_first(&c->events_wanted, struct nvme_req, link);
		list_del(&r->link);
		c->aer_count--;
		req_move(r, REQ_WORKING);
		r->dw0 = NVME_EVENT_MAKE(e.type, e.info, e.page);
		req_complete(r, 0);
	}
}

uint16_t event_wait(struct nvme_req *r)
{
	struct nvme_ctrlr *c = r->c;

	if (c->aer_count == AER_MAX)
		return ERR(NVME_SC_ASYNC_LIMIT);
	req_move(r, REQ_EVENT);
	r->iov_count = 0; /* it waits for long, and touches no memory */
	list_push(&c->events_wanted, &r->link);
	c->aer_count++;
	events_send(c);
	return PENDING;
}

void event_raise(struct nvme_ctrlr *c, uint8_t type, uint8_t info, uint8_t page)
{
	if (!ctrlr_lives(c))
		return;
	for (unsigned i = 0; i < c->event_count; i++) {
		if (c->events[i].type == type && c->events[i].info == info)
			return;
	}
	/* There are fewer kinds of event than places. */
	pst_assert(c->event_count < EVENTS_MAX);
	c->events[c->event_count++] = (struct nvme_event){type, info, page};
	events_send(c);
}

void event_log_read(struct nvme_ctrlr *c, uint8_t page)
{
	for (unsigned i = 0; i < ARRAY_LEN(c->masked_page); i++) {
		if (page && c->masked_page[i] == page)
			c->masked_page[i] = 0;
	}
	events_send(c);
}

void event_reset(struct nvme_ctrlr *c)
{
	struct list *n;

	while ((n = list_pop(&c->events_wanted)))
		req_drop(list_entry(n, struct nvme_req, link));
	c->aer_count = 0;
	c->event_count = 0;
	memset(c->masked_page, 0, sizeof(c->masked_page));
	c->changed_count = 0;
}
