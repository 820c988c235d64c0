/* SPDX-License-Identifier: Apache-2.0
 * Description: ids of a slab: stale and forged ones are refused, memory comes and goes. */
#include "slab.h"

#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

enum { MANY = 100 * 1000 };

struct thing {
    struct slab_slot slot;
    uint64_t value;
    char ballast[64];
};

static unsigned destroyed;
static void *last_destroyed;

static void on_destroy(void *slot, void *context)
{
    CHECK(context == &destroyed);
    destroyed++;
    last_destroyed = slot;
}

static struct slab *new_slab(uint32_t capacity)
{
    struct slab *slab;

    destroyed = 0;
    CHECK(slab_new(sizeof(struct thing), capacity, on_destroy, &destroyed, &slab) == 0);
    return slab;
}

static struct thing *new_thing(struct slab *slab)
{
    struct thing *thing = slab_alloc(slab);

    if (thing)
        slab_publish(slab, thing);
    return thing;
}

static void drop(struct slab *slab, void *slot)
{
    CHECK(slab_retire(slab, slot));
    slab_unpin(slab, slot);
}

static size_t resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long size, resident;

    CHECK(file && fscanf(file, "%lu %lu", &size, &resident) == 2);
    fclose(file);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

static void first_id_is_fuse_root(void)
{
    struct slab *slab = new_slab(1000);
    struct thing *root = new_thing(slab);

    CHECK(slab_id(slab, root) == 1);
    CHECK(slab_index(slab, root) == 1 && slab_at(slab, 1) == root);
    slab_unpin(slab, root);
    CHECK(slab_pin(slab, 1) == root);
    CHECK(slab_pin(slab, 0) == NULL);
    slab_unpin(slab, root);
    CHECK(destroyed == 0);
    slab_free(slab);
    CHECK(destroyed == 1);
}

static void forged_ids_are_refused(void)
{
    struct slab *slab = new_slab(100000);
    struct thing *thing = new_thing(slab);
    uint64_t id = slab_id(slab, thing);
    static const uint64_t forged[] = {0, 2, 511, 512, 99999, 100000, UINT32_MAX, UINT64_MAX};
    size_t i;

    for (i = 0; i < sizeof(forged) / sizeof(forged[0]); i++)
        CHECK(slab_pin(slab, forged[i]) == NULL);
    CHECK(slab_pin(slab, id + (UINT64_C(1) << 32)) == NULL);
    CHECK(slab_pin(slab, id | UINT64_C(0x80000000)) == NULL);
    drop(slab, thing);
    slab_free(slab);
}

static void an_id_names_one_slot_only(void)
{
    struct slab *slab = new_slab(1000);
    struct thing *thing = new_thing(slab);
    uint64_t id = slab_id(slab, thing), again;
    struct thing *second;

    thing->value = 7;
    drop(slab, thing);
    CHECK(destroyed == 1 && last_destroyed == thing && slab_count(slab) == 0);
    CHECK(slab_pin(slab, id) == NULL);
    second = new_thing(slab);
    again = slab_id(slab, second);
    CHECK(second == thing); /* the lowest free slot: memory stays dense */
    CHECK(second->value == 0);
    CHECK(again != id && (uint32_t)again == (uint32_t)id);
    CHECK(slab_pin(slab, id) == NULL);
    drop(slab, second);
    slab_free(slab);
}

static void no_id_finds_a_slot_being_made(void)
{
    struct slab *slab = new_slab(1000);
    struct thing *thing = slab_alloc(slab);
    uint64_t id = slab_id(slab, thing);

    CHECK(slab_pin(slab, id) == NULL);
    slab_publish(slab, thing);
    CHECK(slab_pin(slab, id) == thing);
    slab_unpin(slab, thing);
    drop(slab, thing);
    thing = slab_alloc(slab); /* given up before it was published */
    CHECK(!slab_retire(slab, thing));
    slab_unpin(slab, thing);
    CHECK(destroyed == 2 && slab_count(slab) == 0);
    slab_free(slab);
    CHECK(destroyed == 2);
}

