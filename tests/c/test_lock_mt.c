/* SPDX-License-Identifier: Apache-2.0 */
/* Description: record locks and flock: owners exclude each other, waits end by unlock, FLUSH or
 * INTERRUPT, and never hold up their queue. */
#include <sys/file.h>

#include "guest.h"

enum { ANN = 0xa11, BOB = 0xb0b, ANNS_PID = 100, BOBS_PID = 200 };

static struct guest guest;
static uint64_t node, fh;

static struct fuse_lk_in range(uint64_t owner, uint32_t type, uint64_t start, uint64_t end)
{
    return (struct fuse_lk_in){
        .fh = fh,
        .owner = owner,
        .lk = {.start = start, .end = end, .type = type, .pid = owner == ANN ? ANNS_PID : BOBS_PID},
    };
}

static struct call lock_call(uint32_t opcode, const struct fuse_lk_in *in, unsigned slot)
{
    return (struct call){
        .opcode = opcode,
        .nodeid = node,
        .arg = in,
        .arg_len = sizeof(*in),
        .out_len = opcode == FUSE_GETLK ? sizeof(struct fuse_lk_out) : 0,
        .slot = slot,
    };
}

static int set(uint64_t owner, uint32_t type, uint64_t start, uint64_t end)
{
    struct fuse_lk_in in = range(owner, type, start, end);
    struct call call = lock_call(FUSE_SETLK, &in, 0);

    return guest_call(&guest, &call).error;
}

static struct fuse_file_lock get(uint64_t owner, uint32_t type, uint64_t start, uint64_t end)
{
    struct fuse_lk_in in = range(owner, type, start, end);
    struct call call = lock_call(FUSE_GETLK, &in, 0);
    struct reply reply = guest_call(&guest, &call);
    struct fuse_lk_out out;

    CHECK(reply.error == 0 && reply.len == sizeof(out));
    memcpy(&out, reply.at, sizeof(out));
    return out.lk;
}

/* A SETLKW that has to wait, on slot 1. Returns its unique id. */
static uint64_t wait_for(const struct fuse_lk_in *in)
{
    struct call call = lock_call(FUSE_SETLKW, in, 1);

    guest_send(&guest, &call);
    CHECK(!guest_answered(&guest, 1, 1, 100));
    return guest.slot[1].unique;
}

static int waited(void)
{
    CHECK(guest_answered(&guest, 1, 1, 10000));
    return guest_reply(&guest, 1).error;
}

static void flush(uint64_t owner)
{
    struct fuse_flush_in in = {.fh = fh, .lock_owner = owner};

    CHECK(guest_call(&guest, &(struct call){.opcode = FUSE_FLUSH, .nodeid = node, ARG_OF(in)})
              .error == 0);
}

/* A lock of the host's, by a local program, so to say. */
static int host_lock(short type, off_t start, off_t len)
{
    int fd = openat(guest.root_fd, "file", O_RDWR | O_CLOEXEC);
    struct flock lock = {.l_type = type, .l_start = start, .l_len = len};

    CHECK(fd >= 0);
    if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
        return fd;
    CHECK(errno == EAGAIN || errno == EACCES);
    close(fd);
    return -1;
}

