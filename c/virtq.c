/* SPDX-License-Identifier: Apache-2.0 */
#include "virtq.h"

#include <errno.h>
#include <stdatomic.h>

#include "cpu.h"

enum { CACHE_LINE = 64 };

/* Shared with the driver: each of these is one load or store that the compiler may not repeat. */
static uint16_t load16(const uint16_t *from)
{
    return le16toh(__atomic_load_n(from, __ATOMIC_RELAXED));
}

static uint16_t load16_acquire(const uint16_t *from)
{
    return le16toh(__atomic_load_n(from, __ATOMIC_ACQUIRE));
}

static void store16(uint16_t *to, uint16_t value)
{
    __atomic_store_n(to, htole16(value), __ATOMIC_RELAXED);
}

static uint16_t *used_event(struct virtq *vq)
{
    return &vq->avail->ring[vq->num];
}

static uint16_t *avail_event(struct virtq *vq)
{
    return (uint16_t *)&vq->used->ring[vq->num];
}

int virtq_map(struct virtq *vq, const struct guest_mem *mem)
{
    void *desc = guest_mem_at_user(mem, vq->desc_addr, vring_desc_size(vq->num));
    void *avail = guest_mem_at_user(mem, vq->avail_addr, vring_avail_size(vq->num));
    void *used = guest_mem_at_user(mem, vq->used_addr, vring_used_size(vq->num));

    if (!desc || !avail || !used)
        return -EFAULT;
    /* The alignments of VIRTIO 1.2, 2.7: the atomic accesses here rely on them. */
    if ((uintptr_t)desc % 16 || (uintptr_t)avail % 2 || (uintptr_t)used % 4)
        return -EFAULT;
    vq->desc = desc;
    vq->avail = avail;
    vq->used = used;
    return 0;
}

int virtq_init(struct virtq *vq, const struct ovfs_vring *vring, const struct guest_mem *mem)
{
    int err;

    if (vring->num < 2 || vring->num > VRING_SIZE_MAX || (vring->num & (vring->num - 1)) ||
        vring->base > UINT16_MAX)
        return -EINVAL;
    *vq = (struct virtq){
        .num = (uint16_t)vring->num,
        .event_idx = vring->event_idx,
        .indirect = vring->indirect,
        .last_avail = (uint16_t)vring->base,
        .seen_avail = (uint16_t)vring->base,
        .desc_addr = vring->desc_addr,
        .avail_addr = vring->avail_addr,
        .used_addr = vring->used_addr,
    };
    err = virtq_map(vq, mem);
    if (err < 0)
        return err;
    /* All that was taken was answered before the last stop, so the used index in memory is the
     * one to go on from. */
    vq->next_used = load16(&vq->used->idx);
    vq->published = vq->next_used;
    return 0;
}

/* Where the descriptors of a chain are read from: the ring's own table or an indirect one. */
struct desc_table {
    const struct vring_desc *direct; /* NULL: an indirect table that is not in one piece */
    uint64_t addr;
    uint32_t count;
};

static int desc_load(const struct desc_table *table, const struct guest_mem *mem, uint32_t index,
                     struct vring_desc *out)
{
    uint64_t addr = table->addr + (uint64_t)index * sizeof(struct vring_desc);
    uint64_t words[2];

    if (table->direct) {
        const uint64_t *from = (const uint64_t *)&table->direct[index];

        words[0] = __atomic_load_n(&from[0], __ATOMIC_RELAXED);
        words[1] = __atomic_load_n(&from[1], __ATOMIC_RELAXED);
        __builtin_memcpy(out, words, sizeof(*out));
    } else {
        for (unsigned done = 0; done < sizeof(*out);) {
            uint64_t len = sizeof(*out) - done;
            const void *from = guest_mem_at(mem, addr + done, &len);

            if (!from)
                return -EBADMSG;
            __builtin_memcpy((char *)out + done, from, len);
            done += (unsigned)len;
        }
    }
    *out = (struct vring_desc){.addr = le64toh(out->addr),
                               .len = le32toh(out->len),
                               .flags = le16toh(out->flags),
                               .next = le16toh(out->next)};
    return 0;
}

