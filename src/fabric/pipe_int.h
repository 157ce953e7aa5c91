/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pipe_int - the channel between two processes of one host: its layout in shared memory, its frames
 * on the control socket, and what its files share. docs/fabric.md has the tables. Private to this
 * room.
 *
 * Each end makes one piece of shared memory, its inbox, and shows it to the other, which writes into
 * it and never reads it; the owner reads it and never writes it. So there are no read-modify-write
 * cycles and no reads across, and the inboxes could lie behind a bus that only writes are cheap on
 * (a SmartNIC's). Words that are used together with others are written last, after what they stand
 * for.
 *
 *   1. A message is written, then the tail. The owner takes what lies before the tail.
 *   2. Room. The owner tells how much it has taken by writing into the *other's* inbox (done): when it
 *      finds nothing more, or has taken much. It has told all when it goes to sleep.
 *   3. Sleep. An end that goes to sleep writes so into the other's inbox (asleep, a number that is
 *      another one each time), and then looks at its tail once more; one that has written a tail
 *      looks whether the other sleeps. A full fence on both sides between the two steps: one of them
 *      sees the other. Then it rings, by the eventfd that came with the inbox, once per number.
 *   4. Windows. Their table lies in the inbox of who transfers. It says in the owner's inbox which
 *      window it is busy with, and then looks at the table again; the owner, to close it, clears its
 *      entry, and then looks whether the other is busy with it. Fences as in 3. So closing costs
 *      nothing unless a copy is going on at that moment.
 *   5. What is read of an inbox is read once, and checked: the other end is hostile. Messages are
 *      copied out before their handler sees them.
 *
 * The control socket carries what happens once: the inboxes, the memory of regions, and the end: its
 * hang-up is the peer's death.
 */
#ifndef FABRIC_PIPE_INT_H
#define FABRIC_PIPE_INT_H

#include <stdatomic.h>

#include "fabric/fabric_int.h"
#include "net/net.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the layout is little-endian");

/* --- the inbox --- */

#define PIPE_ALIGN         65536u /* of the ring: no page is larger */
#define PIPE_RING_MIN      65536u
#define PIPE_RING_MAX      (64u << 20)
#define PIPE_RING_MSGS     32u    /* of the longest, in a ring that is not as large as may be */
#define PIPE_INLINE_MAX    8192u  /* two copies more cost less than a window does */
#define PIPE_WINDOWS_LIMIT 16384u /* of one end */
#define PIPE_LISTS         32u    /* windows of several pieces, of one end */
#define PIPE_LIST_PIECES   64u
#define PIPE_LIST_NONE     UINT32_MAX
#define PIPE_REGIONS       64u /* of one end, known to the other */
#define PIPE_MAPPED_MAX    (64 * GIB)

/* A window, as its owner wrote it. */
struct pipe_slot {
	_Atomic uint64_t key; /* 0: none */
	uint64_t addr;        /* in the region; unused with a list */
	uint64_t len;
	uint32_t region;
	uint32_t list; /* or PIPE_LIST_NONE */
};
_Static_assert(sizeof(struct pipe_slot) == 32, "OFFSET table in docs/fabric.md");

struct pipe_piece {
	uint64_t addr, len;
};

struct pipe_inbox {
	_Alignas(64) _Atomic uint64_t tail;   /* bytes written to the ring, ever */
	_Alignas(64) _Atomic uint64_t done;   /* bytes (low half), messages (high half) taken */
	_Alignas(64) _Atomic uint32_t asleep; /* 0: awake; else a number and PIPE_WANTS_ROOM */
	_Alignas(64) _Atomic uint64_t busy;   /* the window that is being copied to or from, or 0 */
	_Alignas(64) struct pipe_slot slot[]; /* then the lists, then at ring_off the ring */
};
_Static_assert(sizeof(struct pipe_inbox) == 256, "OFFSET table in docs/fabric.md");

