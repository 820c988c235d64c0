/* SPDX-License-Identifier: Apache-2.0 */
/* Description: two queues of one plane, in this process: LOOKUP, OPEN and READ on one against
 * FORGET and RELEASE of the same nodes and files on the other, then stop and reset under load. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../vmm/vmm_api.h"
#include "check.h"
#include "api.h"
#include "wire_fuse.h"

enum { FILES = 8, ROUNDS = 3000, QUEUES = 3, NUM = 64, QUEUE_BYTES = 1 << 20, SIZE = 8 << 20 };

struct frontend {
    struct vmm_mem *mem;
    struct vmm_ring *rings[QUEUES];
    uint64_t buffers[QUEUES];
    int kicks[QUEUES], calls[QUEUES];
    struct ovfs_plane *plane;
    int events[2];
};

static struct frontend vm;
/* What one thread has learnt and the other takes away. */
static _Atomic uint64_t shared_node[FILES], shared_fh[FILES];

/* One request at a time on this queue; returns the error of its reply. */
static int call(unsigned q, uint32_t opcode, uint64_t node, const void *arg, size_t arg_len,
                void *out, size_t out_len)
{
    uint64_t in_at = vm.buffers[q], out_at = vm.buffers[q] + 65536;
    struct fuse_in_header header = {
        .len = (uint32_t)(sizeof(header) + arg_len), .opcode = opcode, .unique = 1, .nodeid = node};
    struct vmm_seg segs[2] = {{in_at, header.len, 0},
                              {out_at, (uint32_t)(sizeof(struct fuse_out_header) + out_len), 1}};
    bool silent = opcode == FUSE_FORGET;
    struct fuse_out_header reply;
    struct vmm_used used;

    CHECK(vmm_mem_write(vm.mem, in_at, &header, sizeof(header)) == 0);
    CHECK(vmm_mem_write(vm.mem, in_at + sizeof(header), arg, arg_len) == 0);
    CHECK(vmm_ring_add(vm.rings[q], segs, silent ? 1 : 2, 0) >= 0);
    CHECK(vmm_ring_kick(vm.rings[q]) >= 0);
    while (vmm_ring_get(vm.rings[q], &used, 1) == 0)
        vmm_ring_wait(vm.rings[q], 1000);
    if (silent)
        return 0;
    CHECK(used.len >= sizeof(reply));
    CHECK(vmm_mem_read(vm.mem, out_at, &reply, sizeof(reply)) == 0);
    CHECK(reply.unique == 1 && reply.len == used.len);
    if (reply.error == 0 && out_len > 0)
        CHECK(vmm_mem_read(vm.mem, out_at + sizeof(reply), out, out_len) == 0);
    return reply.error;
}

static void start_queue(unsigned q)
{
    uint64_t at = 65536 + (uint64_t)q * QUEUE_BYTES;
    struct ovfs_vring vring = {.num = NUM,
                               .desc_addr = vmm_mem_user_addr(vm.mem, at),
                               .avail_addr = vmm_mem_user_addr(vm.mem, at + 4096),
                               .used_addr = vmm_mem_user_addr(vm.mem, at + 8192),
                               .event_idx = 1,
                               .indirect = 1,
                               .err_fd = -1};

    vm.kicks[q] = eventfd(0, EFD_CLOEXEC);
    vm.calls[q] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    vring.kick_fd = vm.kicks[q];
    vring.call_fd = vm.calls[q];
    vm.buffers[q] = at + 65536;
    vm.rings[q] =
        vmm_ring_new(vm.mem, NUM, at, at + 4096, at + 8192, 0, 1, vm.kicks[q], vm.calls[q]);
    CHECK(vm.rings[q]);
    CHECK(ovfs_queue_start(vm.plane, q, &vring) == 0);
}

static void setup(void)
{
    struct ovfs_options options = {.cache = OVFS_CACHE_NEVER,
                                   .file_handles = OVFS_HANDLES_PREFER,
                                   .queues = QUEUES,
                                   .fd_cache = 4}; /* fewer than files: eviction all the time */
    struct ovfs_mem_region region = {.guest_addr = 0, .size = SIZE, .user_addr = 0x10000000};
    struct fuse_init_in init = {.major = 7, .minor = 38, .flags = FUSE_INIT_EXT};
    struct fuse_init_out init_out;
    char why[256];

    CHECK(mkdir("root", 0755) == 0);
    for (int i = 0; i < FILES; i++) {
        char name[32];
        int fd;

        snprintf(name, sizeof(name), "root/file%d", i);
        fd = open(name, O_CREAT | O_WRONLY, 0644);
        CHECK(fd >= 0 && write(fd, name, 10) == 10 && close(fd) == 0);
    }
    options.root_fd = open("root", O_PATH | O_DIRECTORY);
    CHECK(pipe2(vm.events, O_DIRECT | O_NONBLOCK | O_CLOEXEC) == 0);
    options.event_fd = vm.events[1];
    if (ovfs_plane_new(&options, &vm.plane, why, sizeof(why)) < 0) {
        fputs(why, stderr);
        CHECK(!"a plane");
    }
    close(options.root_fd);
    vm.mem = vmm_mem_new();
    CHECK(vm.mem && vmm_mem_add(vm.mem, 0, SIZE, region.user_addr, 0) == 0);
    region.fd = vmm_mem_fd(vm.mem, 0);
    CHECK(ovfs_mem_set(vm.plane, &region, 1) == 0);
    for (unsigned q = 0; q < QUEUES; q++)
        start_queue(q);
    CHECK(call(1, FUSE_INIT, 0, &init, sizeof(init), &init_out, sizeof(init_out)) == 0);
    CHECK(init_out.major == 7);
}

