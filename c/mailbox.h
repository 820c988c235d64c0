/* SPDX-License-Identifier: Apache-2.0
 *
 * What the remote backend asks the control plane: requests that it cannot answer, and notes.
 *
 *     queue thread                       mailbox                       remote thread
 *     mail_post(req)  ---- slot ----> | first ... last | ----------->  mail_take
 *     any thread                      |                |                  ...
 *     mail_note       ---- set  ----> | notes          |               mail_claim (by tag)
 *                                                                         enters nodes, names
 *     mail_continue  <---- queue->posted, doorbell <-----------------  mail_finish
 *
 * DESIGN. A mail has copies of all that the control plane may look at, in a slot of a slab whose id
 * is the tag. The slot goes through these states, each change under the mailbox's lock:
 *
 *     POSTED -> TAKEN -> CLAIMED -> back with its queue (continued, then freed)
 *        |        |
 *        +--------+--> ORPHANED: a stop has answered the request. Freed by the completion, since
 * the control plane may be reading names out of it; at once if it was not taken.
 *
 * A claimed one cannot be given up: its request is on the way. Payload is written by the queue
 * thread alone, so nothing that a stop gives up can touch guest memory later. A request that waits
 * here counts as one that waits for a lock: memory tables change over without it.
 *
 * Notes cannot fail and are not kept twice: a set of (ino, note), which grows with the number of
 * nodes that the guest knew at one time. The eventfd is signalled when the mailbox was empty since
 * the last take.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api.h"

struct event_log;
struct fuse_req;
struct inode_table;
struct mail;
struct mailbox;
struct queue;

/* What a completion makes of a request. */
enum mail_answer {
    MAIL_RESULT, /* `result` */
    MAIL_REPLY,  /* `reply`, then `far` */
    MAIL_RETRY,  /* run the handler again */
};

enum { MAIL_REPLY_MAX = 320 };

/* One completion: filled in between mail_claim and mail_finish. */
struct mail_completion {
    enum mail_answer answer;
    int result;
    uint32_t reply_len;
    uint32_t far_len;
    void *far; /* owned, by malloc */
    uint8_t reply[MAIL_REPLY_MAX] __attribute__((aligned(8)));
};

/* mail_fd is borrowed. inodes: for notes about nodes that the guest has met again. */
int mailbox_new(int mail_fd, struct inode_table *inodes, struct event_log *log,
                struct mailbox **out);
void mailbox_free(struct mailbox *box); /* no queue runs, nobody completes */

/* ---- queue thread ---- */

/* ino of the node the request is about; pins it as req->inode if that is still to be done, and
 * goes by the handle where the guest has forgotten the node. */
uint64_t mail_ino(struct fuse_req *req);
/* Post the request: FUSE_LATER, or -ENOMEM. Set req->mail_flags (OVFS_MAIL_BAD) before; they are
 * reset. The handler runs again, with req->mail_retried true and names in place, if the control
 * plane says so; otherwise it is never heard of again. Room for the reply is to be checked before,
 * where the control plane changes something for it. */
int mail_post(struct fuse_req *req);
/* The same with what RENAME (another directory) and SETXATTR (a value) have besides. */
int mail_post_with(struct fuse_req *req, uint64_t ino2, const void *data, uint32_t data_len);
/* The request came back: 0, -errno, or FUSE_LATER again. */
int mail_continue(struct fuse_req *req);
/* True where the request is answered by this: `err`. False: it is on its way back. changes: also
 * what is not a plain question. */
bool mail_give_up(struct fuse_req *req, bool changes, int *err);

/* ---- any thread ---- */
void mail_note(struct mailbox *box, uint32_t note, uint64_t ino);

/* ---- remote thread ---- */
int mail_take(struct mailbox *box, struct ovfs_mail *out, uint32_t max);
/* From here on the request is the caller's, until mail_finish. NULL: it was given up. */
struct mail *mail_claim(struct mailbox *box, uint64_t tag);
struct fuse_req *mail_req(struct mail *mail);
const char *mail_name(const struct mail *mail); /* name[0] */
struct mail_completion *mail_completion(struct mail *mail);
void mail_finish(struct mailbox *box, struct mail *mail);
