/* SPDX-License-Identifier: Apache-2.0
 *
 * Generation and pins are one word, changed by compare-and-swap only, so a pin either sees the
 * very slot its id names or leaves no trace. Who owns a slot otherwise: the thread that took its
 * last pin after retire, until it is free under the lock.
 *
 * Address space is reserved without access and opened a step at a time, so that running out of
 * memory is an answer of mprotect and not a fault, under any overcommit policy.
 */
#include "slab.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    CHUNK_SLOTS = 512,
    CHUNK_WORDS = CHUNK_SLOTS / 64,
    STEP_CHUNKS = 16, /* opened per mprotect */
    SPARE_CHUNKS = 4, /* empty ones kept: an open+release loop must not call madvise each time */
    SPINS = 64,       /* before a pin that waits for slab_unlock gives the processor away */
    SHELVES = 16,     /* threads share one where there are more of them */
    SHELF_SLOTS = 12,
};

#define LIVE (UINT64_C(1) << 31)
#define BUSY (UINT64_C(1) << 30)
#define PINS (BUSY - 1)

struct chunk {
    uint64_t used[CHUNK_WORDS]; /* a bit per slot */
    uint32_t in_use;
    uint32_t base;  /* no slot that is allocated here gets an older generation */
    bool resident;  /* its pages may be in memory */
    bool returning; /* its pages are being given back: nothing is allocated in it */
};

/* Free slots that a thread destroyed and will make anew: without the lock, and in its own cache.
 * Their bits stay set, so their chunks stay in memory. */
struct shelf {
    _Atomic uint32_t slots[SHELF_SLOTS]; /* indexes; 0: an empty place. Any thread, atomic */
    _Atomic int32_t count;               /* slots in use: made here less destroyed here */
} __attribute__((aligned(64)));

struct slab {
    char *slots;          /* constant */
    size_t slot_size;     /* constant */
    size_t chunk_bytes;   /* constant: whole pages */
    size_t reserved;      /* constant: bytes of address space */
    uint32_t chunk_count; /* constant */
    void (*destroy)(void *slot, void *context);
    void *context;

    _Atomic uint32_t open_chunks; /* readable ones; grows under lock, read by any thread */
    struct shelf shelves[SHELVES];

    pthread_mutex_t lock; /* guards what follows; taken last, held for a few memory accesses */
    struct chunk *chunks;
    uint64_t *full;     /* a bit per chunk without a free slot, or returning */
    uint32_t full_hint; /* no word of `full` before this one has a zero bit */
    uint32_t spare;     /* chunks that are resident and empty */
};

static _Atomic uint64_t *word_of(const void *slot)
{
    return &((struct slab_slot *)slot)->word;
}

static uint32_t generation_of(uint64_t word)
{
    return (uint32_t)(word >> 32);
}

void *slab_at(struct slab *slab, uint32_t index)
{
    return slab->slots + (size_t)(index / CHUNK_SLOTS) * slab->chunk_bytes +
           (size_t)(index % CHUNK_SLOTS) * slab->slot_size;
}

uint32_t slab_index(const struct slab *slab, const void *slot)
{
    size_t offset = (size_t)((const char *)slot - slab->slots);

    return (uint32_t)(offset / slab->chunk_bytes * CHUNK_SLOTS +
                      offset % slab->chunk_bytes / slab->slot_size);
}

uint64_t slab_id(const struct slab *slab, const void *slot)
{
    uint64_t word = atomic_load_explicit(word_of(slot), memory_order_relaxed);

    return (uint64_t)generation_of(word) << 32 | slab_index(slab, slot);
}

int slab_new(size_t slot_size, uint32_t capacity, void (*destroy)(void *slot, void *context),
             void *context, struct slab **out)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct slab *slab = aligned_alloc(_Alignof(struct slab), sizeof(*slab));

    assert(slot_size % sizeof(uint64_t) == 0 && capacity > 1);
    *out = NULL;
    if (!slab)
        return -ENOMEM;
    memset(slab, 0, sizeof(*slab));
    slab->slot_size = slot_size;
    slab->destroy = destroy;
    slab->context = context;
    slab->chunk_bytes = (CHUNK_SLOTS * slot_size + page - 1) / page * page;
    slab->chunk_count = (capacity - 1) / CHUNK_SLOTS + 1;
    slab->reserved = slab->chunk_count * slab->chunk_bytes;
    slab->chunks = calloc(slab->chunk_count, sizeof(*slab->chunks));
    slab->full = calloc(slab->chunk_count / 64 + 1, sizeof(*slab->full));
    slab->slots =
        mmap(NULL, slab->reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!slab->chunks || !slab->full || slab->slots == MAP_FAILED)
        goto err;
    pthread_mutex_init(&slab->lock, NULL);
    slab->chunks[0].used[0] = 1; /* index 0 */
    *out = slab;
    return 0;
