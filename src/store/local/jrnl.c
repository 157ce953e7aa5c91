/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * jrnl - journaled blocks: small writes travel in the log with their data, stay in DRAM for
 * readers, and reach their home place later, sorted and many at a time.
 *
 * At most one jblock per address is `newest`: readers get it, and only it goes home. It may go home
 * once a mark covers its frame (R2) and the readers that might still be reading the old content from
 * the device have ended. When a newer one takes its place while it is on its way, the newer one
 * waits.
 *
 * A checkpoint may let go of the log up to frame F when no newest jblock is of a frame up to F. One
 * that was when it froze has gone home, or its space was freed, or a newer one has taken its place:
 * that one's frame is after F, so that the log which stays has it. Before the header says so the
 * frames of the freeing records must be durable, and those of the newer ones marked: then it is
 * noticed if they are damaged. So a block that is overwritten without a pause, of which no mark ever
 * covers the newest frame, does not hold a checkpoint up.
 */
#include "store/local/engine.h"

#define APPLY_IOS_MIN    4
#define APPLY_IOS_MAX    32
#define APPLY_RUN_BLOCKS 64
#define APPLY_BATCH      2048
#define SLAB_MIN_BLOCKS  16u
#define SLAB_MAX_BLOCKS  512u

struct apply_io { /* a run of neighbours on its way home */
	struct dio dio;
	struct apply_io *next; /* idle ones */
	struct shard *shard;
	uint32_t count, read_epoch;
	struct jblock *j[APPLY_RUN_BLOCKS];
	uint8_t *buf;
};

static struct jblock **bucket(struct jrnl *n, uint64_t addr)
{
	return &n->hash[hash_u64(addr) & n->hash_mask];
}

/*
 * Blocks come from slabs that live as long as the store: the blocks, then what is said of them. They grow with
 * the journal's use, or are all there from the start: the kernel takes longer to find and clear memory for a
 * block than a write takes that goes into it.
 */
struct jrnl_slab {
	struct jrnl_slab *next;
	uint8_t *data;
	struct jblock block[];
};

static int slab_add(struct jrnl *n)
{
	unsigned count = (unsigned)MIN(MAX(n->slab_blocks, SLAB_MIN_BLOCKS), SLAB_MAX_BLOCKS);
	struct jrnl_slab *slab = mem_alloc(sizeof(*slab) + count * sizeof(slab->block[0]));

	if (!slab)
		return -ENOMEM;
	slab->data = mem_alloc_slab((size_t)count * BLOCK_BYTES);
	if (!slab->data) {
		mem_free(slab);
		return -ENOMEM;
	}
	slab->next = n->slab;
	n->slab = slab;
	n->slab_blocks += count;
	for (unsigned i = count; i-- > 0;) {
		slab->block[i].data = slab->data + (size_t)i * BLOCK_BYTES;
		slab->block[i].hash_next = n->spare;
		n->spare = &slab->block[i];
	}
	return 0;
}

int jrnl_init(struct shard *s, uint64_t limit_blocks, bool ahead)
{
	struct jrnl *n = &s->jrnl;
	unsigned size = 64;

	n->limit = MAX(limit_blocks, 64);
	while (size < n->limit && size < (1u << 20))
		size *= 2;
	n->hash_mask = size - 1;
	list_init(&n->dirty);
	n->hash = mem_calloc(size, sizeof(*n->hash));
	if (!n->hash)
		return -ENOMEM;
	while (ahead && n->slab_blocks < n->limit + JOURNAL_WRITE_BLOCKS) {
		if (slab_add(n))
			return -ENOMEM;
	}
	return 0;
}

struct jblock *jblock_new(struct shard *s)
{
	struct jblock *j;
	uint8_t *data;

	if (s->jrnl.allocated >= s->jrnl.limit + JOURNAL_WRITE_BLOCKS && !s->l->recovering)
		return NULL;
	if (unlikely(!s->jrnl.spare) && slab_add(&s->jrnl))
		return NULL;
	j = s->jrnl.spare;
	s->jrnl.spare = j->hash_next;
	data = j->data;
	memset(j, 0, sizeof(*j));
	j->data = data;
	list_init(&j->dirty);
	j->refs = 1;
	s->jrnl.allocated++;
	return j;
}

void jblock_unref(struct shard *s, struct jblock *j)
{
	if (!j || --j->refs)
		return;
	pst_assert(!j->newest);
	s->jrnl.allocated--;
	j->hash_next = s->jrnl.spare;
	s->jrnl.spare = j;
}

struct jblock *jrnl_find(struct shard *s, uint64_t addr)
{
	struct jblock *j;

