/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * log - frames and group commit.
 *
 * One frame is open and takes records. The loop's turn seals it when somebody waits for it (or a
 * timer says that it is old enough) and fewer than inflight_max frames are under way; so all that
 * was committed in one turn, and all that comes while the frames before are under way, shares a
 * write and a flush. Frames are written in order of their sequence and complete in any order;
 * `durable` moves over those that are done in order (R1).
 *
 *   IDLE --frame_open--> OPEN --log_step--> WRITING --frame_ended--> DONE --frame_retire--> IDLE
 *                                              \--> WRITTEN --frames_flush--> (flushed) --^
 *
 * A frame's write is forced out, beside a flush for what was written elsewhere. Where forcing it costs
 * a flush of its own (bdev_info.fua_flushes), it is not: once it is written, one flush follows for both,
 * which all frames share that were written by then (WRITTEN).
 *
 * Space of the ring is counted in positions that only grow: [tail, head) is needed. A frame never
 * wraps: one that would is preceded by a skip frame of one block, which says "go on at the first
 * block".
 */
#include "store/local/engine.h"

#define VOLATILE_DELAY_NS \
	(5 * NSEC_PER_MSEC) /* how long a record waits when nobody waits for it \
	                     */
#define FRAME_CLOSE_BYTES(log) ((log)->meta_max / 4 * 3)

static struct frame *frame_of(struct log *g, uint64_t seq)
{
	return &g->frame[seq % FRAMES_MAX];
}

static uint64_t frame_blocks(const struct frame *f)
{
	return DIV_ROUND_UP(f->meta_len, BLOCK_BYTES) + f->data_count;
}

static void frame_ended(struct shard *s, struct frame *f);

/* All requests of @f that were under way have ended. */
static void frame_step(struct frame *f)
{
	if (f->state == FRAME_WRITING && f->by_flush && !f->status) {
		f->state = FRAME_WRITTEN;
		f->shard->log.written++;
	} else {
		frame_ended(f->shard, f);
	}
}

static void part_done(struct frame *f, int status)
{
	if (status && !f->status)
		f->status = status;
	if (--f->pending == 0)
		frame_step(f);
}

static void write_done(struct dio *d)
{
	part_done(container_of(d, struct frame, write), d->status);
}

static void skip_done(struct dio *d)
{
	part_done(container_of(d, struct frame, skip), d->status);
}

static void flush_done(struct dio *d)
{
	part_done(container_of(d, struct frame, flush), d->status);
}

/* Is there something that only a further mark settles? */
static bool mark_behind(const struct shard *s)
{
	return s->log.last_record > s->log.mark || space_waits_for_mark(s);
}

static void timer_fired(struct loop_timer *t)
{
	struct shard *s = container_of(t, struct shard, log.timer);

	if (frame_of(&s->log, s->log.next_seq)->records)
		log_want(s);
	else if (mark_behind(s))
		log_want_mark(s);
}

static void frame_open(struct shard *s)
{
	struct frame *f = frame_of(&s->log, s->log.next_seq);

	pst_assert(f->state == FRAME_IDLE);
	f->state = FRAME_OPEN;
	f->seq = s->log.next_seq;
	f->meta_len = sizeof(struct media_frame);
	f->records = f->data_count = 0;
	f->flags = 0;
	f->wanted = f->closed = false;
	f->status = 0;
}

int log_init(struct shard *s)
{
	struct log *g = &s->log;

	g->blocks = s->l->geo.log_blocks;
	g->meta_max =
	        (uint32_t)ALIGN_DOWN(MIN(256 * KIB, g->blocks * BLOCK_BYTES / 8), BLOCK_BYTES);
	g->data_max = (uint32_t)MIN(512, g->blocks / 8);
	g->inflight_max = MIN(MAX(s->l->opts.commits_max, 1), FRAMES_MAX - 2);
	g->timer.fired = timer_fired;
	for (unsigned i = 0; i < FRAMES_MAX; i++) {
		struct frame *f = &g->frame[i];

		f->shard = s;
		list_init(&f->waiters);
		f->write.done = write_done;
		f->flush.done = flush_done;
		f->skip.done = skip_done;
	}
	return 0;
}