static void test_exclusion(void)
{
    struct fuse_file_lock lock;
    int fd;

    CHECK(set(ANN, F_WRLCK, 0, 9) == 0);
    CHECK(set(ANN, F_RDLCK, 5, 9) == 0); /* her own does not stand in her way */
    CHECK(set(BOB, F_WRLCK, 4, 4) == -EAGAIN);
    CHECK(set(BOB, F_RDLCK, 5, 9) == 0);
    CHECK(set(BOB, F_WRLCK, 10, INT64_MAX) == 0);
    CHECK(host_lock(F_RDLCK, 0, 1) < 0); /* the host sees them */
    CHECK(host_lock(F_WRLCK, 1 << 20, 0) < 0);

    lock = get(BOB, F_WRLCK, 0, 3);
    CHECK(lock.type == F_WRLCK && lock.start == 0 && lock.end == 4 && lock.pid == ANNS_PID);
    lock = get(ANN, F_RDLCK, 100, 200);
    CHECK(lock.type == F_WRLCK && lock.start == 10 && lock.end == INT64_MAX &&
          lock.pid == BOBS_PID);
    CHECK(get(ANN, F_WRLCK, 0, 3).type == F_UNLCK);

    flush(ANN);
    CHECK(get(BOB, F_WRLCK, 0, 4).type == F_UNLCK);
    CHECK(set(BOB, F_UNLCK, 0, INT64_MAX) == 0);
    flush(BOB);
    fd = host_lock(F_WRLCK, 0, 0); /* nothing is left */
    CHECK(fd >= 0);
    CHECK(set(ANN, F_WRLCK, 0, 0) == -EAGAIN); /* and the guest sees the host's */
    CHECK(get(ANN, F_WRLCK, 0, 0).pid == 0);
    close(fd);
    flush(ANN);
}

static void test_bad_ranges(void)
{
    CHECK(set(ANN, F_WRLCK, 5, 4) == -EINVAL);
    CHECK(set(ANN, F_WRLCK, 0, UINT64_MAX) == -EINVAL);
    CHECK(set(ANN, 77, 0, 1) == -EINVAL);
    CHECK(set(ANN, F_UNLCK, 0, INT64_MAX) == 0); /* of one who holds nothing */
}

/* The unlock comes on the queue that waits for it. */
static void test_wait_for_unlock(void)
{
    struct fuse_lk_in in = range(BOB, F_WRLCK, 0, 9);

    CHECK(set(ANN, F_WRLCK, 0, 9) == 0);
    wait_for(&in);
    CHECK(set(ANN, F_UNLCK, 0, 9) == 0);
    CHECK(waited() == 0);
    CHECK(set(ANN, F_RDLCK, 0, 0) == -EAGAIN);
    flush(BOB);
    flush(ANN);
}

static void test_wait_for_flush(void)
{
    struct fuse_lk_in in = range(BOB, F_RDLCK, 0, INT64_MAX);

    CHECK(set(ANN, F_WRLCK, 0, 9) == 0);
    wait_for(&in);
    flush(ANN);
    CHECK(waited() == 0);
    flush(BOB);
}

/* Who closes the file while waiting gets no lock that nobody could give back. */
static void test_flush_of_the_waiter(void)
{
    struct fuse_lk_in in = range(BOB, F_WRLCK, 0, 9);
    int fd;

    CHECK(set(ANN, F_WRLCK, 0, 9) == 0);
    wait_for(&in);
    flush(BOB);
    flush(ANN);
    waited();
    fd = host_lock(F_WRLCK, 0, 0);
    CHECK(fd >= 0);
    close(fd);
}

/* Sent on another queue, as a guest does, until it has been heard. */
static void test_interrupt(unsigned queue)
{
    struct fuse_lk_in in = range(BOB, F_WRLCK, 0, 9);
    struct fuse_interrupt_in interrupt;

    CHECK(set(ANN, F_WRLCK, 0, 9) == 0);
    interrupt.unique = wait_for(&in);
    for (int i = 0; i < 100 && !guest_answered(&guest, 1, 1, 0); i++) {
        guest_send(
            &guest,
            &(struct call){.opcode = FUSE_INTERRUPT, ARG_OF(interrupt), .queue = queue, .slot = 2});
        CHECK(guest_answered(&guest, queue, 2, 10000));
    }
    CHECK(waited() == -EINTR);
    flush(ANN);
    flush(BOB);
}

