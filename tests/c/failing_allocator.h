/*
 * failing_allocator.h - an rv_allocator for tests: refuses the n-th allocation and
 * knows what is still allocated. Memory is plain malloc, so blocks from before the
 * installation, or freed after the removal, do no harm; they are just not counted.
 *
 *   for (unsigned n = 1;; n++) {
 *       failing_allocator_install(n);
 *       rv_status status = call_under_test();
 *       bool reached = failing_allocator_calls() >= n;
 *       failing_allocator_remove();
 *       if (!reached) break;   // fewer than n allocations: nothing was refused
 *   }
 */
#ifndef FAILING_ALLOCATOR_H
#define FAILING_ALLOCATOR_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "ruvector/ruvector.h"

#define FAILING_ALLOCATOR_BUCKETS 1024u

struct failing_allocator_block {
    struct failing_allocator_block *next;
    void *memory;
    size_t bytes;
};

static struct {
    atomic_flag busy; /* guards the rest; tests allocate from many threads */
    struct failing_allocator_block *buckets[FAILING_ALLOCATOR_BUCKETS];
    size_t fail_at, calls, live, live_bytes, peak_bytes;
} failing_allocator = {.busy = ATOMIC_FLAG_INIT};

static inline void failing_allocator_lock(void) {
    while (atomic_flag_test_and_set(&failing_allocator.busy)) continue;
}
static inline void failing_allocator_unlock(void) {
    atomic_flag_clear(&failing_allocator.busy);
}

static inline struct failing_allocator_block **failing_allocator_bucket(void *memory) {
    return &failing_allocator.buckets[(uintptr_t)memory / 16 % FAILING_ALLOCATOR_BUCKETS];
}

static inline void *failing_allocator_alloc(void *ctx, size_t bytes) {
    (void)ctx;
    failing_allocator_lock();
    bool refuse = ++failing_allocator.calls == failing_allocator.fail_at;
    failing_allocator_unlock();
    if (refuse) return NULL;
    struct failing_allocator_block *block = malloc(sizeof *block);
    void *memory = malloc(bytes);
    if (!block || !memory) abort();
    failing_allocator_lock();
    struct failing_allocator_block **bucket = failing_allocator_bucket(memory);
    *block = (struct failing_allocator_block){*bucket, memory, bytes};
    *bucket = block;
    failing_allocator.live++;
    failing_allocator.live_bytes += bytes;
    if (failing_allocator.live_bytes > failing_allocator.peak_bytes)
        failing_allocator.peak_bytes = failing_allocator.live_bytes;
    failing_allocator_unlock();
    return memory;
}

static inline void failing_allocator_release(void *ctx, void *memory) {
    (void)ctx;
    failing_allocator_lock();
    struct failing_allocator_block **link = failing_allocator_bucket(memory);
    while (*link && (*link)->memory != memory) link = &(*link)->next;
    struct failing_allocator_block *block = *link;
    if (block) {
        *link = block->next;
        failing_allocator.live--;
        failing_allocator.live_bytes -= block->bytes;
    }
    failing_allocator_unlock();
    free(block);
    free(memory);
}

/* Refuses allocation number `fail_at`, counted from 1 and from here; 0 = none. */
static inline void failing_allocator_install(size_t fail_at) {
    static const rv_allocator allocator = {failing_allocator_alloc,
                                           failing_allocator_release, NULL};
    failing_allocator.fail_at = fail_at;
    failing_allocator.calls = 0;
    failing_allocator.peak_bytes = failing_allocator.live_bytes;
    rv_set_allocator(&allocator);
}

/* Back to malloc. What is still allocated is forgotten, not freed. */
static inline void failing_allocator_remove(void) {
    rv_set_allocator(NULL);
    for (size_t i = 0; i < FAILING_ALLOCATOR_BUCKETS; i++) {
        struct failing_allocator_block *block = failing_allocator.buckets[i];
        while (block) {
            struct failing_allocator_block *next = block->next;
            free(block);
            block = next;
        }
        failing_allocator.buckets[i] = NULL;
    }
    failing_allocator.live = failing_allocator.live_bytes = 0;
}

/* Allocations asked for since the installation, the refused one included. */
static inline size_t failing_allocator_calls(void) { return failing_allocator.calls; }
/* Blocks allocated since the installation and not yet freed. */
static inline size_t failing_allocator_live(void) { return failing_allocator.live; }
/* Their size, what the library adds for alignment included. */
static inline size_t failing_allocator_live_bytes(void) {
    return failing_allocator.live_bytes;
}

/* The most they have been since the installation. */
static inline size_t failing_allocator_peak_bytes(void) {
    return failing_allocator.peak_bytes;
}

#endif
