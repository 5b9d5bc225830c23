/*
 * polite.c - work on threads of the library while an event loop goes on elsewhere.
 *
 * With every processor busy, a scheduler lets a loop that has just become ready wait for
 * the end of somebody's time slice: up to 5 ms on Linux. Polite work gives its processor
 * away twice a millisecond, which costs nothing where nobody waits for it. Who takes it
 * for longer than a loop would is busy too, and to go on as before would leave most of
 * the processor to that one: each such turn makes the next come later, a short one
 * makes all as it was.
 */
#include "base/os.h"

#define TURN_NS UINT64_C(500000)
#define ERRAND_NS UINT64_C(1000000) /* longer absences are no errands of a loop */
#define LATER 8u
#define MAX_TURN_NS (256 * TURN_NS)

static _Thread_local bool polite;
static _Thread_local uint64_t turn_ns, turn_ends;

bool rvb_is_polite(void) { return polite; }

bool rvb_set_polite(bool now) {
    bool before = polite;
    polite = now;
    return before;
}

uint64_t rvb_next_turn_ns(uint64_t turn, uint64_t away) {
    if (turn < TURN_NS || away < ERRAND_NS) return TURN_NS;
    return turn < MAX_TURN_NS / LATER ? turn * LATER : MAX_TURN_NS;
}

bool rvb_make_room(void) {
    if (!polite) return false;
    uint64_t now = rvb_now_ns();
    if (now < turn_ends) return false;
    rvb_os_yield();
    uint64_t back = rvb_now_ns();
    turn_ns = rvb_next_turn_ns(turn_ns, back - now);
    turn_ends = back + turn_ns;
    return true;
}