/* More waits than may wait: the rest is refused, and all end. */
static void test_stop_cancels(void)
{
    struct fuse_lk_in in = range(BOB, F_WRLCK, 0, 9);
    uint32_t base;

    CHECK(set(ANN, F_WRLCK, 0, 9) == 0);
    wait_for(&in);
    CHECK(ovfs_queue_stop(guest.plane, 1, &base) == 0);
    CHECK(waited() == -EINTR);
    vmm_ring_free(guest.ring[1]);
    close(guest.kick[1]);
    close(guest.call[1]);
    guest_ring(&guest, 1);
    flush(ANN);
    flush(BOB);
}

static int set_flock(uint32_t opcode, uint64_t file, uint32_t type)
{
    struct fuse_lk_in in = {.fh = file, .lk = {.type = type}, .lk_flags = FUSE_LK_FLOCK};
    struct call call = lock_call(opcode, &in, 0);

    return guest_call(&guest, &call).error;
}

static void test_flock(void)
{
    uint64_t other = guest_open(&guest, node, O_RDONLY);
    struct fuse_lk_in in = {.fh = other, .lk = {.type = F_RDLCK}, .lk_flags = FUSE_LK_FLOCK};
    struct fuse_release_in release = {.fh = other, .release_flags = FUSE_RELEASE_FLOCK_UNLOCK};
    int fd;

    CHECK(set_flock(FUSE_SETLK, fh, F_WRLCK) == 0);
    CHECK(set_flock(FUSE_SETLK, other, F_RDLCK) == -EWOULDBLOCK);
    wait_for(&in);
    CHECK(set_flock(FUSE_SETLK, fh, F_UNLCK) == 0);
    CHECK(waited() == 0);
    CHECK(set_flock(FUSE_SETLK, fh, F_RDLCK) == 0);
    CHECK(set_flock(FUSE_SETLK, fh, F_UNLCK) == 0);

    fd = openat(guest.root_fd, "file", O_RDONLY | O_CLOEXEC);
    CHECK(flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK);
    CHECK(
        guest_call(&guest, &(struct call){.opcode = FUSE_RELEASE, .nodeid = node, ARG_OF(release)})
            .error == 0);
    CHECK(flock(fd, LOCK_EX | LOCK_NB) == 0);
    close(fd);
}

/* A file that nobody may write can be locked for reading. */
static void test_read_only_file(void)
{
    uint64_t locked = node, locked_fh = fh;

    host_write(&guest, "sealed", "x", 1);
    CHECK(fchmodat(guest.root_fd, "sealed", 0444, 0) == 0);
    node = guest_lookup(&guest, FUSE_ROOT_ID, "sealed");
    fh = guest_open(&guest, node, O_RDONLY);
    CHECK(set(ANN, F_RDLCK, 0, 9) == 0);
    CHECK(set(BOB, F_RDLCK, 0, 9) == 0);
    flush(ANN);
    flush(BOB);
    node = locked;
    fh = locked_fh;
}

static void test_option_off(void)
{
    guest_start(&guest, &(struct ovfs_options){.cache = OVFS_CACHE_NEVER});
    host_write(&guest, "file", "0123456789", 10);
    node = guest_lookup(&guest, FUSE_ROOT_ID, "file");
    fh = guest_open(&guest, node, O_RDWR);
    CHECK(set(ANN, F_WRLCK, 0, 9) == -ENOSYS);
    CHECK(set_flock(FUSE_SETLK, fh, F_WRLCK) == -ENOSYS);
    guest_stop(&guest);
}

int main(void)
{
    guest_start(&guest, &(struct ovfs_options){.posix_lock = 1, .flock = 1});
    host_write(&guest, "file", "0123456789", 10);
    node = guest_lookup(&guest, FUSE_ROOT_ID, "file");
    fh = guest_open(&guest, node, O_RDWR);
    test_exclusion();
    test_bad_ranges();
    test_wait_for_unlock();
    test_wait_for_flush();
    test_flush_of_the_waiter();
    test_interrupt(2);
    test_stop_cancels();
    test_flock();
    test_read_only_file();
    guest_stop(&guest);
    test_option_off();
    return 0;
}