	if (!s->jrnl.count)
		return NULL;
	for (j = *bucket(&s->jrnl, addr); j && j->addr != addr; j = j->hash_next)
		;
	return j;
}

static void unhash(struct shard *s, struct jblock *j)
{
	struct jblock **at = bucket(&s->jrnl, j->addr);

	while (*at != j)
		at = &(*at)->hash_next;
	*at = j->hash_next;
	j->newest = false;
	list_del(&j->dirty);
	s->jrnl.count--;
	if (j->frame <= s->jrnl.until)
		s->jrnl.left--;
	jblock_unref(s, j);
}

void jrnl_insert(struct shard *s, struct jblock *j, uint64_t addr, uint64_t frame)
{
	struct jrnl *n = &s->jrnl;
	struct jblock *old = jrnl_find(s, addr), **b;

	j->addr = addr;
	j->frame = frame;
	j->read_epoch = s->read_epoch;
	if (old) {
		j->wait_apply = old->applying || old->wait_apply;
		if (s->ckpt.state != CKPT_IDLE && old->frame <= n->until)
			n->renewed = frame;
		unhash(s, old);
	}
	b = bucket(n, addr);
	j->hash_next = *b;
	*b = j;
	j->refs++;
	j->newest = true;
	n->count++;
	list_push(&n->dirty, &j->dirty);
	if (j->frame <= n->until)
		n->left++;
}

/* A checkpoint that waits for the block lets go of the log that holds it. Until the frame that frees
 * the space is durable, a crash brings back the array that has it mapped. */
static void forget(struct shard *s, struct jblock *j)
{
	if (s->ckpt.state != CKPT_IDLE && j->frame <= s->jrnl.until)
		s->jrnl.forgot = log_open_frame(s);
	unhash(s, j);
}

void jrnl_forget(struct shard *s, uint64_t addr, uint32_t blocks)
{
	if (blocks > s->jrnl.count) { /* fewer to look through than to look up */
		struct jblock *j, *next;

		list_for_each_safe (j, next, &s->jrnl.dirty, dirty)
			if (j->addr >= addr && j->addr - addr < blocks)
				forget(s, j);
		return;
	}
	for (uint32_t i = 0; i < blocks; i++) {
		struct jblock *j = jrnl_find(s, addr + i);

		if (j)
			forget(s, j);
	}
}

bool jrnl_wants_apply(const struct shard *s)
{
	const struct jrnl *n = &s->jrnl;

	return n->count && (n->left || n->allocated > n->limit / 2);
}

static void applied(struct dio *d)
{
	struct apply_io *io = container_of(d, struct apply_io, dio);
	struct shard *s = io->shard;

	s->jrnl.applying--;
	s->jrnl.look = true;
	reader_exit(s, io->read_epoch);
	if (d->status)
		local_stop(s->l, d->status, "a journaled block can't be written to its place");
	for (uint32_t i = 0; i < io->count; i++) {
		struct jblock *j = io->j[i], *now;

		j->applying = false;
		if (j->newest && !d->status)
			unhash(s, j);
		else if (!d->status && (now = jrnl_find(s, j->addr)) != NULL)
			now->wait_apply = false;
		jblock_unref(s, j);
	}
	mem_free(io->buf);
	io->next = s->jrnl.idle_io;
	s->jrnl.idle_io = io;
	shard_kick(s);
}

