/* SPDX-License-Identifier: Apache-2.0
 * Description: threads allocate, pin, lock and retire the same few slots; ids are true throughout.
 */
#include "slab.h"

#include <pthread.h>
#include <sched.h>
#include <stdint.h>

#include "check.h"

enum { THREADS = 4, ROUNDS = 100000, SHARED = 64, BURST = 1500 };

struct thing {
    struct slab_slot slot;
    uint64_t id;    /* plain on purpose: a sanitizer sees whether pins order its accesses */
    int descriptor; /* as inode->fd: changed under trylock, read under a pin */
};

static struct slab *slab;
static _Atomic uint64_t shared[SHARED]; /* ids that all threads use */
static _Atomic uint32_t made, destroyed;

static void on_destroy(void *slot, void *context)
{
    struct thing *thing = slot;

    (void)context;
    CHECK(thing->id == slab_id(slab, thing));
    thing->id = 0;
    atomic_fetch_add(&destroyed, 1);
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

static void make_one(_Atomic uint64_t *place)
{
    struct thing *thing = slab_alloc(slab);
    uint64_t id;

    CHECK(thing && thing->id == 0);
    thing->id = id = slab_id(slab, thing);
    thing->descriptor = 1;
    slab_publish(slab, thing);
    atomic_fetch_add(&made, 1);
    slab_unpin(slab, thing);
    id = atomic_exchange(place, id);
    thing = slab_pin(slab, id);
    if (thing) { /* nobody else has retired what was there before */
        slab_retire(slab, thing);
        slab_unpin(slab, thing);
    }
}

static void use_one(uint64_t id)
{
    struct thing *thing = slab_pin(slab, id);

    if (!thing)
        return;
    CHECK(thing->id == id && thing->descriptor > 0);
    slab_unpin(slab, thing);
}

static void lock_one(uint64_t id)
{
    bool gone;
    struct thing *thing = slab_trylock(slab, id, &gone);

    if (!thing)
        return;
    CHECK(thing->id == id);
    thing->descriptor = -1; /* nobody may see this */
    sched_yield();
    thing->descriptor = (int)(id & 0xffff) + 1;
    slab_unlock(slab, thing);
}

static void retire_one(uint64_t id)
{
    struct thing *thing = slab_pin(slab, id);

    if (!thing)
        return;
    slab_retire(slab, thing);
    CHECK(thing->id == id);
    slab_unpin(slab, thing);
}

/* So that whole chunks empty, and are given back, while stale ids are looked up in them. */
static void burst(uint32_t *random)
{
    static _Thread_local struct thing *things[BURST];
    int i;

    for (i = 0; i < BURST; i++) {
        things[i] = slab_alloc(slab);
        CHECK(things[i]);
        things[i]->id = slab_id(slab, things[i]);
        things[i]->descriptor = 1;
        slab_publish(slab, things[i]);
        atomic_fetch_add(&made, 1);
        if (next_random(random) % 64 == 0) /* an id that is soon stale */
            use_one(things[i]->id);
    }
    for (i = 0; i < BURST; i++) {
        slab_retire(slab, things[i]);
        slab_unpin(slab, things[i]);
    }
}

static void *run(void *arg)
{
    uint32_t random = (uint32_t)(uintptr_t)arg;
    int i;

    for (i = 0; i < ROUNDS; i++) {
        _Atomic uint64_t *place = &shared[next_random(&random) % SHARED];
        uint64_t id = atomic_load(place);

        switch (next_random(&random) % 8) {
        case 0:
            make_one(place);
            break;
        case 1:
            retire_one(id);
            break;
        case 2:
        case 3:
            lock_one(id);
            break;
        case 4:
            use_one(id + (UINT64_C(1) << 32)); /* the next generation, perhaps being made */
            break;
        default:
            use_one(id);
        }
        if (i % (ROUNDS / 20) == 0)
            burst(&random);
    }
    return NULL;
}

static void retire_visited(void *slot, void *context)
{
    (void)context;
    slab_retire(slab, slot);
}

int main(void)
{
    pthread_t threads[THREADS];
    uintptr_t i;

    CHECK(slab_new(sizeof(struct thing), 1 << 16, on_destroy, NULL, &slab) == 0);
    for (i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, run, (void *)(i + 1)) == 0);
    for (i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(atomic_load(&made) > THREADS * ROUNDS / 10); /* slots did come and go */
    CHECK(slab_count(slab) == atomic_load(&made) - atomic_load(&destroyed));
    slab_each(slab, retire_visited, NULL);
    CHECK(slab_count(slab) == 0);
    CHECK(atomic_load(&made) == atomic_load(&destroyed));
    slab_free(slab);
    return 0;
}
