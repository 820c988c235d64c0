/* SPDX-License-Identifier: Apache-2.0
 *
 * What changes the bytes of a content: writes, the filling of absent pages, truncation.
 */
#include "content.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

/* Filling keeps writers out for so much at a time. */
enum { FILL_BYTES = 256 << 10 };

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t page_down(uint64_t offset)
{
    return offset & ~(uint64_t)(OVFS_PAGE - 1);
}

static uint64_t page_up(uint64_t offset)
{
    return page_down(offset + OVFS_PAGE - 1);
}

static uint64_t segment_end(uint64_t offset)
{
    return ((offset >> SEGMENT_SHIFT) + 1) << SEGMENT_SHIFT;
}

static uint32_t page_in_segment(uint64_t offset)
{
    return (uint32_t)(offset & (OVFS_SEGMENT - 1)) >> PAGE_SHIFT;
}

static int64_t wall_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- under content->lock ---- */

static bool page_present(const struct ovfs_content *content, uint64_t offset)
{
    struct segment *segment = content_segment(content, OVFS_LAYER_WRITE, offset >> SEGMENT_SHIFT);

    return segment && segment_has(segment, page_in_segment(offset));
}

/* Whether the page of `at` would lack bytes of the base once [offset, end) was written into it. */
static bool lacks_base(const struct ovfs_content *content, uint64_t at, uint64_t offset,
                       uint64_t end)
{
    uint64_t start = page_down(at);
    uint64_t base_end = least(start + OVFS_PAGE, content->state.base_size);

    if (start >= base_end || page_present(content, at))
        return false;
    return offset > start || end < base_end;
}

/* Whether [offset, end) can be written as things are. */
static bool ready(const struct ovfs_content *content, uint64_t offset, uint64_t end)
{
    for (uint64_t at = offset; at < end; at = segment_end(at))
        if (!content_segment(content, OVFS_LAYER_WRITE, at >> SEGMENT_SHIFT))
            return false;
    return !lacks_base(content, offset, offset, end) && !lacks_base(content, end - 1, offset, end);
}

/* Mark the pages of [offset, end), whose segments are there. */
static void mark_pages(struct ovfs_content *content, uint64_t offset, uint64_t end)
{
    while (offset < end) {
        uint64_t next = least(segment_end(offset), end);

        segment_mark(content_segment(content, OVFS_LAYER_WRITE, offset >> SEGMENT_SHIFT),
                     page_in_segment(offset), page_in_segment(next - 1) + 1, true);
        offset = next;
    }
}

static void changed(struct ovfs_content *content)
{
    content->state.generation++;
    content->state.mtime_ns = wall_clock();
}

/* ---- writing ---- */

int content_write_begin(struct ovfs_content *content, enum content_writer writer, uint64_t offset,
                        uint64_t len, struct content_write *out)
{
    const struct ovfs_content_state *state = &content->state;
    bool may;

    pthread_rwlock_rdlock(&content->change);
    pthread_mutex_lock(&content->lock);
    may = writer == CONTENT_SELF || (state->writable && offset >= state->sealed);
    may = may && ready(content, offset, offset + len);
    pthread_mutex_unlock(&content->lock);
    if (!may) {
        pthread_rwlock_unlock(&content->change);
        return -EAGAIN;
    }
    *out = (struct content_write){content, writer, offset, len};
    return 0;
}

int content_write_fd(const struct content_write *write, uint64_t offset, off_t *at, uint64_t *len)
{
    uint64_t end = write->offset + write->len;
    int fd;

    *at = (off_t)(offset & (OVFS_SEGMENT - 1));
    *len = least(segment_end(offset), end) - offset;
    pthread_mutex_lock(&write->content->lock);
    fd = content_segment(write->content, OVFS_LAYER_WRITE, offset >> SEGMENT_SHIFT)->fd;
    pthread_mutex_unlock(&write->content->lock);
    return fd;
}

/* The end of what counts: a page that was written in part and lacks the rest does not. */
static uint64_t whole_end(const struct ovfs_content *content, uint64_t offset, uint64_t end)
{
    if (end > offset && lacks_base(content, end - 1, offset, end))
        end = page_down(end - 1);
    return end > offset ? end : offset;
}

/* Under content->lock, before the change: whether OVFS_NOTE_WROTE is due with it. */
static bool is_news(struct ovfs_content *content, uint64_t end)
{
    uint64_t size = content->state.size > end ? content->state.size : end;

    if (size < content->notify_at)
        return content->state.generation == content->state.stored;
    content->notify_at = UINT64_MAX;
    return true;
}

uint64_t content_write_end(const struct content_write *write, uint64_t done, bool *note)
{
    struct ovfs_content *content = write->content;
    struct ovfs_content_state *state = &content->state;
    uint64_t end;

    *note = false;
    pthread_mutex_lock(&content->lock);
    end = whole_end(content, write->offset, write->offset + done);
    if (end > write->offset) {
        mark_pages(content, write->offset, end);
        *note = write->writer == CONTENT_GUEST && is_news(content, end);
        changed(content);
        state->size = state->size > end ? state->size : end;
    }
    pthread_mutex_unlock(&content->lock);
    pthread_rwlock_unlock(&content->change);
    return end - write->offset;
}

