/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * base - what every room stands on: assertions, errors, logging, lists, little-endian access,
 * checksums, randomness, hashing and option parsing. It knows nothing of any other room.
 *
 * Everything here may be called from any thread unless it says otherwise.
 */
#ifndef BASE_BASE_H
#define BASE_BASE_H

#include <endian.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "penstock/error.h"

#define KIB           1024ull
#define MIB           (1024ull * KIB)
#define GIB           (1024ull * MIB)
#define NSEC_PER_USEC 1000ull
#define NSEC_PER_MSEC 1000000ull
#define NSEC_PER_SEC  1000000000ull

#define ARRAY_LEN(a)                    (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define likely(x)                       __builtin_expect(!!(x), 1)
#define unlikely(x)                     __builtin_expect(!!(x), 0)
#define MIN(a, b)                       ((a) < (b) ? (a) : (b))
#define MAX(a, b)                       ((a) > (b) ? (a) : (b))
#define DIV_ROUND_UP(n, d)              (((n) + (d)-1) / (d))
#define ALIGN_DOWN(n, a)                ((n) & ~((uint64_t)(a)-1)) /* a: a power of two */
#define ALIGN_UP(n, a)                  ALIGN_DOWN((n) + (a)-1, a)
#define IS_ALIGNED(n, a)                (((uint64_t)(n) & ((uint64_t)(a)-1)) == 0)

/* --- assertions: on in release builds too; the slow kind only with -DPST_DEBUG --- */

_Noreturn void assert_failed(const char *expr, const char *file, int line, const char *func);

