/* SPDX-License-Identifier: Apache-2.0
 * Description: two queues post and give up, the remote thread answers, everybody notes; each
 * request is answered once, each completion knows whether it counted, and no note is lost. */
#include "mailbox.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "dispatch.h"
#include "plane.h"
#include "remote/node.h"

enum { QUEUES = 2, SLOTS = 32, ROUNDS = 3000, NOTES = 2000, INOS = 50 };

struct slot {
    struct fuse_req req;
    char name[32];
    char reply[256];
    struct iovec iov;
    bool out;
    unsigned retries;
};

struct side {
    struct queue queue;
    struct slot slots[SLOTS];
    unsigned answered, given_up;
};

static struct ovfs_plane *plane;
static struct remote *remote;
static struct event_log events;
static struct side sides[QUEUES];
static _Atomic unsigned counted, orphaned, running;
static _Atomic unsigned noted[INOS];

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

/* ---- a queue thread ---- */

static void begin(struct side *side, struct slot *slot, uint32_t number)
{
    struct fuse_req *req = &slot->req;

    *req = (struct fuse_req){
        .queue = &side->queue,
        .remote = remote,
        .op = fuse_op(FUSE_LOOKUP),
        .in_header = {.opcode = FUSE_LOOKUP, .nodeid = FUSE_ROOT_ID, .uid = number},
    };
    snprintf(slot->name, sizeof(slot->name), "%u", number);
    req->name[0] = slot->name;
    slot->iov = (struct iovec){slot->reply, sizeof(slot->reply)};
    req->out = (struct chain){.iov = &slot->iov, .count = 1, .left = sizeof(slot->reply)};
    slot->retries = 0;
    slot->out = true;
    CHECK(dispatch(req) == FUSE_LATER);
    CHECK(req->waits && req->mail);
    memset(slot->name, 'x', sizeof(slot->name) - 1); /* as the queue's next request does */
}

static void end(struct slot *slot)
{
    CHECK(slot->out && !slot->req.mail && !slot->req.waits);
    slot->out = false;
    dispatch_done(&slot->req);
}

static void check_reply(const struct slot *slot, int result)
{
    const struct fuse_entry_out *entry = (const void *)slot->reply;

    if (slot->req.in_header.uid % 4 == 3) {
        CHECK(result == -EACCES && slot->req.out_len == 0);
        return;
    }
    CHECK(result == 0 && slot->req.out_len == sizeof(*entry));
    CHECK(entry->attr.ino == 2 + slot->req.in_header.uid % INOS);
    inode_forget(remote->fs.inodes, entry->nodeid, 1);
}

static void collect(struct side *side)
{
    struct fuse_req *req;

    queue_collect_posted(&side->queue);
    for (req = side->queue.done; req; req = req->next) {
        struct slot *slot = (struct slot *)req;

        check_reply(slot, req->result);
        end(slot);
        side->answered++;
    }
    side->queue.done = NULL;
    side->queue.done_tail = &side->queue.done;
}

static void give_up(struct side *side, struct slot *slot)
{
    int err;

    if (!slot->out || !slot->req.mail || !mail_give_up(&slot->req, true, &err))
        return;
    CHECK(err == -EINTR); /* a LOOKUP changes nothing */
    end(slot);
    side->given_up++;
}

static void *queue_main(void *arg)
{
    struct side *side = arg;
    uint32_t random = (uint32_t)(side - sides) + 1;

    for (uint32_t i = 0; i < ROUNDS; i++) {
        struct slot *slot = &side->slots[next_random(&random) % SLOTS];

        if (!slot->out)
            begin(side, slot, i);
        else if (next_random(&random) % 4 == 0)
            give_up(side, slot);
        mail_note(remote->fs.mailbox, OVFS_NOTE_WROTE, next_random(&random) % INOS);
        collect(side);
    }
    for (unsigned i = 0; i < SLOTS; i++)
        while (side->slots[i].out) {
            collect(side);
            sched_yield();
        }
    CHECK(side->queue.waiting == 0);
    atomic_fetch_sub(&running, 1);
    return NULL;
}

/* ---- the remote thread ---- */

static void answer(const struct ovfs_mail *mail)
{
    struct ovfs_entry entry = {
        .ino = 2 + mail->uid % INOS, .attr = {.mode = S_IFREG | 0644}, .attr_valid_ns = 1000000000};
    char name[32];
    int err;

    snprintf(name, sizeof(name), "%u", mail->uid);
    CHECK(mail->opcode == FUSE_LOOKUP && mail->ino == REMOTE_ROOT_INO);
    CHECK(mail->name_len[0] == strlen(name) && strcmp(mail->name[0], name) == 0);
    if (mail->uid % 4 == 2 && !(mail->flags & OVFS_MAIL_RETRIED))
        err = ovfs_mail_retry(plane, mail->tag);
    else if (mail->uid % 4 == 3)
        err = ovfs_mail_result(plane, mail->tag, -EACCES);
    else
        err = ovfs_mail_entry(plane, mail->tag, &entry);
    CHECK(err == 0 || err == -ENOENT);
    atomic_fetch_add(err == 0 ? &counted : &orphaned, 1);
    CHECK(ovfs_mail_result(plane, mail->tag, 0) == -ENOENT); /* once is all */
}

