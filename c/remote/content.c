/* SPDX-License-Identifier: Apache-2.0
 *
 * The life and the state of a content: references, segments, and what the control plane sets.
 */
#include "content.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- life ---- */

static int locks_init(struct ovfs_content *content)
{
    pthread_rwlockattr_t attr;
    int err = pthread_rwlockattr_init(&attr);

    if (err)
        return -err;
    /* By default a steady stream of WRITEs on several queues would keep a fill out for ever. */
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    err = pthread_rwlock_init(&content->change, &attr);
    pthread_rwlockattr_destroy(&attr);
    pthread_mutex_init(&content->lock, NULL);
    return -err;
}

struct ovfs_content *ovfs_content_new(uint64_t size, uint64_t base_size, uint64_t version)
{
    struct ovfs_content *content = calloc(1, sizeof(*content));

    if (!content || locks_init(content) < 0) {
        free(content);
        return NULL;
    }
    atomic_init(&content->refs, 1);
    content->state.size = size;
    content->state.base_size = base_size < size ? base_size : size;
    content->state.version = version;
    content->notify_at = UINT64_MAX;
    atomic_init(&content->mark, UINT64_MAX);
    return content;
}

struct ovfs_content *content_ref(struct ovfs_content *content)
{
    atomic_fetch_add_explicit(&content->refs, 1, memory_order_relaxed);
    return content;
}

void ovfs_content_unref(struct ovfs_content *content)
{
    /* acq_rel: whoever frees it has seen what the others did with it. */
    if (!content || atomic_fetch_sub_explicit(&content->refs, 1, memory_order_acq_rel) > 1)
        return;
    for (int layer = 0; layer < 2; layer++) {
        for (uint32_t i = 0; i < content->layers[layer].count; i++)
            segment_unref(content->layers[layer].segments[i]);
        free(content->layers[layer].segments);
    }
    pthread_mutex_destroy(&content->lock);
    pthread_rwlock_destroy(&content->change);
    free(content);
}

static void count_handle(struct ovfs_content *content, uint32_t by)
{
    pthread_mutex_lock(&content->lock);
    content->state.handles += by;
    pthread_mutex_unlock(&content->lock);
}

struct ovfs_content *content_open(struct ovfs_content *content)
{
    count_handle(content, 1);
    return content_ref(content);
}

void content_close(struct ovfs_content *content)
{
    if (!content)
        return;
    count_handle(content, (uint32_t)-1);
    ovfs_content_unref(content);
}

/* ---- segments ---- */

