/* SPDX-License-Identifier: Apache-2.0
 * Description: a content composes its bytes from two layers, and keeps them apart when they change.
 */
#include "content.h"

enum { BIG = 300000 };

static unsigned char pattern[BIG], buf[2 * BIG];

static void check_bytes(struct ovfs_content *content, uint64_t offset, const void *data, size_t len)
{
    memset(buf, 0xee, len);
    CHECK(ovfs_content_read(content, offset, buf, len) == (ssize_t)len);
    CHECK(memcmp(buf, data, len) == 0);
}

static void check_zeros(struct ovfs_content *content, uint64_t offset, size_t len)
{
    memset(buf, 0xee, len);
    CHECK(ovfs_content_read(content, offset, buf, len) == (ssize_t)len);
    for (size_t i = 0; i < len; i++)
        CHECK(buf[i] == 0);
}

static void check_extent(struct ovfs_content *content, uint64_t offset, enum ovfs_source source,
                         uint64_t len)
{
    uint64_t found = 1;

    CHECK(ovfs_content_extent(content, offset, &found) == (int)source);
    CHECK(found == len);
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

/* ---- reading ---- */

static void test_empty(void)
{
    struct ovfs_content *content = ovfs_content_new(100000, 0, 7);

    check_zeros(content, 0, 100000);
    CHECK(ovfs_content_read(content, 99990, buf, 100) == 10);
    CHECK(ovfs_content_read(content, 100000, buf, 100) == 0);
    CHECK(ovfs_content_read(content, UINT64_MAX, buf, 100) == -EINVAL);
    check_extent(content, 0, OVFS_SOURCE_ZERO, 100000);
    check_extent(content, 100000, OVFS_SOURCE_ZERO, 0);
    CHECK(state_of(content).version == 7 && state_of(content).mtime_ns == 0);
    ovfs_content_unref(content);
    ovfs_content_unref(NULL);
}

static void test_base(void)
{
    struct ovfs_content *content = ovfs_content_new(BIG + 5, BIG, 1);
    int fd = scratch_file(BIG);

    CHECK(ovfs_content_read(content, 0, buf, 10) == -ENODATA);
    check_extent(content, 5, OVFS_SOURCE_MISSING, BIG - 5);
    CHECK(ovfs_content_present(content, 0, BLOCK) == -ENOENT);
    put_at(fd, 0, pattern, BIG);
    CHECK(ovfs_content_segment(content, OVFS_LAYER_BASE, 0, fd) == 0);
    CHECK(ovfs_content_read(content, 0, buf, 10) == -ENODATA);

    /* Whole blocks count; the one at the end of the base is whole when its end is reached. */
    CHECK(ovfs_content_present(content, 1, 3 * BLOCK - 2) == 0);
    check_extent(content, 0, OVFS_SOURCE_MISSING, BLOCK);
    check_extent(content, BLOCK + 1, OVFS_SOURCE_BASE, BLOCK - 1);
    check_extent(content, 2 * BLOCK, OVFS_SOURCE_MISSING, BIG - 2 * BLOCK);
    CHECK(ovfs_content_present(content, 4 * BLOCK, BIG - 4 * BLOCK - 1) == 0);
    check_extent(content, 4 * BLOCK, OVFS_SOURCE_MISSING, BIG - 4 * BLOCK);
    CHECK(ovfs_content_present(content, 4 * BLOCK, BIG - 4 * BLOCK) == 0);
    check_extent(content, 4 * BLOCK, OVFS_SOURCE_BASE, BIG - 4 * BLOCK);
    CHECK(ovfs_content_read(content, BLOCK + 7, buf, BIG) == BLOCK - 7);
    CHECK(memcmp(buf, pattern + BLOCK + 7, BLOCK - 7) == 0);
    check_bytes(content, 4 * BLOCK + 1, pattern + 4 * BLOCK + 1, BIG - 4 * BLOCK - 1);
    check_zeros(content, BIG, 5);

    CHECK(ovfs_content_present(content, 0, UINT64_MAX) == -EINVAL);
    CHECK(ovfs_content_present(content, 0, BIG + 1000) == 0);
    check_bytes(content, 0, pattern, BIG);
    ovfs_content_unref(content);
    CHECK(!is_open(fd));
}

static void test_segments(void)
{
    struct ovfs_content *content =
        ovfs_content_new(5 * (uint64_t)SEGMENT, 4 * (uint64_t)SEGMENT, 1);
    int fd = scratch_file(0);

    add_base_segment(content, 1, pattern, BLOCK);
    add_base_segment(content, 3, pattern, BLOCK);
    add_base_segment(content, 0, pattern, BLOCK);
    CHECK(ovfs_content_segment(content, OVFS_LAYER_BASE, 1, fd) == -EEXIST && !is_open(fd));
    fd = scratch_file(0);
    CHECK(ovfs_content_segment(content, 2, 1, fd) == -EINVAL && !is_open(fd));
    check_extent(content, 0, OVFS_SOURCE_BASE, BLOCK);
    check_extent(content, BLOCK, OVFS_SOURCE_MISSING, SEGMENT - BLOCK);
    check_extent(content, SEGMENT + BLOCK, OVFS_SOURCE_MISSING, 2 * SEGMENT - BLOCK);
    check_extent(content, UINT64_C(4) * SEGMENT, OVFS_SOURCE_ZERO, SEGMENT);
    CHECK(ovfs_content_drop(content, 1) == 0);
    CHECK(ovfs_content_drop(content, 1) == -ENOENT);
    check_extent(content, BLOCK, OVFS_SOURCE_MISSING, 3 * (uint64_t)SEGMENT - BLOCK);
    ovfs_content_unref(content);
}

/* What is being read stays open; nothing else does. */
static void test_drop(void)
{
    struct ovfs_content *content = ovfs_content_new(BLOCK, BLOCK, 1);
    struct content_run run;
    int fd;

    add_base_segment(content, 0, pattern, BLOCK);
    content_run(content, 10, 20, &run);
    CHECK(run.source == OVFS_SOURCE_BASE && run.len == 20 && run.at == 10);
    fd = run.segment->fd;
    CHECK(ovfs_content_drop(content, 0) == 0);
    CHECK(is_open(fd) && pread(fd, buf, 20, run.at) == 20 && memcmp(buf, pattern + 10, 20) == 0);
    CHECK(ovfs_content_read(content, 0, buf, 1) == -ENODATA);
    segment_unref(run.segment);
    CHECK(!is_open(fd));
    ovfs_content_unref(content);
}

static void test_short_file(void)
{
    struct ovfs_content *content = ovfs_content_new(2 * BLOCK, 2 * BLOCK, 1);

    add_base_segment(content, 0, pattern, BLOCK);
    CHECK(ovfs_content_present(content, BLOCK, BLOCK) == 0);
    CHECK(ovfs_content_read(content, BLOCK, buf, 10) == -EIO);
    ovfs_content_unref(content);
}

/* ---- writing ---- */

static void test_write_needs(void)
{
    struct ovfs_content *content = ovfs_content_new(3 * PAGE + 100, 3 * PAGE + 100, 1);

    add_base_segment(content, 0, pattern, 3 * PAGE + 100);
    CHECK(ovfs_content_write(content, 0, "x", 0) == 0);
    CHECK(ovfs_content_write(content, 0, pattern, PAGE) == -EAGAIN); /* no segment */
    CHECK(ovfs_content_fill(content, 0, pattern, PAGE) == -ENOENT);
    add_write_segment(content, 0);
    CHECK(ovfs_content_write(content, 1, "x", 1) == -EAGAIN);
    CHECK(ovfs_content_write(content, 0, pattern, PAGE + 1) == -EAGAIN);
    CHECK(ovfs_content_write(content, PAGE - 1, pattern, PAGE + 1) == -EAGAIN);
    CHECK(ovfs_content_write(content, 3 * PAGE + 1, pattern, 200) == -EAGAIN);
    CHECK(ovfs_content_write(content, 3 * PAGE, pattern, 99) == -EAGAIN);
    CHECK(ovfs_content_write(content, INT64_MAX, "xy", 2) == -EFBIG);
    CHECK(ovfs_content_write(content, SEGMENT - 1, "xy", 2) == -EAGAIN);
    CHECK(state_of(content).generation == 0 && state_of(content).size == 3 * PAGE + 100);

    CHECK(ovfs_content_fill(content, PAGE, pattern + PAGE, PAGE) == 0);
    check_extent(content, PAGE, OVFS_SOURCE_WRITE, PAGE);
    CHECK(ovfs_content_write(content, PAGE + 1, "hello", 5) == 5);
    CHECK(ovfs_content_write(content, 0, "page", 4) == -EAGAIN);
    CHECK(ovfs_content_write(content, 3 * PAGE, pattern + 1, 100) == 100); /* all that is there */
    check_bytes(content, 0, pattern, PAGE + 1);
    check_bytes(content, PAGE + 1, "hello", 5);
    check_bytes(content, PAGE + 6, pattern + PAGE + 6, 2 * PAGE - 6);
    check_bytes(content, 3 * PAGE, pattern + 1, 100);
    check_extent(content, PAGE, OVFS_SOURCE_WRITE, PAGE);
    check_extent(content, 2 * PAGE, OVFS_SOURCE_BASE, PAGE);
    CHECK(state_of(content).generation == 2 && state_of(content).mtime_ns > 0);

    /* Beyond the base nothing need be filled, and what is between reads as zeros. */
    CHECK(ovfs_content_write(content, 10 * PAGE + 5, "far", 3) == 3);
    check_zeros(content, 3 * PAGE + 100, 7 * PAGE - 100 + 5);
    check_bytes(content, 10 * PAGE + 5, "far", 3);
    CHECK(state_of(content).size == 10 * PAGE + 8);
    ovfs_content_unref(content);
}

static void test_fill(void)
{
    struct ovfs_content *content = ovfs_content_new(20 * BLOCK, 4 * BLOCK + 10, 1);

    add_write_segment(content, 0);
    CHECK(ovfs_content_write(content, 2 * PAGE, "mine", 4) == -EAGAIN);
    CHECK(ovfs_content_write(content, 2 * PAGE, pattern + 1, PAGE) == PAGE);
    CHECK(ovfs_content_fill(content, 1, pattern, PAGE - 1) == -EINVAL);
    CHECK(ovfs_content_fill(content, 0, pattern, PAGE - 1) == -EINVAL);
    CHECK(ovfs_content_fill(content, 0, pattern, 4 * BLOCK + 9) == -EINVAL);
    CHECK(ovfs_content_fill(content, 0, pattern, BIG) == 0); /* clipped at the base's end */
    check_bytes(content, 0, pattern, 2 * PAGE);
    check_bytes(content, 2 * PAGE, pattern + 1, PAGE);
    check_bytes(content, 3 * PAGE, pattern + 3 * PAGE, 4 * BLOCK + 10 - 3 * PAGE);
    check_zeros(content, 4 * BLOCK + 10, BLOCK);
    check_extent(content, 0, OVFS_SOURCE_WRITE, 4 * BLOCK + PAGE);
    check_extent(content, 4 * BLOCK + PAGE, OVFS_SOURCE_ZERO, 16 * BLOCK - PAGE);
    CHECK(state_of(content).generation == 1);
    ovfs_content_unref(content);
}

static void test_boundary(void)
{
    struct ovfs_content *content = ovfs_content_new(0, 0, 1);
    uint64_t at = 2 * (uint64_t)SEGMENT - 1000;

    add_write_segment(content, 2);
    CHECK(ovfs_content_write(content, at, pattern, BIG) == -EAGAIN);
    add_write_segment(content, 1);
    CHECK(ovfs_content_write(content, at, pattern, BIG) == BIG);
    check_bytes(content, at, pattern, BIG);
    check_zeros(content, at - 5000, 5000);
    CHECK(state_of(content).size == at + BIG);
    check_extent(content, 0, OVFS_SOURCE_ZERO, at - at % PAGE);
    ovfs_content_unref(content);
}

/* Of a write that stopped midway counts what leaves no page without the rest of its bytes. */
static void test_stopped(void)
{
    struct ovfs_content *content = ovfs_content_new(3 * PAGE, 2 * PAGE + 50, 1);
    struct content_write write;
    bool note;

    add_base_segment(content, 0, pattern, 2 * PAGE + 50);
    add_write_segment(content, 0);
    ovfs_content_writable(content, 1);
    CHECK(content_write_begin(content, CONTENT_GUEST, 0, 3 * PAGE, &write) == 0);
    CHECK(content_write_end(&write, 0, &note) == 0 && !note);
    CHECK(content_write_begin(content, CONTENT_GUEST, 0, 3 * PAGE, &write) == 0);
    CHECK(content_write_end(&write, PAGE - 1, &note) == 0 && !note);
    CHECK(state_of(content).generation == 0);
    check_extent(content, 0, OVFS_SOURCE_BASE, 2 * PAGE + 50);
    CHECK(content_write_begin(content, CONTENT_GUEST, 0, 3 * PAGE, &write) == 0);
    CHECK(content_write_end(&write, PAGE + 5, &note) == PAGE && note);
    check_extent(content, 0, OVFS_SOURCE_WRITE, PAGE);
    CHECK(content_write_begin(content, CONTENT_GUEST, 2 * PAGE, PAGE, &write) == 0);
    CHECK(content_write_end(&write, 50, &note) == 50); /* the rest of the page is zeros */
    check_extent(content, 2 * PAGE, OVFS_SOURCE_WRITE, PAGE);
    check_bytes(content, PAGE, pattern + PAGE, PAGE);
    ovfs_content_unref(content);
}

static void test_seal(void)
{
    struct ovfs_content *content = ovfs_content_new(0, 0, 1);
    bool note;

    add_write_segment(content, 0);
    CHECK(guest_write(content, 0, "a", 1, &note) == -EAGAIN);
    ovfs_content_writable(content, 1);
    CHECK(guest_write(content, 0, "a", 1, &note) == 1);
    ovfs_content_seal(content, 10);
    CHECK(guest_write(content, 9, "abc", 3, &note) == -EAGAIN);
    CHECK(guest_write(content, 10, "abc", 3, &note) == 3);
    CHECK(ovfs_content_write(content, 9, "self", 4) == 4);
    ovfs_content_seal(content, UINT64_MAX);
    CHECK(guest_write(content, 1 << 20, "abc", 3, &note) == -EAGAIN);
    CHECK(state_of(content).sealed == UINT64_MAX);
    ovfs_content_seal(content, 0);
    CHECK(guest_write(content, 0, "abc", 3, &note) == 3);
    ovfs_content_writable(content, 0);
    CHECK(guest_write(content, 0, "abc", 3, &note) == -EAGAIN);
    ovfs_content_unref(content);
}

static void test_notes(void)
{
    struct ovfs_content *content = ovfs_content_new(0, 0, 1);
    bool note;

    add_write_segment(content, 0);
    ovfs_content_writable(content, 1);
    CHECK(content_is_stored(content));
    CHECK(guest_write(content, 0, "a", 1, &note) == 1 && note); /* it was stored */
    CHECK(!content_is_stored(content));
    CHECK(guest_write(content, 1, "b", 1, &note) == 1 && !note);
    CHECK(ovfs_content_stored(content, 1) == 1);
    CHECK(guest_write(content, 2, "c", 1, &note) == 1 && !note);
    CHECK(ovfs_content_stored(content, 3) == 0 && content_is_stored(content));
    CHECK(ovfs_content_stored(content, 2) == 0); /* never back */
    CHECK(ovfs_content_stored(content, 99) == 0 && state_of(content).stored == 3);
    ovfs_content_notify(content, 10);
    CHECK(guest_write(content, 3, "d", 1, &note) == 1 && note);
    CHECK(guest_write(content, 4, "12345", 5, &note) == 5 && !note);
    CHECK(guest_write(content, 9, "6", 1, &note) == 1 && note);
    CHECK(guest_write(content, 10, "7", 1, &note) == 1 && !note); /* once */
    ovfs_content_notify(content, 12);
    CHECK(ovfs_content_write(content, 11, "89", 2) == 2); /* whose note would this be? */
    CHECK(guest_write(content, 0, "a", 1, &note) == 1 && note);
    ovfs_content_set_mtime(content, 42);
    CHECK(state_of(content).mtime_ns == 42);
    CHECK(guest_write(content, 0, "a", 1, &note) == 1 && state_of(content).mtime_ns > 42);
    ovfs_content_set_version(content, 9);
    CHECK(state_of(content).version == 9);
    ovfs_content_unref(content);
}

/* ---- truncation ---- */

static void test_truncate(void)
{
    struct ovfs_content *content = ovfs_content_new(BIG, BIG, 1);
    struct content_run run;

    add_base_segment(content, 0, pattern, BIG);
    add_write_segment(content, 0);
    add_write_segment(content, 2);
    CHECK(ovfs_content_fill(content, 4 * PAGE, pattern + 4 * PAGE, 4 * PAGE) == 0);
    CHECK(ovfs_content_write(content, 2 * (uint64_t)SEGMENT, "far", 3) == 3);
    content_run(content, 0, 10, &run);
    segment_unref(run.segment);
    CHECK(ovfs_content_truncate(content, 6 * PAGE + 10) == 0);
    CHECK(content_cut(content, &run));
    CHECK(state_of(content).size == 6 * PAGE + 10);
    CHECK(state_of(content).base_size == 6 * PAGE + 10);
    CHECK(ovfs_content_read(content, 6 * PAGE, buf, 100) == 10);
    content_run(content, 0, 10, &run);
    segment_unref(run.segment);
    CHECK(ovfs_content_truncate(content, 3 * (uint64_t)SEGMENT) == 0);
    CHECK(!content_cut(content, &run)); /* growing takes nothing away */
    check_bytes(content, 0, pattern, 6 * PAGE + 10);
    check_zeros(content, 6 * PAGE + 10, BIG);
    check_zeros(content, 2 * (uint64_t)SEGMENT, 100);
    check_extent(content, 4 * PAGE, OVFS_SOURCE_WRITE, 3 * PAGE);
    check_extent(content, 7 * PAGE, OVFS_SOURCE_ZERO, 3 * (uint64_t)SEGMENT - 7 * PAGE);

    /* Down into the base, then a write behind it: no old byte comes back. */
    CHECK(ovfs_content_truncate(content, PAGE + 10) == 0);
    CHECK(ovfs_content_write(content, PAGE + 20, "x", 1) == -EAGAIN);
    CHECK(ovfs_content_fill(content, PAGE, pattern + PAGE, PAGE) == 0);
    CHECK(ovfs_content_write(content, PAGE + 20, "x", 1) == 1);
    check_bytes(content, 0, pattern, PAGE + 10);
    check_zeros(content, PAGE + 10, 10);
    CHECK(ovfs_content_truncate(content, 0) == 0);
    CHECK(ovfs_content_truncate(content, BIG) == 0);
    check_zeros(content, 0, BIG);
    CHECK(ovfs_content_truncate(content, UINT64_MAX) == -EFBIG);
    ovfs_content_unref(content);

    content = ovfs_content_new(0, 0, 1);
    CHECK(ovfs_content_truncate(content, 0) == 0);
    CHECK(!content_is_stored(content) && state_of(content).mtime_ns > 0); /* it is to be stored */
    ovfs_content_unref(content);
}

static void test_references(void)
{
    struct ovfs_content *content = ovfs_content_new(0, 0, 1);

    CHECK(content_open(content) == content && content_open(content) == content);
    CHECK(state_of(content).handles == 2);
    content_close(content);
    CHECK(state_of(content).handles == 1);
    ovfs_content_unref(content); /* the control plane's; the handle still has it */
    CHECK(state_of(content).size == 0);
    content_close(content);
    content_close(NULL);
}

int main(void)
{
    for (size_t i = 0; i < BIG; i++)
        pattern[i] = (unsigned char)(1 + (i + i / PAGE) % 255); /* never a zero */
    test_empty();
    test_base();
    test_segments();
    test_drop();
    test_short_file();
    test_write_needs();
    test_fill();
    test_boundary();
    test_stopped();
    test_seal();
    test_notes();
    test_truncate();
    test_references();
    return 0;
}