/* Buffers come when a shard is first written: most shards of a small store never are. */
static int frame_buffers(struct shard *s, struct frame *f)
{
	struct log *g = &s->log;

	if (!f->meta)
		f->meta = mem_alloc_aligned(BLOCK_BYTES, g->meta_max);
	if (!f->data)
		f->data = mem_calloc(g->data_max, sizeof(*f->data));
	if (!f->iov)
		f->iov = mem_calloc(g->data_max + 1, sizeof(*f->iov));
	if (f->meta && f->data && f->iov && !f->skip_buf) /* last: it stands for all */
		f->skip_buf = mem_alloc_aligned(BLOCK_BYTES, BLOCK_BYTES);
	return f->skip_buf ? 0 : -ENOMEM;
}

void log_start_at(struct shard *s, uint64_t seq, uint64_t pos, uint64_t tail, uint64_t durable)
{
	struct log *g = &s->log;

	g->next_seq = seq;
	g->head = pos;
	g->tail = tail;
	g->durable = durable;
	g->mark = 0;
	g->last_record = durable;
	frame_open(s);
}

void log_done(struct shard *s)
{
	loop_timer_disarm(s->l->store.loop, &s->log.timer);
	for (unsigned i = 0; i < FRAMES_MAX; i++) {
		struct frame *f = &s->log.frame[i];

		for (uint32_t k = 0; k < f->data_count; k++)
			jblock_unref(s, f->data[k]);
		mem_free(f->meta);
		mem_free(f->data);
		mem_free(f->iov);
		mem_free(f->skip_buf);
	}
}

uint64_t log_used(const struct shard *s)
{
	return s->log.head - s->log.tail;
}

uint64_t log_open_frame(const struct shard *s)
{
	return s->log.next_seq;
}

/* Blocks that the open frame may cost once it has @more blocks: a skip included. */
static uint64_t cost_ahead(const struct shard *s, uint64_t frame_blks)
{
	const struct log *g = &s->log;
	uint64_t to_end = g->blocks - g->head % g->blocks;

	return frame_blks > to_end ? frame_blks + to_end : frame_blks;
}

int log_room(struct shard *s, uint32_t bytes, uint32_t blocks, bool urgent)
{
	struct log *g = &s->log;
	struct frame *f = frame_of(g, g->next_seq);
	uint64_t keep = urgent ? g->blocks / 16 : g->blocks / 4;
	uint64_t need;

	if (bytes > g->meta_max - sizeof(struct media_frame) || blocks > g->data_max)
		return -E2BIG;
	if (f->state != FRAME_OPEN)
		return -EAGAIN;
	if (unlikely(!f->skip_buf) && frame_buffers(s, f))
		return -ENOMEM;
	if (f->closed || f->meta_len + bytes > g->meta_max ||
	    f->data_count + blocks > g->data_max) {
		log_want(s);
		return -EAGAIN;
	}
	need = DIV_ROUND_UP(f->meta_len + bytes, BLOCK_BYTES) + f->data_count + blocks;
	if (g->head + cost_ahead(s, need) + keep > g->tail + g->blocks) {
		ckpt_want(s);
		return -EAGAIN;
	}
	return 0;
}

void *log_at(struct shard *s)
{
	struct frame *f = frame_of(&s->log, s->log.next_seq);

	pst_assert(f->state == FRAME_OPEN && f->meta);
	return f->meta + f->meta_len;
}

struct jblock *const *log_data(struct shard *s, uint32_t *ret_count)
{
	struct frame *f = frame_of(&s->log, s->log.next_seq);

	*ret_count = f->data_count;
	return f->data;
}

