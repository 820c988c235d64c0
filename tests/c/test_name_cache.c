/* SPDX-License-Identifier: Apache-2.0
 * Description: guesses of what names stand for are right or not used, whatever the host does. */
#include "local/name_cache.h"

#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>

#include "local/guess.h"
#include "local/lookup.h"
#include "local/mount.h"
#include "local_fixture.h"

static struct fixture fixture;

/* ---- the cache by itself ---- */

static void it_finds_what_was_put(struct name_cache *cache)
{
    struct name_guess guess = {.nodeid = 5, .ino = 6, .birth = 7}, found;
    uint64_t key = name_key(cache, 1, "name", 4, 0);

    CHECK(!name_cache_get(cache, key, &found));
    name_cache_put(cache, key, &guess);
    CHECK(name_cache_get(cache, key, &found));
    CHECK(found.nodeid == 5 && found.ino == 6 && found.birth == 7);
    CHECK(!name_cache_get(cache, name_key(cache, 2, "name", 4, 0), &found));
    CHECK(!name_cache_get(cache, name_key(cache, 1, "nome", 4, 0), &found));
    CHECK(!name_cache_get(cache, name_key(cache, 1, "name", 4, 1), &found)); /* another epoch */
    name_cache_drop(cache, name_key(cache, 1, "nome", 4, 0));
    CHECK(name_cache_get(cache, key, &found));
    name_cache_drop(cache, key);
    CHECK(!name_cache_get(cache, key, &found));
}

/* More than it has room for: each is found as it was put, or not at all. */
static void it_never_mixes_two_up(struct name_cache *cache)
{
    enum { NAMES = 200000 };
    struct name_guess found;
    int kept = 0;
    char name[16];

    for (uint64_t i = 1; i < NAMES; i++) {
        struct name_guess guess = {.nodeid = i, .ino = 2 * i, .birth = 3 * i};
        int len = snprintf(name, sizeof(name), "%d", (int)i);

        name_cache_put(cache, name_key(cache, 1, name, (size_t)len, 0), &guess);
    }
    for (uint64_t i = 1; i < NAMES; i++) {
        int len = snprintf(name, sizeof(name), "%d", (int)i);

        if (!name_cache_get(cache, name_key(cache, 1, name, (size_t)len, 0), &found))
            continue;
        kept++;
        CHECK(found.nodeid == i && found.ino == 2 * i && found.birth == 3 * i);
    }
    CHECK(kept > 1000 && kept < NAMES / 2);
}

/* ---- names of a directory ---- */

static struct fuse_entry_out by_name(const char *name)
{
    struct fuse_entry_out out;

    CHECK(lookup_name(fixture.local, fixture.root, name, &out) == 0);
    return out;
}

static void guesses_follow_renames(void)
{
    struct inode *dir = fixture.root;
    uint64_t nodeid;

    fixture_file(&fixture, "before", "");
    CHECK(!guess_expects(fixture.local, dir, "before"));
    nodeid = by_name("before").nodeid;
    CHECK(guess_expects(fixture.local, dir, "before"));
    guess_follow(fixture.local, dir, "before", dir, "after");
    CHECK(!guess_expects(fixture.local, dir, "before"));
    CHECK(guess_expects(fixture.local, dir, "after"));
    CHECK(renameat(fixture.dirfd, "before", fixture.dirfd, "after") == 0);
    CHECK(by_name("after").nodeid == nodeid);
    guess_drop(fixture.local, dir, "after");
    CHECK(!guess_expects(fixture.local, dir, "after"));
    CHECK(unlinkat(fixture.dirfd, "after", 0) == 0);
    inode_forget(fixture.local->fs.inodes, nodeid, 2);
}

/* As a listing that shows the name with this inode number. */
static struct fuse_entry_out by_listing(const char *name, uint64_t ino)
{
    struct fuse_entry_out out;

    mount_look(fixture.local->mounts);
    CHECK(lookup_listed(fixture.local, fixture.root, name, ino, &out) == 0);
    return out;
}

static struct stat host(const char *name)
{
    struct stat st;

