/* SPDX-License-Identifier: Apache-2.0
 * Description: threads look up, use and forget files over a descriptor cache of four. */
#include <pthread.h>

#include "local/node.h"
#include "local_fixture.h"

enum { THREADS = 4, ROUNDS = 4000, FILES = 24 };

static struct fixture fixture;
static ino_t inos[FILES];
static _Atomic uint64_t ids[FILES];

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

static void name_of(uint32_t i, char name[16])
{
    snprintf(name, 16, "f%u", i);
}

static void look_up(uint32_t i)
{
    struct fuse_entry_out out;
    char name[16];

    name_of(i, name);
    CHECK(lookup_name(fixture.local, fixture.root, name, &out) == 0);
    CHECK(out.attr.ino == inos[i]);
    atomic_store(&ids[i], out.nodeid);
}

/* The borrowed descriptor is this file's for as long as the pin lasts. */
static void use(uint32_t i)
{
    struct inode *inode = inode_pin(fixture.local->fs.inodes, atomic_load(&ids[i]));
    struct stat st;
    int fd, turn;

    if (!inode)
        return;
    fd = node_fd(fixture.local, inode);
    CHECK(fd >= 0);
    for (turn = 0; turn < 3; turn++) {
        CHECK(fstat(fd, &st) == 0 && st.st_ino == inos[i]);
        CHECK(node_fd(fixture.local, inode) == fd);
    }
    inode_unpin(fixture.local->fs.inodes, inode);
}

static void hold(uint32_t i)
{
    struct inode *inode = inode_pin(fixture.local->fs.inodes, atomic_load(&ids[i]));

    if (!inode)
        return;
    node_hold(fixture.local, inode);
    node_unhold(fixture.local, inode);
    inode_unpin(fixture.local->fs.inodes, inode);
}

static void *run(void *arg)
{
    uint32_t random = (uint32_t)(uintptr_t)arg;
    int round;

    for (round = 0; round < ROUNDS; round++) {
        uint32_t i = next_random(&random) % FILES;

        switch (next_random(&random) % 8) {
        case 0:
        case 1:
        case 2:
            look_up(i);
            break;
        case 3:
            inode_forget(fixture.local->fs.inodes, atomic_load(&ids[i]), 3);
            break;
        case 4:
            hold(i);
            break;
        default:
            use(i);
        }
    }
    return NULL;
}

int main(void)
{
    struct ovfs_options options = fixture_options();
    pthread_t threads[THREADS];
    unsigned fds = fixture_open_fds();
    struct stat st;
    char name[16];
    uintptr_t i;

    options.fd_cache = 4;
    fixture_new(&fixture, options);
    for (i = 0; i < FILES; i++) {
        name_of((uint32_t)i, name);
        fixture_file(&fixture, name, "x");
        CHECK(fstatat(fixture.dirfd, name, &st, 0) == 0);
        inos[i] = st.st_ino;
        look_up((uint32_t)i);
    }
    for (i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, run, (void *)(i + 1)) == 0);
    for (i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    fs_reset(&fixture.local->fs);
    CHECK(inode_count(fixture.local->fs.inodes) == 1);
    CHECK(node_cache_count(fixture.local->nodes) == 1);
    fixture_free(&fixture);
    CHECK(fixture_open_fds() == fds);
    return 0;
}