err:
    if (slab->slots != MAP_FAILED)
        munmap(slab->slots, slab->reserved);
    free(slab->full);
    free(slab->chunks);
    free(slab);
    return -ENOMEM;
}

void slab_free(struct slab *slab)
{
    uint32_t index, limit;

    if (!slab)
        return;
    limit = atomic_load(&slab->open_chunks) * CHUNK_SLOTS;
    for (index = 1; index < limit; index++) {
        if (!slab->chunks[index / CHUNK_SLOTS].in_use)
            continue;
        if (atomic_load(word_of(slab_at(slab, index))) & (LIVE | PINS))
            slab->destroy(slab_at(slab, index), slab->context);
    }
    pthread_mutex_destroy(&slab->lock);
    munmap(slab->slots, slab->reserved);
    free(slab->full);
    free(slab->chunks);
    free(slab);
}

/* Make chunk number `chunk` readable and writable, and some behind it. Under lock. */
static bool open_chunk(struct slab *slab, uint32_t chunk)
{
    uint32_t open = atomic_load_explicit(&slab->open_chunks, memory_order_relaxed);
    uint32_t want = chunk + STEP_CHUNKS;

    if (chunk < open)
        return true;
    if (want > slab->chunk_count)
        want = slab->chunk_count;
    if (mprotect(slab->slots + open * slab->chunk_bytes, (want - open) * slab->chunk_bytes,
                 PROT_READ | PROT_WRITE) < 0)
        return false;
    /* pairs with: slab.c:locate, which must not look at pages that are not open yet */
    atomic_store_explicit(&slab->open_chunks, want, memory_order_release);
    return true;
}

/* The lowest chunk with a free slot, or chunk_count. Under lock. */
static uint32_t find_chunk(struct slab *slab)
{
    uint32_t words = slab->chunk_count / 64 + 1;
    uint32_t chunk;

    while (slab->full_hint < words && slab->full[slab->full_hint] == UINT64_MAX)
        slab->full_hint++;
    if (slab->full_hint == words)
        return slab->chunk_count;
    chunk = slab->full_hint * 64 + (uint32_t)__builtin_ctzll(~slab->full[slab->full_hint]);
    return chunk < slab->chunk_count ? chunk : slab->chunk_count;
}

/* Note whether a chunk can be allocated from, after its bits have changed. Under lock. */
static void update_full(struct slab *slab, uint32_t number)
{
    const struct chunk *chunk = &slab->chunks[number];
    uint64_t all = chunk->used[0];
    uint32_t i;

    for (i = 1; i < CHUNK_WORDS; i++)
        all &= chunk->used[i];
    if (all == UINT64_MAX || chunk->returning) {
        slab->full[number / 64] |= UINT64_C(1) << number % 64;
        return;
    }
    slab->full[number / 64] &= ~(UINT64_C(1) << number % 64);
    if (number / 64 < slab->full_hint)
        slab->full_hint = number / 64;
}

/* Take the lowest free slot of a chunk that has one; its index. Under lock. */
static uint32_t take_slot(struct slab *slab, uint32_t number)
{
    struct chunk *chunk = &slab->chunks[number];
    uint32_t word = 0, bit;

    while (chunk->used[word] == UINT64_MAX)
        word++;
    bit = (uint32_t)__builtin_ctzll(~chunk->used[word]);
    chunk->used[word] |= UINT64_C(1) << bit;
    if (chunk->used[word] == UINT64_MAX)
        update_full(slab, number);
    if (chunk->in_use++ == 0 && chunk->resident)
        slab->spare--;
    chunk->resident = true;
    return number * CHUNK_SLOTS + word * 64 + bit;
}

static struct shelf *shelf_of_thread(struct slab *slab)
{
    static _Atomic uint32_t threads;
    static _Thread_local uint32_t number; /* 0: this thread has none yet */

    if (number == 0)
        number = 1 + atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) % SHELVES;
    return &slab->shelves[number - 1];
}