void log_append(struct shard *s, uint32_t bytes)
{
	struct log *g = &s->log;
	struct frame *f = frame_of(g, g->next_seq);

	pst_assert(f->meta_len + bytes <= g->meta_max && bytes % 8 == 0);
	if (!f->records)
		f->opened_ns = loop_now(s->l->store.loop);
	f->meta_len += bytes;
	f->records++;
	g->records++;
	g->last_record = f->seq;
	/* Somebody will wait, or the timer will: a record never stays in DRAM for long. */
	if (!g->timer.heap_index)
		(void)loop_timer_arm(s->l->store.loop, &g->timer, f->opened_ns + VOLATILE_DELAY_NS);
}

void log_append_data(struct shard *s, struct jblock *j)
{
	struct log *g = &s->log;
	struct frame *f = frame_of(g, g->next_seq);

	pst_assert(f->data_count < g->data_max);
	j->refs++;
	f->data[f->data_count++] = j;
}

int log_wait(struct shard *s, uint64_t frame, struct log_wait *w)
{
	struct log *g = &s->log;

	if (frame <= g->durable)
		return 1;
	pst_assert(frame <= g->next_seq);
	frame_of(g, frame)->wanted = true;
	list_push(&frame_of(g, frame)->waiters, &w->link);
	return -EAGAIN;
}

void log_want(struct shard *s)
{
	struct frame *f = frame_of(&s->log, s->log.next_seq);

	if (f->state == FRAME_OPEN && f->records)
		f->wanted = true;
}

uint64_t log_close_frame(struct shard *s)
{
	struct frame *f = frame_of(&s->log, s->log.next_seq);

	if (f->state != FRAME_OPEN || !f->records)
		return s->log.next_seq - 1;
	f->closed = f->wanted = true;
	return f->seq;
}

void log_want_mark(struct shard *s)
{
	s->log.mark_wanted = true;
}

/* --- sealing and writing --- */

static void frame_header(struct shard *s, struct frame *f)
{
	struct media_frame *m = (void *)f->meta;

	*m = (struct media_frame){
	        .magic = le32_make(FRAME_MAGIC),
	        .seq = le64_make(f->seq),
	        .pos = le64_make(f->pos),
	        .durable = le64_make(f->durable_field),
	        .log_id = s->l->super.log_id,
	        .meta_bytes = le32_make(f->meta_len),
	        .data_blocks = le32_make(f->data_count),
	        .shard = le16_make((uint16_t)s->id),
	        .flags = le16_make(f->flags),
	        .records = le32_make(f->records),
	        .epoch = le64_make(s->l->epoch),
	};
	m->crc = le32_make(crc32c(0, f->meta + 8, f->meta_len - 8));
}

static void frame_write(struct shard *s, struct frame *f)
{
	struct log *g = &s->log;
	uint32_t meta_blocks = (uint32_t)DIV_ROUND_UP(f->meta_len, BLOCK_BYTES);
	uint64_t at = s->l->geo.log_start + s->id * g->blocks + f->pos % g->blocks;

	memset(f->meta + f->meta_len, 0, (size_t)meta_blocks * BLOCK_BYTES - f->meta_len);
	frame_header(s, f);
	f->iov[0] = (struct iovec){f->meta, (size_t)meta_blocks * BLOCK_BYTES};
	for (uint32_t i = 0; i < f->data_count; i++)
		f->iov[i + 1] = (struct iovec){f->data[i]->data, BLOCK_BYTES};
	f->state = FRAME_WRITING;
	g->inflight++;
	g->commits++;
	f->pending++;
	if (f->by_flush) {
		dio_meta_write(s->l, &f->write, at, f->iov, f->data_count + 1,
		               (uint64_t)f->blocks * BLOCK_BYTES, false);
		return;
	}
	/* The frame itself is forced out by its own write. Data that was written elsewhere before
	 * its records were committed needs a flush, which may run beside it: it has completed
	 * already. */
	f->pending += dio_flush(s->l, &f->flush, true);
	dio_meta_write(s->l, &f->write, at, f->iov, f->data_count + 1,
	               (uint64_t)f->blocks * BLOCK_BYTES, true);
}

/* Is a flush after it as good as forcing it out? */
static bool flush_is_enough(const struct local *l)
{
	for (unsigned i = 0; i < l->geo.devs; i++)
		if (!l->dev[i]->info.fua_flushes)
			return false;
	return true;
}