#define pst_assert(expr)                                                    \
	do {                                                                \
		if (unlikely(!(expr)))                                      \
			assert_failed(#expr, __FILE__, __LINE__, __func__); \
	} while (0)
#ifdef PST_DEBUG
#define pst_assert_slow(expr) pst_assert(expr)
#else
#define pst_assert_slow(expr) ((void)sizeof(!(expr)))
#endif

/* --- text --- */

/* Bytes of the UTF-8 character at @p, where @len are; 0: there is none. */
unsigned utf8_char(const char *p, size_t len);
/* UTF-8, and no control character in it (ASCII's, or U+0080 to U+009F)? */
bool text_plain(const char *s, size_t len);
/* Into @buf, for a line that people read: what is not plain is '?', what does not fit into @cap ends with "...".
 * Returns @buf, which may be @s. */
const char *text_show(char *buf, size_t cap, const char *s, size_t len);

/* --- errors and log --- */

/* Fills @err (may be NULL) and returns @code, so that `return err_set(err, -EINVAL, ...)` reads
 * well. */
int err_set(struct pst_err *err, int code, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
/* Puts "prefix: " before the text that @err already holds. Returns err->code (or @code if NULL). */
int err_prefix(struct pst_err *err, int code, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
#ifdef __clang_analyzer__
/* The analyzer does not see the bodies of other files: tell it that @code comes back. */
#define err_set(err, code, ...)    ((err_set)(err, code, __VA_ARGS__), (code))
#define err_prefix(err, code, ...) ((err_prefix)(err, code, __VA_ARGS__), (code))
#endif
/* Logs through the callback of pst_log_set(); formats nothing when the level is off. */
void log_line(enum pst_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define log_error(...) log_line(PST_LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(PST_LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(PST_LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(PST_LOG_DEBUG, __VA_ARGS__)

/* For lines that strangers can provoke, zeroed at first: so many in a second, others are counted. */
struct log_limit {
	uint64_t since_ns, untold;
	unsigned told;
};
/* May one more be told? Who tells it says how many were not (and sets @l->untold to 0). */
bool log_may(struct log_limit *l, uint64_t now_ns, unsigned per_second);
/*
 * A line about somebody who may be nobody (who was refused or cut off, or never said who he is), and comes as
 * often as he likes. The process tells of LOG_STRANGERS_PER_S of them, and how many it did not. Any thread.
 */
#define LOG_STRANGERS_PER_S 20
void log_stranger(enum pst_log_level level, const char *fmt, ...)
        __attribute__((format(printf, 2, 3)));

/* --- intrusive doubly linked list, circular, head is a node --- */

struct list {
	struct list *prev, *next;
};

static inline void list_init(struct list *l)
{
	l->prev = l->next = l;
}
static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}
static inline void list_insert_(struct list *n, struct list *prev, struct list *next)
{
	n->prev = prev;
	n->next = next;
	prev->next = n;
	next->prev = n;
}
static inline void list_push(struct list *head, struct list *n) /* at the tail */
{
	list_insert_(n, head->prev, head);
}
static inline void list_push_front(struct list *head, struct list *n)
{
	list_insert_(n, head, head->next);
}
/* Removes and makes @n a list of itself, so that removing it twice is harmless. */
static inline void list_del(struct list *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	list_init(n);
}
static inline struct list *list_pop(struct list *head) /* NULL when empty */
{
	struct list *n = head->next;

	if (n == head)
		return NULL;
	list_del(n);
	return n;
}
/* Moves all of @from to the tail of @to; @from is left empty. */
static inline void list_splice(struct list *to, struct list *from)
{
	if (list_empty(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	list_init(from);
}
#define list_entry(n, type, member)    container_of(n, type, member)
#define list_first(head, type, member) list_entry((head)->next, type, member)
/* &it->member, where @it may be the entry "of the head": one that is not there, and not aligned as
 * its type may ask. */
#define list_link_of(it, member) \
	((struct list *)(void *)((char *)(it) + offsetof(__typeof__(*(it)), member)))
#define list_for_each(it, head, member)                              \
	for (it = list_entry((head)->next, __typeof__(*it), member); \
	     list_link_of(it, member) != (head);                     \
	     it = list_entry(it->member.next, __typeof__(*it), member))
#define list_for_each_safe(it, tmp, head, member)                                      \
	for (it = list_entry((head)->next, __typeof__(*it), member),                   \
	    tmp = list_entry(list_link_of(it, member)->next, __typeof__(*it), member); \
	     list_link_of(it, member) != (head);                                       \
	     it = tmp, tmp = list_entry(list_link_of(it, member)->next, __typeof__(*it), member))

/* --- little-endian fields of on-media and on-wire structures --- */

typedef uint16_t le16; /* stored little-endian; read with le16_get and friends, never directly */
typedef uint32_t le32;
typedef uint64_t le64;
#define le16_get(x)  le16toh(x)
#define le32_get(x)  le32toh(x)
#define le64_get(x)  le64toh(x)
#define le16_make(x) htole16(x)
#define le32_make(x) htole32(x)
#define le64_make(x) htole64(x)

/* --- checksums (ISA-L) --- */

/* CRC32C (Castagnoli, RFC 3720 appendix B.4), of @len bytes, continuing from @crc (0 to begin). */
uint32_t crc32c(uint32_t crc, const void *buf, size_t len);
/* Of two pieces one behind the other, from the checksum of each; the second is CRC_PIECE long. */
#define CRC_PIECE 4096u
uint32_t crc32c_join(uint32_t first, uint32_t second);
/*
 * crc32c(0, @buf, CRC_PIECE), for who makes many that lie one behind the other: @first of them? Are there @more?
 * Two to three times as fast where they lie in no near cache.
 */
uint32_t crc32c_piece(const void *buf, bool first, bool more);

/* --- randomness: xoshiro256**, seeded, for simulation, sampling and back-off; not for secrets ---
 */

struct rng {
	uint64_t s[4];
};
void rng_seed(struct rng *r, uint64_t seed);
uint64_t rng_next(struct rng *r);
uint64_t rng_below(struct rng *r, uint64_t n); /* uniform in [0, n), n > 0 */
bool rng_chance(struct rng *r, double p);      /* true with probability p */

/* --- hashing of keys for in-memory tables (not for media) --- */

static inline uint64_t hash_u64(uint64_t x)
{
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ull;
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ull;
	return x ^ (x >> 32);
}

/* --- allocation: the libc's, through one door so that tests can make the n-th call fail --- */

/* As malloc, calloc, and free. Return NULL when memory is out, or when a test asked for it. */
void *mem_alloc(size_t len);
void *mem_calloc(size_t n, size_t len);
void *mem_realloc(void *p, size_t len);
void *mem_alloc_pages(size_t len); /* aligned to 4096, not zeroed: for data that is about to come */
void *mem_alloc_aligned(size_t align, size_t len); /* zeroed; align: a power of two */
/*
 * A slab: memory that lives long and is touched here and there. Zeroed, aligned to 4096; from 2 MiB
 * on it lies on huge pages where the kernel has them to give, since half of what a look-up in a
 * large index costs are otherwise misses of the address translation.
 */
void *mem_alloc_slab(size_t len);
void mem_free(void *p);
void mem_free_secret(void *p, size_t len); /* wiped first; NULL is fine */
/* Test-only: how many blocks that mem_free() has got since the last call had the bytes in them that
 * were given then; from now on those at @bytes (NULL: none) are looked for. Per thread. */
uint64_t mem_freed_with(const void *bytes, size_t len);
/* Test-only: the @n-th allocation from now (1 = next) and, if @all_after, every later one fails;
 * 0 switches it off. Per thread. Returns how many were asked for since the last call. */
uint64_t mem_alloc_fail_at(uint64_t n, bool all_after);

/* --- parsing and printing of sizes, and of URI-like options --- */

/* "4k", "1MiB", "2g", "512": powers of 1024; returns 0, or -EINVAL, or -ERANGE. */
int parse_size(const char *text, uint64_t *ret_bytes);
/* "1.5 GiB" into @buf; returns @buf. */
char *format_size(uint64_t bytes, char *buf, size_t buf_len);

/* A device or store string "PATH?key=value&key=value", split in place. */
#define OPTIONS_MAX 32
struct options {
	char *base; /* what stands before the '?' */
	unsigned count;
	struct {
		char *key, *value; /* value "" when there was no '=' */
		bool used;
	} kv[OPTIONS_MAX];
	char *storage;
	size_t storage_len;
};
/* Copies @text; -EINVAL with a sentence in @err on a bad or repeated option. options_done() frees, and
 * wipes: there are tokens among them. */
int options_parse(struct options *o, const char *text, struct pst_err *err);
void options_done(struct options *o);
/* Each returns 0 (with the default left in *val where the key is absent) or -EINVAL with a
 * sentence. */
int options_size(struct options *o, const char *key, uint64_t *val, struct pst_err *err);
int options_u64(struct options *o, const char *key, uint64_t *val, struct pst_err *err);
int options_bool(struct options *o, const char *key, bool *val, struct pst_err *err);
int options_double(struct options *o, const char *key, double *val, struct pst_err *err);
const char *options_str(struct options *o, const char *key); /* NULL when absent */
/* After all were taken: -EINVAL naming the first option that nobody asked for. */
int options_finish(struct options *o, const char *what, struct pst_err *err);

/* --- ordering --- */

/*
 * A full fence: everything before it is seen by the other side (a device, another process) before
 * anything behind it. ThreadSanitizer knows no fences: it gets an operation that is one on the
 * machines it runs on, on a word of this thread alone, so that it orders nothing else in its eyes.
 */
static inline void fence_full(void)
{
#if defined(__SANITIZE_THREAD__)
	static _Thread_local _Atomic uint32_t word;

	(void)atomic_fetch_add(&word, 1);
#else
	atomic_thread_fence(memory_order_seq_cst);
#endif
}

/* --- time --- */

uint64_t clock_mono_ns(void); /* CLOCK_MONOTONIC */
uint64_t clock_real_ns(void); /* CLOCK_REALTIME, since the epoch */

#endif