/* Looks the files up, opens and reads them, and shows what it got to the other thread. */
static void *finder(void *unused)
{
    unsigned served = 0;

    (void)unused;
    for (int round = 0; round < ROUNDS; round++) {
        int file = round % FILES;
        struct fuse_entry_out entry;
        struct fuse_open_in open_in = {.flags = O_RDONLY};
        struct fuse_open_out open_out;
        struct fuse_read_in read_in = {.size = 10};
        char name[32], data[10];
        int err;

        snprintf(name, sizeof(name), "file%d", file);
        CHECK(call(1, FUSE_LOOKUP, 1, name, strlen(name) + 1, &entry, sizeof(entry)) == 0);
        atomic_store(&shared_node[file], entry.nodeid);
        err = call(1, FUSE_OPEN, entry.nodeid, &open_in, sizeof(open_in), &open_out,
                   sizeof(open_out));
        CHECK(err == 0 || err == -ESTALE); /* the other queue has forgotten it already */
        if (err < 0)
            continue;
        atomic_store(&shared_fh[file], open_out.fh);
        read_in.fh = open_out.fh;
        err = call(1, FUSE_READ, entry.nodeid, &read_in, sizeof(read_in), data, sizeof(data));
        CHECK(err == 0 || err == -EBADF);
        if (err < 0)
            continue;
        CHECK(memcmp(data, "root/file", 9) == 0 && data[9] == '0' + file);
        served++;
    }
    CHECK(served > 0);
    return NULL;
}

/* Takes lookups back and closes files while the other still uses them. */
static void *taker(void *unused)
{
    (void)unused;
    for (int round = 0; round < ROUNDS * 2; round++) {
        int file = (round * 5) % FILES;
        uint64_t node = atomic_load(&shared_node[file]);
        uint64_t fh = atomic_exchange(&shared_fh[file], 0);
        struct fuse_release_in release = {.fh = fh};
        struct fuse_forget_in forget = {.nlookup = 1};
        int err;

        if (fh && node) {
            err = call(2, FUSE_RELEASE, node, &release, sizeof(release), NULL, 0);
            CHECK(err == 0 || err == -EBADF);
        }
        if (node)
            call(0, FUSE_FORGET, node, &forget, sizeof(forget), NULL, 0);
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[2];
    struct ovfs_stats stats;
    uint32_t base = 99;

    setup();
    CHECK(pthread_create(&threads[0], NULL, finder, NULL) == 0);
    CHECK(pthread_create(&threads[1], NULL, taker, NULL) == 0);
    for (int i = 0; i < 20; i++) { /* and the memory table changes under them */
        struct ovfs_mem_region region = {.guest_addr = (1ull << 32) + (uint64_t)i * SIZE,
                                         .size = 4096,
                                         .user_addr = (1ull << 33) + (uint64_t)i * SIZE,
                                         .fd = vmm_mem_fd(vm.mem, 0)};

        CHECK(ovfs_mem_add(vm.plane, &region) == 0);
        usleep(2000);
        CHECK(ovfs_mem_remove(vm.plane, region.guest_addr, 4096, region.user_addr) == 0);
    }
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    ovfs_plane_stats(vm.plane, &stats);
    CHECK(stats.requests == stats.replies && stats.bad_chains == 0 && stats.in_flight == 0);
    CHECK(stats.inodes <= FILES + 1);
    for (unsigned q = 0; q < QUEUES; q++) {
        CHECK(ovfs_queue_stop(vm.plane, q, &base) == 0);
        CHECK(ovfs_queue_stop(vm.plane, q, &base) == -ENOENT);
    }
    CHECK(ovfs_plane_reset(vm.plane) == 0);
    ovfs_plane_stats(vm.plane, &stats);
    CHECK(stats.inodes == 1 && stats.handles == 0);
    ovfs_plane_free(vm.plane);
    for (unsigned q = 0; q < QUEUES; q++)
        vmm_ring_free(vm.rings[q]);
    vmm_mem_free(vm.mem);
    return 0;
}