/* Where a segment is in its layer, or would have to be. */
static uint32_t place(const struct layer *layer, uint64_t index)
{
    uint32_t low = 0, high = layer->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (layer->segments[middle]->index < index)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct segment *content_segment_from(const struct ovfs_content *content, enum ovfs_layer layer,
                                     uint64_t index)
{
    const struct layer *in = &content->layers[layer];
    uint32_t at = place(in, index);

    return at < in->count ? in->segments[at] : NULL;
}

struct segment *content_segment(const struct ovfs_content *content, enum ovfs_layer layer,
                                uint64_t index)
{
    struct segment *segment = content_segment_from(content, layer, index);

    return segment && segment->index == index ? segment : NULL;
}

static int insert(struct layer *layer, struct segment *segment)
{
    uint32_t at = place(layer, segment->index);

    if (at < layer->count && layer->segments[at]->index == segment->index)
        return -EEXIST;
    if (layer->count == layer->room) {
        uint32_t room = layer->room ? layer->room * 2 : 4;
        struct segment **grown = realloc(layer->segments, room * sizeof(struct segment *));

        if (!grown)
            return -ENOMEM;
        layer->segments = grown;
        layer->room = room;
    }
    memmove(&layer->segments[at + 1], &layer->segments[at],
            (layer->count - at) * sizeof(struct segment *));
    layer->segments[at] = segment;
    layer->count++;
    return 0;
}

int ovfs_content_segment(struct ovfs_content *content, int layer, uint32_t index, int fd)
{
    struct segment *segment;
    int err;

    if (layer != OVFS_LAYER_BASE && layer != OVFS_LAYER_WRITE) {
        close(fd);
        return -EINVAL;
    }
    segment = segment_new((enum ovfs_layer)layer, index, fd);
    if (!segment)
        return -ENOMEM;
    pthread_mutex_lock(&content->lock);
    err = insert(&content->layers[layer], segment);
    pthread_mutex_unlock(&content->lock);
    if (err < 0)
        segment_unref(segment);
    return err;
}

int ovfs_content_drop(struct ovfs_content *content, uint32_t index)
{
    struct layer *layer = &content->layers[OVFS_LAYER_BASE];
    struct segment *segment;

    pthread_mutex_lock(&content->lock);
    segment = content_segment(content, OVFS_LAYER_BASE, index);
    if (segment) {
        uint32_t at = place(layer, index);

        layer->count--;
        memmove(&layer->segments[at], &layer->segments[at + 1],
                (layer->count - at) * sizeof(struct segment *));
    }
    pthread_mutex_unlock(&content->lock);
    if (!segment)
        return -ENOENT;
    segment_unref(segment); /* without the lock: it may close a file */
    return 0;
}

/* Mark whole blocks of one segment; `end` reaches past the last one where that is the base's. */
static int mark_blocks(struct ovfs_content *content, uint64_t offset, uint64_t end)
{
    uint64_t index = offset >> SEGMENT_SHIFT;
    uint64_t start = index << SEGMENT_SHIFT;
    struct segment *segment = content_segment(content, OVFS_LAYER_BASE, index);

    if (!segment)
        return -ENOENT;
    segment_mark(segment, (uint32_t)(offset - start) >> BLOCK_SHIFT,
                 (uint32_t)(end - start) >> BLOCK_SHIFT, true);
    return 0;
}

int ovfs_content_present(struct ovfs_content *content, uint64_t offset, uint64_t len)
{
    uint64_t end, first;
    int err = 0;

    if (len > INT64_MAX || offset > INT64_MAX - len)
        return -EINVAL;
    first = (offset + OVFS_BLOCK - 1) & ~(uint64_t)(OVFS_BLOCK - 1);
    pthread_mutex_lock(&content->lock);
    end = offset + len;
    if (end >= content->state.base_size)
        end = content->state.base_size + OVFS_BLOCK - 1;
    end &= ~(uint64_t)(OVFS_BLOCK - 1);
    while (first < end && err == 0) {
        uint64_t next = ((first >> SEGMENT_SHIFT) + 1) << SEGMENT_SHIFT;

        next = next < end ? next : end;
        err = mark_blocks(content, first, next);
        first = next;
    }
    pthread_mutex_unlock(&content->lock);
    return err;
}

/* ---- state ---- */

int ovfs_content_writable(struct ovfs_content *content, int on)
{
    /* Alone: when it is off, no WRITE is in flight. */
    pthread_rwlock_wrlock(&content->change);
    pthread_mutex_lock(&content->lock);
    content->state.writable = on != 0;
    pthread_mutex_unlock(&content->lock);
    pthread_rwlock_unlock(&content->change);
    return 0;
}

int ovfs_content_seal(struct ovfs_content *content, uint64_t below)
{
    /* Alone: a WRITE that began before has ended, and one that begins after sees the seal. */
    pthread_rwlock_wrlock(&content->change);
    pthread_mutex_lock(&content->lock);
    content->state.sealed = below;
    pthread_mutex_unlock(&content->lock);
    pthread_rwlock_unlock(&content->change);
    return 0;
}

int ovfs_content_notify(struct ovfs_content *content, uint64_t at)
{
    pthread_mutex_lock(&content->lock);
    content->notify_at = at;
    pthread_mutex_unlock(&content->lock);
    return 0;
}

void ovfs_content_read_mark(struct ovfs_content *content, uint64_t at)
{
    atomic_store_explicit(&content->mark, at, memory_order_relaxed);
}

int ovfs_content_stored(struct ovfs_content *content, uint64_t generation)
{
    int more;

    pthread_mutex_lock(&content->lock);
    content->unsettled = generation == UINT64_MAX;
    if (content->unsettled)
        generation = 0;
    if (generation > content->state.generation)
        generation = content->state.generation;
    if (generation > content->state.stored)
        content->state.stored = generation;
    more = content->state.stored != content->state.generation;
    pthread_mutex_unlock(&content->lock);
    return more;
}

bool content_is_stored(struct ovfs_content *content)
{
    bool stored;

    pthread_mutex_lock(&content->lock);
    stored = content->state.stored == content->state.generation && !content->unsettled;
    pthread_mutex_unlock(&content->lock);
    return stored;
}

void ovfs_content_set_version(struct ovfs_content *content, uint64_t version)
{
    pthread_mutex_lock(&content->lock);
    content->state.version = version;
    pthread_mutex_unlock(&content->lock);
}

void ovfs_content_lose(struct ovfs_content *content)
{
    atomic_store_explicit(&content->lost, true, memory_order_relaxed);
}

void ovfs_content_set_mtime(struct ovfs_content *content, int64_t mtime_ns)
{
    pthread_mutex_lock(&content->lock);
    content->state.mtime_ns = mtime_ns;
    pthread_mutex_unlock(&content->lock);
}

void ovfs_content_state(struct ovfs_content *content, struct ovfs_content_state *out)
{
    pthread_mutex_lock(&content->lock);
    *out = content->state;
    pthread_mutex_unlock(&content->lock);
}