static int by_addr(const void *a, const void *b)
{
	const struct jblock *x = *(struct jblock *const *)a, *y = *(struct jblock *const *)b;

	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

/* R2 and the readers were looked at when the batch was made: what was true stays true, since who
 * begins to read later finds the jblock. It may have been replaced since. */
static bool may_go(const struct jblock *j)
{
	return j->newest && !j->applying && !j->wait_apply;
}

/* Sends the run j[0..count) home. A run of one goes from its own memory, a longer one is gathered.
 */
static int send_run(struct shard *s, struct jblock **j, uint32_t count)
{
	struct apply_io *io = s->jrnl.idle_io;
	uint8_t *buf = j[0]->data;

	if (io)
		s->jrnl.idle_io = io->next;
	else
		io = mem_alloc(sizeof(*io));
	if (!io)
		return -ENOMEM;
	memset(&io->dio, 0, sizeof(io->dio));
	io->buf = NULL;
	if (count > 1) {
		io->buf = buf = mem_alloc_pages((size_t)count * BLOCK_BYTES);
		if (!buf) {
			mem_free(io);
			return -ENOMEM;
		}
		for (uint32_t i = 0; i < count; i++)
			memcpy(buf + (size_t)i * BLOCK_BYTES, j[i]->data, BLOCK_BYTES);
	}
	io->shard = s;
	io->count = count;
	io->dio.done = applied;
	/* Counts as a reader, so that this space is not given to others while the write is under
	 * way. */
	io->read_epoch = reader_enter(s);
	for (uint32_t i = 0; i < count; i++) {
		io->j[i] = j[i];
		j[i]->refs++;
		j[i]->applying = true;
	}
	s->jrnl.applying++;
	dio_data(s->l, &io->dio, BDEV_WRITE, j[0]->addr, count, buf, NULL);
	return 0;
}

/* Gathers the next batch, oldest first, and sorts it by address. */
static void batch_fill(struct shard *s)
{
	struct jrnl *n = &s->jrnl;
	struct jblock *j;

	n->batch_count = n->batch_at = 0;
	n->look = false;
	if (!n->batch)
		n->batch = mem_alloc(sizeof(*n->batch) * APPLY_BATCH);
	if (!n->batch) {
		n->look = true;
		return;
	}
	/* What is sent counts as a reader of the new epoch, and does not hold up the rest of the
	 * batch. */
	reader_turn(s);
	list_for_each (j, &n->dirty, dirty) {
		if (n->batch_count == APPLY_BATCH) {
			n->look = true;
			break;
		}
		if (j->frame > s->log.mark) {
			log_want(s);
			log_want_mark(s);
			break; /* the list is in order of frames */
		}
		if (!may_go(j))
			continue;
		if (!reader_drained(s, j->read_epoch)) {
			n->look = true; /* no event tells when they end */
			continue;
		}
		j->refs++;
		n->batch[n->batch_count++] = j;
	}
	qsort(n->batch, n->batch_count, sizeof(*n->batch), by_addr);
}

static uint32_t run_length(struct shard *s)
{
	struct jrnl *n = &s->jrnl;
	struct jblock **j = &n->batch[n->batch_at];
	uint32_t run = 1, max = MIN(n->batch_count - n->batch_at, APPLY_RUN_BLOCKS);

	while (run < max && j[run]->addr == j[0]->addr + run &&
	       j[run]->addr % s->l->geo.region_span && may_go(j[run]))
		run++;
	return run;
}

/*
 * How many writes home may be under way. They compete with the log for the device, and who waits
 * for the log is in a hurry: few while there is room, more as it gets short, so that the two come
 * to an even pace before anybody has to wait. All when somebody waits for the checkpoint.
 */
static uint32_t ios_max(const struct shard *s)
{
	const struct jrnl *n = &s->jrnl;
	uint64_t log = log_used(s) * 64 / s->log.blocks;
	uint64_t dram = n->allocated * 64 / n->limit, full = MAX(log, dram);

	if (!list_empty(&s->ckpt.waiters) || full >= 44)
		return APPLY_IOS_MAX;
	return full <= 32 ? APPLY_IOS_MIN
	                  : APPLY_IOS_MIN +
	                            (uint32_t)(full - 32) * (APPLY_IOS_MAX - APPLY_IOS_MIN) / 12;
}

void jrnl_apply_step(struct shard *s)
{
	struct jrnl *n = &s->jrnl;
	uint32_t most;

	if (!jrnl_wants_apply(s) || s->l->stopped)
		return;
	most = ios_max(s);
	if (n->applying > most / 2)
		return;
	if (n->batch_at == n->batch_count) {
		if (!n->look)
			return;
		batch_fill(s);
	}
	while (n->batch_at < n->batch_count && n->applying < most) {
		uint32_t run = 1;

		if (may_go(n->batch[n->batch_at])) {
			run = run_length(s);
			if (send_run(s, &n->batch[n->batch_at], run))
				break;
		}
		while (run--)
			jblock_unref(s, n->batch[n->batch_at++]);
	}
}

void jrnl_home_begin(struct shard *s, uint64_t frame)
{
	struct jrnl *n = &s->jrnl;
	struct jblock *j;

	n->until = frame;
	n->left = n->forgot = n->renewed = 0;
	n->look = true;
	list_for_each (j, &n->dirty, dirty)
		n->left += j->frame <= frame;
}

void jrnl_done(struct shard *s)
{
	struct jrnl *n = &s->jrnl;

	if (!n->hash)
		return;
	while (n->batch_at < n->batch_count)
		jblock_unref(s, n->batch[n->batch_at++]);
	mem_free(n->batch);
	while (!list_empty(&n->dirty))
		unhash(s, list_first(&n->dirty, struct jblock, dirty));
	while (n->slab) {
		struct jrnl_slab *slab = n->slab;

		n->slab = slab->next;
		mem_free(slab->data);
		mem_free(slab);
	}
	while (n->idle_io) {
		struct apply_io *io = n->idle_io;

		n->idle_io = io->next;
		mem_free(io);
	}
	n->spare = NULL;
	mem_free(n->hash);
	n->hash = NULL;
}
