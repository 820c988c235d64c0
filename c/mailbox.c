/* SPDX-License-Identifier: Apache-2.0 */
#include "mailbox.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dispatch.h"
#include "event_log.h"
#include "fs.h"
#include "fuse_req.h"
#include "handle.h"
#include "inode.h"
#include "notes.h"
#include "queue.h"
#include "slab.h"

/* Requests of all queues and those that stops have orphaned; more than that many orphans would
 * mean that nobody takes or answers mail any more. */
enum { MAILS_MAX = 1 << 16 };

enum { NAME_ROOM = 256 };

enum mail_state { MAIL_POSTED, MAIL_TAKEN, MAIL_CLAIMED, MAIL_ORPHANED };

_Static_assert(sizeof(union fuse_arg) <= sizeof(((struct ovfs_mail *)NULL)->arg),
               "every fixed part fits into a mail");

struct mail {
    struct slab_slot slot;

    /* under the mailbox's lock */
    enum mail_state state;
    bool listed; /* in the list: not taken yet */
    struct mail *prev, *next;
    struct fuse_req *req; /* NULL once it is orphaned */

    /* written by the queue thread before it is posted, constant after that */
    struct ovfs_mail letter;
    char names[2][NAME_ROOM];
    void *far; /* owned: a longer name[1], or the data */

    /* whoever has claimed it, then the queue thread */
    struct mail_completion completion;
};

struct mailbox {
    struct slab *mails;
    int mail_fd;                /* constant; borrowed */
    struct inode_table *inodes; /* constant */
    struct event_log *log;      /* constant */

    pthread_mutex_t lock; /* guards what follows; the slab's is taken under it */
    struct mail *first, *last;
    struct mail reset;        /* the note of that name, in the list */
    struct notes fresh, aged; /* aged: being taken */
    bool signalled;
};

static void mail_destroy(void *slot, void *context)
{
    struct mail *mail = slot;

    (void)context;
    free(mail->far);
    free(mail->completion.far);
}

int mailbox_new(int mail_fd, struct inode_table *inodes, struct event_log *log,
                struct mailbox **out)
{
    struct mailbox *box = calloc(1, sizeof(*box));
    int err;

    *out = NULL;
    if (!box)
        return -ENOMEM;
    err = slab_new(sizeof(struct mail), MAILS_MAX, mail_destroy, box, &box->mails);
    if (err < 0) {
        free(box);
        return err;
    }
    box->mail_fd = mail_fd;
    box->inodes = inodes;
    box->log = log;
    box->reset.letter.opcode = OVFS_NOTE_RESET;
    pthread_mutex_init(&box->lock, NULL);
    *out = box;
    return 0;
}

void mailbox_free(struct mailbox *box)
{
    if (!box)
        return;
    slab_free(box->mails);
    notes_free(&box->fresh);
    notes_free(&box->aged);
    pthread_mutex_destroy(&box->lock);
    free(box);
}

/* ---- the list and the signal; under the lock ---- */