static void the_last_pin_destroys(void)
{
    struct slab *slab = new_slab(1000);
    struct thing *thing = new_thing(slab);
    uint64_t id = slab_id(slab, thing);

    CHECK(slab_pin(slab, id) == thing);
    slab_repin(slab, thing);
    CHECK(slab_retire(slab, thing));
    CHECK(!slab_retire(slab, thing));
    CHECK(slab_pin(slab, id) == NULL);
    slab_unpin(slab, thing);
    slab_unpin(slab, thing);
    CHECK(destroyed == 0);
    slab_unpin(slab, thing);
    CHECK(destroyed == 1);
    slab_free(slab);
}

static void trylock_wants_no_pins(void)
{
    struct slab *slab = new_slab(1000);
    struct thing *thing = new_thing(slab);
    uint64_t id = slab_id(slab, thing);
    bool gone;

    CHECK(slab_trylock(slab, id, &gone) == NULL && !gone);
    slab_unpin(slab, thing);
    CHECK(slab_trylock(slab, id, &gone) == thing);
    CHECK(slab_trylock(slab, id, &gone) == NULL && !gone);
    slab_unlock(slab, thing);
    CHECK(slab_pin(slab, id) == thing);
    drop(slab, thing);
    CHECK(slab_trylock(slab, id, &gone) == NULL && gone);
    CHECK(slab_trylock(slab, UINT64_MAX, &gone) == NULL && gone);
    slab_free(slab);
}

static void capacity_is_a_bound(void)
{
    struct slab *slab = new_slab(1024);
    unsigned n = 0;

    while (new_thing(slab))
        n++;
    CHECK(n == 1023); /* index 0 is never handed out */
    CHECK(slab_count(slab) == n);
    drop(slab, slab_at(slab, 700));
    CHECK(new_thing(slab) == slab_at(slab, 700));
    CHECK(new_thing(slab) == NULL);
    slab_free(slab);
    CHECK(destroyed == n + 1);
}

static void memory_comes_back(void)
{
    struct slab *slab = new_slab(1 << 20);
    static struct thing *things[MANY];
    static uint64_t ids[MANY];
    size_t before = resident_bytes(), full;
    int i;

    memset(things, 1, sizeof(things)); /* resident from here on */
    memset(ids, 1, sizeof(ids));
    before = resident_bytes();
    for (i = 0; i < MANY; i++) {
        things[i] = new_thing(slab);
        things[i]->value = (uint64_t)i;
        ids[i] = slab_id(slab, things[i]);
    }
    full = resident_bytes();
    CHECK(full - before >= MANY * sizeof(struct thing));
    for (i = 0; i < MANY; i++)
        drop(slab, things[i]);
    CHECK(slab_count(slab) == 0);
#ifndef __SANITIZE_ADDRESS__ /* whose own bookkeeping grows */
    CHECK(resident_bytes() - before < (full - before) / 10);
#endif
    /* What was given back keeps refusing old ids, before and after it is used again. */
    for (i = 0; i < MANY; i++)
        CHECK(slab_pin(slab, ids[i]) == NULL);
    for (i = 0; i < MANY; i++) {
        struct thing *thing = new_thing(slab);

        CHECK(thing->value == 0);
        CHECK(slab_id(slab, thing) != ids[i]);
    }
    for (i = 0; i < MANY; i++)
        CHECK(slab_pin(slab, ids[i]) == NULL);
    slab_free(slab);
}

static void retire_visited(void *slot, void *context)
{
    CHECK(slab_retire(context, slot));
}

static void each_visits_what_lives(void)
{
    struct slab *slab = new_slab(10000);
    struct thing *made;
    int i;

    for (i = 0; i < 2000; i++) {
        struct thing *thing = new_thing(slab);

        if (i % 3 == 0)
            drop(slab, thing);
        else
            slab_unpin(slab, thing);
    }
    made = slab_alloc(slab);
    i = (int)slab_count(slab) - 1;
    destroyed = 0;
    slab_each(slab, retire_visited, slab);
    CHECK(destroyed == (unsigned)i && slab_count(slab) == 1);
    slab_retire(slab, made);
    slab_unpin(slab, made);
    slab_free(slab);
}

int main(void)
{
    first_id_is_fuse_root();
    forged_ids_are_refused();
    an_id_names_one_slot_only();
    no_id_finds_a_slot_being_made();
    the_last_pin_destroys();
    trylock_wants_no_pins();
    capacity_is_a_bound();
    memory_comes_back();
    each_visits_what_lives();
    return 0;
}
