/* SPDX-License-Identifier: Apache-2.0
 * Description: a host exchanges names, and makes others of the same numbers, while they are looked
 * up: a node is one object, of the type that was told. */
#include <pthread.h>
#include <stdio.h>

#include "local/lookup.h"
#include "local/mount.h"
#include "local/node.h"
#include "local_fixture.h"

enum { THREADS = 2, LOOKUPS = 30000 };

static struct fixture fixture;
static _Atomic bool over;
static _Atomic unsigned changes;

static void *exchange(void *arg)
{
    (void)arg;
    while (!over) {
        CHECK(renameat2(fixture.dirfd, "a", fixture.dirfd, "b", RENAME_EXCHANGE) == 0);
        changes++;
    }
    return NULL;
}

/* ext4 gives the number of what was removed to what is made next. */
static void *make_anew(void *arg)
{
    bool link = false;

    (void)arg;
    while (!over) {
        CHECK(unlinkat(fixture.dirfd, "c", 0) == 0);
        link = !link;
        if (link)
            CHECK(symlinkat("nowhere", fixture.dirfd, "c") == 0);
        else
            fixture_file(&fixture, "c", "x");
        changes++;
    }
    return NULL;
}

/* What the guest was told of a node is what the node leads to, or it leads nowhere. */
static void check(const struct fuse_entry_out *entry)
{
    struct inode *inode = inode_pin(fixture.local->fs.inodes, entry->nodeid);
    struct stat st;
    int fd;

    CHECK(inode && inode->type == (entry->attr.mode & S_IFMT));
    fd = node_fd(fixture.local, inode);
    CHECK(fd >= 0 || fd == -ESTALE);
    if (fd >= 0)
        CHECK(fstat(fd, &st) == 0 && st.st_ino == entry->attr.ino &&
              st.st_mode == entry->attr.mode);
    inode_unpin(fixture.local->fs.inodes, inode);
}

static void *look_up(void *arg)
{
    static const char *const names[] = {"a", "b", "c"};
    unsigned found = 0;

    (void)arg;
    for (unsigned i = 0; i < LOOKUPS; i++) {
        struct fuse_entry_out entry;
        int err = lookup_name(fixture.local, fixture.root, names[i % 3], &entry);

        CHECK(err == 0 || (err == -ENOENT && i % 3 == 2));
        if (err < 0)
            continue;
        check(&entry);
        inode_forget(fixture.local->fs.inodes, entry.nodeid, 1);
        found++;
    }
    CHECK(found > LOOKUPS / 2);
    return NULL;
}

static void looking_up_opens_nothing(void)
{
    unsigned before = fixture_open_fds();
    struct fuse_entry_out entry;

    if (!mount_at(fixture.local->mounts, 0)->ino_handles)
        return; /* not root, or a file system of another kind */
    CHECK(lookup_name(fixture.local, fixture.root, "a", &entry) == 0);
    CHECK(fixture_open_fds() == before);
    CHECK(lookup_name(fixture.local, fixture.root, "a", &entry) == 0); /* once more: it is used */
    CHECK(fixture_open_fds() == before + 1);
    inode_forget(fixture.local->fs.inodes, entry.nodeid, 2);
    CHECK(fixture_open_fds() == before);
}

int main(void)
{
    pthread_t hosts[2], threads[THREADS];

    fixture_new(&fixture, fixture_options());
    fixture_file(&fixture, "a", "");
    CHECK(symlinkat("nowhere", fixture.dirfd, "b") == 0);
    fixture_file(&fixture, "c", "x");
    looking_up_opens_nothing();
    CHECK(pthread_create(&hosts[0], NULL, exchange, NULL) == 0);
    CHECK(pthread_create(&hosts[1], NULL, make_anew, NULL) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, look_up, NULL) == 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    over = true;
    for (int i = 0; i < 2; i++)
        pthread_join(hosts[i], NULL);
    CHECK(changes > LOOKUPS / 100);
    fixture_free(&fixture);
    return 0;
}