static void signal_remote(struct mailbox *box)
{
    uint64_t one = 1;

    if (box->signalled || box->mail_fd < 0)
        return;
    box->signalled = true;
    while (write(box->mail_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        continue;
}

static void list_add(struct mailbox *box, struct mail *mail)
{
    mail->prev = box->last;
    mail->next = NULL;
    *(box->last ? &box->last->next : &box->first) = mail;
    box->last = mail;
    mail->listed = true;
}

static void list_remove(struct mailbox *box, struct mail *mail)
{
    *(mail->prev ? &mail->prev->next : &box->first) = mail->next;
    *(mail->next ? &mail->next->prev : &box->last) = mail->prev;
    mail->listed = false;
}

static void mail_free(struct mailbox *box, struct mail *mail)
{
    if (slab_retire(box->mails, mail))
        slab_unpin(box->mails, mail);
}

/* ---- queue thread: posting ---- */

uint64_t mail_ino(struct fuse_req *req)
{
    uint64_t ino;

    if (!req->inode)
        req->inode = inode_pin(req->fs->inodes, req->in_header.nodeid);
    if (!req->inode)
        return req->handle ? req->handle->ino : 0;
    memcpy(&ino, inode_key_bytes(req->inode), sizeof(ino));
    return ino;
}

static void write_letter(struct fuse_req *req, struct ovfs_mail *letter)
{
    const struct fuse_in_header *header = &req->in_header;

    letter->opcode = header->opcode;
    letter->flags = req->mail_flags | (req->mail_retried ? OVFS_MAIL_RETRIED : 0u);
    letter->ino = mail_ino(req);
    letter->fh = req->handle ? handle_id(req->fs->handles, req->handle) : 0;
    letter->open_flags = req->handle ? (uint32_t)req->handle->flags : 0;
    letter->uid = header->uid;
    letter->gid = header->gid;
    letter->pid = header->pid;
    letter->arg_len = req->op->arg_size;
    memcpy(letter->arg, &req->arg, req->op->arg_size);
}

/* Names up to 255 bytes have a place in the mail; a symlink's target or a value may be longer, and
 * no opcode has both. */
static int write_far(struct fuse_req *req, struct mail *mail, const void *data, uint32_t data_len)
{
    struct ovfs_mail *letter = &mail->letter;

    for (unsigned i = 0; i < 2 && req->name[i]; i++) {
        size_t len = strlen(req->name[i]);
        char *to = mail->names[i];

        if (len >= NAME_ROOM)
            to = mail->far = malloc(len + 1);
        if (!to)
            return -ENOMEM;
        memcpy(to, req->name[i], len + 1);
        letter->name[i] = to;
        letter->name_len[i] = (uint32_t)len;
    }
    if (data_len == 0)
        return 0;
    assert(!mail->far);
    mail->far = malloc(data_len);
    if (!mail->far)
        return -ENOMEM;
    memcpy(mail->far, data, data_len);
    letter->data = mail->far;
    letter->data_len = data_len;
    return 0;
}

int mail_post_with(struct fuse_req *req, uint64_t ino2, const void *data, uint32_t data_len)
{
    struct mailbox *box = req->fs->mailbox;
    struct mail *mail = slab_alloc(box->mails);

    if (!mail)
        return -ENOMEM;
    write_letter(req, &mail->letter);
    mail->letter.ino2 = ino2;
    req->mail_flags = 0;
    slab_publish(box->mails, mail);
    if (write_far(req, mail, data, data_len) < 0) {
        mail_free(box, mail);
        return -ENOMEM;
    }
    mail->letter.tag = slab_id(box->mails, mail);
    mail->req = req;
    req->mail = mail;
    req->waits = true;
    req->abandoned = false;
    req->queue->waiting++;
    pthread_mutex_lock(&box->lock);
    mail->state = MAIL_POSTED;
    list_add(box, mail);
    signal_remote(box);
    pthread_mutex_unlock(&box->lock);
    return FUSE_LATER;
}

int mail_post(struct fuse_req *req)
{
    return mail_post_with(req, 0, NULL, 0);
}

/* ---- queue thread: coming back ---- */

static int put_payload(struct fuse_req *req, const struct mail_completion *done)
{
    int err = fuse_req_put(req, done->reply, done->reply_len);

    return err == 0 && done->far_len > 0 ? fuse_req_put(req, done->far, done->far_len) : err;
}

int mail_continue(struct fuse_req *req)
{
    struct mail *mail = req->mail;
    int result = 0;

    req->mail = NULL;
    req->waits = false;
    req->mail_retried = true;
    switch (mail->completion.answer) {
    case MAIL_RESULT:
        result = mail->completion.result;
        break;
    case MAIL_REPLY:
        result = put_payload(req, &mail->completion);
        break;
    case MAIL_RETRY:
        req->name[0] = mail->letter.name[0];
        req->name[1] = mail->letter.name[1];
        result = dispatch_again(req); /* posts another mail, if it posts one */
        break;
    }
    mail_free(req->fs->mailbox, mail);
    return result;
}

/* What a guest must not be told "interrupted, nothing was done" of while it may be done. */
static bool changes_something(const struct fuse_req *req)
{
    switch (req->in_header.opcode) {
    case FUSE_FLUSH:
    case FUSE_FSYNC:
    case FUSE_FSYNCDIR:
    case FUSE_SYNCFS:
    case FUSE_RELEASE:
        return true;
    case FUSE_OPEN:
        return req->arg.open.flags & O_TRUNC;
    default:
        return req->op->flags & OP_MODIFIES;
    }
}

bool mail_give_up(struct fuse_req *req, bool changes, int *err)
{
    struct mailbox *box = req->fs->mailbox;
    struct mail *mail = req->mail;
    bool unsaid = false;

    pthread_mutex_lock(&box->lock);
    if (mail->state == MAIL_CLAIMED ||
        (mail->state == MAIL_TAKEN && !changes && changes_something(req))) {
        pthread_mutex_unlock(&box->lock);
        return false;
    }
    *err = mail->state == MAIL_TAKEN && changes_something(req) ? -EIO : -EINTR;
    if (mail->listed && req->in_header.opcode == FUSE_RELEASE) {
        mail->letter.flags |= OVFS_MAIL_GONE; /* the handle is gone, and that must be known */
    } else if (mail->listed) {
        list_remove(box, mail);
        unsaid = true;
    }
    mail->state = MAIL_ORPHANED;
    mail->req = NULL;
    pthread_mutex_unlock(&box->lock);
    if (unsaid)
        mail_free(box, mail);
    req->mail = NULL;
    req->waits = false;
    req->queue->waiting--;
    return true;
}

/* ---- notes: any thread ---- */

void mail_note(struct mailbox *box, uint32_t note, uint64_t ino)
{
    bool kept = true;

    pthread_mutex_lock(&box->lock);
    if (note == OVFS_NOTE_RESET) {
        /* Of several only the last counts: all that came before it is of a session that ended. */
        if (box->reset.listed)
            list_remove(box, &box->reset);
        list_add(box, &box->reset);
    } else {
        kept = notes_add(&box->fresh, ino, note);
    }
    signal_remote(box);
    pthread_mutex_unlock(&box->lock);
    if (!kept)
        event_log(box->log, OVFS_EVENT_ERROR, "out of memory: a note about file %llu is lost",
                  (unsigned long long)ino);
}

/* ---- remote thread ---- */

static uint32_t take_letters(struct mailbox *box, struct ovfs_mail *out, uint32_t max)
{
    uint32_t count = 0;

    while (count < max && box->first) {
        struct mail *mail = box->first;

        list_remove(box, mail);
        if (mail->state == MAIL_POSTED)
            mail->state = MAIL_TAKEN;
        out[count++] = mail->letter;
    }
    return count;
}

/* A node that the guest has met again, by a listing, is not forgotten any more. */
static bool is_void(struct mailbox *box, const struct note *note)
{
    struct inode_key key = {.type = INODE_KEY_INO, .len = sizeof(note->ino), .bytes = &note->ino};
    struct inode *inode;

    if (note->note != OVFS_NOTE_FORGET)
        return false;
    inode = inode_find(box->inodes, &key, false);
    if (inode)
        inode_unpin(box->inodes, inode);
    return inode != NULL;
}

static uint32_t take_notes(struct mailbox *box, struct note *out, uint32_t max)
{
    uint32_t count = 0;

    while (count < max) {
        struct notes empty;

        if (notes_take(&box->aged, &out[count])) {
            count++;
            continue;
        }
        if (notes_left(&box->fresh) == 0)
            break;
        notes_clear(&box->aged);
        empty = box->aged;
        box->aged = box->fresh;
        box->fresh = empty;
    }
    return count;
}

/* Requests first, since a guest waits for them; notes have a share of their own all the same. */
int mail_take(struct mailbox *box, struct ovfs_mail *out, uint32_t max)
{
    enum { NOTES_AT_ONCE = 64 };
    struct note notes[NOTES_AT_ONCE];
    uint32_t count, found, share = max / 4 < NOTES_AT_ONCE ? max / 4 : NOTES_AT_ONCE;
    uint64_t signals;

    pthread_mutex_lock(&box->lock);
    if (box->mail_fd >= 0 && read(box->mail_fd, &signals, sizeof(signals)) < 0 && errno != EAGAIN)
        event_log(box->log, OVFS_EVENT_ERROR, "mail eventfd: %s", strerrorname_np(errno));
    count = take_letters(box, out, max - share);
    found = max - count < NOTES_AT_ONCE ? max - count : NOTES_AT_ONCE;
    found = take_notes(box, notes, found);
    box->signalled = false;
    if (box->first || notes_left(&box->aged) + notes_left(&box->fresh) > 0)
        signal_remote(box);
    pthread_mutex_unlock(&box->lock);
    /* Outside of the lock: unpinning a node may destroy it, which is a note. */
    for (uint32_t i = 0; i < found; i++)
        if (!is_void(box, &notes[i]))
            out[count++] = (struct ovfs_mail){.opcode = notes[i].note, .ino = notes[i].ino};
    return (int)count;
}

struct mail *mail_claim(struct mailbox *box, uint64_t tag)
{
    struct mail *mail = slab_pin(box->mails, tag);
    enum mail_state was;
    bool taken;

    if (!mail)
        return NULL;
    pthread_mutex_lock(&box->lock);
    was = mail->state;
    taken = !mail->listed;
    if (was == MAIL_TAKEN)
        mail->state = MAIL_CLAIMED;
    pthread_mutex_unlock(&box->lock);
    if (was == MAIL_ORPHANED && taken)
        mail_free(box, mail);
    slab_unpin(box->mails, mail); /* its own pin stays until it is freed */
    return was == MAIL_TAKEN ? mail : NULL;
}

struct fuse_req *mail_req(struct mail *mail)
{
    return mail->req;
}

const char *mail_name(const struct mail *mail)
{
    return mail->letter.name[0];
}

struct mail_completion *mail_completion(struct mail *mail)
{
    return &mail->completion;
}

void mail_finish(struct mailbox *box, struct mail *mail)
{
    (void)box;
    queue_post(mail->req->queue, mail->req);
}
