/*
 * lake_i.h - what the files of a lake share.
 *
 *   lake.c         life of a lake, publish and refresh
 *   shards.c       searches of held entries, one or several
 *   async.c        searches nobody waits for
 *   queue.c        which of them one scan answers
 *   completions.c  where they wait to be taken when they are done
 *   load.c         asking backends, pulling, building
 *   flight.c       one loader at a time for a state
 *   resolve.c      which backends there are, and which key a name means
 *   keys.c         keys by name, counters
 *   cache.c        entries, pointers of keys to them, what goes
 *   table.c        hash tables of them
 *   snapshot.c     entries as files, and ready indexes as entries
 *   bundle.c       the record of a collection's state and its witness
 *   bundle_text.c  its texts, and its JSON
 *   backend.c      calls to a backend, checked
 *   local.c        the backend in memory
 *   fs.c           the backend of files in a folder
 *   ruvec1.c       the format of these files
 *   names.c        lists of collections' names
 *
 * Locks. `state` guards keys, entries and backends: read to look up, written to change
 * a pointer. Another one guards the loads under way (flight.c), a third the queue of jobs
 * (async.c), and completions have one each. None is held during anything that can take
 * long, nor while taking another, but for the completions' under that of the queue.
 * Counters are atomic, and so is an entry's number of owners: the list of entries is
 * one, each hold another.
 */
#ifndef RVL_LAKE_I_H
#define RVL_LAKE_I_H

#include <stdatomic.h>

#include "base/base.h"
#include "base/os.h"
#include "lake/source_i.h"
#include "lake/table_i.h"
#include "ruvector/lake.h"

typedef struct rvl_counters {
    _Atomic uint64_t hits, misses, primes, invalidations, shared_hits;
} rvl_counters;

#define RVL_LASTING 2u /* parts of a token that copies of the data have too */
typedef struct rvl_token {
    bool known;
    bool lasting; /* only the lasting parts are known: it is a snapshot's */
    uint64_t part[4];
} rvl_token;

/* A name for a collection: with a backend, or (an alias) without. Never goes before
 * the lake. */
typedef struct rvl_key {
    rvl_link by_name, by_collection; /* an alias is not in the latter */
    struct rvl_key *next;            /* in the order they came */
    const char *backend;             /* NULL: an alias */
    const char *collection;
    struct rvl_key *meant; /* by an alias; NULL = to be found out, */
    size_t meant_among;    /* as it is once there are more backends than these */
    struct rv_pin *entry;  /* NULL = none; else one of its keys: */
    struct rvl_key *next_of_entry, *previous_of_entry;
    _Atomic uint64_t checked; /* when the backend was last asked, ns; 0 = never */
    rvl_counters counters;
} rvl_key;

/* An entry of the cache. Only keys, token and the links change once it is stored. */
struct rv_pin {
    rv_lake *lake;
    rvl_link by_witness;
    struct rv_pin *next, *previous;
    _Atomic uint32_t owners;
    /* In a lake with a limit: holds, and the place among those that have none. */
    uint32_t users;
    bool idle;
    struct rv_pin *idle_longer, *idle_less;
    uint64_t number; /* in the order of storing */
    uint64_t keys;   /* that point here; 0 = no longer in the cache */
    rvl_key *first_key;
    rv_index *index;
    rv_bundle *bundle; /* what it was built from */
    rvl_token token;
    rv_witness witness;
    uint64_t n;
    uint32_t dim;
    bool foreign;     /* the index is somebody else's too, */
    uint64_t changes; /* and had seen this many when it came */
    bool ids_unverified;
};
typedef struct rv_pin rvl_entry;

/* One caller at work on a key's entry. */
typedef struct rvl_load {
    struct rvl_load *next;
    const rvl_key *key;
    uint64_t number;    /* among all loads, from 1 on */
    uint64_t seen;      /* by which inquiry, of who waits for whom */
    rv_witness witness; /* "" until it is known */
    unsigned watchers;  /* that will read the outcome */
    bool done;
    rv_status status;
    rv_error error;
} rvl_load;

/* A backend being asked on this thread. */
typedef struct rvl_frame {
    struct rvl_frame *outer;
    const rv_lake *lake;
    const rvl_key *key;
    rvl_load *load;    /* NULL while only asking */
    rv_errand *errand; /* that tells others of this frame; NULL = nobody asked */
} rvl_frame;

/* The same as a thread that works for this one has to know it. */
typedef struct rvl_asked {
    const rv_lake *lake;
    const rvl_key *key;
    uint64_t load; /* 0 = none */
} rvl_asked;
struct rv_errand {
    _Atomic uint32_t owners;
    _Atomic bool over;       /* the call it began in has returned */
    struct rv_errand *outer; /* owned: of the thread it began on */
    size_t n;
    rvl_asked asked[];
};

