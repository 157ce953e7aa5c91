/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Get Log Page (Base 5.16). Each page is built whole in c->log_buf; what the host asked for is cut
 * out of it. Beyond a page's end it reads zeroes; an offset beyond it is an error.
 */
#include "nvme/ctrlr_int.h"

/* --- what goes into the logs --- */

void error_note(struct nvme_req *r, uint16_t status)
{
	struct nvme_ctrlr *c = r->c;
	struct nvme_error_entry *e = &c->error_log[c->error_count++ % ERROR_LOG_MAX];

	memset(e, 0, sizeof(*e));
	e->error_count = le64_make(c->error_count);
	e->sqid = le16_make(r->sq->qid);
	e->cid = r->cmd.cid;
	e->status = le16_make((uint16_t)(status << 1));
	e->location = le16_make(0xffff);
	if (r->sq->qid) {
		e->nsid = r->cmd.nsid;
		e->lba = le64_make(cdw(r->cmd.cdw10) | (uint64_t)cdw(r->cmd.cdw11) << 32);
	}
}

void ns_changed(struct nvme_ns *ns, const struct nvme_ctrlr *except)
{
	for (unsigned i = 0; i < NVME_SUBSYS_CTRLRS_MAX; i++) {
		struct nvme_ctrlr *c = ns->subsys->ctrlrs[i];
		unsigned at = 0;

		if (!c || c == except)
			continue;
		while (at < c->changed_count && c->changed_ns[at] < ns->nsid)
			at++;
		if (at == c->changed_count || c->changed_ns[at] != ns->nsid) {
			memmove(&c->changed_ns[at + 1], &c->changed_ns[at],
			        (c->changed_count - at) * sizeof(c->changed_ns[0]));
			c->changed_ns[at] = ns->nsid;
			c->changed_count++;
		}
		if (c->feat.async & NVME_ASYNC_NS)
			event_raise(c, NVME_EVENT_NOTICE, NVME_NOTICE_NS, NVME_LOG_CHANGED_NS);
	}
}

/* --- the pages: each returns its length in bytes, at most LOG_BUF_BYTES --- */

static uint32_t page_supported(struct nvme_ctrlr *c)
{
	static const uint8_t have[] = {NVME_LOG_SUPPORTED, NVME_LOG_ERROR,      NVME_LOG_SMART,
	                               NVME_LOG_FIRMWARE,  NVME_LOG_CHANGED_NS, NVME_LOG_EFFECTS,
	                               NVME_LOG_ANA};
	le32 *out = (void *)c->log_buf;

	for (unsigned i = 0; i < ARRAY_LEN(have); i++)
		out[have[i]] = le32_make(1);
	return 1024;
}

/* The newest first. */
static uint32_t page_error(struct nvme_ctrlr *c)
{
	struct nvme_error_entry *out = (void *)c->log_buf;

	for (uint64_t i = 0; i < MIN(c->error_count, ERROR_LOG_MAX); i++)
		out[i] = c->error_log[(c->error_count - 1 - i) % ERROR_LOG_MAX];
	return sizeof(*out) * ERROR_LOG_MAX;
}

static void figure_put(uint8_t to[16], uint64_t v)
{
	le64 le = le64_make(v);

	memcpy(to, &le, sizeof(le));
}

static uint32_t page_smart(struct nvme_ctrlr *c)
{
	struct nvme_smart *s = (void *)c->log_buf;
	uint64_t up_ns = loop_now(c->subsys->loop) - c->started_ns;

	s->temperature[0] = 300 & 0xff;
	s->temperature[1] = 300 >> 8;
	s->avail_spare = 100;
	s->spare_threshold = 10;
	figure_put(s->units_read, DIV_ROUND_UP(c->bytes_read, 512000));
	figure_put(s->units_written, DIV_ROUND_UP(c->bytes_written, 512000));
	figure_put(s->host_reads, c->reads);
	figure_put(s->host_writes, c->writes);
	figure_put(s->power_cycles, 1);
	figure_put(s->power_on_hours, up_ns / (3600 * NSEC_PER_SEC));
	figure_put(s->media_errors, c->media_errors);
	figure_put(s->error_entries, c->error_count);
	return sizeof(*s);
}

