/* SPDX-License-Identifier: Apache-2.0
 *
 * How long a queue looks at its rings before it sleeps. Queue thread.
 *
 * DESIGN. To be woken costs more than most requests: a kick is an exit of the guest, and the
 * queue's thread has to be scheduled again. A guest that sends its next request within microseconds
 * of the last answer is served sooner, and spared the kick, by a thread that has not gone to sleep;
 * one that pauses for longer would only cost its host a core. So the window follows what the last
 * sleeps would have needed:
 *
 *      a sleep that was shorter than the longest window     it is doubled
 *      a longer one                                         it is closed: the guest pauses
 *      work within the window                               it stays as it is
 *
 * An idle queue therefore never polls, and a request after a pause costs what it does without.
 *
 * Where others need the core, the guest's own CPU above all, to look is to keep them from what we
 * look for. So the core is offered every few microseconds, and whether somebody takes it is
 * counted: seldom does no harm, often closes the window for a while, and for longer if it goes on.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
    POLL_FIRST_NS = 8000,
    POLL_OFFER_NS = 4000, /* between two offers of the core */
    POLL_TAKEN_NS = 2500, /* an offer that nobody takes is over sooner */
    POLL_TAKEN_COST = 16, /* successes that make up for one that was taken */
    POLL_TAKEN_MAX = 64,  /* that many more than were made up for close the window */
    POLL_CLOSED_NS = 10000000,
    POLL_CLOSED_MAX_NS = 1000000000,
};

struct poll_window {
    uint64_t max_ns; /* constant while the queue runs; 0: it always sleeps */
    uint64_t now_ns; /* how long to look the next time; 0: not at all */
    uint32_t debt;   /* successes that are still to make up for offers that were taken */
    uint64_t closed_until_ns;
    uint64_t closed_ns; /* for how long it was closed the last time */
};

/* A look found something. */
static inline void poll_window_succeeded(struct poll_window *window)
{
    window->debt -= window->debt > 0;
}

/* The core was offered at `from`, and we have it back at `to`. */
static inline void poll_window_offered(struct poll_window *window, uint64_t from, uint64_t to)
{
    if (to - from < POLL_TAKEN_NS)
        return;
    window->debt += POLL_TAKEN_COST;
    if (window->debt <= POLL_TAKEN_MAX * POLL_TAKEN_COST)
        return;
    if (to - window->closed_until_ns > POLL_CLOSED_MAX_NS)
        window->closed_ns = POLL_CLOSED_NS;
    else if (window->closed_ns < POLL_CLOSED_MAX_NS)
        window->closed_ns *= 2;
    window->closed_until_ns = to + window->closed_ns;
    window->debt = 0;
    window->now_ns = 0;
}

/* The queue slept, from the moment at which nothing was left to do until it was woken. */
static inline void poll_window_slept(struct poll_window *window, uint64_t from, uint64_t to)
{
    uint64_t wider = window->now_ns ? 2 * window->now_ns : POLL_FIRST_NS;

    if (to - from > window->max_ns || to < window->closed_until_ns)
        window->now_ns = 0;
    else
        window->now_ns = wider < window->max_ns ? wider : window->max_ns;
}
