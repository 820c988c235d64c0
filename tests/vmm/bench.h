/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bench driver's parts. A job keeps `depth` slots busy; a slot runs one sequence of requests
 * (open, then release) after another, one request at a time:
 *
 *     slot: step's build() -> request bytes + segments -> ring -> reply -> step's reply() -> next
 * step ...
 *
 *     arena:  [slot 0: request | reply | indirect table] [slot 1: ...] ... [forgets] [data buffers
 * ...]
 *
 * Everything is laid out before the clock starts. All of it belongs to the thread that runs
 * vmm_bench.
 */
#ifndef VMM_BENCH_H
#define VMM_BENCH_H

#include <stdbool.h>
#include <stdint.h>
#include <linux/fuse.h>

#include "hist.h"
#include "ring.h"

#define BENCH_MAX_STEPS 5
#define BENCH_PAGE      4096u

/* Offsets in a slot's request and reply memory. */
#define SLOT_ARG   64u
#define SLOT_REPLY 1024u
#define SLOT_HEAD  2048u /* request and reply; the table follows */

struct bench;
struct slot;

struct step {
    /* Writes the request's arguments behind its header and says what the reply may hold. */
    void (*build)(struct bench *bench, struct slot *slot);
    /* Takes what later steps need from a reply without error; false: the reply is wrong. May be
     * NULL. */
    bool (*reply)(struct bench *bench, struct slot *slot);
    int allowed; /* an errno that is as good as success */
};

struct workload {
    bool data; /* needs data buffers */
    struct step step[BENCH_MAX_STEPS];
};

struct slot {
    uint8_t *mem; /* request, reply, table */
    uint64_t gpa;
    uint32_t index;
    uint16_t head;
    bool busy;
    uint8_t step;

    /* set by build(): bytes of each part; a part of 0 bytes has no descriptor */
    uint32_t arg_len;
    uint32_t out_len;
    uint32_t data_in;
    uint32_t data_out;

    uint64_t data_gpa; /* this sequence's data buffer */
    uint8_t *data;
    uint32_t turn; /* counts sequences */
    uint32_t pick; /* name or node of this sequence */
    uint64_t nodeid;
    uint64_t fh;
    uint64_t offset;
    uint64_t started;
};

/* Lookups owed to the daemon, by node id: open addressing, a power of two. */
struct ledger {
    struct {
        uint64_t nodeid;
        uint64_t count;
    } *entry;
    uint64_t size;
    uint64_t used;
};

struct bench {
    const struct vmm_bench_job *job;
    const struct workload *workload;
    struct vmm_mem *mem;
    struct vmm_ring *ring;
    struct vmm_ring *hiprio;
    struct vmm_bench_result *result;
    struct slot *slot;
    struct hist hist;
    struct ledger ledger;
    uint64_t rng;
    uint64_t unique;
    uint64_t taken; /* sequences begun, over all slots */
    unsigned descs; /* descriptors of the ring for one slot */
    unsigned in_flight;
    uint64_t forget_gpa; /* one message for each descriptor of hiprio */
    uint8_t *forget_mem;
    uint64_t data_gpa;
    uint8_t *data_mem;
    uint32_t data_stride;
    uint32_t data_per_slot;
    int failure; /* ends the run */
};

extern const struct workload workloads[VMM_WORKLOADS];

static inline struct fuse_in_header *slot_header(struct slot *slot)
{
    return (struct fuse_in_header *)(void *)slot->mem;
}

static inline void *slot_arg(struct slot *slot)
{
    return slot->mem + SLOT_ARG;
}

static inline struct fuse_out_header *slot_reply(struct slot *slot)
{
    return (struct fuse_out_header *)(void *)(slot->mem + SLOT_REPLY);
}

static inline void *slot_reply_arg(struct slot *slot)
{
    return slot->mem + SLOT_REPLY + SLOT_ARG;
}

static inline uint64_t bench_random(struct bench *bench)
{
    uint64_t x = bench->rng;

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return bench->rng = x;
}

int ledger_init(struct ledger *ledger, uint64_t size);
void ledger_free(struct ledger *ledger);
/* Notes one lookup; a table that is half full is settled first. */
void ledger_add(struct bench *bench, uint64_t nodeid);
/* Sends all that is owed as FORGET. */
void ledger_settle(struct bench *bench);

/* Sends one FORGET on hiprio; waits for room where there is none. */
void forget_send(struct bench *bench, uint64_t nodeid, uint64_t nlookup);
/* Publishes forgets and takes used ones back; with all, waits until the ring is idle. */
void forget_flush(struct bench *bench, bool all);

uint64_t clock_ns(void);

#endif
