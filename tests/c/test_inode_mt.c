/* SPDX-License-Identifier: Apache-2.0
 * Description: LOOKUP against FORGET to 0 against pins, from four threads on a handful of nodes. */
#include "inode.h"

#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/stat.h>

#include "check.h"
#include "wire_fuse.h"

enum { THREADS = 4, ROUNDS = 120000, KEYS = 24 };

static struct inode_table *table;
static _Atomic uint64_t last_id[KEYS]; /* what a guest may know of a key, stale or not */
static _Atomic int64_t owed[KEYS];     /* lookups handed out and not yet forgotten */
static _Atomic uint32_t made_count, destroyed;

static void on_destroy(struct inode *inode, void *context)
{
    (void)context;
    CHECK(atomic_load(&inode->fd) == 100 + *(const int *)inode_key_bytes(inode));
    atomic_fetch_add(&destroyed, 1);
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

static void check_node(const struct inode *inode, uint32_t number)
{
    CHECK(*(const uint32_t *)inode_key_bytes(inode) == number);
    CHECK(atomic_load(&inode->fd) == (int)(100 + number));
    CHECK(inode->type == S_IFREG && inode->key_len == sizeof(number));
}

static void look_up(uint32_t number)
{
    struct inode_key key = {.mount = 1, .type = 1, .len = sizeof(number), .bytes = &number};
    bool made;
    struct inode *inode = inode_enter(table, &key, S_IFREG, (int)(100 + number), &made);

    CHECK(inode);
    atomic_fetch_add(&made_count, made);
    check_node(inode, number);
    atomic_store(&last_id[number], inode_id(table, inode));
    atomic_fetch_add(&owed[number], 1);
    inode_unpin(table, inode);
}

static void look_up_known(uint32_t number)
{
    struct inode_key key = {.mount = 1, .type = 1, .len = sizeof(number), .bytes = &number};
    struct inode *inode = inode_find(table, &key, true);

    if (!inode)
        return;
    check_node(inode, number);
    inode_forget(table, inode_id(table, inode), 1); /* the reply could not be delivered */
    check_node(inode, number);
    inode_unpin(table, inode);
}

/* A request on a node the guest knows, or knew. */
static void use(uint32_t number)
{
    uint64_t id = atomic_load(&last_id[number]);
    struct inode *inode = inode_pin(table, id);

    if (!inode)
        return;
    check_node(inode, number);
    CHECK(inode_id(table, inode) == id);
    inode_unpin(table, inode);
}

/* All that is owed, as a guest does; now and then more than that, or to a stale id. */
static void forget(uint32_t number, uint32_t *random)
{
    int64_t count = atomic_exchange(&owed[number], 0);

    if (next_random(random) % 16 == 0)
        count += 5;
    inode_forget(table, atomic_load(&last_id[number]), (uint64_t)count);
}

static void evict(uint32_t number)
{
    bool gone;
    struct inode *inode = inode_trylock(table, atomic_load(&last_id[number]), &gone);

    if (!inode)
        return;
    CHECK(atomic_exchange(&inode->fd, -1) == (int)(100 + number));
    sched_yield();
    atomic_store(&inode->fd, (int)(100 + number)); /* nobody may have seen it without */
    inode_unlock(table, inode);
}

static void *run(void *arg)
{
    uint32_t random = (uint32_t)(uintptr_t)arg;
    int i;

    for (i = 0; i < ROUNDS; i++) {
        uint32_t number = 1 + next_random(&random) % (KEYS - 1);

        switch (next_random(&random) % 8) {
        case 0:
        case 1:
            look_up(number);
            break;
        case 2:
            look_up_known(number);
            break;
        case 3:
        case 4:
            forget(number, &random);
            break;
        case 5:
            evict(number);
            break;
        default:
            use(number);
        }
        if (i % (ROUNDS / 4) == 0 && (uintptr_t)arg == 1)
            inode_forget_all(table); /* a guest that boots again meanwhile */
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    uintptr_t i;

    CHECK(inode_table_new(sizeof(struct inode), on_destroy, NULL, &table) == 0);
    look_up(0);
    CHECK(atomic_load(&last_id[0]) == FUSE_ROOT_ID);
    for (i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, run, (void *)(i + 1)) == 0);
    for (i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(atomic_load(&destroyed) > KEYS); /* nodes did come and go */
    CHECK(inode_count(table) == atomic_load(&made_count) - atomic_load(&destroyed));
    inode_forget_all(table);
    CHECK(inode_count(table) == 1);
    inode_table_free(table);
    CHECK(atomic_load(&destroyed) == atomic_load(&made_count));
    return 0;
}