static int desc_table_indirect(struct desc_table *table, const struct guest_mem *mem,
                               const struct vring_desc *desc)
{
    uint64_t len = desc->len;
    const void *at;

    if (desc->len == 0 || desc->len % sizeof(struct vring_desc) ||
        desc->flags & VRING_DESC_F_NEXT || desc->addr + desc->len < desc->addr)
        return -EBADMSG;
    at = guest_mem_at(mem, desc->addr, &len);
    if (!at)
        return -EBADMSG;
    table->addr = desc->addr;
    table->count = desc->len / sizeof(struct vring_desc);
    table->direct = len == desc->len && (uintptr_t)at % 8 == 0 ? at : NULL;
    return 0;
}

/* Append what one descriptor describes to the request's iovecs, in as many pieces as the memory
 * regions cut it into. */
static int chain_append(struct fuse_req *req, const struct guest_mem *mem,
                        const struct vring_desc *desc)
{
    struct chain *half = desc->flags & VRING_DESC_F_WRITE ? &req->out : &req->in;
    uint64_t addr = desc->addr, left = desc->len;

    if (half == &req->in && req->out.count > 0)
        return -EBADMSG; /* VIRTIO 1.2, 2.7.4.2: readable descriptors come first */
    if (addr + left < addr)
        return -EBADMSG;
    while (left > 0) {
        uint64_t piece = left;
        void *at = guest_mem_at(mem, addr, &piece);

        if (!at || req->in.count + req->out.count == FUSE_REQ_IOVS)
            return -EBADMSG;
        req->iov[req->in.count + req->out.count] = (struct iovec){.iov_base = at, .iov_len = piece};
        half->count++;
        half->left += piece;
        addr += piece;
        left -= piece;
    }
    return 0;
}

/* Follow the chain from head. A chain never has more descriptors than the tables it runs through,
 * so counting to that bound ends every loop. */
static int chain_follow(const struct virtq *vq, const struct guest_mem *mem, uint16_t head,
                        struct fuse_req *req)
{
    struct desc_table table = {.direct = vq->desc, .count = vq->num};
    bool indirect = false;
    uint32_t index = head;

    for (uint32_t seen = 0; seen < table.count; seen++) {
        struct vring_desc desc;
        int err = index < table.count ? desc_load(&table, mem, index, &desc) : -EBADMSG;

        if (err == 0 && desc.flags & VRING_DESC_F_INDIRECT) {
            if (!vq->indirect || indirect)
                return -EBADMSG;
            err = desc_table_indirect(&table, mem, &desc);
            indirect = true;
            index = 0;
            seen = UINT32_MAX; /* the count starts again with the new table */
            if (err == 0)
                continue;
        }
        if (err == 0)
            err = chain_append(req, mem, &desc);
        if (err < 0)
            return err;
        if (!(desc.flags & VRING_DESC_F_NEXT))
            return 0;
        index = desc.next;
    }
    return -EBADMSG;
}

/* ---- asking ahead ---- */

/* The first descriptor of a chain that is offered, so many behind the next one. */
static const struct vring_desc *chain_ahead(const struct virtq *vq, uint16_t ahead)
{
    uint16_t at = (uint16_t)(vq->last_avail + ahead);

    if (ahead >= (uint16_t)(vq->seen_avail - vq->last_avail))
        return NULL;
    return &vq->desc[load16(&vq->avail->ring[at & (vq->num - 1)]) & (vq->num - 1)];
}

/* What a descriptor describes, where `len` bytes of that are there in one piece. */
static const void *described(const struct guest_mem *mem, const struct vring_desc *desc,
                             uint64_t len)
{
    uint64_t piece = len;
    const void *at =
        guest_mem_at(mem, le64toh(__atomic_load_n(&desc->addr, __ATOMIC_RELAXED)), &piece);

    return piece == len ? at : NULL;
}

/* One step further for each of the next chains: its descriptor, the indirect table behind that, the
 * header and the arguments behind the table. Nothing of it is believed: virtq_pop loads and checks
 * it when its turn comes. */
