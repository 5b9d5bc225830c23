/*
 * meeting.h - threads that wait for each other, so that a test need not guess how long
 * something takes. Wants _GNU_SOURCE.
 */
#ifndef MEETING_H
#define MEETING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#define PATIENCE_MS 60000 /* after which a test fails that would hang */

static inline void sleep_ms(long ms) {
    const struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

typedef struct meeting {
    int expected;
    _Atomic int there;
} meeting;

/* For a source's during_pull, with a meeting: goes on once all are there. */
static inline void meet(void *ctx) {
    meeting *m = ctx;
    m->there++;
    for (int i = 0; m->there < m->expected && i < PATIENCE_MS; i++) sleep_ms(1);
}

/* Something that begins, and goes on when it is let. */
typedef struct gate {
    _Atomic bool begun, open, given_up;
} gate;

static inline void wait_at_gate(void *ctx) {
    gate *g = ctx;
    g->begun = true;
    for (int i = 0; !g->open && i < PATIENCE_MS; i++) sleep_ms(1);
    g->given_up = !g->open;
}

static inline void wait_until(const _Atomic bool *flag) {
    for (int i = 0; !*flag && i < PATIENCE_MS; i++) sleep_ms(1);
}

#endif
