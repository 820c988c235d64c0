/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bench driver's loop. It stands in for a guest's driver and must cost little beside a daemon's
 * 1 to 3 us a request, so: chains are laid out beforehand and a descriptor is stored only where it
 * changes (the daemon's copy of the cache line stays valid), one clock reading serves a batch of
 * completions, and one kick a batch of submissions.
 *
 * A slot's data buffer moves on with each sequence through the slot's share of the arena, as a
 * guest's page cache does; reading always into the same few pages would flatter whoever copies.
 */
#include "bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STALL_NS    10000000000ull
#define MAX_ERRORS  1000
#define LEDGER_SIZE 65536

uint64_t clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static uint64_t round_up(uint64_t value, uint64_t to)
{
    return (value + to - 1) / to * to;
}

static unsigned job_data_segs(const struct vmm_bench_job *job)
{
    if (!workloads[job->workload].data)
        return 0;
    return job->seg_size == 0 ? 1 : (job->size + job->seg_size - 1) / job->seg_size;
}

/* Header, arguments, reply header, reply, data. */
static unsigned job_segs(const struct vmm_bench_job *job)
{
    return 4 + job_data_segs(job);
}

/* An odd number of cache lines, so that the slots' headers do not all fall into one set of the
 * cache. */
static uint64_t job_slot_size(const struct vmm_bench_job *job)
{
    return round_up(SLOT_HEAD + job_segs(job) * sizeof(struct vring_desc), 64) | 64;
}

static uint64_t job_forget_size(void)
{
    return 1024 * 64;
}

static uint64_t job_data_stride(const struct vmm_bench_job *job)
{
    return workloads[job->workload].data ? round_up(job->size, BENCH_PAGE) : 0;
}

static uint64_t job_data_start(const struct vmm_bench_job *job)
{
    return round_up(job_slot_size(job) * job->depth + job_forget_size(), BENCH_PAGE);
}

uint64_t vmm_bench_arena_size(const struct vmm_bench_job *job)
{
    if (job->workload >= VMM_WORKLOADS)
        return 0;
    return job_data_start(job) + job_data_stride(job) * job->depth;
}

static int job_check(const struct vmm_bench_job *job, const struct vmm_ring *ring,
                     const struct vmm_ring *hiprio)
{
    bool names = job->workload == VMM_LOOKUP || job->workload == VMM_SMALL_FILE ||
                 job->workload == VMM_STORE_FILE;
    bool nodes = job->workload == VMM_GETATTR || job->workload == VMM_OPEN_RELEASE;
    bool blocks = job->workload <= VMM_MIXED;

    if (job->workload >= VMM_WORKLOADS || job->depth == 0 ||
        (job->max_ops == 0 && job->max_ns == 0) ||
        (workloads[job->workload].data && job->size == 0) ||
        (blocks && job->file_size < job->size) || (names && job->n_names == 0) ||
        (nodes && job->n_nodes == 0) ||
        (job->workload == VMM_RENAME && job->n_names < job->depth) ||
        (job->workload == VMM_READDIRPLUS && job->n_nodes < job->depth) ||
        (hiprio != NULL && hiprio->num > 1024))
        return -EINVAL;
    if (ring->free_count != ring->num || ring->avail_idx != ring->published ||
        ring_used_idx(ring) != ring->last_used)
        return -EBUSY;
    if (job->arena_size < vmm_bench_arena_size(job) ||
        (job->indirect ? 1 : job_segs(job)) * (uint64_t)job->depth > ring->num)
        return -ENOSPC;
    return 0;
}

static int bench_init(struct bench *bench)
{
    const struct vmm_bench_job *job = bench->job;
    uint64_t slot_size = job_slot_size(job), forgets = job_slot_size(job) * job->depth;
    uint8_t *arena = vmm_mem_ptr(bench->mem, job->arena, job->arena_size);

    if (arena == NULL)
        return -EINVAL;
    bench->slot = calloc(job->depth, sizeof(*bench->slot));
    if (bench->slot == NULL || ledger_init(&bench->ledger, LEDGER_SIZE) < 0)
        return -ENOMEM;
    bench->workload = &workloads[job->workload];
    bench->descs = job->indirect ? 1 : job_segs(job);
    bench->rng = job->seed != 0 ? job->seed : 1;
    bench->forget_gpa = job->arena + forgets;
    bench->forget_mem = arena + forgets;
    bench->data_gpa = job->arena + job_data_start(job);
    bench->data_mem = arena + job_data_start(job);
    bench->data_stride = (uint32_t)job_data_stride(job);
    if (bench->data_stride != 0) {
        uint64_t room = job->arena_size - job_data_start(job);

        bench->data_per_slot = (uint32_t)(room / bench->data_stride / job->depth);
        /* Pages are made before the clock runs, and a write has something to write. */
        memset(bench->data_mem, 0xa5, room);
    }
    for (uint32_t i = 0; i < job->depth; i++) {
        struct slot *slot = &bench->slot[i];

        slot->index = i;
        slot->gpa = job->arena + slot_size * i;
        slot->mem = arena + slot_size * i;
        slot->head = (uint16_t)(bench->descs * i);
        memset(slot->mem, 0, slot_size);
    }
    return 0;
}

struct layout {
    struct vring_desc *desc;
    uint16_t base; /* index of desc[0] in its table */
    unsigned count;
};

/* Links every descriptor to the one behind it; layout_end cuts the last one off. */
static void layout_put(struct layout *layout, uint64_t addr, uint32_t len, uint16_t write)
{
    struct vring_desc *desc = &layout->desc[layout->count++];
    uint16_t flags = write | VRING_DESC_F_NEXT, next = (uint16_t)(layout->base + layout->count);

    if (len == 0) {
        layout->count--;
        return;
    }
    if (desc->addr != addr)
        desc->addr = addr;
    if (desc->len != len)
        desc->len = len;
    if (desc->flags != flags)
        desc->flags = flags;
    if (desc->next != next)
        desc->next = next;
}

static void layout_data(struct layout *layout, const struct bench *bench, const struct slot *slot,
                        uint32_t len, uint16_t write)
{
    uint32_t part = bench->job->seg_size != 0 ? bench->job->seg_size : len;

    for (uint32_t at = 0; at < len; at += part)
        layout_put(layout, slot->data_gpa + at, len - at < part ? len - at : part, write);
}

static void slot_layout(struct bench *bench, struct slot *slot)
{
    struct vring_desc *head = &bench->ring->desc[slot->head];
    struct layout layout = {head, slot->head, 0};

    if (bench->job->indirect)
        layout = (struct layout){(void *)(slot->mem + SLOT_HEAD), 0, 0};
    layout_put(&layout, slot->gpa, sizeof(struct fuse_in_header), 0);
    layout_put(&layout, slot->gpa + SLOT_ARG, slot->arg_len, 0);
    layout_data(&layout, bench, slot, slot->data_in, 0);
    layout_put(&layout, slot->gpa + SLOT_REPLY, sizeof(struct fuse_out_header), VRING_DESC_F_WRITE);
    layout_put(&layout, slot->gpa + SLOT_REPLY + SLOT_ARG, slot->out_len, VRING_DESC_F_WRITE);
    layout_data(&layout, bench, slot, slot->data_out, VRING_DESC_F_WRITE);
    layout.desc[layout.count - 1].flags &= (uint16_t)~VRING_DESC_F_NEXT;
    if (bench->job->indirect) {
        head->addr = slot->gpa + SLOT_HEAD;
        head->len = (uint32_t)(layout.count * sizeof(struct vring_desc));
        head->flags = VRING_DESC_F_INDIRECT;
        head->next = 0;
    }
}

static void slot_submit(struct bench *bench, struct slot *slot)
{
    struct fuse_in_header *header = slot_header(slot);

    bench->workload->step[slot->step].build(bench, slot);
    header->len = (uint32_t)sizeof(*header) + slot->arg_len + slot->data_in;
    header->unique = bench->unique += 2;
    header->uid = bench->job->uid;
    header->gid = bench->job->gid;
    header->pid = 1;
    slot_layout(bench, slot);
    slot->busy = true;
    bench->in_flight++;
    ring_offer(bench->ring, slot->head);
}

/* Begins the slot's next sequence, unless the job is at its end. */
static void slot_begin(struct bench *bench, struct slot *slot, uint64_t now, uint64_t deadline)
{
    const struct vmm_bench_job *job = bench->job;

    if ((job->max_ops != 0 && bench->taken >= job->max_ops) || now >= deadline ||
        bench->failure != 0 || bench->result->errors >= MAX_ERRORS)
        return;
    if (bench->data_per_slot != 0) {
        uint64_t buffer = slot->index + (uint64_t)job->depth * (slot->turn % bench->data_per_slot);

        slot->data_gpa = bench->data_gpa + buffer * bench->data_stride;
        slot->data = bench->data_mem + buffer * bench->data_stride;
    }
    slot->step = 0;
    slot->started = now;
    slot->turn++;
    slot_submit(bench, slot);
    bench->taken++;
}

static void slot_failed(struct bench *bench, struct slot *slot, int error)
{
    struct vmm_bench_result *result = bench->result;

    if (result->errors++ == 0) {
        result->first_error = error;
        result->first_opcode = slot_header(slot)->opcode;
    }
}

/* Takes a reply; true if the slot's sequence is over. */
static bool slot_complete(struct bench *bench, struct slot *slot, uint64_t now)
{
    const struct fuse_out_header *reply = slot_reply(slot);
    const struct step *step = &bench->workload->step[slot->step];

    slot->busy = false;
    bench->in_flight--;
    bench->result->requests++;
    if (reply->unique != slot_header(slot)->unique) {
        slot_failed(bench, slot, EBADMSG);
        return true;
    }
    if (reply->error == 0 ? step->reply != NULL && !step->reply(bench, slot)
                          : reply->error != -step->allowed) {
        slot_failed(bench, slot, reply->error != 0 ? -reply->error : EPROTO);
        return true;
    }
    if (++slot->step < BENCH_MAX_STEPS && step[1].build != NULL) {
        slot_submit(bench, slot);
        return false;
    }
    bench->result->ops++;
    hist_add(&bench->hist, now - slot->started);
    return true;
}

static void bench_drain(struct bench *bench, uint64_t now, uint64_t deadline)
{
    struct vmm_ring *ring = bench->ring;
    uint16_t idx = ring_used_idx(ring);

    bench->result->batches++;
    while (ring->last_used != idx) {
        uint32_t id = ring->used->ring[ring->last_used++ & (ring->num - 1)].id;
        struct slot *slot = &bench->slot[id / bench->descs % bench->job->depth];

        ring->stats.completed++;
        if (id != slot->head || !slot->busy) {
            bench->failure = -EBADMSG;
            return;
        }
        if (slot_complete(bench, slot, now))
            slot_begin(bench, slot, now, deadline);
    }
}

static bool bench_idle(struct bench *bench)
{
    return ring_used_idx(bench->ring) == bench->ring->last_used;
}

/* Until something is in the used ring, as the mode says; -ETIMEDOUT after 10 s. */
static int bench_wait(struct bench *bench, uint64_t since)
{
    if (bench->job->mode == VMM_SLEEP) {
        while (vmm_ring_wait(bench->ring, 1000) <= 0) {
            if (clock_ns() - since > STALL_NS)
                return -ETIMEDOUT;
        }
        return 0;
    }
    for (uint32_t spins = 1; bench_idle(bench); spins++) {
        if (spins % 65536 == 0 && clock_ns() - since > STALL_NS)
            return -ETIMEDOUT;
    }
    return 0;
}

static int bench_run(struct bench *bench)
{
    uint64_t start = clock_ns(), now = start;
    uint64_t deadline = bench->job->max_ns != 0 ? start + bench->job->max_ns : UINT64_MAX;

    for (uint32_t i = 0; i < bench->job->depth; i++)
        slot_begin(bench, &bench->slot[i], now, deadline);
    while (bench->in_flight > 0 && bench->failure == 0) {
        int err;

        if (bench->job->mode == VMM_POLL)
            ring_arm(bench->ring);
        else if (bench->job->mode == VMM_QUIET)
            ring_disarm(bench->ring);
        if (bench->ring->avail_idx != bench->ring->published)
            vmm_ring_kick(bench->ring);
        forget_flush(bench, false);
        err = bench_wait(bench, now);
        if (err < 0)
            return err;
        now = clock_ns();
        bench_drain(bench, now, deadline);
    }
    bench->result->elapsed_ns = now - start;
    return bench->failure;
}

static void result_fill(struct bench *bench, const struct vmm_ring_stats *before)
{
    struct vmm_bench_result *result = bench->result;

    vmm_ring_interrupts(bench->ring);
    result->kicks = bench->ring->stats.kicks - before->kicks;
    result->interrupts = bench->ring->stats.interrupts - before->interrupts;
    if (bench->hist.count != 0)
        result->lat_mean_ns = bench->hist.sum / bench->hist.count;
    result->lat_p50_ns = hist_quantile(&bench->hist, 500);
    result->lat_p90_ns = hist_quantile(&bench->hist, 900);
    result->lat_p99_ns = hist_quantile(&bench->hist, 990);
    result->lat_p999_ns = hist_quantile(&bench->hist, 999);
    result->lat_max_ns = bench->hist.max;
}

int vmm_bench(struct vmm_mem *mem, struct vmm_ring *queue, struct vmm_ring *hiprio,
              const struct vmm_bench_job *job, struct vmm_bench_result *result)
{
    struct vmm_ring_stats before;
    struct bench *bench;
    int err = job_check(job, queue, hiprio);

    memset(result, 0, sizeof(*result));
    if (err < 0)
        return err;
    bench = calloc(1, sizeof(*bench));
    if (bench == NULL)
        return -ENOMEM;
    bench->job = job;
    bench->mem = mem;
    bench->ring = queue;
    bench->hiprio = hiprio;
    bench->result = result;
    vmm_ring_interrupts(queue); /* what is left of earlier use is not ours */
    before = queue->stats;
    err = bench_init(bench);
    if (err == 0)
        err = bench_run(bench);
    if (err == 0) {
        ledger_settle(bench);
        forget_flush(bench, true);
        err = bench->failure;
        result_fill(bench, &before);
    }
    ring_arm(queue);
    ledger_free(&bench->ledger);
    free(bench->slot);
    free(bench);
    return err;
}