static void prefetch(const struct virtq *vq, const struct guest_mem *mem)
{
    const struct vring_desc *next = chain_ahead(vq, 1), *second = chain_ahead(vq, 2);
    const struct vring_desc *table;

    cpu_prefetch(chain_ahead(vq, 3));
    if (second) {
        const char *at = described(mem, second, 1);

        cpu_prefetch(at);
        if (at)
            cpu_prefetch(at + CACHE_LINE);
    }
    if (!next || !vq->indirect)
        return;
    table = described(mem, next, 2 * sizeof(*table));
    if (!table || (uintptr_t)table % 8)
        return;
    cpu_prefetch(described(mem, &table[0], 1));
    cpu_prefetch(described(mem, &table[1], 1));
}

/* ---- taking ---- */

int virtq_pop(struct virtq *vq, const struct guest_mem *mem, struct fuse_req *req)
{
    uint16_t head;
    int err;

    if (vq->last_avail == vq->seen_avail) {
        /* Pairs with the driver's barrier between filling an entry and raising avail->idx. */
        vq->seen_avail = load16_acquire(&vq->avail->idx);
        if (vq->last_avail == vq->seen_avail)
            return 0;
        if ((uint16_t)(vq->seen_avail - vq->last_avail) > vq->num)
            return -EPIPE;
    }
    head = load16(&vq->avail->ring[vq->last_avail & (vq->num - 1)]);
    prefetch(vq, mem);
    vq->last_avail++;
    req->head = head < vq->num ? head : VIRTQ_NO_HEAD;
    req->in = (struct chain){.iov = req->iov};
    req->out = (struct chain){0};
    req->mem = mem;
    if (head >= vq->num)
        return -EBADMSG;
    err = chain_follow(vq, mem, head, req);
    req->out.iov = req->iov + req->in.count;
    return err < 0 ? err : 1;
}

bool virtq_ready(const struct virtq *vq)
{
    return load16(&vq->avail->idx) != vq->last_avail;
}

void virtq_push(struct virtq *vq, uint16_t head, uint32_t len)
{
    struct vring_used_elem *elem = &vq->used->ring[vq->next_used & (vq->num - 1)];

    elem->id = htole32(head);
    elem->len = htole32(len);
    vq->next_used++;
}

/* VIRTIO 1.2, 2.7.7.2: the driver asked to be told once the used index has passed `event`. */
static bool event_passed(uint16_t event, uint16_t now, uint16_t before)
{
    return (uint16_t)(now - event - 1) < (uint16_t)(now - before);
}

bool virtq_publish(struct virtq *vq)
{
    uint16_t before = vq->published;

    if (vq->next_used == before)
        return false;
    /* Pairs with the driver's read barrier between used->idx and the used entries. */
    __atomic_store_n(&vq->used->idx, htole16(vq->next_used), __ATOMIC_RELEASE);
    vq->published = vq->next_used;
    /* Our index before their wish: pairs with the driver's barrier between writing used_event (or
     * the flag) and looking at used->idx once more. */
    atomic_thread_fence(memory_order_seq_cst);
    if (!vq->event_idx)
        return !(load16(&vq->avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
    if (!vq->told_driver) {
        vq->told_driver = true;
        return true;
    }
    return event_passed(load16(used_event(vq)), vq->next_used, before);
}

bool virtq_sleep(struct virtq *vq)
{
    if (vq->event_idx)
        store16(avail_event(vq), (uint16_t)(vq->last_avail + vq->ahead));
    else
        store16(&vq->used->flags, 0);
    /* Our wish before their index: pairs with the driver's barrier between raising avail->idx and
     * looking whether a kick is wanted. */
    atomic_thread_fence(memory_order_seq_cst);
    return load16(&vq->avail->idx) == vq->last_avail;
}

void virtq_wake(struct virtq *vq)
{
    /* With event_idx the old avail_event lies behind, which asks for nothing. */
    if (!vq->event_idx)
        store16(&vq->used->flags, VRING_USED_F_NO_NOTIFY);
}
