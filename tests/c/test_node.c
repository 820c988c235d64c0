/* SPDX-License-Identifier: Apache-2.0
 * Description: descriptors of nodes stay few, come back by handle, and hold what has no name. */
#include <sys/resource.h>

#include "local/mount.h"
#include "local/node.h"
#include "local_fixture.h"

enum { FILES = 300, CACHE = 16, SLACK = 2 /* the root's, and the node in use */ };

static uint64_t ids[FILES];

static const char *name_of(int i)
{
    static char name[16];

    snprintf(name, sizeof(name), "f%d", i);
    return name;
}

static void make_files(struct fixture *fixture)
{
    int i;

    for (i = 0; i < FILES; i++)
        fixture_file(fixture, name_of(i), name_of(i));
}

static struct inode *pin(struct fixture *fixture, int i)
{
    struct inode *inode = inode_pin(fixture->local->fs.inodes, ids[i]);

    CHECK(inode);
    return inode;
}

static void unpin(struct fixture *fixture, struct inode *inode)
{
    inode_unpin(fixture->local->fs.inodes, inode);
}

/* As a request that needs its descriptor. */
static void use(struct fixture *fixture, int i)
{
    struct inode *inode = pin(fixture, i);

    CHECK(node_fd(fixture->local, inode) >= 0);
    unpin(fixture, inode);
}

static void look_up(struct fixture *fixture, int i)
{
    struct fuse_entry_out out;

    CHECK(lookup_name(fixture->local, fixture->root, name_of(i), &out) == 0);
    ids[i] = out.nodeid;
}

static void look_up_and_use_all(struct fixture *fixture)
{
    int i;

    for (i = 0; i < FILES; i++) {
        look_up(fixture, i);
        use(fixture, i);
    }
}

static bool by_handle(const struct fixture *fixture)
{
    return mount_at(fixture->local->mounts, 0)->handles;
}

static void check_content(struct fixture *fixture, int i)
{
    struct inode *inode = pin(fixture, i);
    char text[16] = "";
    int fd = node_open(fixture->local, inode, O_RDONLY);

    CHECK(fd >= 0 && read(fd, text, sizeof(text)) > 0 && strcmp(text, name_of(i)) == 0);
    close(fd);
    unpin(fixture, inode);
}

static void descriptors_are_bounded(struct fixture *fixture)
{
    unsigned before = fixture_open_fds();
    int i;

    look_up_and_use_all(fixture);
    CHECK(fixture_open_fds() <= before + CACHE + SLACK);
    CHECK(node_cache_count(fixture->local->nodes) <= CACHE + SLACK);
    for (i = 0; i < FILES; i++) {
        struct inode *inode = pin(fixture, i);
        struct stat st, named;
        int fd = node_fd(fixture->local, inode);

        CHECK(fd >= 0 && node_fd(fixture->local, inode) == fd);
        CHECK(fstat(fd, &st) == 0 && fstatat(fixture->dirfd, name_of(i), &named, 0) == 0);
        CHECK(st.st_ino == named.st_ino);
        unpin(fixture, inode);
        check_content(fixture, i);
    }
    CHECK(fixture_open_fds() <= before + CACHE + SLACK);
}

static void what_is_used_stays_open(struct fixture *fixture)
{
    struct inode *inode = pin(fixture, 0);
    int i, fd = node_fd(fixture->local, inode), kept = 0;

    unpin(fixture, inode);
    for (i = 1; i < FILES; i++) {
        unpin(fixture, pin(fixture, i));
        use(fixture, i);
        inode = pin(fixture, 0);
        kept += atomic_load(&inode->fd) == fd;
        fd = node_fd(fixture->local, inode);
        unpin(fixture, inode);
    }
    CHECK(kept > FILES * 9 / 10); /* its second chance, each time the hand comes by */
}

/* Once the list is full of files that have come and gone, a newcomer must cost one of those its
 * place, not the newcomer before it. */
static void newcomers_do_not_evict_each_other(struct fixture *fixture)
{
    enum { NEWCOMERS = CACHE / 2 };
    int i;

    look_up_and_use_all(fixture);
    for (i = 0; i < FILES; i++)
        inode_forget(fixture->local->fs.inodes, ids[i], UINT64_MAX);
    for (i = 0; i < NEWCOMERS; i++) {
        look_up(fixture, i);
        use(fixture, i);
    }
    for (i = 0; i < NEWCOMERS; i++) {
        struct inode *inode = pin(fixture, i);

        CHECK(atomic_load(&inode->fd) >= 0);
        unpin(fixture, inode);
        inode_forget(fixture->local->fs.inodes, ids[i], UINT64_MAX);
    }
}

static void a_pinned_node_keeps_its_descriptor(struct fixture *fixture)
{
    struct inode *inode = pin(fixture, 5);
    int i, fd = node_fd(fixture->local, inode);

    for (i = 0; i < FILES; i++)
        check_content(fixture, i);
    look_up_and_use_all(fixture);
    CHECK(atomic_load(&inode->fd) == fd && node_fd(fixture->local, inode) == fd);
    unpin(fixture, inode);
}