static uint32_t page_firmware(struct nvme_ctrlr *c)
{
	struct nvme_fw_log *f = (void *)c->log_buf;

	f->afi = 1;
	memset(f->frs[0], ' ', sizeof(f->frs[0]));
	memcpy(f->frs[0], PENSTOCK_FIRMWARE, sizeof(PENSTOCK_FIRMWARE) - 1);
	return sizeof(*f);
}

static uint32_t page_changed(struct nvme_ctrlr *c, bool keep)
{
	le32 *out = (void *)c->log_buf;

	for (unsigned i = 0; i < c->changed_count; i++)
		out[i] = le32_make(c->changed_ns[i]);
	if (!keep)
		c->changed_count = 0;
	return NVME_NS_LIST_MAX * sizeof(*out);
}

static uint32_t page_effects(struct nvme_ctrlr *c)
{
	static const uint8_t admin[] = {
	        NVME_ADMIN_DELETE_SQ,   NVME_ADMIN_CREATE_SQ,    NVME_ADMIN_GET_LOG,
	        NVME_ADMIN_DELETE_CQ,   NVME_ADMIN_CREATE_CQ,    NVME_ADMIN_IDENTIFY,
	        NVME_ADMIN_ABORT,       NVME_ADMIN_SET_FEATURES, NVME_ADMIN_GET_FEATURES,
	        NVME_ADMIN_ASYNC_EVENT, NVME_ADMIN_KEEP_ALIVE,   NVME_ADMIN_DBBUF};
	struct nvme_effects_log *e = (void *)c->log_buf;
	uint32_t writes = NVME_EFFECT_SUPPORTED | NVME_EFFECT_CONTENT;

	for (unsigned i = 0; i < ARRAY_LEN(admin); i++)
		e->admin[admin[i]] = le32_make(NVME_EFFECT_SUPPORTED);
	e->admin[NVME_ADMIN_FORMAT] = le32_make(writes | NVME_EFFECT_NS | NVME_EFFECT_EXCLUSIVE);
	e->io[NVME_IO_FLUSH] = e->io[NVME_IO_READ] = e->io[NVME_IO_COMPARE] =
	        le32_make(NVME_EFFECT_SUPPORTED);
	e->io[NVME_IO_WRITE] = e->io[NVME_IO_WRITE_ZEROES] = e->io[NVME_IO_DSM] = le32_make(writes);
	return sizeof(*e);
}

/* One group's descriptor, and behind it its namespaces. Descriptors are only 4-byte aligned. */
static uint8_t *ana_group(struct nvme_ctrlr *c, uint8_t *p, uint32_t group, bool groups_only)
{
	struct nvme_ana_group g = {.group = le32_make(group),
	                           .change_count = le64_make(c->ana_count[group]),
	                           .state = c->ana[group]};
	uint8_t *at = p;
	uint32_t n = 0;

	p += sizeof(g);
	for (uint32_t nsid = 1; nsid <= NVME_SUBSYS_NS_MAX && !groups_only; nsid++) {
		const struct nvme_ns *ns = subsys_ns(c->subsys, nsid);
		le32 id = le32_make(nsid);

		if (!ns || ns->ana_group != group)
			continue;
		memcpy(p, &id, sizeof(id));
		p += sizeof(id);
		n++;
	}
	g.nsids = le32_make(n);
	memcpy(at, &g, sizeof(g));
	return p;
}

/* Only groups that hold namespaces. */
static uint32_t page_ana(struct nvme_ctrlr *c, bool groups_only)
{
	struct nvme_ana_log *log = (void *)c->log_buf;
	uint8_t *p = c->log_buf + sizeof(*log);
	bool used[NVME_ANA_GROUPS_MAX + 1] = {false};
	uint16_t n = 0;

	for (uint32_t nsid = 1; nsid <= NVME_SUBSYS_NS_MAX; nsid++) {
		const struct nvme_ns *ns = subsys_ns(c->subsys, nsid);

		if (ns)
			used[ns->ana_group] = true;
	}
	for (uint32_t g = 1; g <= NVME_ANA_GROUPS_MAX; g++) {
		if (!used[g])
			continue;
		p = ana_group(c, p, g, groups_only);
		n++;
	}
	log->change_count = le64_make(c->ana_changes);
	log->groups = le16_make(n);
	return (uint32_t)(p - c->log_buf);
}
_Static_assert(sizeof(struct nvme_ana_log) + NVME_ANA_GROUPS_MAX * sizeof(struct nvme_ana_group) +
                               NVME_SUBSYS_NS_MAX * sizeof(le32) <=
                       LOG_BUF_BYTES,
               "the longest ANA log");

