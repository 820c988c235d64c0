/* SPDX-License-Identifier: Apache-2.0
 *
 * A table of equal slots that a guest names by 64-bit ids: generation << 32 | index.
 *
 *      word:   | generation 32 | live 1 | busy 1 | pins 30 |     one atomic per slot
 *
 *      free         live 0, pins 0 (a page of zeroes is a page of free slots)
 *      being made   live 0, pins 1: between slab_alloc and slab_publish
 *      live         live 1, any number of pins, or busy 1 with none: locked
 *      retired      live 0, pins > 0: the last unpin destroys it
 *
 * DESIGN. A guest's id is never a pointer: an id whose generation is not the slot's is refused
 * without a write to the slot. A request pins what it names from decode to completion; retire
 * takes `live` away, and whoever takes the pins of such a slot to 0 runs `destroy` and frees it
 * with the next generation. Slots live in one reserved address range, so pointers stay valid and
 * a slot's index follows from its address.
 *
 * A thread keeps a dozen of the slots that it destroyed, for the next that it makes: an open and
 * release loop takes no lock. Else memory stays dense: the lowest chunk with a free slot is filled
 * first, and the pages of chunks
 * without a slot in use go back to the kernel, a few spare ones excepted. Such a chunk reads as
 * zeroes, thus as free slots, whatever stale id somebody still looks up in it; the chunk remembers
 * the highest generation it had, and its slots go on from there, so old ids stay refused.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct slab;

/* First member of every slot. */
struct slab_slot {
    _Atomic uint64_t word; /* any thread, atomic */
};

/* capacity: the most slots ever (address space only; rounded up to a multiple of 512). destroy:
 * called without locks by the thread that drops the last pin of a retired slot. 0 or -ENOMEM. Index
 * 0 is never handed out; the first slot ever made has id 1 (generation 0, index 1): FUSE_ROOT_ID.
 */
int slab_new(size_t slot_size, uint32_t capacity, void (*destroy)(void *slot, void *context),
             void *context, struct slab **out);
/* Every slot in use is destroyed, pinned or not. No other thread may use the slab any more. */
void slab_free(struct slab *slab);

/* Any thread, all of these. */

/* A zeroed slot (behind its word), pinned once, which no id reaches yet. NULL: capacity or memory
 * is used up. */
void *slab_alloc(struct slab *slab);
/* The slot is filled in: from now on its id finds it. */
void slab_publish(struct slab *slab, void *slot);
uint64_t slab_id(const struct slab *slab, const void *slot);
/* Pin the slot of an id: NULL where this table does not hold it. */
void *slab_pin(struct slab *slab, uint64_t id);
void slab_unpin(struct slab *slab, void *slot);
/* Take one more pin on a slot that the caller has pinned. */
void slab_repin(struct slab *slab, void *slot);
/* The caller has it pinned. No pin succeeds from now on; freed at pin 0. True for the one caller
 * that retired it. */
bool slab_retire(struct slab *slab, void *slot);
/* With no pins at all: keep others from pinning (they spin) until slab_unlock, a few instructions
 * later. For taking a descriptor away that only pinned users may use. NULL: somebody has it
 * pinned or locked, or the table does not hold it any more: *gone says which. */
void *slab_trylock(struct slab *slab, uint64_t id, bool *gone);
void slab_unlock(struct slab *slab, void *slot);
/* Call visit for each live slot (pinned meanwhile). Slots that come and go meanwhile may be
 * missed or seen. */
void slab_each(struct slab *slab, void (*visit)(void *slot, void *context), void *context);
uint32_t slab_count(struct slab *slab);           /* slots in use */
void *slab_at(struct slab *slab, uint32_t index); /* no check: the caller knows it is in use */
uint32_t slab_index(const struct slab *slab, const void *slot);
