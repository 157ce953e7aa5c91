/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The fault plan of a controller: what nvme_ctrlr_faults() describes. Rules are looked at before a
 * command is carried out; those about the completion leave a mark in r->fault, which
 * req_complete() acts on.
 */
#include "nvme/ctrlr_int.h"

/* --- reading a plan --- */

static const struct {
	const char *name;
	uint8_t action;
} action_names[] = {{"drop", FAULT_DROP},     {"delay", FAULT_DELAY},   {"dup", FAULT_DUP},
                    {"cid", FAULT_CID},       {"status", FAULT_STATUS}, {"fatal", FAULT_FATAL},
                    {"remove", FAULT_REMOVE}, {"link", FAULT_LINK}};

static int number(const char *text, uint64_t max, uint64_t *ret)
{
	char *end;
	unsigned long long v;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	v = strtoull(text, &end, 0);
	if (errno || *end || v > max)
		return -EINVAL;
	*ret = v;
	return 0;
}

static int key_set(struct fault_rule *f, const char *key, const char *value, bool *dnr)
{
	static const struct {
		const char *key;
		uint64_t max;
	} keys[] = {{"q", NVME_CTRLR_QUEUES_MAX},
	            {"op", 0xff},
	            {"code", 0x7ff},
	            {"dnr", 1},
	            {"ms", 86400000},
	            {"after", UINT64_MAX},
	            {"every", UINT64_MAX},
	            {"count", UINT64_MAX}};
	uint64_t v;
	size_t i = 0;

	while (i < ARRAY_LEN(keys) && strcmp(keys[i].key, key))
		i++;
	if (i == ARRAY_LEN(keys) || number(value, keys[i].max, &v))
		return -EINVAL;
	switch (i) {
	case 0:
		f->qid = (int32_t)v;
		break;
	case 1:
		f->op = (int32_t)v;
		break;
	case 2:
		f->code = (uint16_t)v;
		break;
	case 3:
		*dnr = v;
		break;
	case 4:
		f->ms = (uint32_t)v;
		break;
	case 5:
		f->after = v;
		break;
	case 6:
		f->every = v;
		break;
	default:
		f->count = v;
	}
	return f->every ? 0 : -EINVAL;
}

static int keys_read(struct fault_rule *f, char *text, struct pst_err *err)
{
	bool dnr = false;
	char *save;

	for (char *kv = strtok_r(text, ",", &save); kv; kv = strtok_r(NULL, ",", &save)) {
		char *eq = strchr(kv, '=');

		if (eq)
			*eq = 0;
		if (!eq || key_set(f, kv, eq + 1, &dnr))
			return err_set(err, -EINVAL, "fault plan: '%s' does not say KEY=NUMBER",
			               kv);
	}
	if (!f->code)
		return err_set(err, -EINVAL, "fault plan: code=0 is success");
	if (dnr)
		f->code |= NVME_STATUS_DNR;
	return 0;
}

static int rule_read(struct fault_rule *f, char *text, struct pst_err *err)
{
	char *keys = strchr(text, ':');
	bool once;

	if (keys)
		*keys++ = 0;
	*f = (struct fault_rule){
	        .qid = -1, .op = -1, .code = NVME_SC_INTERNAL, .ms = 100, .every = 1};
	for (size_t i = 0; i < ARRAY_LEN(action_names); i++) {
		if (!strcmp(action_names[i].name, text))
			f->action = action_names[i].action;
	}
	if (!f->action)
		return err_set(err, -EINVAL, "fault plan: there is no action '%s'", text);
	once = f->action == FAULT_FATAL || f->action == FAULT_REMOVE || f->action == FAULT_LINK;
	f->count = once ? 1 : UINT64_MAX;
	return keys ? keys_read(f, keys, err) : 0;
}