static void *remote_main(void *arg)
{
    struct ovfs_mail mails[16];
    bool last;

    (void)arg;
    do {
        int count;

        last = atomic_load(&running) == 0;
        count = ovfs_mail_take(plane, mails, 16);
        for (int i = 0; i < count; i++) {
            if (mails[i].tag)
                answer(&mails[i]);
            else if (mails[i].opcode == OVFS_NOTE_WROTE)
                atomic_fetch_add(&noted[mails[i].ino], 1);
        }
        if (count == 0)
            sched_yield();
    } while (!last);
    return NULL;
}

static void *note_main(void *arg)
{
    uint32_t random = 77;

    (void)arg;
    for (int i = 0; i < NOTES; i++)
        mail_note(remote->fs.mailbox, OVFS_NOTE_WROTE, next_random(&random) % INOS);
    for (uint64_t ino = 0; ino < INOS; ino++) /* at the least */
        mail_note(remote->fs.mailbox, OVFS_NOTE_WROTE, ino);
    atomic_fetch_sub(&running, 1);
    return NULL;
}

/* ---- one thread: the eventfd is signalled once per emptying ---- */

static void the_signal_says_not_empty(int fd)
{
    struct ovfs_mail mails[8];
    uint64_t value;

    while (ovfs_mail_take(plane, mails, 8) > 0)
        continue;
    CHECK(read(fd, &value, sizeof(value)) < 0 && errno == EAGAIN);
    for (uint64_t ino = 100; ino < 120; ino++)
        mail_note(remote->fs.mailbox, OVFS_NOTE_WROTE, ino);
    mail_note(remote->fs.mailbox, OVFS_NOTE_RESET, 0);
    mail_note(remote->fs.mailbox, OVFS_NOTE_RESET, 0);
    CHECK(read(fd, &value, sizeof(value)) == sizeof(value) && value == 1);
    CHECK(ovfs_mail_take(plane, mails, 8) == 8); /* and more are left */
    CHECK(mails[0].opcode == OVFS_NOTE_RESET && mails[1].ino == 100);
    CHECK(read(fd, &value, sizeof(value)) == sizeof(value) && value == 1);
    CHECK(ovfs_mail_take(plane, mails, 8) == 8 && ovfs_mail_take(plane, mails, 8) == 5);
    CHECK(read(fd, &value, sizeof(value)) < 0 && errno == EAGAIN);
    CHECK(ovfs_mail_take(plane, mails, 8) == 0);
}

static void start(int fd)
{
    struct ovfs_options options = {.remote = 1, .mail_fd = fd, .attr_timeout_ns = 1000000000};
    char why[256];

    events.fd = -1;
    plane = calloc(1, sizeof(*plane));
    CHECK(plane && remote_new(&options, &events, &remote, why, sizeof(why)) == 0);
    plane->fs = &remote->fs;
    atomic_store(&remote->fs.minor, 41);
    for (unsigned i = 0; i < QUEUES; i++) {
        sides[i].queue.done_tail = &sides[i].queue.done;
        sides[i].queue.doorbell_fd = eventfd(0, EFD_CLOEXEC);
    }
}

int main(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_t threads[QUEUES + 2];
    unsigned answered = 0;

    start(fd);
    atomic_store(&running, QUEUES + 1);
    for (unsigned i = 0; i < QUEUES; i++)
        CHECK(pthread_create(&threads[i], NULL, queue_main, &sides[i]) == 0);
    CHECK(pthread_create(&threads[QUEUES], NULL, note_main, NULL) == 0);
    CHECK(pthread_create(&threads[QUEUES + 1], NULL, remote_main, NULL) == 0);
    for (unsigned i = 0; i < QUEUES + 2; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    for (unsigned i = 0; i < QUEUES; i++) {
        answered += sides[i].answered;
        CHECK(sides[i].answered > 0 && sides[i].given_up > 0);
        close(sides[i].queue.doorbell_fd);
    }
    /* retries count as completions, and are answered by the next one */
    CHECK(atomic_load(&counted) >= answered);
    for (unsigned i = 0; i < INOS; i++)
        CHECK(atomic_load(&noted[i]) > 0);
    CHECK(inode_count(remote->fs.inodes) == 1);
    the_signal_says_not_empty(fd);
    remote->fs.ops->free(&remote->fs);
    free(plane);
    close(fd);
    return 0;
}