/* One thread that waits for a load. */
typedef struct rvl_wait {
    struct rvl_wait *next;
    const rvl_frame *frame;
    const rv_errand *errand;
    rvl_load *target;
} rvl_wait;

typedef struct rvl_registered {
    rvl_link by_id;
    rv_backend *backend;
} rvl_registered;

struct rv_lake {
    rv_lake_options options;
    _Atomic uint32_t owners; /* the caller, and each job under way */
    rvb_rwlock *state;
    rvl_registered **backends; /* in the order they came */
    size_t n_backends, room_for_backends;
    rvl_table backends_by_id;
    rvl_table keys, holders; /* by name; those with a backend by collection */
    rvl_key *first_key, **last_key;
    rvl_table entries; /* by witness */
    rvl_entry *newest;
    rvl_entry *idle_most, *idle_least; /* ends of the order of those nobody holds */
    uint64_t n_stored;
    _Atomic uint64_t n_entries;
    rvl_counters counters;
    _Atomic uint64_t warm_installs, evictions, scans;
    double total_prime_ms, last_prime_ms; /* state */

    rvb_cond loaded;
    rvl_load *loads; /* under way; guarded, as what they hold, by a lock of flight.c */
    rvb_inherited inherited;
};

/* ---- keys.c --------------------------------------------------------------------- */

void rvl_keys_init(rv_lake *lake);
void rvl_keys_clear(rv_lake *lake);
/* The key, made if it is new. backend NULL: the alias. */
rv_status rvl_key_of(rv_lake *lake, const char *backend, const char *collection,
                     rvl_key **out, rv_error *err) RVB_MUST_CHECK;
/* NULL if there is none. The state lock is held. */
rvl_key *rvl_find_key(const rv_lake *lake, const char *backend, const char *collection);
/* A key of the collection with a backend, and another one after that; NULL at the end.
 * The state lock is held. */
rvl_key *rvl_next_holder(const rv_lake *lake, const rvl_key *after,
                         const char *collection);
/* By an alias, while there are no more backends than when that was found out; else NULL.
 * The state lock is held. */
rvl_key *rvl_meant(const rv_lake *lake, const rvl_key *alias);
/* Adds to one counter of the lake and of the key: RVL_COUNT(lake, key, hits, 1). */
#define RVL_COUNT(lake, key, what, n)                                                    \
    (atomic_fetch_add_explicit(&(lake)->counters.what, (n), memory_order_relaxed),       \
     atomic_fetch_add_explicit(&(key)->counters.what, (n), memory_order_relaxed))

/* ---- cache.c -------------------------------------------------------------------- */

/* An entry with one owner, the caller. Takes the index and the bundle over, also on
 * failure. */
rv_status rvl_entry_new(rv_lake *lake, rv_index *index, rv_bundle *bundle,
                        rvl_entry **out, rv_error *err) RVB_MUST_CHECK;

/* What a key's entry must be, to be held. */
typedef enum rvl_ask {
    RVL_ANY,       /* there */
    RVL_UNCHECKED, /* there, and so new that the backend need not be asked */
    RVL_TOKEN,     /* of this token, and all of it known */
    RVL_WITNESS    /* of this witness, and not of another token */
} rvl_ask;
/* Holds the key's entry if it is that; else NULL. *stale (may be NULL) tells that only
 * the token differs. A check that succeeds counts as one just made. */
rvl_entry *rvl_hold(rv_lake *lake, rvl_key *key, rvl_ask ask, const char *witness,
                    const rvl_token *token, bool *stale);
/* Moves the key's pointer to an entry of this witness and token in the cache and holds
 * it; NULL if there is none. */
rvl_entry *rvl_share(rv_lake *lake, rvl_key *key, const char *witness,
                     const rvl_token *token);
/* Stores an entry and lets the key point at it, or at the one of its witness that came
 * first. One of another token it replaces, unless it is a snapshot's. Returns the one
 * held. *stored: whether it was this. Takes `entry` over. */
rvl_entry *rvl_store(rv_lake *lake, rvl_key *key, rvl_entry *entry, bool *stored);
rvl_token rvl_token_of(rv_lake *lake, const rvl_entry *entry);
/* The newest entry, and the next older one than that; NULL at the end. To look at one is
 * no use of it, and lets it go when it is its turn. */
rvl_entry *rvl_entry_look(rv_lake *lake, const rvl_entry *after);
void rvl_entry_unlook(rvl_entry *entry);
void rvl_entries_clear(rv_lake *lake);

