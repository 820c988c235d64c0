/* SPDX-License-Identifier: Apache-2.0
 *
 * bare CALL FILE FILE_SIZE SIZE RANDOM SECONDS
 *
 * The system call that a request comes down to, in a loop, without any daemon: what is left of a
 * daemon's time beyond it is the daemon's own. CALL: pread, pwrite, statx, open. Data goes into and
 * out of buffers in turn, spread over as much memory as the fake VMM's are, in pages as a guest has
 * them. One line: calls, nanoseconds, CPU nanoseconds.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { ARENA = 32 << 20, PAGE = 4096, PIECES_MAX = 256, BATCH = 64 };

struct loop {
    const char *file;
    int fd, path_fd;
    uint64_t pages, size, at, seed; /* at: of the next in order, or the buffer */
    int is_random;
    char *arena;
};

static uint64_t now(clockid_t clock)
{
    struct timespec at;

    clock_gettime(clock, &at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t next_random(struct loop *loop)
{
    loop->seed ^= loop->seed << 13;
    loop->seed ^= loop->seed >> 7;
    loop->seed ^= loop->seed << 17;
    return loop->seed;
}

static off_t next_offset(struct loop *loop)
{
    uint64_t places = loop->pages * PAGE / loop->size;

    return (off_t)((loop->is_random ? next_random(loop) : loop->at) % places * loop->size);
}

static int next_buffer(struct loop *loop, struct iovec *iov)
{
    uint64_t slots = ARENA / loop->size;
    char *buffer = loop->arena + loop->at++ % slots * loop->size;
    int pieces = (int)(loop->size / PAGE);

    for (int i = 0; i < pieces; i++)
        iov[i] = (struct iovec){.iov_base = buffer + i * PAGE, .iov_len = PAGE};
    return pieces;
}

static void do_pread(struct loop *loop)
{
    struct iovec iov[PIECES_MAX];
    off_t offset = next_offset(loop);

    if (preadv(loop->fd, iov, next_buffer(loop, iov), offset) != (ssize_t)loop->size)
        fail("preadv");
}

static void do_pwrite(struct loop *loop)
{
    struct iovec iov[PIECES_MAX];
    off_t offset = next_offset(loop);

    if (pwritev(loop->fd, iov, next_buffer(loop, iov), offset) != (ssize_t)loop->size)
        fail("pwritev");
}

static void do_statx(struct loop *loop)
{
    struct statx stx;

    if (statx(loop->path_fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stx) < 0)
        fail("statx");
}

static void do_open(struct loop *loop)
{
    int fd = open(loop->file, O_RDWR | O_CLOEXEC);

    if (fd < 0)
        fail(loop->file);
    close(fd);
}

static void (*find(const char *call))(struct loop *)
{
    static const struct {
        const char *name;
        void (*run)(struct loop *);
    } calls[] = {
        {"pread", do_pread}, {"pwrite", do_pwrite}, {"statx", do_statx}, {"open", do_open}};

    for (unsigned i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
        if (strcmp(call, calls[i].name) == 0)
            return calls[i].run;
    fprintf(stderr, "there is no call %s\n", call);
    exit(2);
}

int main(int argc, char **argv)
{
    struct loop loop = {.seed = 88172645463325252u};
    uint64_t begin, end, cpu, calls = 0;
    void (*run)(struct loop *);

    if (argc != 7)
        return 2;
    run = find(argv[1]);
    loop.file = argv[2];
    loop.pages = strtoull(argv[3], NULL, 10) / PAGE;
    loop.size = strtoull(argv[4], NULL, 10);
    loop.is_random = atoi(argv[5]);
    loop.fd = open(loop.file, O_RDWR | O_CLOEXEC);
    loop.path_fd = open(loop.file, O_PATH | O_CLOEXEC);
    loop.arena = mmap(NULL, ARENA, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (loop.fd < 0 || loop.path_fd < 0 || loop.arena == MAP_FAILED || loop.size < PAGE ||
        loop.size / PAGE > PIECES_MAX || loop.pages * PAGE < loop.size)
        fail("setting up");
    begin = now(CLOCK_MONOTONIC);
    cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    end = begin + (uint64_t)(atof(argv[6]) * 1e9);
    do {
        for (int i = 0; i < BATCH; i++)
            run(&loop);
        calls += BATCH;
    } while (now(CLOCK_MONOTONIC) < end);
    printf("%llu %llu %llu\n", (unsigned long long)calls,
           (unsigned long long)(now(CLOCK_MONOTONIC) - begin),
           (unsigned long long)(now(CLOCK_PROCESS_CPUTIME_ID) - cpu));
    return 0;
}
