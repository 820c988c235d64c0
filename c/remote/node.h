/* SPDX-License-Identifier: Apache-2.0
 *
 * A remote node: what the data plane was told of a file that the guest knows.
 *
 * Its key in the inode table is its ino. What can change is guarded by one of 64 locks, held for a
 * few memory accesses; a content's own lock may be taken under it. The caller of all of these has
 * the node pinned.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include "../fuse_req.h"
#include "../inode.h"
#include "listing.h"
#include "remote.h"

struct node {
    struct inode inode; /* first */

    /* under the node's lock */
    struct ovfs_attr attr;
    uint64_t attr_until_ns;       /* 0: not known, or no longer */
    struct ovfs_content *content; /* counted; NULL: none is attached */
    uint64_t attached_version;    /* the content's version when it was attached */
    uint64_t opened_version;      /* of the content that was last opened; 0: none, or without */
    struct listing *listing;      /* counted; NULL: none */
    bool listing_changed;         /* one of its names has come or gone since */
};

_Static_assert(sizeof(struct node) <= 176, "a million known files must cost little");

struct node_locks;
int node_locks_new(struct node_locks **out);
void node_locks_free(struct node_locks *locks);

static inline struct node *node_of(struct inode *inode)
{
    return (struct node *)inode;
}

static inline uint64_t node_ino(const struct node *node)
{
    uint64_t ino;

    memcpy(&ino, node->inode.key, sizeof(ino));
    return ino;
}

/* ---- any thread ---- */

/* The node of an ino, found or made, pinned, one lookup added; NULL: -ENFILE. */
struct node *node_enter(struct remote *remote, uint64_t ino, uint32_t mode);
/* The node of an ino, pinned, if the guest knows it. `count`: one lookup added. */
struct node *node_find(struct remote *remote, uint64_t ino, bool count);
void node_unpin(struct remote *remote, struct node *node);
/* Take back the lookup that node_enter or node_find added; still pinned. */
void node_uncount(struct remote *remote, struct node *node);
/* It is freed: what it holds goes. */
void node_let_go(struct node *node);

/* Attributes that are valid now, and until when; of a file that is being written, size and mtime as
 * they are. False: to be asked for. */
bool node_attr(struct remote *remote, struct node *node, uint64_t now_ns, struct ovfs_attr *attr,
               uint64_t *until_ns);
/* The same with what a listing said of it, where nothing newer is known. */
bool node_listed_attr(struct remote *remote, struct node *node, const struct listed *listed,
                      uint64_t stamp, uint64_t now_ns, struct ovfs_attr *attr, uint64_t *until_ns);
/* Set-id bits and type as last heard; 0 where nothing was. */
uint32_t node_mode(struct remote *remote, struct node *node);
/* Another content was attached since this one was opened: who has it open reads ESTALE. */
bool node_replaced(struct remote *remote, struct node *node, const struct ovfs_content *content);
/* The content for an OPEN that needs nobody's leave, with a handle's reference; NULL: there is
 * none. *keep: the guest's pages of it are right. */
struct ovfs_content *node_open_content(struct remote *remote, struct node *node, bool *keep);
/* The node's listing, counted, and whether READDIR may begin with it; NULL: there is none. */
struct listing *node_listing(struct remote *remote, struct node *node, uint64_t now_ns,
                             bool *fresh);

/* What the listing of a directory says of a name. */
struct listed_name {
    uint64_t stamp;       /* the listing's */
    uint64_t until_ns;    /* the listing's */
    bool found;           /* false: there is no such name */
    struct listed listed; /* a copy */
};

/* False: there is no listing, or it says nothing (any more) about names. */
bool node_listed(struct remote *remote, struct node *node, const char *name, size_t len,
                 struct listed_name *out);

/* ---- remote thread ---- */
void node_set_attr(struct remote *remote, struct node *node, const struct ovfs_attr *attr,
                   uint64_t until_ns); /* attr may be NULL with until_ns 0 */
void node_attach(struct remote *remote, struct node *node, struct ovfs_content *content);
/* A handle of the attached content is made. True: the guest's pages of it are right. */
bool node_opened(struct remote *remote, struct node *node);
/* Takes the reference over. */
void node_set_listing(struct remote *remote, struct node *node, struct listing *listing);
void node_listing_changed(struct remote *remote, struct node *node);
