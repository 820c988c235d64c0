/* SPDX-License-Identifier: Apache-2.0
 *
 * Entries are allocated once and reused, so mount_at needs no lock: whoever asks has a node of the
 * mount pinned, which keeps the entry as it is. What is known of a new mount is found out first
 * and entered under the lock afterwards; of two threads that meet one mount, the second one throws
 * its findings away.
 */
#include "mount.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "handle_at.h"

/* A host with more mounts below one root than this answers ENFILE for the rest. */
enum { MOUNTS_MAX = 4096 };

struct mount_table {
    int events;                               /* constant: /proc/self/mounts; -1: unreadable */
    _Atomic uint32_t epoch;                   /* any thread, atomic; written under lock */
    pthread_mutex_t lock;                     /* guards `nodes` of the mounts and what follows */
    uint32_t used;                            /* entries that were ever in use */
    uint32_t count;                           /* entries in use */
    struct mount *_Atomic mounts[MOUNTS_MAX]; /* set once under lock, read by any thread */
};

int mount_table_new(struct mount_table **out)
{
    struct mount_table *table = calloc(1, sizeof(*table));

    *out = table;
    if (!table)
        return -ENOMEM;
    pthread_mutex_init(&table->lock, NULL);
    table->events = open("/proc/self/mounts", O_RDONLY | O_CLOEXEC);
    return 0;
}

void mount_table_free(struct mount_table *table)
{
    uint32_t i;

    if (!table)
        return;
    for (i = 0; i < table->used; i++) {
        struct mount *mount = mount_at(table, i);

        if (mount->nodes > 0 && mount->fd >= 0)
            close(mount->fd);
        free(mount);
    }
    pthread_mutex_destroy(&table->lock);
    if (table->events >= 0)
        close(table->events);
    free(table);
}

/* The kernel tells each change once, to whoever asks first: hence the lock around both. */
void mount_look(struct mount_table *table)
{
    struct pollfd events = {.fd = table->events, .events = POLLPRI};

    pthread_mutex_lock(&table->lock);
    if (table->events < 0 || poll(&events, 1, 0) != 0)
        atomic_fetch_add_explicit(&table->epoch, 1, memory_order_relaxed);
    pthread_mutex_unlock(&table->lock);
}

uint32_t mount_epoch(const struct mount_table *table)
{
    return atomic_load_explicit(&table->epoch, memory_order_relaxed);
}

struct mount *mount_at(struct mount_table *table, uint32_t index)
{
    assert(index < MOUNTS_MAX);
    return atomic_load_explicit(&table->mounts[index], memory_order_acquire);
}

/* ---- what a mount is ---- */

static bool reads_nowait(int64_t fs_type)
{
    /* Elsewhere (tmpfs, overlayfs, network file systems) preadv2(RWF_NOWAIT) is EOPNOTSUPP; asking
     * each time would cost a system call per read. */
    return fs_type == EXT4_SUPER_MAGIC || fs_type == XFS_SUPER_MAGIC ||
           fs_type == BTRFS_SUPER_MAGIC;
}

/* Others make numbers up (overlayfs, network file systems), or nobody here has looked. */
static bool has_steady_ino(int64_t fs_type)
{
    return reads_nowait(fs_type) || fs_type == TMPFS_MAGIC;
}

static bool no_descriptors(int err)
{
    return err == EMFILE || err == ENFILE;
}

/* A real descriptor of what an O_PATH one refers to. -1: no kind of file that is safe to open, or
 * not allowed. -errno: no descriptors left. */
static int open_real(int fd, mode_t mode)
{
    char path[32];
    int real = -1;

    if (S_ISDIR(mode)) {
        real = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    } else if (S_ISREG(mode)) {
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        real = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    }
    if (real < 0 && no_descriptors(errno))
        return -errno;
    return real;
}

static bool same_object(int fd, const struct statx *stx)
{
    struct statx other;

    return statx(fd, "", AT_EMPTY_PATH, STATX_INO, &other) == 0 && other.stx_ino == stx->stx_ino &&
           other.stx_dev_major == stx->stx_dev_major && other.stx_dev_minor == stx->stx_dev_minor;
}

/* Whether handles of this mount can be opened again: by doing it. Encoding alone proves nothing:
 * some file systems hand out handles they cannot decode, and a daemon in a user namespace may
 * encode but not decode. 0 or -errno: no descriptors left. */
static int try_handles(int fd, const struct statx *stx, struct mount *found)
{
    struct handle_at handle;
    int opened;

    if (found->fd < 0 || handle_at_fd(fd, &handle) < 0)
        return 0;
    opened = open_by_handle_at(found->fd, &handle.fh, O_PATH | O_CLOEXEC);
    if (opened < 0)
        return no_descriptors(errno) ? -errno : 0;
    found->handles = same_object(opened, stx);
    found->ino_handles = found->handles && handle_at_ino(&handle, found->fs_type) == stx->stx_ino;
    close(opened);
    return 0;
}