static int plan_read(struct fault_plan *p, char *text, struct pst_err *err)
{
	char *save;

	for (char *rule = strtok_r(text, ";", &save); rule; rule = strtok_r(NULL, ";", &save)) {
		int rc;

		if (p->count == FAULT_RULES_MAX)
			return err_set(err, -EINVAL, "fault plan: more than %u rules",
			               FAULT_RULES_MAX);
		rc = rule_read(&p->rule[p->count], rule, err);
		if (rc)
			return rc;
		p->count++;
	}
	return 0;
}

int nvme_ctrlr_faults(struct nvme_ctrlr *c, const char *plan, struct pst_err *err)
{
	size_t len = plan ? strlen(plan) : 0;
	struct fault_plan *p = NULL;
	char *text = NULL;
	int rc = 0;

	loop_assert(c->subsys->loop);
	if (len) {
		p = mem_calloc(1, sizeof(*p));
		text = mem_alloc(len + 1);
		rc = p && text ? 0 : err_set(err, -ENOMEM, "out of memory");
	}
	if (!rc && len) {
		memcpy(text, plan, len + 1);
		rc = plan_read(p, text, err);
	}
	mem_free(text);
	if (rc) {
		mem_free(p);
		return rc;
	}
	mem_free(c->plan);
	c->plan = p;
	return 0;
}

uint64_t nvme_ctrlr_fault_hits(const struct nvme_ctrlr *c, unsigned index)
{
	return c->plan && index < c->plan->count ? c->plan->rule[index].hits : 0;
}

/* --- acting on it --- */

static bool rule_hits(struct fault_rule *f, const struct nvme_req *r)
{
	uint16_t qid = r->sq->qid;

	if (f->qid < 0 ? !qid : f->qid != qid)
		return false;
	if ((f->op >= 0 && f->op != r->cmd.opc) || f->hits >= f->count)
		return false;
	if (f->seen++ < f->after || (f->seen - f->after) % f->every)
		return false;
	f->hits++;
	return true;
}

bool fault_before(struct nvme_req *r)
{
	struct nvme_ctrlr *c = r->c;
	const struct fault_rule *f = NULL;

	for (unsigned i = 0; i < c->plan->count && !f; i++) {
		if (rule_hits(&c->plan->rule[i], r))
			f = &c->plan->rule[i];
	}
	if (!f)
		return false;
	switch (f->action) {
	case FAULT_STATUS:
		req_complete(r, f->code);
		return true;
	case FAULT_FATAL:
		req_drop(r);
		nvme_ctrlr_fail(c);
		return true;
	case FAULT_REMOVE:
		req_drop(r);
		nvme_ctrlr_remove(c);
		return true;
	case FAULT_LINK:
		req_drop(r);
		nvme_ctrlr_unlink(c, f->ms);
		return true;
	default:
		r->fault = f->action;
		r->fault_ms = f->ms;
		return false;
	}
}

static void delay_over(struct loop_timer *t)
{
	struct nvme_req *r = container_of(t, struct nvme_req, timer);

	list_del(&r->link);
	req_move(r, REQ_WORKING);
	if (ctrlr_lives(r->c))
		req_post(r, true);
	else
		req_drop(r);
}

bool fault_after(struct nvme_req *r)
{
	struct nvme_ctrlr *c = r->c;
	struct loop *loop = c->subsys->loop;

	if (r->fault == FAULT_DROP) {
		req_drop(r);
		return true;
	}
	if (r->fault != FAULT_DELAY)
		return false;
	r->timer.fired = delay_over;
	if (loop_timer_arm(loop, &r->timer, loop_now(loop) + r->fault_ms * NSEC_PER_MSEC)) {
		req_drop(r); /* no memory for a timer: later than asked for, for ever */
		return true;
	}
	req_move(r, REQ_DELAYED);
	list_push(&c->delayed, &r->link);
	return true;
}

void fault_reset(struct nvme_ctrlr *c)
{
	struct list *n;

	while ((n = list_pop(&c->delayed))) {
		struct nvme_req *r = list_entry(n, struct nvme_req, link);

		loop_timer_disarm(c->subsys->loop, &r->timer);
		req_drop(r);
	}
}
