/* SPDX-License-Identifier: Apache-2.0
 * Description: READ of a remote file, from the cache files that the control plane gives it.
 */
#include <linux/magic.h>
#include <sys/vfs.h>

#include "remote_file.h"
#include "dispatch.h"
#include "fuse_req.h"

enum { AREA = 8 * BLOCK };

/* The file lies across the end of a segment; what is before START is a hole. */
#define START (UINT64_C(1) * SEGMENT - 4 * BLOCK)

/* The segment file with the bytes of the area that lie in it. */
static int area_file(uint32_t index)
{
    int fd = scratch_file(SEGMENT);

    if (index == 0)
        put_at(fd, (off_t)START, pattern, SEGMENT - START);
    else
        put_at(fd, 0, pattern + (SEGMENT - START), AREA - (SEGMENT - START));
    return fd;
}

static void drop_pages(int fd)
{
    CHECK(fdatasync(fd) == 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
}

static void read_area(void)
{
    send_read(START, AREA);
    check_answer(pattern, AREA);
    send_read(START + 4 * BLOCK - 5, 10);
    check_answer(pattern + 4 * BLOCK - 5, 10);
    send_read(START + AREA - 10, 100);
    check_answer(pattern + AREA - 10, 10);
}

static uint64_t sqes_sent(void)
{
    struct ovfs_stats stats;

    ovfs_plane_stats(guest.plane, &stats);
    return stats.sqes;
}

static bool in_memory(void)
{
    struct statfs fs;

    return statfs(".", &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

/* Both segments, in the page cache, not there, and half of it. */
static void test_read(void)
{
    uint64_t sqes;
    int files[2];

    begin(ovfs_content_new(START + AREA, START + AREA, 1), 0644, O_RDONLY);
    for (uint32_t i = 0; i < 2; i++) {
        files[i] = area_file(i);
        CHECK(ovfs_content_segment(content, OVFS_LAYER_BASE, i, dup(files[i])) == 0);
    }
    CHECK(ovfs_content_present(content, START, AREA) == 0);
    read_area();
    sqes = sqes_sent();
    for (uint32_t i = 0; i < 2; i++)
        drop_pages(files[i]);
    read_area();
    CHECK(sqes_sent() > sqes || in_memory());
    drop_pages(files[0]);
    seg = 1000; /* pieces that end nowhere in particular */
    read_area();
    drop_pages(files[1]);
    send_read(START + 8192, 4096);
    check_answer(pattern + 8192, 4096);
    read_area();
    seg = 4096;
    send_read(START + AREA, 4096);
    check_answer("", 0);
    send_read(UINT64_C(1) << 62, 4096);
    check_answer("", 0);
    send_read(INT64_MAX, 4096);
    CHECK(answer().error == -EINVAL);
    send_write(0, "x", 1, 0);
    CHECK(answer().error == -EBADF);
    no_mail();
    end();
    close(files[0]);
    close(files[1]);
}

/* Told once, by whoever first gets beyond it, answered without asking as it is. */
static void test_read_mark(void)
{
    int file = area_file(0);

    begin(ovfs_content_new(START + AREA, START + AREA, 1), 0644, O_RDONLY);
    CHECK(ovfs_content_segment(content, OVFS_LAYER_BASE, 0, file) == 0);
    CHECK(ovfs_content_present(content, START, 2 * BLOCK) == 0);
    ovfs_content_read_mark(content, START + 4096);
    send_read(START, 4096);
    check_answer(pattern, 4096);
    no_mail();
    for (int turn = 0; turn < 2; turn++) {
        send_read(START + 4096, 4096);
        check_answer(pattern + 4096, 4096);
        if (turn == 0)
            take_mail(OVFS_NOTE_READ);
        CHECK(mail.ino == ino && mail.tag == 0);
        no_mail();
    }
    ovfs_content_read_mark(content, START);
    ovfs_content_read_mark(content, UINT64_MAX);
    send_read(START, 4096);
    check_answer(pattern, 4096);
    no_mail();
    end();
}

/* In memory, with pages of the guest's own in between and zeros behind. */
static void test_read_mixed(void)
{
    static unsigned char expected[AREA];
    int memory = memfd_create("segment", MFD_CLOEXEC);

    begin(ovfs_content_new(AREA, 3 * BLOCK + 50, 1), 0644, O_RDONLY);
    CHECK(memory >= 0);
    put_at(memory, 0, pattern, 3 * BLOCK + 50);
    CHECK(ovfs_content_segment(content, OVFS_LAYER_BASE, 0, memory) == 0);
    CHECK(ovfs_content_present(content, 0, 3 * BLOCK + 50) == 0);
    add_write_segment(content, 0);
    CHECK(ovfs_content_write(content, 5 * PAGE, pattern + 7, 3 * PAGE) == 3 * PAGE);
    CHECK(ovfs_content_write(content, 6 * BLOCK + 9, pattern, 5000) == 5000);
    memcpy(expected, pattern, 3 * BLOCK + 50);
    memcpy(expected + 5 * PAGE, pattern + 7, 3 * PAGE);
    memcpy(expected + 6 * BLOCK + 9, pattern, 5000);
    send_read(0, BIG);
    check_answer(expected, AREA);
    seg = AREA / 1040; /* more pieces than one call takes */
    send_read(3, AREA);
    check_answer(expected + 3, AREA - 3);
    seg = 4096;
    end();
}

static void test_read_missing(void)
{
    struct fuse_read_in in;

    begin(ovfs_content_new(START + AREA, START + AREA, 1), 0644, O_RDONLY);
    send_read(START, AREA);
    take_mail(FUSE_READ);
    CHECK(mail.ino == ino && mail.fh == fh && mail.flags == 0);
    memcpy(&in, mail.arg, sizeof(in));
    CHECK(mail.arg_len == sizeof(in) && in.offset == START && in.size == AREA);
    CHECK(ovfs_content_segment(content, OVFS_LAYER_BASE, 0, area_file(0)) == 0);
    CHECK(ovfs_content_present(content, START, BLOCK) == 0);
    retry();
    take_mail(FUSE_READ); /* a block came; it went on from there to the next one that did not */
    CHECK(mail.flags == OVFS_MAIL_RETRIED);
    CHECK(ovfs_content_present(content, START + BLOCK, 3 * BLOCK) == 0);
    retry();
    take_mail(FUSE_READ);
    CHECK(ovfs_content_segment(content, OVFS_LAYER_BASE, 1, area_file(1)) == 0);
    CHECK(ovfs_content_present(content, SEGMENT, SEGMENT) == 0);
    CHECK(ovfs_content_drop(content, 0) == 0); /* was read already */
    retry();
    check_answer(pattern, AREA);

    /* What fails is an error, not the end of the file. */
    send_read(START + 3 * BLOCK, 2 * BLOCK);
    take_mail(FUSE_READ);
    CHECK(ovfs_mail_result(guest.plane, mail.tag, -EIO) == 0);
    CHECK(answer().error == -EIO);
    CHECK(ovfs_content_segment(content, OVFS_LAYER_BASE, 0, area_file(0)) == 0);
    CHECK(ovfs_content_present(content, 0, SEGMENT) == 0);
    CHECK(ovfs_content_drop(content, 1) == 0);
    send_read(START + 3 * BLOCK, 2 * BLOCK);
    take_mail(FUSE_READ);
    CHECK(ovfs_mail_result(guest.plane, mail.tag, -EIO) == 0);
    CHECK(answer().error == -EIO);
    end();
}

/* A cache file that lost its end. */
static void test_read_bad(void)
{
    begin(ovfs_content_new(2 * BLOCK, 2 * BLOCK, 1), 0644, O_RDONLY);
    add_base_segment(content, 0, pattern, BLOCK + 100);
    CHECK(ovfs_content_present(content, BLOCK, BLOCK) == 0);
    send_read(0, 2 * BLOCK);
    take_mail(FUSE_READ);
    CHECK(mail.flags == OVFS_MAIL_BAD);
    CHECK(ovfs_content_drop(content, 0) == 0);
    add_base_segment(content, 0, pattern, 2 * BLOCK);
    retry();
    check_answer(pattern, 2 * BLOCK);
    end();
}

/* A stop answers a READ that the ring has not ended: its segment goes with it. */
static void test_given_up(void)
{
    struct ovfs_content *file = ovfs_content_new(BLOCK, BLOCK, 1);
    struct fuse_req req = {.op = NULL};
    struct content_run run;
    int fd;

    add_base_segment(file, 0, pattern, BLOCK);
    content_run(file, 0, 10, &run);
    req.segment = run.segment;
    fd = run.segment->fd;
    ovfs_content_unref(file);
    CHECK(fcntl(fd, F_GETFD) >= 0);
    dispatch_done(&req);
    CHECK(fcntl(fd, F_GETFD) < 0 && !req.segment);
}

int main(void)
{
    unsigned before = open_fds();

    plane_begin();
    test_read();
    test_read_mark();
    test_read_mixed();
    test_read_missing();
    test_read_bad();
    test_given_up();
    plane_end();
    CHECK(open_fds() == before);
    return 0;
}
