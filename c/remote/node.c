/* SPDX-License-Identifier: Apache-2.0 */
#include "node.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "../clock.h"
#include "content.h"
#include "stamp.h"

enum { LOCKS = 64 };

struct node_locks {
    struct {
        pthread_mutex_t lock;
    } __attribute__((aligned(64))) each[LOCKS];
};

int node_locks_new(struct node_locks **out)
{
    struct node_locks *locks = aligned_alloc(64, sizeof(*locks));

    *out = locks;
    if (!locks)
        return -ENOMEM;
    for (unsigned i = 0; i < LOCKS; i++)
        pthread_mutex_init(&locks->each[i].lock, NULL);
    return 0;
}

void node_locks_free(struct node_locks *locks)
{
    for (unsigned i = 0; locks && i < LOCKS; i++)
        pthread_mutex_destroy(&locks->each[i].lock);
    free(locks);
}

static pthread_mutex_t *lock(struct remote *remote, const struct node *node)
{
    pthread_mutex_t *mutex = &remote->locks->each[node->inode.hash % LOCKS].lock;

    pthread_mutex_lock(mutex);
    return mutex;
}

/* ---- the table ---- */

static struct inode_key key_of(const uint64_t *ino)
{
    return (struct inode_key){.type = INODE_KEY_INO, .len = sizeof(*ino), .bytes = ino};
}

struct node *node_enter(struct remote *remote, uint64_t ino, uint32_t mode)
{
    struct inode_key key = key_of(&ino);
    bool made;

    return node_of(inode_enter(remote->fs.inodes, &key, (uint16_t)(mode & S_IFMT), -1, &made));
}

struct node *node_find(struct remote *remote, uint64_t ino, bool count)
{
    struct inode_key key = key_of(&ino);

    return node_of(inode_find(remote->fs.inodes, &key, count));
}

void node_unpin(struct remote *remote, struct node *node)
{
    inode_unpin(remote->fs.inodes, &node->inode);
}

void node_uncount(struct remote *remote, struct node *node)
{
    inode_forget(remote->fs.inodes, inode_id(remote->fs.inodes, &node->inode), 1);
}

void node_let_go(struct node *node)
{
    ovfs_content_unref(node->content);
    listing_unref(node->listing);
}

/* ---- attributes ---- */

/* Under the lock. */
static bool valid_attr(const struct node *node, uint64_t now_ns, struct ovfs_attr *attr,
                       uint64_t *until_ns)
{
    struct ovfs_content_state state = {0};

    *attr = node->attr;
    *until_ns = node->attr_until_ns;
    if (node->content && node->attr.mode != 0)
        ovfs_content_state(node->content, &state);
    if (state.writable) {
        /* It is here that the file changes, so this is how it is. */
        attr->size = state.size;
        if (state.mtime_ns != 0)
            attr->mtime_ns = state.mtime_ns;
        if (attr->ctime_ns < state.mtime_ns)
            attr->ctime_ns = state.mtime_ns;
        *until_ns = UINT64_MAX;
    }
    return *until_ns > now_ns;
}

bool node_attr(struct remote *remote, struct node *node, uint64_t now_ns, struct ovfs_attr *attr,
               uint64_t *until_ns)
{
    pthread_mutex_t *mutex = lock(remote, node);
    bool valid = valid_attr(node, now_ns, attr, until_ns);

    pthread_mutex_unlock(mutex);
    return valid;
}

bool node_listed_attr(struct remote *remote, struct node *node, const struct listed *listed,
                      uint64_t stamp, uint64_t now_ns, struct ovfs_attr *attr, uint64_t *until_ns)
{
    pthread_mutex_t *mutex = lock(remote, node);
    bool valid = valid_attr(node, now_ns, attr, until_ns);

    if (!valid && listed->attr_until_ns > now_ns &&
        stamp_holds(&remote->stamps, STAMP_ATTR, listed->ino, stamp)) {
        node->attr = listed->attr;
        node->attr_until_ns = listed->attr_until_ns;
        valid = valid_attr(node, now_ns, attr, until_ns);
    }
    pthread_mutex_unlock(mutex);
    return valid;
}

uint32_t node_mode(struct remote *remote, struct node *node)
{
    pthread_mutex_t *mutex = lock(remote, node);
    uint32_t mode = node->attr.mode;

    pthread_mutex_unlock(mutex);
    return mode;
}