/* A slot's index; 0: the shelf is empty. */
static uint32_t take_from_shelf(struct shelf *shelf)
{
    for (unsigned i = 0; i < SHELF_SLOTS; i++) {
        uint32_t index = atomic_load_explicit(&shelf->slots[i], memory_order_relaxed);

        if (index != 0)
            index = atomic_exchange_explicit(&shelf->slots[i], 0, memory_order_acquire);
        if (index != 0)
            return index;
    }
    return 0;
}

/* Whether there was room. */
static bool put_on_shelf(struct shelf *shelf, uint32_t index)
{
    for (unsigned i = 0; i < SHELF_SLOTS; i++) {
        uint32_t none = atomic_load_explicit(&shelf->slots[i], memory_order_relaxed);

        if (none == 0 &&
            atomic_compare_exchange_strong_explicit(&shelf->slots[i], &none, index,
                                                    memory_order_release, memory_order_relaxed))
            return true;
    }
    return false;
}

/* A free slot whose word has its generation; NULL: there is none, or no memory. */
static void *take_from_chunks(struct slab *slab)
{
    uint32_t number, generation;
    void *slot = NULL;

    pthread_mutex_lock(&slab->lock);
    number = find_chunk(slab);
    if (number == slab->chunk_count || !open_chunk(slab, number))
        goto out;
    slot = slab_at(slab, take_slot(slab, number));
    generation = generation_of(atomic_load_explicit(word_of(slot), memory_order_relaxed));
    if (generation < slab->chunks[number].base)
        atomic_store_explicit(word_of(slot), (uint64_t)slab->chunks[number].base << 32,
                              memory_order_relaxed);
out:
    pthread_mutex_unlock(&slab->lock);
    return slot;
}

void *slab_alloc(struct slab *slab)
{
    struct shelf *shelf = shelf_of_thread(slab);
    uint32_t index = take_from_shelf(shelf);
    void *slot = index != 0 ? slab_at(slab, index) : take_from_chunks(slab);

    if (!slot)
        return NULL;
    atomic_store_explicit(word_of(slot),
                          atomic_load_explicit(word_of(slot), memory_order_relaxed) + 1,
                          memory_order_relaxed);
    memset((char *)slot + sizeof(struct slab_slot), 0, slab->slot_size - sizeof(struct slab_slot));
    atomic_fetch_add_explicit(&shelf->count, 1, memory_order_relaxed);
    return slot;
}

void slab_publish(struct slab *slab, void *slot)
{
    (void)slab;
    /* pairs with: slab.c:slab_pin, which reads what was filled in */
    atomic_fetch_or_explicit(word_of(slot), LIVE, memory_order_release);
}

/* Give the pages of an empty chunk back. It is marked returning, so only stale ids look at it. */
static void return_chunk(struct slab *slab, uint32_t number)
{
    madvise(slab->slots + number * slab->chunk_bytes, slab->chunk_bytes, MADV_DONTNEED);
    pthread_mutex_lock(&slab->lock);
    slab->chunks[number].returning = false;
    update_full(slab, number);
    pthread_mutex_unlock(&slab->lock);
}

/* A free slot goes back to its chunk. `next`: its generation from now on. */
static void put_in_chunk(struct slab *slab, uint32_t index, uint32_t next)
{
    uint32_t number = index / CHUNK_SLOTS;
    struct chunk *chunk = &slab->chunks[number];
    bool give_back = false;

    pthread_mutex_lock(&slab->lock);
    /* A slot that has used up its generations stays out of use: no id ever comes again. */
    if (next != 0) {
        chunk->used[index % CHUNK_SLOTS / 64] &= ~(UINT64_C(1) << index % 64);
        if (next > chunk->base)
            chunk->base = next;
    }
    if (--chunk->in_use == 0) {
        give_back = slab->spare >= SPARE_CHUNKS;
        chunk->resident = !give_back;
        chunk->returning = give_back;
        slab->spare += !give_back;
    }
    update_full(slab, number);
    pthread_mutex_unlock(&slab->lock);
    if (give_back)
        return_chunk(slab, number);
}

