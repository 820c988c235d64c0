/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Giving lookups back. A node that a guest evicts is forgotten with one FORGET on the high-priority
 * queue, as virtio-fs does; lookups of nodes that a guest would keep in its cache are noted in a
 * ledger and forgotten when the run is over, so that counts balance and forgetting does not colour
 * the figures.
 */
#include "bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FORGET_SIZE     64u
#define FORGET_STALL_NS 10000000000ull

static uint64_t ledger_hash(uint64_t nodeid)
{
    nodeid *= 0x9e3779b97f4a7c15ull;
    return nodeid ^ (nodeid >> 32);
}

int ledger_init(struct ledger *ledger, uint64_t size)
{
    ledger->entry = calloc(size, sizeof(*ledger->entry));
    ledger->size = size;
    ledger->used = 0;
    return ledger->entry != NULL ? 0 : -ENOMEM;
}

void ledger_free(struct ledger *ledger)
{
    free(ledger->entry);
}

void ledger_add(struct bench *bench, uint64_t nodeid)
{
    struct ledger *ledger = &bench->ledger;
    uint64_t at;

    if (nodeid == 0)
        return; /* a negative entry */
    if (ledger->used * 2 >= ledger->size)
        ledger_settle(bench);
    at = ledger_hash(nodeid) & (ledger->size - 1);
    while (ledger->entry[at].nodeid != 0 && ledger->entry[at].nodeid != nodeid)
        at = (at + 1) & (ledger->size - 1);
    if (ledger->entry[at].nodeid == 0)
        ledger->used++;
    ledger->entry[at].nodeid = nodeid;
    ledger->entry[at].count++;
}

void ledger_settle(struct bench *bench)
{
    struct ledger *ledger = &bench->ledger;

    for (uint64_t i = 0; i < ledger->size && ledger->used > 0; i++) {
        if (ledger->entry[i].nodeid == 0)
            continue;
        forget_send(bench, ledger->entry[i].nodeid, ledger->entry[i].count);
        ledger->entry[i].nodeid = ledger->entry[i].count = 0;
        ledger->used--;
    }
    forget_flush(bench, false);
}

static void forget_reap(struct bench *bench)
{
    struct vmm_used used[64];

    while (vmm_ring_get(bench->hiprio, used, 64) > 0)
        ;
}

/* Waits until the hiprio ring has that many free descriptors. */
static void forget_wait(struct bench *bench, uint32_t free_count)
{
    uint64_t deadline = clock_ns() + FORGET_STALL_NS;

    forget_reap(bench);
    while (bench->hiprio->free_count < free_count && bench->failure == 0) {
        vmm_ring_wait(bench->hiprio, 100);
        forget_reap(bench);
        if (clock_ns() > deadline)
            bench->failure = -ETIMEDOUT;
    }
}

void forget_send(struct bench *bench, uint64_t nodeid, uint64_t nlookup)
{
    struct vmm_seg seg = {0, sizeof(struct fuse_in_header) + sizeof(struct fuse_forget_in), 0};
    struct fuse_in_header header = {.len = seg.len, .opcode = FUSE_FORGET, .nodeid = nodeid};
    struct fuse_forget_in arg = {.nlookup = nlookup};
    uint8_t *at;

    if (bench->hiprio == NULL || bench->failure != 0)
        return;
    if (bench->hiprio->free_count == 0) {
        vmm_ring_kick(bench->hiprio);
        forget_wait(bench, 1);
        if (bench->failure != 0)
            return;
    }
    /* The message's place goes by the descriptor it will take: free while the descriptor is. */
    at = bench->forget_mem + (size_t)FORGET_SIZE * bench->hiprio->free_head;
    seg.addr = bench->forget_gpa + (uint64_t)FORGET_SIZE * bench->hiprio->free_head;
    header.unique = bench->unique += 2;
    memcpy(at, &header, sizeof(header));
    memcpy(at + sizeof(header), &arg, sizeof(arg));
    vmm_ring_add(bench->hiprio, &seg, 1, 0);
    bench->result->forgets++;
}

void forget_flush(struct bench *bench, bool all)
{
    if (bench->hiprio == NULL)
        return;
    if (bench->hiprio->avail_idx != bench->hiprio->published)
        vmm_ring_kick(bench->hiprio);
    if (all)
        forget_wait(bench, bench->hiprio->num);
    else
        forget_reap(bench);
}
