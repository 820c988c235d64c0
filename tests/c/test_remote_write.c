/* SPDX-License-Identifier: Apache-2.0
 * Description: WRITE to a remote file and LSEEK in it; what has to come before is asked for.
 */
#include "remote_file.h"

static void test_write(void)
{
    struct fuse_write_in in, lie;

    begin(ovfs_content_new(3 * BLOCK, 3 * BLOCK, 1), 0644, O_WRONLY);
    send_write(PAGE, pattern, BLOCK, 0);
    take_mail(FUSE_WRITE); /* not writable yet */
    CHECK(mail.ino == ino && mail.fh == fh);
    memcpy(&in, mail.arg, sizeof(in));
    CHECK(mail.arg_len == sizeof(in) && in.offset == PAGE && in.size == BLOCK);
    ovfs_content_writable(content, 1);
    retry();
    take_mail(FUSE_WRITE); /* no segment */
    CHECK(mail.flags == OVFS_MAIL_RETRIED);
    add_write_segment(content, 0);
    retry();
    check_written(BLOCK);
    take_mail(OVFS_NOTE_WROTE); /* it was stored */
    CHECK(mail.ino == ino && mail.tag == 0);
    CHECK(ovfs_content_read(content, PAGE, pattern + BIG / 2, BLOCK) == BLOCK);
    CHECK(memcmp(pattern, pattern + BIG / 2, BLOCK) == 0);

    send_write(5 + 2 * BLOCK, "hello", 5, 0);
    take_mail(FUSE_WRITE); /* the page is to be filled */
    CHECK(ovfs_content_fill(content, 2 * BLOCK, pattern, PAGE) == 0);
    retry();
    check_written(5);
    no_mail();

    ovfs_content_notify(content, UINT64_C(1) * SEGMENT);
    add_write_segment(content, 1);
    seg = 1111;
    send_write(SEGMENT - 3000, pattern, BLOCK, 0); /* into two files */
    check_written(BLOCK);
    seg = 4096;
    take_mail(OVFS_NOTE_WROTE);
    CHECK(state_of(content).size == SEGMENT - 3000 + BLOCK);
    CHECK(ovfs_content_read(content, SEGMENT - 3000, pattern + BIG / 2, BLOCK) == BLOCK);
    CHECK(memcmp(pattern, pattern + BIG / 2, BLOCK) == 0);

    ovfs_content_seal(content, 10 * BLOCK);
    send_write(9 * BLOCK, pattern, 2 * BLOCK, 0);
    take_mail(FUSE_WRITE);
    CHECK(ovfs_mail_written(guest.plane, mail.tag, 7) == 0);
    check_written(7);
    send_write(10 * BLOCK, pattern, BLOCK, 0);
    check_written(BLOCK);
    send_write(0, "", 0, 0);
    check_written(0);
    send_write(INT64_MAX, "xy", 2, 0);
    CHECK(answer().error == -EFBIG);
    lie = (struct fuse_write_in){.fh = fh, .size = 100};
    CHECK(write_call(node, &lie, "x", 1, 0, 0) == -EINVAL);
    send_read(0, 10);
    CHECK(answer().error == -EBADF);
    no_mail();
    end();
}

static void test_suidgid(void)
{
    struct ovfs_attr cleared = {.mode = S_IFREG | 0755, .nlink = 1};

    begin(ovfs_content_new(0, 0, 1), 06755, O_WRONLY);
    ovfs_content_writable(content, 1);
    add_write_segment(content, 0);
    send_write(0, "x", 1, 0);
    check_written(1);
    take_mail(OVFS_NOTE_WROTE);
    send_write(0, "x", 1, FUSE_WRITE_KILL_SUIDGID);
    take_mail(FUSE_WRITE);
    CHECK(ovfs_node_attr(guest.plane, ino, &cleared, UINT64_C(1) << 40) == 0);
    retry();
    check_written(1);
    send_write(0, "y", 1, FUSE_WRITE_KILL_SUIDGID);
    check_written(1);
    no_mail();
    end();
}

/* A write that fails midway is told as far as it came. */
static void test_write_error(void)
{
    int broken = scratch_file(SEGMENT);
    char path[32];

    begin(ovfs_content_new(0, 0, 1), 0644, O_WRONLY);
    ovfs_content_writable(content, 1);
    add_write_segment(content, 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", broken);
    CHECK(ovfs_content_segment(content, OVFS_LAYER_WRITE, 1, open(path, O_RDONLY | O_CLOEXEC)) ==
          0);
    close(broken);
    send_write(SEGMENT - 100, pattern, 200, 0);
    check_written(100);
    take_mail(OVFS_NOTE_WROTE);
    CHECK(state_of(content).size == SEGMENT);
    send_write(SEGMENT, pattern, 200, 0);
    CHECK(answer().error == -EBADF);
    CHECK(state_of(content).size == SEGMENT);
    no_mail();
    end();
}

/* Another file came in its place. */
static void test_stale(void)
{
    struct ovfs_content *other = ovfs_content_new(10, 0, 2);

    begin(ovfs_content_new(10, 0, 1), 0644, O_RDWR);
    send_read(0, 10);
    check_answer("\0\0\0\0\0\0\0\0\0", 10);
    CHECK(ovfs_node_content(guest.plane, ino, other) == 0);
    send_read(0, 10);
    CHECK(answer().error == -ESTALE);
    send_write(0, "x", 1, 0);
    CHECK(answer().error == -ESTALE);
    CHECK(seek_to(0, SEEK_DATA) == -ESTALE);
    ovfs_content_unref(other);
    end();
}

static void test_lseek(void)
{
    begin(ovfs_content_new(1000, 500, 1), 0644, O_RDONLY);
    CHECK(seek_to(0, SEEK_DATA) == 0);
    CHECK(seek_to(999, SEEK_DATA) == 999);
    CHECK(seek_to(1000, SEEK_DATA) == -ENXIO);
    CHECK(seek_to(0, SEEK_HOLE) == 1000);
    CHECK(seek_to(1000, SEEK_HOLE) == -ENXIO);
    CHECK(seek_to(UINT64_MAX, SEEK_HOLE) == -ENXIO);
    CHECK(seek_to((uint64_t)-10, SEEK_END) == 990);
    CHECK(seek_to((uint64_t)-1001, SEEK_END) == -EINVAL);
    CHECK(seek_to(INT64_MAX, SEEK_END) == -EOVERFLOW);
    CHECK(seek_to(0, SEEK_SET) == -EINVAL);
    no_mail();
    end();
}

int main(void)
{
    unsigned before = open_fds();

    plane_begin();
    test_write();
    test_suidgid();
    test_write_error();
    test_stale();
    test_lseek();
    plane_end();
    CHECK(open_fds() == before);
    return 0;
}