/* A slot without pins that no id finds: destroy it and make it free. */
static void recycle(struct slab *slab, void *slot, uint64_t word)
{
    struct shelf *shelf = shelf_of_thread(slab);
    uint32_t index = slab_index(slab, slot);
    uint32_t next = generation_of(word) + 1;

    slab->destroy(slot, slab->context);
    atomic_fetch_sub_explicit(&shelf->count, 1, memory_order_relaxed);
    atomic_store_explicit(word_of(slot), (uint64_t)next << 32, memory_order_relaxed);
    if (next == 0 || !put_on_shelf(shelf, index))
        put_in_chunk(slab, index, next);
}

/* The slot of an id's index, which may be free; NULL where there never was one. */
static void *locate(struct slab *slab, uint64_t id)
{
    uint32_t index = (uint32_t)id;
    uint32_t open = atomic_load_explicit(&slab->open_chunks, memory_order_acquire);

    return index / CHUNK_SLOTS < open ? slab_at(slab, index) : NULL;
}

static bool is_live(uint64_t word, uint64_t id)
{
    return word & LIVE && generation_of(word) == (uint32_t)(id >> 32);
}

void *slab_pin(struct slab *slab, uint64_t id)
{
    void *slot = locate(slab, id);
    uint64_t word;
    unsigned spins = 0;

    if (!slot)
        return NULL;
    word = atomic_load_explicit(word_of(slot), memory_order_relaxed);
    while (is_live(word, id)) {
        if (word & BUSY) {
            if (++spins % SPINS == 0)
                sched_yield();
            word = atomic_load_explicit(word_of(slot), memory_order_relaxed);
        } else if (atomic_compare_exchange_weak_explicit(word_of(slot), &word, word + 1,
                                                         memory_order_acquire,
                                                         memory_order_relaxed)) {
            return slot;
        }
    }
    return NULL;
}

void slab_unpin(struct slab *slab, void *slot)
{
    /* release: what this user did comes before the destruction by whoever unpins last;
     * acquire: as that one, see what all the others did */
    uint64_t word = atomic_fetch_sub_explicit(word_of(slot), 1, memory_order_acq_rel);

    assert(word & PINS);
    if ((word & PINS) == 1 && !(word & LIVE))
        recycle(slab, slot, word);
}

void slab_repin(struct slab *slab, void *slot)
{
    (void)slab;
    atomic_fetch_add_explicit(word_of(slot), 1, memory_order_relaxed);
}

bool slab_retire(struct slab *slab, void *slot)
{
    uint64_t word = atomic_fetch_and_explicit(word_of(slot), ~LIVE, memory_order_acq_rel);

    (void)slab;
    assert(word & PINS);
    return word & LIVE;
}

void *slab_trylock(struct slab *slab, uint64_t id, bool *gone)
{
    void *slot = locate(slab, id);
    uint64_t word;

    *gone = true;
    if (!slot)
        return NULL;
    word = atomic_load_explicit(word_of(slot), memory_order_relaxed);
    do {
        *gone = !is_live(word, id);
        if (*gone || word & (BUSY | PINS))
            return NULL;
    } while (!atomic_compare_exchange_weak_explicit(word_of(slot), &word, word | BUSY,
                                                    memory_order_acquire, memory_order_relaxed));
    return slot;
}

void slab_unlock(struct slab *slab, void *slot)
{
    (void)slab;
    atomic_fetch_and_explicit(word_of(slot), ~BUSY, memory_order_release);
}

static bool chunk_in_use(struct slab *slab, uint32_t number)
{
    bool in_use;

    pthread_mutex_lock(&slab->lock);
    in_use = slab->chunks[number].in_use > 0;
    pthread_mutex_unlock(&slab->lock);
    return in_use;
}

void slab_each(struct slab *slab, void (*visit)(void *slot, void *context), void *context)
{
    uint32_t open = atomic_load_explicit(&slab->open_chunks, memory_order_acquire);
    uint32_t number, i;

    for (number = 0; number < open; number++) {
        if (!chunk_in_use(slab, number))
            continue;
        for (i = 0; i < CHUNK_SLOTS; i++) {
            void *slot = slab_at(slab, number * CHUNK_SLOTS + i);

            if (!slab_pin(slab, slab_id(slab, slot)))
                continue;
            visit(slot, context);
            slab_unpin(slab, slot);
        }
    }
}

uint32_t slab_count(struct slab *slab)
{
    int32_t count = 0;

    for (unsigned i = 0; i < SHELVES; i++)
        count += atomic_load_explicit(&slab->shelves[i].count, memory_order_relaxed);
    /* seen while threads make and destroy, the sum may be out by a few */
    return count > 0 ? (uint32_t)count : 0;
}