static void a_held_node_outlives_its_name(struct fixture *fixture)
{
    struct inode *held = pin(fixture, 10), *lost = pin(fixture, 11);
    char path[NODE_PATH];
    int fd;

    node_hold(fixture->local, held);
    unpin(fixture, held);
    unpin(fixture, lost);
    CHECK(unlinkat(fixture->dirfd, "f10", 0) == 0 && unlinkat(fixture->dirfd, "f11", 0) == 0);
    for (int i = 12; i < FILES; i++)
        use(fixture, i);
    check_content(fixture, 10);
    held = pin(fixture, 10);
    CHECK(node_path(fixture->local, held, path) == 0 && access(path, R_OK) == 0);
    fd = atomic_load(&held->fd);
    unpin(fixture, held);
    lost = pin(fixture, 11);
    CHECK(node_fd(fixture->local, lost) == -ESTALE);
    CHECK(node_open(fixture->local, lost, O_RDONLY) == -ESTALE);
    unpin(fixture, lost);
    inode_forget(fixture->local->fs.inodes, ids[10], UINT64_MAX);
    CHECK(fcntl(fd, F_GETFD) < 0);
    inode_forget(fixture->local->fs.inodes, ids[11], UINT64_MAX);
}

static void holds_are_counted(struct fixture *fixture)
{
    struct inode *inode = pin(fixture, 20);
    int i;

    node_unhold(fixture->local, inode); /* one too many */
    CHECK(atomic_load(&inode->held) == 0);
    node_hold(fixture->local, inode);
    node_hold(fixture->local, inode);
    node_unhold(fixture->local, inode);
    CHECK(atomic_load(&inode->held) == 1);
    node_unhold(fixture->local, inode);
    CHECK(atomic_load(&inode->held) == 0);
    for (i = 0; i < 1000; i++)
        node_hold(fixture->local, inode);
    for (i = 0; i < 1000; i++)
        node_unhold(fixture->local, inode);
    CHECK(atomic_load(&inode->held) > 0); /* too many to count: held for good */
    unpin(fixture, inode);
}

static void out_of_descriptors(struct fixture *fixture)
{
    struct rlimit limit, low;
    struct fuse_entry_out out;
    int i, last;

    fs_reset(&fixture->local->fs);
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    for (i = 30; i < 30 + CACHE; i++)
        CHECK(lookup_name(fixture->local, fixture->root, name_of(i), &out) == 0);
    last = fcntl(fixture->dirfd, F_DUPFD_CLOEXEC, 3);
    low = (struct rlimit){(rlim_t)last, limit.rlim_max};
    close(last);
    CHECK(setrlimit(RLIMIT_NOFILE, &low) == 0);
    while (dup(fixture->dirfd) >= 0)
        ; /* fill the gaps */
    for (; i < FILES; i++)
        if (lookup_name(fixture->local, fixture->root, name_of(i), &out) < 0)
            break;
    if (by_handle(fixture))
        CHECK(i == FILES); /* room is made each time */
    else
        CHECK(i < FILES && lookup_name(fixture->local, fixture->root, name_of(i), &out) == -ENFILE);
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK(lookup_name(fixture->local, fixture->root, name_of(FILES - 1), &out) == 0);
}

static void without_handles(void)
{
    struct ovfs_options options = fixture_options();
    struct fixture fixture;
    struct inode *inode;
    char why[200];
    struct local *local;

    options.fd_cache = CACHE;
    options.file_handles = OVFS_HANDLES_NEVER;
    fixture_new(&fixture, options);
    make_files(&fixture);
    look_up_and_use_all(&fixture);
    CHECK(node_cache_count(fixture.local->nodes) == FILES + 1);
    inode = pin(&fixture, 7);
    CHECK(unlinkat(fixture.dirfd, "f7", 0) == 0);
    unpin(&fixture, inode);
    check_content(&fixture, 7); /* its descriptor is what it lives by anyway */
    out_of_descriptors(&fixture);
    options.file_handles = OVFS_HANDLES_MANDATORY;
    options.root_fd = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
    CHECK(local_new(&options, &fixture.log, &local, why, sizeof(why)) == -EOPNOTSUPP && !local);
    CHECK(strstr(why, "mandatory") && !strchr(why, '\n'));
    close(options.root_fd);
    fixture_free(&fixture);
}

static void with_handles(void)
{
    struct ovfs_options options = fixture_options();
    struct fixture fixture;

    options.fd_cache = CACHE;
    fixture_new(&fixture, options);
    if (!by_handle(&fixture))
        SKIP("no file handles here: needs root, and a file system that has them");
    CHECK(!fixture_logged(&fixture, "descriptor"));
    make_files(&fixture);
    newcomers_do_not_evict_each_other(&fixture);
    descriptors_are_bounded(&fixture);
    what_is_used_stays_open(&fixture);
    a_pinned_node_keeps_its_descriptor(&fixture);
    a_held_node_outlives_its_name(&fixture);
    holds_are_counted(&fixture);
    out_of_descriptors(&fixture);
    fixture_free(&fixture);
}

int main(void)
{
    without_handles();
    with_handles();
    return 0;
}