#define PIPE_WANTS_ROOM 1u /* in asleep: ring when there is room, too */
#define PIPE_ASLEEP     2u
#define PIPE_ASLEEP_ONE 4u /* the number's unit */

/* A message in the ring: its length (8 bytes), its bytes, and 0 to 7 more to the next multiple of 8.
 * It may run over the ring's end, which is mapped twice. */
#define PIPE_HEAD 8u

/* A window's key: slot, rights, and a number that never comes again. */
#define PIPE_KEY_RIGHTS_SHIFT 16
#define PIPE_KEY_COUNT_SHIFT  18

/* --- frames of the control socket: 64 bytes each --- */

#define PIPE_MAGIC   0x31455049502d5350ull /* "PS-PIPE1" */
#define PIPE_VERSION 1

enum pipe_frame_type {
	PIPE_HELLO = 1,       /* with two descriptors: the inbox, its bell */
	PIPE_REGION = 2,      /* with one: the region's memory */
	PIPE_REGION_OK = 3,   /* it is mapped */
	PIPE_REGION_BAD = 4,  /* it can't be: value is an errno value */
	PIPE_REGION_GONE = 5, /* unmap it */
	PIPE_BYE = 6,         /* the end, on purpose */
};

struct pipe_frame {
	le64 magic;
	le16 version;
	le16 type;
	le32 id;    /* of a region */
	le64 value; /* a length, or an error */
	struct {
		le32 msg_max, msg_credits;
		le32 windows, lists; /* places in the inbox */
		le32 ring_bytes, ring_off;
	} hello;
	uint8_t zero[16];
};
_Static_assert(sizeof(struct pipe_frame) == 64, "OFFSET table in docs/fabric.md");

/* --- in this process --- */

/* An inbox, mapped with its ring twice in a row. */
struct pipe_map {
	struct pipe_inbox *box;
	uint8_t *ring;
	uint32_t ring_bytes, ring_off;
	uint32_t windows, lists;
};

enum pipe_state { PIPE_CONNECTING, PIPE_UP, PIPE_DOWN, PIPE_CLOSING };

enum region_state { REGION_NONE, REGION_SHOWN, REGION_OK, REGION_BAD };

struct pipe {
	struct chan c;
	struct pipe_loop *pl;
	struct list link; /* in pl->active or pl->parked */
	enum pipe_state state;
	int status;
	bool parked;

	/* sending */
	struct pipe_map out; /* the peer's inbox */
	uint64_t tail;
	uint32_t room;    /* bytes known to be free */
	uint32_t credits; /* messages */
	uint32_t credits_max, sent;
	uint32_t need; /* bytes that ready() waits for, with want_room */
	bool want_room;
	bool want_place, place_came; /* of a window, a transfer, a region */
	uint32_t rung;               /* the last asleep that was rung for */

	/* receiving */
	struct pipe_map in;  /* our inbox */
	uint64_t head, told; /* told: as the peer knows it */
	uint32_t got, told_got;
	uint32_t asleep; /* as the peer was last told */
	uint32_t number; /* of the last sleep */
	uint32_t idle;   /* polls that found nothing */
	uint8_t *copy;   /* of the message that is with its handler */

	/* windows and transfers */
	struct list finished;                       /* chan_xfer, whose done() is due */
	struct list windows, closing;               /* chan_window */
	uint64_t close_by_ns;                       /* when waiting for a busy peer ends */
	uint64_t window_number;                     /* of the next key */
	uint32_t xfers, windows_count, windows_max; /* the smaller of both ends' */
	uint16_t *slots_free;
	uint32_t lists_free; /* a bit each */
	struct {
		uint32_t id;
		enum region_state state;
	} shown[PIPE_REGIONS]; /* ours, to the peer */
	struct {
		uint32_t id;
		uint8_t *addr; /* NULL: none */
		uint64_t len;
	} mapped[PIPE_REGIONS]; /* the peer's */
	uint64_t mapped_bytes;