/* Put bytes into the files of the range; how many, or -errno. */
static ssize_t put(const struct content_write *write, const char *data)
{
    uint64_t done = 0;

    while (done < write->len) {
        uint64_t len;
        off_t at;
        int fd = content_write_fd(write, write->offset + done, &at, &len);
        ssize_t n = pwrite(fd, data + done, len, at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return done || n == 0 ? (ssize_t)done : -errno;
        done += (uint64_t)n;
    }
    return (ssize_t)done;
}

ssize_t ovfs_content_write(struct ovfs_content *content, uint64_t offset, const void *data,
                           size_t len)
{
    struct content_write write;
    uint64_t counted;
    bool note; /* whoever calls this knows */
    ssize_t done;
    int err;

    if (len > INT64_MAX || offset > INT64_MAX - len)
        return -EFBIG;
    if (len == 0)
        return 0;
    err = content_write_begin(content, CONTENT_SELF, offset, len, &write);
    if (err < 0)
        return err;
    done = put(&write, data);
    counted = content_write_end(&write, done > 0 ? (uint64_t)done : 0, &note);
    if (counted == 0)
        return done < 0 ? done : -EIO;
    return (ssize_t)counted;
}

/* ---- filling: under content->change, alone, so that no page appears meanwhile ---- */

/* Bytes of absent pages of one segment: 0 or -errno. */
static int fill_pages(struct ovfs_content *content, struct segment *segment, uint64_t offset,
                      const char *data, uint64_t len)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = pwrite(segment->fd, data + done, len - done,
                           (off_t)((offset + done) & (OVFS_SEGMENT - 1)));

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            return -EIO;
        done += n > 0 ? (size_t)n : 0;
    }
    pthread_mutex_lock(&content->lock);
    mark_pages(content, offset, offset + len);
    pthread_mutex_unlock(&content->lock);
    return 0;
}

/* A piece within one segment. */
static int fill_piece(struct ovfs_content *content, uint64_t offset, const char *data, uint64_t len)
{
    uint64_t end = least(offset + len, content->state.base_size);
    struct segment *segment;
    int err = 0;

    pthread_mutex_lock(&content->lock);
    segment = content_segment(content, OVFS_LAYER_WRITE, offset >> SEGMENT_SHIFT);
    pthread_mutex_unlock(&content->lock);
    if (!segment)
        return -ENOENT;
    for (uint64_t at = offset; at < end && err == 0;) {
        uint64_t start = (uint64_t)segment->index << SEGMENT_SHIFT;
        uint32_t run_end;
        uint64_t next;
        bool present =
            segment_run(segment, (uint32_t)(at - start), (uint32_t)(end - start), &run_end);

        next = start + run_end;
        if (!present)
            err = fill_pages(content, segment, at, data + (at - offset), next - at);
        at = next;
    }
    return err;
}

int ovfs_content_fill(struct ovfs_content *content, uint64_t offset, const void *data, size_t len)
{
    struct ovfs_content_state state;
    uint64_t at = offset, end;
    int err = 0;

    if (len > INT64_MAX || offset > INT64_MAX - len || offset % OVFS_PAGE)
        return -EINVAL;
    end = offset + len;
    ovfs_content_state(content, &state);
    if (end % OVFS_PAGE && end < state.base_size)
        return -EINVAL;
    while (at < end && err == 0) {
        uint64_t next = least(least(segment_end(at), at + FILL_BYTES), end);

        pthread_rwlock_wrlock(&content->change);
        err = fill_piece(content, at, (const char *)data + (at - offset), next - at);
        pthread_rwlock_unlock(&content->change);
        at = next;
    }
    return err;
}

/* ---- truncation: under content->change, alone ---- */

/* What lay beyond the end reads as zeros, whatever grows there later. Truncation and not a punched
 * hole: every file system has it. A reader that meets the file in between looks again. */
static int cut_file(const struct segment *segment, uint64_t size)
{
    uint64_t start = (uint64_t)segment->index << SEGMENT_SHIFT;

    if (ftruncate(segment->fd, (off_t)(size > start ? size - start : 0)) < 0)
        return -errno;
    return ftruncate(segment->fd, OVFS_SEGMENT) < 0 ? -errno : 0;
}

static void cut_state(struct ovfs_content *content, uint64_t size)
{
    struct ovfs_content_state *state = &content->state;
    uint64_t first = page_up(size);
    struct segment *segment;

    state->size = size;
    state->base_size = least(state->base_size, size);
    /* release: pairs with content_cut; the files are cut only after this. */
    atomic_fetch_add_explicit(&content->cuts, 1, memory_order_release);
    for (uint64_t index = first >> SEGMENT_SHIFT;
         (segment = content_segment_from(content, OVFS_LAYER_WRITE, index));
         index = (uint64_t)segment->index + 1) {
        uint64_t start = (uint64_t)segment->index << SEGMENT_SHIFT;

        segment_mark(segment, first > start ? page_in_segment(first) : 0,
                     OVFS_SEGMENT >> PAGE_SHIFT, false);
    }
}

static int cut_files(struct ovfs_content *content, uint64_t size)
{
    uint64_t index = size >> SEGMENT_SHIFT;
    int err = 0;

    while (err == 0) {
        struct segment *segment;

        pthread_mutex_lock(&content->lock);
        segment = content_segment_from(content, OVFS_LAYER_WRITE, index);
        pthread_mutex_unlock(&content->lock);
        if (!segment)
            return 0;
        err = cut_file(segment, size);
        index = (uint64_t)segment->index + 1;
    }
    return err;
}

int ovfs_content_truncate(struct ovfs_content *content, uint64_t size)
{
    bool shrinks;
    int err = 0;

    if (size > INT64_MAX)
        return -EFBIG;
    pthread_rwlock_wrlock(&content->change);
    pthread_mutex_lock(&content->lock);
    shrinks = size < content->state.size;
    if (shrinks)
        cut_state(content, size);
    content->state.size = size;
    changed(content);
    pthread_mutex_unlock(&content->lock);
    if (shrinks)
        err = cut_files(content, size);
    pthread_rwlock_unlock(&content->change);
    return err;
}
