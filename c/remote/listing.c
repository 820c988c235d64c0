/* SPDX-License-Identifier: Apache-2.0 */
#include "listing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../clock.h"
#include "hash.h"

enum { NAME_LEN_MAX = 255 };

static bool may_be_name(const char *name, size_t len)
{
    if (len == 0 || len > NAME_LEN_MAX || memchr(name, '/', len) || memchr(name, 0, len))
        return false;
    return !(len <= 2 && name[0] == '.' && name[len - 1] == '.');
}

static size_t check_names(uint32_t count, const char *names, const uint16_t *lens, bool *ok)
{
    size_t total = 0;

    *ok = true;
    for (uint32_t i = 0; i < count && *ok; i++) {
        *ok = may_be_name(names + total, lens[i]);
        total += lens[i];
    }
    return total;
}

/* Where in the table a name is, or belongs. */
static uint32_t *place(const struct listing *listing, const char *name, size_t len)
{
    uint32_t at = (uint32_t)(hash_name(listing->seed, name, len) >> 32) & listing->mask;

    while (listing->table[at]) {
        const struct listed *there = &listing->items[listing->table[at] - 1];

        if (there->name_len == len && memcmp(listing_name(listing, there), name, len) == 0)
            break;
        at = (at + 1) & listing->mask;
    }
    return &listing->table[at];
}

static void fill(struct listing *listing, const struct ovfs_entry *entries,
                 const uint16_t *name_lens, uint64_t now_ns)
{
    size_t name_at = 0;

    for (uint32_t i = 0; i < listing->count; i++) {
        struct listed *listed = &listing->items[i];
        uint32_t *at;

        listed->ino = entries[i].ino;
        listed->attr = entries[i].attr;
        listed->attr_until_ns = clock_after(now_ns, entries[i].attr_valid_ns);
        listed->name_at = name_at;
        listed->name_len = name_lens[i];
        at = place(listing, listing_name(listing, listed), listed->name_len);
        if (*at == 0)
            *at = i + 1; /* of two of one name, the first is what a lookup finds */
        name_at += name_lens[i];
    }
}

struct listing *listing_new(uint32_t count, const struct ovfs_entry *entries, const char *names,
                            const uint16_t *name_lens, uint64_t now_ns, int *err)
{
    size_t size = 16, items = count * sizeof(struct listed), total;
    struct listing *listing;
    bool ok;

    total = check_names(count, names, name_lens, &ok);
    *err = -EINVAL;
    if (!ok || count > UINT32_MAX / 4)
        return NULL;
    while (size < 2 * (size_t)count)
        size *= 2;
    *err = -ENOMEM;
    listing = malloc(sizeof(*listing) + items + size * sizeof(uint32_t) + total);
    if (!listing)
        return NULL;
    *listing = (struct listing){.count = count, .mask = (uint32_t)size - 1, .seed = hash_seed()};
    atomic_init(&listing->refs, 1);
    listing->table = (uint32_t *)((char *)listing->items + items);
    listing->names = (char *)(listing->table + size);
    memset(listing->table, 0, size * sizeof(uint32_t));
    if (total > 0)
        memcpy(listing->names, names, total);
    fill(listing, entries, name_lens, now_ns);
    return listing;
}

struct listing *listing_ref(struct listing *listing)
{
    if (listing)
        atomic_fetch_add_explicit(&listing->refs, 1, memory_order_relaxed);
    return listing;
}

void listing_unref(struct listing *listing)
{
    /* acq_rel: whoever frees it does so after all that others did with it. */
    if (listing && atomic_fetch_sub_explicit(&listing->refs, 1, memory_order_acq_rel) == 1)
        free(listing);
}

const struct listed *listing_find(const struct listing *listing, const char *name, size_t len)
{
    uint32_t index = *place(listing, name, len);

    return index ? &listing->items[index - 1] : NULL;
}

uint64_t listing_ino(const struct listing *listing, const struct listed *listed)
{
    if (listed->ino)
        return listed->ino;
    /* Far from the control plane's numbers, and the same each time. */
    return hash_name(0, listing_name(listing, listed), listed->name_len) | UINT64_C(1) << 63;
}
