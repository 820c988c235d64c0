/* SPDX-License-Identifier: Apache-2.0
 *
 * The file system of a remote plane: its tables, made and unmade in one place. Control thread;
 * reset also on the queue thread that answers INIT or DESTROY.
 */
#include "remote.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "content.h"
#include "dentry.h"
#include "node.h"

/* ---- what goes when nobody has it pinned any more: any thread ---- */

static void inode_gone(struct inode *inode, void *context)
{
    struct remote *remote = context;
    struct node *node = node_of(inode);

    node_let_go(node);
    /* At a reset one note says it of all. */
    if (!atomic_load(&remote->resetting))
        mail_note(remote->fs.mailbox, OVFS_NOTE_FORGET, node_ino(node));
}

static void handle_gone(struct handle *handle, void *context)
{
    (void)context;
    content_close(handle->content);
    listing_unref(handle->listing);
}

/* ---- using ---- */

static void reset(struct fs *fs)
{
    struct remote *remote = (struct remote *)fs;
    struct node *root = node_find(remote, REMOTE_ROOT_INO, false);

    atomic_store(&remote->resetting, true);
    handle_release_all(fs->handles);
    inode_forget_all(fs->inodes);
    atomic_store(&remote->resetting, false);
    dentry_clear(remote->dentries);
    node_set_attr(remote, root, NULL, 0);
    node_set_listing(remote, root, NULL);
    node_unpin(remote, root);
    mail_note(fs->mailbox, OVFS_NOTE_RESET, 0);
}

/* What is to be stored is the control plane's to store. */
static int sync_all(struct fs *fs)
{
    (void)fs;
    return 0;
}

static void stats(struct fs *fs, struct ovfs_stats *out)
{
    (void)fs;
    (void)out;
}

static void free_fs(struct fs *fs)
{
    struct remote *remote = (struct remote *)fs;

    atomic_store(&remote->resetting, true); /* nobody takes notes any more */
    handle_table_free(fs->handles);
    inode_table_free(fs->inodes);
    mailbox_free(fs->mailbox);
    dentry_table_free(remote->dentries);
    node_locks_free(remote->locks);
    free(remote);
}

static const struct fs_ops ops = {
    .free = free_fs, .reset = reset, .sync = sync_all, .stats = stats};

/* ---- making ---- */

static int make_tables(struct remote *remote)
{
    struct fs *fs = &remote->fs;
    int err = inode_table_new(sizeof(struct node), inode_gone, remote, &fs->inodes);

    if (err == 0)
        err = handle_table_new(handle_gone, remote, &fs->handles);
    if (err == 0)
        err = mailbox_new(fs->options.mail_fd, fs->inodes, fs->log, &fs->mailbox);
    if (err == 0)
        err = dentry_table_new(&remote->stamps, &remote->dentries);
    if (err == 0)
        err = node_locks_new(&remote->locks);
    return err;
}

static int enter_root(struct remote *remote)
{
    struct node *root = node_enter(remote, REMOTE_ROOT_INO, S_IFDIR);

    if (!root)
        return -ENOMEM;
    assert(inode_id(remote->fs.inodes, &root->inode) == FUSE_ROOT_ID);
    node_unpin(remote, root);
    return 0;
}

int remote_new(const struct ovfs_options *options, struct event_log *log, struct remote **out,
               char *why, size_t why_size)
{
    struct remote *remote = calloc(1, sizeof(*remote));
    int err = remote ? 0 : -ENOMEM;

    *out = NULL;
    if (remote) {
        remote->fs.ops = &ops;
        remote->fs.options = *options;
        remote->fs.log = log;
        err = make_tables(remote);
    }
    if (err == 0)
        err = enter_root(remote);
    if (err < 0) {
        snprintf(why, why_size, "cannot set up the file system: %s", strerror(-err));
        if (remote)
            free_fs(&remote->fs);
        return err;
    }
    *out = remote;
    return 0;
}
