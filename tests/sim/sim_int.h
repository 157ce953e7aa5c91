/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sim - whole stacks in one thread, from a seed, on devices whose power is cut, with a model as the
 * oracle. Everything that happens follows from the seed and the command line.
 *
 * Terms. The *subject* is the stack under test. A *lane* is a virtual client: it has one op in
 * flight at a time and changes only what it owns, so that the order of ops of different lanes does
 * not matter for the state. The *state* is what the oracle knows: `cur` has every op that
 * completed, `base` only those that must survive a power cut. What is in `cur` but not in `base`,
 * and what is in flight, is *pending*.
 *
 * What is checked.
 *  1. Each answer, against `cur` (sim_lane.c).
 *  2. After each cut: of each lane's pending ops a prefix happened, wholly, and the rest did not
 *     (the replay records say the same of it); what had completed before a surviving op of the same
 *     container was submitted survived too; the whole store, snapshots and usage included, is
 * `base` and those ops (sim_cut.c).
 *  3. An op sent again after the cut under its token is executed once in all.
 *  4. fsck finds nothing.
 */
#ifndef TESTS_SIM_INT_H
#define TESTS_SIM_INT_H

#include "bdev/fault.h"
#include "gen.h"
#include "model_store.h"
#include "ops.h"

#define SIM_DEVS_MAX     3
#define SIM_LANES_MAX    12
#define SIM_REACTORS_MAX 4
#define SIM_VIEWS_MAX    4
#define SIM_OIDS         4 /* objects that a lane owns in a container */

/* What a seed is about. */
struct sim_profile {
	unsigned devs;
	uint64_t dev_bytes;
	uint64_t journal_bytes;
	unsigned shards;
	unsigned lanes;
	unsigned conts; /* that object lanes share */
	uint32_t io_max_bytes;
	uint64_t span_bytes;
	bool names;         /* the fs layer on top, and lanes that use it */
	bool full;          /* a store that runs full */
	bool quota;         /* containers that run into quotas */
	bool read_faults;   /* -EIO and flipped bits on reads */
	bool mirror_damage; /* one device's metadata is damaged while the power is off */
	bool delays;        /* completions of the devices are late and out of order */
	bool torn;          /* cuts strike at a chosen write, not at a chosen moment */
};

struct sim;

/* The stack under test. */
struct subject {
	const char *name;
	bool names; /* takes a names layer */
	/* A store of nothing. */
	void (*format)(struct sim *sim);
	/* Opens it: sim->store. 0 or a negative errno value with a sentence. */
	int (*open)(struct sim *sim, struct pst_err *err);
	/* Power is gone: ends the store without another write; ops in flight end. Keeps what the
	 * devices hold. */
	void (*crash)(struct sim *sim);
	/* Closes it in peace. */
	int (*close)(struct sim *sim, struct pst_err *err);
	bool (*power_lost)(struct sim *sim); /* a device struck by itself */
	int (*fsck)(struct sim *sim, struct pst_err *err);
	void (*forget)(struct sim *sim); /* nothing is left */
	void (*stir)(struct sim *sim);   /* faults on, as the profile has them */
	void (*calm)(struct sim *sim);   /* faults off */
	/* Is there such a planted bug? */
	bool (*plant)(const char *name);
};
extern const struct subject subject_model;
extern const struct subject subject_local;

enum sim_kind {
	SIM_OBJ, /* gen_op */
	SIM_FLUSH,
	SIM_CONT_CREATE,
	SIM_CONT_DESTROY,
	SIM_CONT_SET,
	SIM_SNAP_CREATE,
	SIM_SNAP_DESTROY,
	SIM_NAME, /* an op of the fs layer */
};

struct lane;
struct name_op;

/* One op of a lane, with all its memory, for as long as anybody may have to execute it again on a
 * model: counted. */
struct sim_op {
	unsigned refs;
	enum sim_kind kind;
	struct lane *lane;
	struct gen_op *gen;       /* SIM_OBJ */
	struct name_op *name_op;  /* SIM_NAME */
	struct pst_op op;         /* the others */
	struct pst_op *submitted; /* &op, or the gen_op's or name_op's */
	struct pst_cont_info cont_info;
	struct pst_snap_info snap_info;
	char cont_name[16], snap_name[16];
	uint32_t cont;
	bool flushes; /* what ended before it is durable when it has ended */
	bool mutates, is_volatile, submitted_yet, ended, resent;
	bool must;     /* a durable snapshot contains it */
	bool survived; /* while a cut is looked at */
	bool repeat;   /* sent again although it had happened */
	uint64_t submit_seq, end_seq;
	struct model *snap_base;  /* of a snapshot taken among changes: what it has at least */
	struct list pending_link; /* lane->pending */
	struct list ended_link;   /* sim->ended, then sim->recent */
};

struct lane {
	struct sim *sim;
	unsigned index;
	enum { LANE_OBJECTS, LANE_ADMIN, LANE_NAMES } role;
	struct rng rng;
	bool tokens;           /* its changes carry replay tokens */
	uint64_t seq;          /* of its tokens */
	struct sim_op *flying; /* submitted or about to be; NULL: idle */
	struct sim_op *resend; /* after a cut: to be sent again */
	struct list pending;   /* of sim_op, in order */
	unsigned pending_count;
	/* LANE_OBJECTS */
	unsigned cont_index;
	struct pst_oid oids[SIM_OIDS];
	/* LANE_ADMIN: its own container, and how far it is */
	char own_name[16];
	uint32_t own; /* 0: none now */
	unsigned own_serial;
	/* LANE_NAMES: see sim_names.c */
	struct name_lane *names;
};

