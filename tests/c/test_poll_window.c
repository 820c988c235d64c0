/* SPDX-License-Identifier: Apache-2.0
 * Description: the window to poll in follows the guest, and closes where others want the core. */
#include "poll_window.h"

#include "check.h"

enum { US = 1000, MS = 1000 * US };

static uint64_t now = 5000u * (uint64_t)MS;

/* A sleep that lasted so long, from the moment at which nothing was left to do. */
static void slept(struct poll_window *window, uint64_t ns)
{
    poll_window_slept(window, now, now + ns);
    now += ns;
}

static void offered(struct poll_window *window, uint64_t ns)
{
    poll_window_offered(window, now, now + ns);
    now += ns;
}

static struct poll_window opened(void)
{
    struct poll_window window = {.max_ns = 100 * US};

    while (window.now_ns < window.max_ns)
        slept(&window, 30 * US);
    return window;
}

static void a_quick_guest_opens_it(void)
{
    struct poll_window window = {.max_ns = 100 * US};

    slept(&window, 30 * US);
    CHECK(window.now_ns == POLL_FIRST_NS);
    slept(&window, 30 * US);
    CHECK(window.now_ns == 2 * POLL_FIRST_NS);
    for (int i = 0; i < 10; i++)
        slept(&window, 100 * US);
    CHECK(window.now_ns == window.max_ns);
}

static void a_pause_closes_it(void)
{
    struct poll_window window = opened();

    slept(&window, 101 * US);
    CHECK(window.now_ns == 0);
    slept(&window, 10 * MS);
    CHECK(window.now_ns == 0);
    slept(&window, 99 * US);
    CHECK(window.now_ns == POLL_FIRST_NS);
}

static void without_a_maximum_it_stays_closed(void)
{
    struct poll_window window = {0};

    slept(&window, 0);
    slept(&window, 1);
    CHECK(window.now_ns == 0);
}

static void an_offer_that_nobody_takes_costs_nothing(void)
{
    struct poll_window window = opened();

    for (int i = 0; i < 100000; i++)
        offered(&window, POLL_TAKEN_NS - 1);
    CHECK(window.now_ns == window.max_ns && window.debt == 0);
}

static void the_core_is_seldom_wanted(void)
{
    struct poll_window window = opened();

    for (int i = 0; i < 100000; i++) {
        poll_window_succeeded(&window);
        if (i % (POLL_TAKEN_COST + 1) == 0)
            offered(&window, 100 * US);
    }
    CHECK(window.now_ns == window.max_ns);
}

/* How long it stays closed after the core was wanted each time. */
static uint64_t closed_for(struct poll_window *window)
{
    uint64_t since;

    for (int i = 0; window->now_ns > 0; i++) {
        CHECK(i <= POLL_TAKEN_MAX + POLL_TAKEN_MAX / 8);
        offered(window, 10 * US);
        poll_window_succeeded(window);
    }
    since = now;
    while (window->now_ns < window->max_ns)
        slept(window, 30 * US);
    return now - since;
}

static void the_core_is_often_wanted(void)
{
    struct poll_window window = opened();
    uint64_t first = closed_for(&window), last = first;

    CHECK(first >= POLL_CLOSED_NS && first < POLL_CLOSED_NS + MS);
    for (int i = 0; i < 10; i++) {
        uint64_t longer = closed_for(&window);

        CHECK(longer >= last - MS && longer < 2 * last + MS);
        last = longer;
    }
    CHECK(last >= POLL_CLOSED_MAX_NS && last < 2 * (uint64_t)POLL_CLOSED_MAX_NS);
    now += 2 * (uint64_t)POLL_CLOSED_MAX_NS; /* long ago: the next time is a first time */
    CHECK(closed_for(&window) < POLL_CLOSED_NS + MS);
}

int main(void)
{
    a_quick_guest_opens_it();
    a_pause_closes_it();
    without_a_maximum_it_stays_closed();
    an_offer_that_nobody_takes_costs_nothing();
    the_core_is_seldom_wanted();
    the_core_is_often_wanted();
    return 0;
}
