/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6a: guesses; what they are worth is in name_cache.h.
 */
#include "guess.h"

#include <string.h>

#include "mount.h"
#include "node.h"

static bool may_guess(struct local *local, const struct inode *dir)
{
    const struct mount *mount = mount_at(local->mounts, dir->mount);

    return mount->handles && mount->steady_ino;
}

static uint64_t key_of(struct local *local, const struct inode *dir, const char *name)
{
    return name_key(local->names, inode_id(local->fs.inodes, dir), name, strlen(name),
                    mount_epoch(local->mounts));
}

static bool find(struct local *local, const struct inode *dir, const char *name,
                 struct name_guess *guess)
{
    return may_guess(local, dir) && name_cache_get(local->names, key_of(local, dir, name), guess);
}

void guess_learn(struct local *local, const struct inode *dir, const char *name,
                 const struct inode *inode, const struct statx *stx)
{
    struct name_guess guess = {
        .nodeid = inode_id(local->fs.inodes, inode),
        .ino = stx->stx_ino,
        .birth = name_birth(stx),
    };

    if (may_guess(local, dir) && inode->mount == dir->mount)
        name_cache_put(local->names, key_of(local, dir, name), &guess);
}

struct inode *guess_node(struct local *local, const struct inode *dir, const char *name,
                         struct name_guess *guess)
{
    struct inode *inode;

    if (!find(local, dir, name, guess))
        return NULL;
    inode = inode_pin(local->fs.inodes, guess->nodeid);
    if (!inode)
        return NULL;
    if (inode->mount == dir->mount && node_has_fd(inode))
        return inode;
    inode_unpin(local->fs.inodes, inode);
    return NULL;
}

bool guess_is_proof(const struct statx *stx, const struct name_guess *guess)
{
    return stx->stx_ino == guess->ino && name_birth(stx) == guess->birth;
}

bool guess_expects(struct local *local, const struct inode *dir, const char *name)
{
    struct name_guess guess;

    return find(local, dir, name, &guess);
}

bool guess_is_known(struct local *local, const struct inode *dir, const char *name)
{
    struct name_guess guess;
    struct inode *inode;

    if (!may_guess(local, dir))
        return true;
    if (!find(local, dir, name, &guess))
        return false;
    inode = inode_pin(local->fs.inodes, guess.nodeid);
    if (inode)
        inode_unpin(local->fs.inodes, inode);
    return inode;
}

void guess_drop(struct local *local, const struct inode *dir, const char *name)
{
    if (may_guess(local, dir))
        name_cache_drop(local->names, key_of(local, dir, name));
}

void guess_follow(struct local *local, const struct inode *dir, const char *name,
                  const struct inode *newdir, const char *newname)
{
    uint64_t from = key_of(local, dir, name), to = key_of(local, newdir, newname);
    struct name_guess guess;

    if (name_cache_get(local->names, from, &guess) && dir->mount == newdir->mount)
        name_cache_put(local->names, to, &guess);
    else
        name_cache_drop(local->names, to);
    name_cache_drop(local->names, from);
}