void node_set_attr(struct remote *remote, struct node *node, const struct ovfs_attr *attr,
                   uint64_t until_ns)
{
    pthread_mutex_t *mutex = lock(remote, node);

    if (attr)
        node->attr = *attr;
    node->attr_until_ns = until_ns;
    pthread_mutex_unlock(mutex);
}

/* ---- content ---- */

bool node_replaced(struct remote *remote, struct node *node, const struct ovfs_content *content)
{
    pthread_mutex_t *mutex = lock(remote, node);
    bool replaced = node->content && node->content != content;

    pthread_mutex_unlock(mutex);
    return replaced;
}

void node_attach(struct remote *remote, struct node *node, struct ovfs_content *content)
{
    struct ovfs_content_state state = {0};
    struct ovfs_content *before;
    pthread_mutex_t *mutex;

    if (content) {
        content_ref(content);
        ovfs_content_state(content, &state);
    }
    mutex = lock(remote, node);
    before = node->content;
    node->content = content;
    node->attached_version = state.version;
    pthread_mutex_unlock(mutex);
    ovfs_content_unref(before);
}

/* Under the lock, with a content attached. */
static bool keeps_pages(struct node *node, uint64_t version)
{
    bool keep = version != 0 && version == node->opened_version;

    node->opened_version = version;
    return keep;
}

bool node_opened(struct remote *remote, struct node *node)
{
    pthread_mutex_t *mutex = lock(remote, node);
    bool keep = keeps_pages(node, node->attached_version);

    pthread_mutex_unlock(mutex);
    return keep;
}

struct ovfs_content *node_open_content(struct remote *remote, struct node *node, bool *keep)
{
    pthread_mutex_t *mutex = lock(remote, node);
    struct ovfs_content *content = NULL;
    struct ovfs_content_state state;
    struct ovfs_attr attr;
    uint64_t until_ns;

    if (node->content && valid_attr(node, clock_ns(), &attr, &until_ns)) {
        ovfs_content_state(node->content, &state);
        /* What is not stored may have an error to tell. */
        if (state.version == node->attached_version && state.generation == state.stored) {
            content = content_open(node->content);
            *keep = keeps_pages(node, state.version);
        }
    }
    pthread_mutex_unlock(mutex);
    return content;
}

/* ---- listings ---- */

/* Under the lock: whether the directory's names have not been dropped since. */
static bool stands(struct remote *remote, const struct node *node)
{
    return node->listing &&
           stamp_holds(&remote->stamps, STAMP_NAMES, node_ino(node), node->listing->stamp);
}

struct listing *node_listing(struct remote *remote, struct node *node, uint64_t now_ns, bool *fresh)
{
    pthread_mutex_t *mutex = lock(remote, node);
    struct listing *listing = listing_ref(node->listing);

    *fresh = stands(remote, node) && !node->listing_changed && listing->until_ns > now_ns;
    pthread_mutex_unlock(mutex);
    return listing;
}

bool node_listed(struct remote *remote, struct node *node, const char *name, size_t len,
                 struct listed_name *out)
{
    pthread_mutex_t *mutex = lock(remote, node);
    const struct listing *listing = node->listing;
    const struct listed *listed;
    bool says = stands(remote, node) &&
                stamp_holds(&remote->stamps, STAMP_LOOKUPS, node_ino(node), listing->stamp);

    if (says) {
        listed = listing_find(listing, name, len);
        *out = (struct listed_name){
            .stamp = listing->stamp, .until_ns = listing->until_ns, .found = listed != NULL};
        if (listed)
            out->listed = *listed;
    }
    pthread_mutex_unlock(mutex);
    return says;
}

void node_set_listing(struct remote *remote, struct node *node, struct listing *listing)
{
    pthread_mutex_t *mutex = lock(remote, node);
    struct listing *before = node->listing;

    node->listing = listing;
    node->listing_changed = false;
    pthread_mutex_unlock(mutex);
    listing_unref(before);
}

void node_listing_changed(struct remote *remote, struct node *node)
{
    pthread_mutex_t *mutex = lock(remote, node);

    node->listing_changed = true;
    pthread_mutex_unlock(mutex);
}