/* From the poller, so that the frames that were written in one turn share the flush of the first. */
static void frames_flush(struct shard *s)
{
	struct log *g = &s->log;

	for (uint64_t seq = g->durable + 1; g->written && seq < g->next_seq; seq++) {
		struct frame *f = frame_of(g, seq);

		if (f->state != FRAME_WRITTEN)
			continue;
		g->written--;
		f->state = FRAME_WRITING;
		f->by_flush = false;
		f->pending = 1;
		if (!dio_flush(s->l, &f->flush, true))
			part_done(f, 0);
	}
}

static void frame_place(struct shard *s, struct frame *f)
{
	struct log *g = &s->log;

	f->blocks = (uint32_t)frame_blocks(f);
	f->pos = g->head;
	f->durable_field = g->durable;
	g->head += f->blocks;
	g->next_seq++;
	if (f->seq == s->ckpt.frame)
		s->ckpt.pos = g->head;
}

/* Frame @f would wrap: a block with its sequence says that it lies at the log's beginning. */
static void skip_write(struct shard *s, struct frame *f)
{
	struct log *g = &s->log;
	struct media_frame *m = (void *)f->skip_buf;

	memset(f->skip_buf, 0, BLOCK_BYTES);
	*m = (struct media_frame){
	        .magic = le32_make(FRAME_MAGIC),
	        .seq = le64_make(f->seq),
	        .pos = le64_make(g->head),
	        .durable = le64_make(g->durable),
	        .log_id = s->l->super.log_id,
	        .meta_bytes = le32_make(sizeof(*m)),
	        .shard = le16_make((uint16_t)s->id),
	        .flags = le16_make(FRAME_SKIP),
	        .epoch = le64_make(s->l->epoch),
	};
	m->crc = le32_make(crc32c(0, f->skip_buf + 8, sizeof(*m) - 8));
	f->skip_iov = (struct iovec){f->skip_buf, BLOCK_BYTES};
	f->pending++;
	dio_meta_write(s->l, &f->skip,
	               s->l->geo.log_start + s->id * g->blocks + g->head % g->blocks, &f->skip_iov,
	               1, BLOCK_BYTES, !f->by_flush);
	g->head = DIV_ROUND_UP(g->head, g->blocks) * g->blocks;
}

static void run_waiters(struct list *waiters, int status)
{
	struct list *n;

	while ((n = list_pop(waiters)) != NULL) {
		struct log_wait *w = list_entry(n, struct log_wait, link);

		w->durable(w, status);
	}
}

static bool seal_wanted(struct shard *s, const struct frame *f)
{
	struct log *g = &s->log;

	if (f->state != FRAME_OPEN || g->inflight >= g->inflight_max || s->l->stopped ||
	    s->l->opening)
		return false;
	if (f->records)
		return f->wanted || f->meta_len > FRAME_CLOSE_BYTES(g);
	return g->mark_wanted && g->inflight == 0 &&
	       (g->durable > g->mark || space_waits_for_mark(s));
}

int log_step(struct shard *s)
{
	struct log *g = &s->log;
	struct frame *f = frame_of(g, g->next_seq);
	uint64_t to_end = g->blocks - g->head % g->blocks;

	if (unlikely(g->written))
		frames_flush(s);
	if (!seal_wanted(s, f))
		return 0;
	if (frame_of(g, g->next_seq + 1)->state != FRAME_IDLE)
		return 0;
	if (frame_buffers(s, f))
		return 0;
	if (g->head + cost_ahead(s, frame_blocks(f)) > g->tail + g->blocks) {
		pst_assert(!f->records); /* log_room() saw to it */
		ckpt_want(s);
		return 0;
	}
	f->pending = 0;
	f->by_flush = flush_is_enough(s->l);
	f->write.commits = f->skip.commits = f->by_flush; /* what it flushes then */
	if (frame_blocks(f) > to_end)
		skip_write(s, f);
	if (!f->records)
		g->mark_wanted = false;
	frame_place(s, f);
	frame_open(s);
	frame_write(s, f);
	if (PLANTED(s->l, PLANT_ACK_BEFORE_FLUSH)) {
		struct list early;

		list_init(&early);
		list_splice(&early, &f->waiters);
		run_waiters(&early, 0);
	}
	return 1;
}

