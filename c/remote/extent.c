/* SPDX-License-Identifier: Apache-2.0
 *
 * Where the bytes of a content are: runs for those who read, extents for the control plane.
 */
#include "content.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* segment_run in terms of the file: whether `offset` is present, and the end of that. */
static bool run_in(const struct segment *segment, uint64_t offset, uint64_t limit, uint64_t *end)
{
    uint64_t start = (uint64_t)segment->index << SEGMENT_SHIFT;
    uint32_t found;
    bool present =
        segment_run(segment, (uint32_t)(offset - start), (uint32_t)(limit - start), &found);

    *end = start + found;
    return present;
}

/* The source of `offset`, below `limit` in the same segment; *end: how far it goes. *segment: where
 * the bytes are, or NULL. */
static enum ovfs_source look(const struct ovfs_content *content, uint64_t offset, uint64_t limit,
                             uint64_t *end, struct segment **segment)
{
    uint64_t index = offset >> SEGMENT_SHIFT;
    struct segment *found = content_segment(content, OVFS_LAYER_WRITE, index);

    *end = limit;
    *segment = found;
    if (found && run_in(found, offset, limit, end))
        return OVFS_SOURCE_WRITE;
    *segment = NULL;
    if (offset >= content->state.base_size)
        return OVFS_SOURCE_ZERO;
    *end = least(*end, content->state.base_size);
    found = content_segment(content, OVFS_LAYER_BASE, index);
    if (!found || !run_in(found, offset, *end, end))
        return OVFS_SOURCE_MISSING;
    *segment = found;
    return OVFS_SOURCE_BASE;
}

static uint64_t segment_end(uint64_t offset)
{
    return ((offset >> SEGMENT_SHIFT) + 1) << SEGMENT_SHIFT;
}

void content_run(struct ovfs_content *content, uint64_t offset, uint64_t len,
                 struct content_run *out)
{
    uint64_t end = 0;

    *out = (struct content_run){.source = OVFS_SOURCE_ZERO};
    pthread_mutex_lock(&content->lock);
    out->cuts = atomic_load_explicit(&content->cuts, memory_order_relaxed);
    if (offset < content->state.size && len > 0) {
        uint64_t limit = least(content->state.size - offset, len) + offset;

        out->source = look(content, offset, least(limit, segment_end(offset)), &end, &out->segment);
        out->len = end - offset;
        out->at = (off_t)(offset & (OVFS_SEGMENT - 1));
        if (out->segment)
            segment_ref(out->segment);
    }
    pthread_mutex_unlock(&content->lock);
}

int ovfs_content_extent(struct ovfs_content *content, uint64_t offset, uint64_t *len)
{
    enum ovfs_source source = OVFS_SOURCE_ZERO;
    struct segment *segment;
    uint64_t at = offset, end;

    pthread_mutex_lock(&content->lock);
    while (at < content->state.size) {
        uint64_t limit = least(content->state.size, segment_end(at));
        enum ovfs_source here = look(content, at, limit, &end, &segment);

        if (at > offset && here != source)
            break;
        source = here;
        at = end;
    }
    pthread_mutex_unlock(&content->lock);
    *len = at - offset;
    return (int)source;
}

/* Read a run into buf; 0 or -errno. */
static int read_run(const struct content_run *run, char *buf)
{
    size_t done = 0;

    while (done < run->len) {
        ssize_t n = pread(run->segment->fd, buf + done, run->len - done, run->at + (off_t)done);

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            return -EIO; /* the cache file is shorter than it should be */
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

ssize_t ovfs_content_read(struct ovfs_content *content, uint64_t offset, void *buf, size_t len)
{
    struct content_run run;
    size_t done = 0;

    if (len > INT64_MAX || offset > INT64_MAX - len)
        return -EINVAL;
    while (done < len) {
        int err = 0;

        content_run(content, offset + done, len - done, &run);
        if (run.len == 0)
            break;
        if (run.source == OVFS_SOURCE_MISSING)
            return done ? (ssize_t)done : -ENODATA;
        if (run.source == OVFS_SOURCE_ZERO)
            memset((char *)buf + done, 0, run.len);
        else
            err = read_run(&run, (char *)buf + done);
        segment_unref(run.segment);
        if (content_cut(content, &run))
            continue;
        if (err < 0)
            return done ? (ssize_t)done : err;
        done += run.len;
    }
    return (ssize_t)done;
}