    CHECK(fstatat(fixture.dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0);
    return st;
}

/* All ways lead to the same node, which is what the host has there. */
static uint64_t node_of(const char *name)
{
    struct stat st = host(name);
    struct fuse_entry_out first = by_name(name), again = by_name(name);
    struct fuse_entry_out listed = by_listing(name, st.st_ino);

    CHECK(first.nodeid == again.nodeid && first.nodeid == listed.nodeid);
    CHECK(again.attr.ino == st.st_ino && listed.attr.ino == st.st_ino);
    CHECK(again.attr.mode == st.st_mode && listed.attr.mode == st.st_mode);
    CHECK(again.attr.size == (uint64_t)st.st_size && listed.attr.size == (uint64_t)st.st_size);
    CHECK(again.attr.nlink == st.st_nlink && listed.attr.nlink == st.st_nlink);
    return first.nodeid;
}

static void attributes_are_those_of_now(void)
{
    fixture_file(&fixture, "file", "12345");
    node_of("file");
    CHECK(fchmodat(fixture.dirfd, "file", 0600, 0) == 0);
    node_of("file");
    fixture_file(&fixture, "file", "123456789");
    node_of("file");
}

static void another_file_of_the_name_is_another_node(void)
{
    uint64_t old = node_of("file"), other;

    fixture_file(&fixture, "other", "x");
    other = node_of("other");
    CHECK(renameat(fixture.dirfd, "other", fixture.dirfd, "file") == 0);
    CHECK(other != old && node_of("file") == other);
    CHECK(unlinkat(fixture.dirfd, "file", 0) == 0);
    fixture_file(&fixture, "file", "y");
    CHECK(node_of("file") != other && node_of("file") != old);
    CHECK(unlinkat(fixture.dirfd, "file", 0) == 0 &&
          symlinkat("elsewhere", fixture.dirfd, "file") == 0);
    node_of("file");
    CHECK(unlinkat(fixture.dirfd, "file", 0) == 0);
}

static void a_name_that_is_gone_is_gone(void)
{
    struct fuse_entry_out out;
    uint64_t ino;

    fixture_file(&fixture, "file", "12345");
    node_of("file");
    ino = host("file").st_ino;
    CHECK(unlinkat(fixture.dirfd, "file", 0) == 0);
    CHECK(lookup_name(fixture.local, fixture.root, "file", &out) == -ENOENT);
    CHECK(lookup_listed(fixture.local, fixture.root, "file", ino, &out) == -ENOENT);
}

static void names_of_one_file_are_one_node(void)
{
    uint64_t node;

    fixture_file(&fixture, "file", "12345");
    node = node_of("file");
    CHECK(linkat(fixture.dirfd, "file", fixture.dirfd, "second", 0) == 0);
    CHECK(node_of("second") == node && node_of("file") == node);
    CHECK(unlinkat(fixture.dirfd, "file", 0) == 0);
    CHECK(node_of("second") == node);
    CHECK(unlinkat(fixture.dirfd, "second", 0) == 0);
}

/* A listing that is older than the name: the number is of no use. */
static void a_listing_may_be_outdated(void)
{
    uint64_t old;

    fixture_file(&fixture, "file", "1");
    node_of("file");
    old = host("file").st_ino;
    fixture_file(&fixture, "other", "12");
    CHECK(renameat(fixture.dirfd, "other", fixture.dirfd, "file") == 0);
    CHECK(by_listing("file", old).attr.ino == host("file").st_ino);
    CHECK(unlinkat(fixture.dirfd, "file", 0) == 0);
}

static void lookups_are_counted(void)
{
    struct inode *inode;
    uint64_t node;

    fixture_file(&fixture, "file", "12345");
    node = by_name("file").nodeid;
    CHECK(by_name("file").nodeid == node);
    CHECK(by_listing("file", host("file").st_ino).nodeid == node);
    inode_forget(fixture.local->fs.inodes, node, 2);
    inode = inode_pin(fixture.local->fs.inodes, node);
    CHECK(inode);
    inode_unpin(fixture.local->fs.inodes, inode);
    inode_forget(fixture.local->fs.inodes, node, 1);
    CHECK(!inode_pin(fixture.local->fs.inodes, node));
    CHECK(by_name("file").nodeid != node); /* the guess names a node that is forgotten */
    CHECK(unlinkat(fixture.dirfd, "file", 0) == 0);
}

static void what_is_mounted_on_a_name_covers_it(void)
{
    struct fuse_entry_out covering;
    char below[64], above[64];
    uint64_t node;
    struct stat st;

    if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return; /* the host's other tests have it */
    fixture_free(&fixture);
    fixture_new(&fixture, fixture_options()); /* of this mount namespace */
    fixture_file(&fixture, "below", "12345");
    fixture_file(&fixture, "above", "123456789");
    node = node_of("below");
    CHECK(node_of("above") != node);
    CHECK(snprintf(below, sizeof(below), "%s/below", fixture.dir) > 0);
    CHECK(snprintf(above, sizeof(above), "%s/above", fixture.dir) > 0);
    st = host("below");
    CHECK(mount(above, below, NULL, MS_BIND, NULL) == 0);
    covering = by_name("below");
    CHECK(covering.attr.size == 9);
    CHECK(by_listing("below", st.st_ino).attr.size == 9); /* getdents shows what is covered */
    inode_forget(fixture.local->fs.inodes, covering.nodeid, UINT64_MAX); /* it holds the mount */
    CHECK(umount(below) == 0);
    CHECK(by_listing("below", st.st_ino).nodeid == node && by_name("below").nodeid == node);
}

int main(void)
{
    struct name_cache *cache;

    CHECK(name_cache_new(&cache) == 0);
    it_finds_what_was_put(cache);
    it_never_mixes_two_up(cache);
    name_cache_free(cache);
    name_cache_free(NULL);
    fixture_new(&fixture, fixture_options());
    attributes_are_those_of_now();
    another_file_of_the_name_is_another_node();
    a_name_that_is_gone_is_gone();
    names_of_one_file_are_one_node();
    a_listing_may_be_outdated();
    guesses_follow_renames();
    lookups_are_counted();
    what_is_mounted_on_a_name_covers_it();
    fixture_free(&fixture);
    return 0;
}