/* --- completion --- */

static void frame_retire(struct shard *s, struct frame *f, struct list *woken)
{
	for (uint32_t i = 0; i < f->data_count; i++)
		jblock_unref(s, f->data[i]);
	f->data_count = 0;
	f->state = FRAME_IDLE;
	list_splice(woken, &f->waiters);
}

static void frame_ended(struct shard *s, struct frame *f)
{
	struct log *g = &s->log;
	struct list woken;

	g->inflight--;
	f->state = FRAME_DONE;
	if (f->status) {
		local_stop(s->l, f->status, "the log of shard %u can't be written", s->id);
		return; /* R7: local_stop() answered everybody */
	}
	if (s->l->stopped)
		return;
	list_init(&woken);
	while ((f = frame_of(g, g->durable + 1))->state == FRAME_DONE && f->seq == g->durable + 1) {
		g->durable++;
		g->mark = MAX(g->mark, f->durable_field);
		frame_retire(s, f, &woken);
		s->jrnl.look = true;
	}
	run_waiters(&woken, 0);
	if (mark_behind(s) && !g->timer.heap_index)
		(void)loop_timer_arm(s->l->store.loop, &g->timer,
		                     loop_now(s->l->store.loop) + 4 * VOLATILE_DELAY_NS);
	shard_kick(s);
}

bool log_busy(const struct shard *s)
{
	return s->log.inflight > 0;
}

void log_fail_waiters(struct shard *s, int status)
{
	for (unsigned i = 0; i < FRAMES_MAX; i++)
		run_waiters(&s->log.frame[i].waiters, status);
}

int log_mark_sync(struct shard *s, uint64_t epoch)
{
	struct log *g = &s->log;
	uint8_t *block = mem_alloc_aligned(BLOCK_BYTES, BLOCK_BYTES);
	struct media_frame *m = (void *)block;
	int err;

	if (!block)
		return -ENOMEM;
	*m = (struct media_frame){
	        .magic = le32_make(FRAME_MAGIC),
	        .seq = le64_make(g->next_seq),
	        .pos = le64_make(g->head),
	        .durable = le64_make(g->next_seq - 1),
	        .log_id = s->l->super.log_id,
	        .meta_bytes = le32_make(sizeof(*m)),
	        .shard = le16_make((uint16_t)s->id),
	        .flags = le16_make(FRAME_END),
	        .epoch = le64_make(epoch),
	};
	m->crc = le32_make(crc32c(0, block + 8, sizeof(*m) - 8));
	err = meta_write_sync(s->l, s->l->geo.log_start + s->id * g->blocks + g->head % g->blocks,
	                      block, 1);
	mem_free(block);
	if (err)
		return err;
	frame_of(g, g->next_seq)->state = FRAME_IDLE;
	g->mark = g->next_seq - 1;
	g->durable = g->last_record = g->next_seq;
	g->next_seq++;
	g->head++;
	frame_open(s);
	return 0;
}

/* --- reading back --- */

bool frame_check(const struct local *l, unsigned shard, const struct media_frame *f, uint64_t pos)
{
	uint32_t meta = le32_get(f->meta_bytes), data = le32_get(f->data_blocks);
	uint64_t blocks = DIV_ROUND_UP((uint64_t)meta, BLOCK_BYTES) + data;

	return le32_get(f->magic) == FRAME_MAGIC && f->log_id == l->super.log_id &&
	       le16_get(f->shard) == shard && le64_get(f->pos) == pos &&
	       le64_get(f->durable) < le64_get(f->seq) && meta >= sizeof(*f) &&
	       meta <= FRAME_META_MAX && data <= FRAME_DATA_BLOCKS_MAX &&
	       blocks <= l->geo.log_blocks - pos % l->geo.log_blocks;
}