/* ---- resolve.c ------------------------------------------------------------------ */

/* The key meant: made, and found out for an alias. */
rv_status rvl_resolve(rv_lake *lake, rv_key key, rvl_key **out,
                      rv_error *err) RVB_MUST_CHECK;
/* NULL if no backend has this id. It lives as long as the lake. */
rv_backend *rvl_backend(const rv_lake *lake, const char *id);
rv_status rvl_unknown_backend(const char *id, rv_error *err);
/* A collection that is gone may be somewhere else by the next search. */
void rvl_forget_meaning(rv_lake *lake, const char *collection);

/* ---- flight.c ------------------------------------------------------------------- */

int rvl_loads_init(rv_lake *lake); /* 0 or errno */
void rvl_loads_clear(rv_lake *lake);
void rvl_frame_enter(rvl_frame *frame, const rv_lake *lake, const rvl_key *key);
void rvl_frame_leave(const rvl_frame *frame);
/* Whether this thread, or one it works for, is in a call to the key's backend about it.
 */
bool rvl_being_asked(const rv_lake *lake, const rvl_key *key);
rv_status rvl_calls_itself(const rvl_key *key, rv_error *err);
/* Makes `own` the load of this thread's frame, or returns the one to wait for. */
rvl_load *rvl_load_join(rv_lake *lake, const rvl_key *key, const char *witness,
                        rvl_load *own);
/* Tells all who wait; returns once nobody reads `own` any more. */
void rvl_load_end(rv_lake *lake, rvl_load *own, rv_status status, const rv_error *error);
/* The outcome of somebody else's load; RV_OK also if it was cancelled, which says nothing
 * about the backend. RV_ERR_BACKEND if it would never come. */
rv_status rvl_load_wait(rv_lake *lake, rvl_load *other, const rvl_key *key,
                        const rv_progress *progress, rv_error *err) RVB_MUST_CHECK;

/* ---- load.c --------------------------------------------------------------------- */

/* Set on threads of the library, where not every backend may be called. */
extern _Thread_local bool rvl_on_own_thread;

/* ---- lake.c --------------------------------------------------------------------- */

rv_lake *rvl_lake_retain(rv_lake *lake);
/* What the key's backend says now. */
rv_status rvl_present_bundle(rv_lake *lake, const rvl_key *key, rv_bundle **out,
                             rv_error *err) RVB_MUST_CHECK;

/* ---- completions.c -------------------------------------------------------------- */

/* A job on its way, and then its result. */
typedef struct rvl_task {
    struct rvl_task *next; /* in a group, then in the queue of results */
    rvl_link by_tag;       /* among those of the same completions, until finished */
    /* Of the first of a group that waits: */
    struct rvl_task *next_group, **group_end;
    uint64_t group_queries;
    rvl_link by_work;
    bool open;     /* others may join: by_work is in the table */
    rv_lake *lake; /* retained */
    rv_completions *completions;
    rv_job job; /* its queries, keys and pins are owned here */
    rvl_key **keys;
    rv_pin **pins;
    float *queries;
    rv_errand *errand; /* of the thread that submitted it */
    _Atomic bool cancelled;
    rv_completion result;
} rvl_task;

struct rv_completions {
    _Atomic uint32_t owners;
    unsigned life; /* of the process that made it */
    rvb_mutex lock;
    rvb_cond finished;
    rvb_wake wake; /* raised while there is a result */
    rvl_task *first, **last;
    rvl_table under_way; /* by tag */
    bool closed;
};

/* Whether they were made before a fork, by the parent of this process. */
bool rvl_completions_lost(const rv_completions *completions);
void rvl_task_free(rvl_task *task);
/* Makes the task known to its completions, which it holds from now on. */
void rvl_task_begin(rvl_task *task);
/* Puts the result where it will be taken; the task belongs to the completions. */
void rvl_task_finish(rvl_task *task);

/* ---- queue.c -------------------------------------------------------------------- */

#define RVL_MOST_QUERIES 4096u /* of a group of several jobs */

typedef struct rvl_queue {
    rvl_task *first, **last; /* groups that wait, by their first jobs */
    rvl_table open;          /* those that others may join, by what they ask for */
} rvl_queue;
void rvl_queue_init(rvl_queue *queue);
/* In the child of a fork: what waits is the parent's. */
void rvl_queue_forget(rvl_queue *queue);
void rvl_queue_add(rvl_queue *queue, rvl_task *task);
/* The group that has waited longest, linked by `next`. There is one. */
rvl_task *rvl_queue_take(rvl_queue *queue);

#endif