/* A container that object lanes share. */
struct shared_cont {
	char name[16];
	uint32_t id;
	uint64_t quota_bytes, quota_objects;
	struct {
		char name[16];
		uint64_t view;
		bool dying;
	} snap[SIM_VIEWS_MAX];
	unsigned snap_serial;
	uint64_t used_high, objects_high; /* the most that it was seen to use */
	bool frozen;                      /* a snapshot wants quiet */
	struct sim_op *taking;            /* a snapshot under way */
};

struct names_state;

/* What the oracle knows. */
struct state {
	struct model *model;
	struct names_state *names; /* NULL without the fs layer */
};

struct sim {
	uint64_t seed;
	unsigned ops_target, cuts;
	unsigned reactors;
	const char *plant;
	const char *without; /* features to leave out, to see what a failure needs; or NULL */
	bool verbose;
	bool paranoid; /* compare what an op touched as soon as it has ended */
	const struct subject *subject;
	void *subject_priv;
	struct sim_profile profile;
	struct rng rng;
	struct loop *loop;
	struct store *store; /* NULL: closed */
	struct bdev *dev[SIM_DEVS_MAX];
	struct shared_cont cont[4];
	struct lane lane[SIM_LANES_MAX];
	unsigned lanes;
	struct state base, cur;
	struct list ended;  /* ops that ended and were not looked at */
	struct list recent; /* ended changes that a snapshot under way may contain */
	uint64_t clock;     /* counts submissions and ends */
	unsigned ops_done, cuts_done;
	unsigned flying;         /* submitted, not settled */
	unsigned flying_unheard; /* submitted, not ended */
	bool lights_out;         /* power is cut: errors are expected */
	bool recovery_cut;       /* the recovery under way was cut before */
	uint64_t trace;
	uint64_t turns_idle;
};

/* --- sim.c --- */
_Noreturn void sim_fail(struct sim *sim, const char *fmt, ...)
        __attribute__((format(printf, 2, 3)));
void sim_say(struct sim *sim, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void sim_trace(struct sim *sim, uint64_t x);
/* Runs one seed to its end; returns the hash of all that happened. Fails by sim_fail(). */
uint64_t sim_run(struct sim *sim);
void sim_turn(struct sim *sim);
bool sim_without(const struct sim *sim, const char *feature);
/* The command that runs the seed again. */
void sim_print_replay(const struct sim *sim);

/* --- sim_lane.c --- */
void lanes_init(struct sim *sim);
void lanes_done(struct sim *sim);
void lanes_issue(struct sim *sim);  /* idle lanes get work, by chance */
void lanes_push(struct sim *sim);   /* what the store was too busy for is offered again */
void lanes_settle(struct sim *sim); /* ops that ended are checked and taken into the state */
struct sim_op *sim_op_new(struct lane *lane, enum sim_kind kind);
void sim_op_unref(struct sim_op *o);
/* It happened: what the lanes know follows. */
void sim_op_took_effect(struct sim_op *o);
/* It is over, whatever came of it: what it held up goes on. */
void sim_op_release(struct sim_op *o);
/* It is in `cur` and must survive from now on. */
void sim_op_durable(struct sim *sim, struct sim_op *o);
void sim_op_resend(struct lane *lane, struct sim_op *o);
const char *sim_op_text(const struct sim_op *o, char buf[300]);
unsigned sim_stuck_lane(struct sim *sim);
const char *sim_stuck_text(struct sim *sim);
/* Everything that ended before @before in @cont (0: anywhere) is durable. */
void pending_durable(struct sim *sim, uint32_t cont, uint64_t before);
void all_durable(struct sim *sim);
void conts_watch(struct sim *sim);
/* Takes @o out of its lane's pending ops. */
void pending_drop(struct sim_op *o);
/* Executes @o on @st, without looking at its answer. */
void sim_op_apply(struct sim_op *o, struct state *st);
void state_clone(struct state *ret, const struct state *st);
void state_free(struct state *st);

/* --- sim_names.c --- */
struct names_state *names_clone(const struct names_state *n);
void names_free(struct names_state *n); /* accepts NULL */
void names_init(struct sim *sim);
void names_done(struct sim *sim);
struct sim_op *names_next(struct lane *lane);
void name_op_free(struct name_op *n);   /* accepts NULL */
void name_op_rewind(struct name_op *n); /* before it is submitted again */
void names_lights_out(struct sim *sim); /* the lanes hold nothing open any more */
void names_close_all(struct sim *sim);  /* nor does the oracle */
const char *name_op_text(const struct name_op *n, char *buf, size_t buf_len);
int name_op_check(struct name_op *n, struct names_state *st, struct pst_err *err);
/* Of the lane's pending ops at least *ret_min and at most *ret_max happened; fails if none can be.
 */
void names_judge(struct sim *sim, struct lane *lane, struct sim_op *const *ops, unsigned count,
                 unsigned *ret_min, unsigned *ret_max);
/* Is the whole name space of the store @st? */
int names_diff(struct sim *sim, const struct names_state *st, struct pst_err *err);

/* --- sim_cut.c --- */
void sim_power_cut(struct sim *sim); /* power off, on, and the comparison */
/* Do the objects that @o touched look as `cur` has them? */
void sim_look_after(struct sim *sim, struct sim_op *o);
void sim_compare(struct sim *sim); /* nothing in flight: is the store `cur`? */
/* A snapshot was taken while lanes went on: puts it into @st as the store has it, if that is one
 * of the allowed ones. False: the power went meanwhile. */
bool snap_resolve(struct sim_op *snap);

#endif