	/* the control socket, the bells */
	struct net_sock *sock; /* NULL: closed */
	bool sock_gone;
	bool bye, hung_up;
	struct loop_timer timer; /* of the handshake */
	struct loop_fd bell;     /* ours: rung by the peer */
	bool bell_watched;
	int out_bell; /* the peer's, or -1 */
	struct loop_io ring_io;
	bool ringing, ring_again;
	struct pipe_listener *listener; /* before it is up */
	bool was_up;
	struct fabric_opts opts;
	int inbox_fd;
	bool hello_sent;
};

struct pipe_loop {
	struct loop_part part;
	struct loop *loop;
	struct loop_poller poller;
	struct list active, parked;
	struct list *next; /* cursor of the running pass */
	unsigned users;    /* channels and listeners */
	uint32_t region_id;
	struct mem_domain domain; /* a region's key is its id */
	struct list regions;      /* pipe_region: those that are registered */
};

/* pipe.c */
extern const struct chan_ops pipe_ops;
void pipe_activate(struct pipe *p); /* it is polled from now on */
void pipe_enlist(struct pipe *p);   /* the first time */
void pipe_delist(struct pipe *p);
void pipe_place_came(struct pipe *p);         /* ready(), if that is waited for */
void pipe_broken(struct pipe *p, int status); /* goes down, in a later turn */
void pipe_bell_rung(struct loop_io *io, int res, uint32_t cqe_flags);
void pipe_bell_ready(struct loop_fd *f, uint32_t revents);
int pipe_loop_poll(struct loop_poller *lp);
bool pipe_loop_may_sleep(struct loop_poller *lp);
bool pipe_loop_sleeps(struct loop_poller *lp);
/* Takes what the peer wrote and was not looked at. For the fuzzer, too. */
int pipe_receive(struct pipe *p);

/* pipe_xfer.c */
int pipe_window_open(struct chan *c, struct chan_window *w);
void pipe_window_close(struct chan *c, struct chan_window *w);
int pipe_write(struct chan *c, struct chan_xfer *x);
int pipe_read(struct chan *c, struct chan_xfer *x);
int pipe_xfers_finish(struct pipe *p);       /* runs what is due; how many */
int pipe_windows_check(struct pipe *p);      /* those that were busy */
void pipe_windows_close_all(struct pipe *p); /* the channel ends */
void pipe_regions_end(struct pipe *p);
/* A frame about regions; @fd is its descriptor or -1, taken. -EPROTO: it makes no sense. */
int pipe_region_frame(struct pipe *p, const struct pipe_frame *f, int fd);
int pipe_region_reg(struct mem_domain *d, struct mem_region *r, uint64_t *ret_key);
void pipe_region_unreg(struct mem_domain *d, struct mem_region *r, uint64_t key);
void pipe_regions_unregister(struct pipe_loop *pl); /* before the domain ends */

/* pipe_connect.c */
extern struct fabric_provider pipe_provider;
/* Sends a frame, with @fd (which is dup'ed) unless that is -1. */
int pipe_frame_send(struct pipe *p, struct pipe_frame *f, int fd);
void pipe_free(struct pipe *p);
void pipe_loop_put(struct pipe_loop *pl); /* one user less */
void pipe_sock_end(struct pipe *p);       /* says goodbye */
void pipe_never_up(const struct pipe *p); /* of one that a listener has: says why */

/* pipe_map.c */
int pipe_map_new(struct pipe_map *ret_map, int *ret_fd, const struct fabric_opts *opts);
/* Maps the inbox that the peer has described and shown. -EPROTO, -ENOMEM ... */
int pipe_map_peer(struct pipe_map *ret_map, int fd, const struct pipe_frame *hello);
void pipe_unmap(struct pipe_map *m);
/* Shared memory that can't be taken away under our feet, of @len bytes at least. 0, or -EPROTO. */
int pipe_fd_check(int fd, uint64_t len);
struct pipe_piece *pipe_list(const struct pipe_map *m, uint32_t list);

#endif