/* Find out what entry `found` is to hold. 0 or -errno. */
static int examine(int fd, int mnt_id, bool may_handle, struct mount *found)
{
    struct statfs fs;
    struct statx stx;
    int err;

    if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_INO, &stx) < 0 || fstatfs(fd, &fs) < 0)
        return -errno;
    found->mnt_id = mnt_id;
    found->dev = makedev(stx.stx_dev_major, stx.stx_dev_minor);
    found->fs_type = fs.f_type;
    found->nowait = reads_nowait(fs.f_type);
    found->memory_fs = fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC;
    found->steady_ino = has_steady_ino(fs.f_type);
    found->fd = open_real(fd, stx.stx_mode);
    if (found->fd < -1)
        return found->fd;
    err = may_handle ? try_handles(fd, &stx, found) : 0;
    if (err < 0)
        close(found->fd);
    return err;
}

/* ---- the table ---- */

static int find_locked(struct mount_table *table, int mnt_id)
{
    uint32_t i;

    for (i = 0; i < table->used; i++) {
        const struct mount *mount = mount_at(table, i);

        if (mount->nodes > 0 && mount->mnt_id == mnt_id)
            return (int)i;
    }
    return -1;
}

/* The index of a free entry, or -ENFILE. Under lock. */
static int free_entry(struct mount_table *table)
{
    struct mount *mount;
    uint32_t i;

    for (i = 0; i < table->used; i++)
        if (mount_at(table, i)->nodes == 0)
            return (int)i;
    if (i == MOUNTS_MAX || !(mount = calloc(1, sizeof(*mount))))
        return -ENFILE;
    atomic_store_explicit(&table->mounts[i], mount, memory_order_release);
    table->used++;
    return (int)i;
}

static void fill_in(struct mount *mount, const struct mount *found)
{
    mount->mnt_id = found->mnt_id;
    mount->fd = found->fd;
    mount->dev = found->dev;
    mount->fs_type = found->fs_type;
    mount->handles = found->handles;
    mount->ino_handles = found->ino_handles;
    mount->nowait = found->nowait;
    mount->memory_fs = found->memory_fs;
    mount->steady_ino = found->steady_ino;
    atomic_store(&mount->warned, false);
    atomic_store(&mount->slow_until_ns, 0);
}

/* Count a node on a known mount, or enter a found one (found may be NULL). Index, -1: unknown and
 * nothing found, or -ENFILE. *used: found's descriptor went into the table. */
static int enter(struct mount_table *table, int mnt_id, const struct mount *found, bool *used)
{
    int index;

    *used = false;
    pthread_mutex_lock(&table->lock);
    index = find_locked(table, mnt_id);
    if (index < 0 && found) {
        index = free_entry(table);
        if (index >= 0) {
            fill_in(mount_at(table, (uint32_t)index), found);
            table->count++;
            *used = true;
        }
    }
    if (index >= 0)
        mount_at(table, (uint32_t)index)->nodes++;
    pthread_mutex_unlock(&table->lock);
    return index;
}

int mount_enter(struct mount_table *table, int fd, int mnt_id, bool may_handle)
{
    struct mount found = {.fd = -1};
    bool used;
    int index, err;

    index = enter(table, mnt_id, NULL, &used);
    if (index >= 0)
        return index;
    err = examine(fd, mnt_id, may_handle, &found);
    if (err < 0)
        return err;
    index = enter(table, mnt_id, &found, &used);
    if (!used && found.fd >= 0)
        close(found.fd);
    return index;
}

void mount_count_node(struct mount_table *table, uint32_t index)
{
    pthread_mutex_lock(&table->lock);
    mount_at(table, index)->nodes++;
    pthread_mutex_unlock(&table->lock);
}

void mount_leave(struct mount_table *table, uint32_t index)
{
    struct mount *mount = mount_at(table, index);
    int fd = -1;

    pthread_mutex_lock(&table->lock);
    assert(mount->nodes > 0);
    if (--mount->nodes == 0) {
        table->count--;
        fd = mount->fd;
    }
    pthread_mutex_unlock(&table->lock);
    if (fd >= 0)
        close(fd);
}

int mount_find(struct mount_table *table, int mnt_id)
{
    int index;

    pthread_mutex_lock(&table->lock);
    index = find_locked(table, mnt_id);
    pthread_mutex_unlock(&table->lock);
    return index;
}

bool mount_is_open(struct mount_table *table, uint32_t index)
{
    const struct mount *mount = mount_at(table, index);
    bool open;

    pthread_mutex_lock(&table->lock);
    open = mount->nodes > 0 && mount->fd >= 0;
    pthread_mutex_unlock(&table->lock);
    return open;
}

/* A descriptor of its own for a mount that may go meanwhile: -1 where there is none to be had. */
static int borrow_fd(struct mount_table *table, uint32_t index)
{
    struct mount *mount;
    int fd = -1;

    pthread_mutex_lock(&table->lock);
    mount = index < table->used ? mount_at(table, index) : NULL;
    if (mount && mount->nodes > 0 && mount->fd >= 0)
        fd = fcntl(mount->fd, F_DUPFD_CLOEXEC, 3);
    pthread_mutex_unlock(&table->lock);
    return fd;
}

int mount_sync(struct mount_table *table)
{
    uint32_t i;
    int first = 0;

    for (i = 0; i < MOUNTS_MAX; i++) {
        int fd = borrow_fd(table, i);

        if (fd < 0)
            continue;
        if (syncfs(fd) < 0 && first == 0)
            first = -errno;
        close(fd);
    }
    return first;
}

uint32_t mount_count(struct mount_table *table)
{
    uint32_t count;

    pthread_mutex_lock(&table->lock);
    count = table->count;
    pthread_mutex_unlock(&table->lock);
    return count;
}