/* --- the command --- */

static uint32_t page_make(struct nvme_req *r, uint32_t lid)
{
	uint32_t cdw10 = cdw(r->cmd.cdw10);
	struct nvme_ctrlr *c = r->c;

	memset(c->log_buf, 0, sizeof(c->log_buf));
	switch (lid) {
	case NVME_LOG_SUPPORTED:
		return page_supported(c);
	case NVME_LOG_ERROR:
		return page_error(c);
	case NVME_LOG_SMART:
		return page_smart(c);
	case NVME_LOG_FIRMWARE:
		return page_firmware(c);
	case NVME_LOG_CHANGED_NS:
		return page_changed(c, NVME_LOG_RAE(cdw10));
	case NVME_LOG_EFFECTS:
		return page_effects(c);
	case NVME_LOG_ANA:
		return page_ana(c, NVME_LOG_LSP(cdw10) & NVME_ANA_RGO);
	default:
		return 0;
	}
}

static bool page_known(uint32_t lid)
{
	return lid <= NVME_LOG_EFFECTS || lid == NVME_LOG_ANA;
}

static uint16_t ns_check(const struct nvme_req *r)
{
	uint32_t nsid = cdw(r->cmd.nsid);

	/* No page here is a namespace's (LPA bit 0 is clear). */
	return nsid && nsid != NVME_NSID_ALL ? ERR(NVME_SC_INVALID_FIELD) : 0;
}

/* The discovery log is its owner's, of any length. */
static uint16_t discovery_get(struct nvme_req *r, uint64_t off, uint64_t dwords)
{
	struct nvme_ctrlr *c = r->c;
	size_t have = 0;
	const char *page = c->opts.discovery(c->opts.arg, &have);
	uint16_t st;

	if (!page)
		return NVME_SC_INTERNAL;
	if (off > have || (off & 3) || dwords * 4 > c->data_max)
		return ERR(NVME_SC_INVALID_FIELD);
	st = data_map(r, (uint32_t)dwords * 4);
	if (st)
		return st;
	data_put(r, page + off, (uint32_t)MIN(have - off, dwords * 4));
	if (!NVME_LOG_RAE(cdw(r->cmd.cdw10)))
		event_log_read(c, NVME_LOG_DISCOVERY);
	return 0;
}

uint16_t log_get(struct nvme_req *r)
{
	struct nvme_ctrlr *c = r->c;
	uint32_t cdw10 = cdw(r->cmd.cdw10), lid = NVME_LOG_LID(cdw10), have;
	uint64_t dwords =
	        (NVME_LOG_NUMDL(cdw10) | (uint64_t)NVME_LOG_NUMDU(cdw(r->cmd.cdw11)) << 16) + 1;
	uint64_t off = cdw(r->cmd.cdw12) | (uint64_t)cdw(r->cmd.cdw13) << 32;
	uint16_t st;

	if (c->opts.discovery && lid == NVME_LOG_DISCOVERY)
		return discovery_get(r, off, dwords);
	if (c->opts.discovery || !page_known(lid))
		return ERR(NVME_SC_LOG_INVALID);
	st = ns_check(r);
	if (!st && ((off & 3) || NVME_LOG_OT(cdw(r->cmd.cdw14)) || dwords * 4 > c->data_max))
		st = ERR(NVME_SC_INVALID_FIELD);
	if (!st)
		st = data_map(r, (uint32_t)dwords * 4);
	if (st)
		return st;
	have = page_make(r, lid);
	if (off > have)
		return ERR(NVME_SC_INVALID_FIELD);
	data_put(r, c->log_buf + off, have - (uint32_t)off);
	if (!NVME_LOG_RAE(cdw10))
		event_log_read(c, (uint8_t)lid);
	return 0;
}
