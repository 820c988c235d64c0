/* SPDX-License-Identifier: Apache-2.0
 *
 * Open files of a remote plane, whose control plane is the test itself.
 */
#pragma once

#include <poll.h>

#include "files.h"
#include "content.h"

static int mail_fd;
static struct ovfs_mail mail;
static uint64_t next_ino = 10;

static struct ovfs_content *content;
static uint64_t node, fh, ino;

/* ---- the control plane ---- */

static inline void take_mail(uint32_t opcode)
{
    struct pollfd ready = {.fd = mail_fd, .events = POLLIN};

    CHECK(poll(&ready, 1, 10000) == 1);
    CHECK(ovfs_mail_take(guest.plane, &mail, 1) == 1);
    CHECK(mail.opcode == opcode);
}

static inline void no_mail(void)
{
    struct pollfd ready = {.fd = mail_fd, .events = POLLIN};

    CHECK(poll(&ready, 1, 0) == 0);
}

static inline struct reply answer(void)
{
    CHECK(guest_answered(&guest, 1, 0, 10000));
    return guest_reply(&guest, 0);
}

static inline void retry(void)
{
    CHECK(ovfs_mail_retry(guest.plane, mail.tag) == 0);
}

static inline uint64_t open_again(uint32_t flags)
{
    struct fuse_open_in in = {.flags = flags};
    struct reply reply;

    guest_send(&guest, &(struct call){.opcode = FUSE_OPEN,
                                      .nodeid = node,
                                      ARG_OF(in),
                                      .out_len = sizeof(struct fuse_open_out)});
    take_mail(FUSE_OPEN);
    CHECK(mail.ino == ino && ovfs_mail_open(guest.plane, mail.tag, content) == 0);
    reply = answer();
    CHECK(reply.error == 0 && reply.len == sizeof(struct fuse_open_out));
    return ((const struct fuse_open_out *)reply.at)->fh;
}

/* A new file of this content (taken over), looked up and opened. */
static inline void begin(struct ovfs_content *taken, uint32_t mode, uint32_t flags)
{
    struct ovfs_entry entry = {.ino = next_ino++,
                               .attr = {.mode = S_IFREG | mode, .nlink = 1},
                               .attr_valid_ns = UINT64_C(1) << 40};
    struct reply reply;

    content = taken;
    ino = entry.ino;
    guest_send(&guest, &(struct call){.opcode = FUSE_LOOKUP,
                                      .nodeid = FUSE_ROOT_ID,
                                      .name = {"file"},
                                      .out_len = sizeof(struct fuse_entry_out)});
    take_mail(FUSE_LOOKUP);
    CHECK(ovfs_mail_entry(guest.plane, mail.tag, &entry) == 0);
    reply = answer();
    CHECK(reply.error == 0);
    node = ((const struct fuse_entry_out *)reply.at)->nodeid;
    fh = open_again(flags);
}

static inline void end(void)
{
    ovfs_content_unref(content);
    CHECK(ovfs_node_content(guest.plane, ino, NULL) == 0);
}

/* ---- the guest ---- */

static inline void send_read(uint64_t offset, uint32_t size)
{
    struct fuse_read_in in = {.fh = fh, .offset = offset, .size = size};

    guest_send(&guest,
               &(struct call){
                   .opcode = FUSE_READ, .nodeid = node, ARG_OF(in), .out_len = size, .seg = seg});
}

static inline void check_answer(const void *data, size_t len)
{
    struct reply reply = answer();

    CHECK(reply.error == 0 && reply.len == len);
    CHECK(memcmp(reply.at, data, len) == 0);
}

static inline void send_write(uint64_t offset, const void *data, uint32_t len, uint32_t flags)
{
    struct fuse_write_in in = {.fh = fh, .offset = offset, .size = len, .write_flags = flags};

    guest_send(&guest, &(struct call){.opcode = FUSE_WRITE,
                                      .nodeid = node,
                                      ARG_OF(in),
                                      .data = data,
                                      .data_len = len,
                                      .out_len = sizeof(struct fuse_write_out),
                                      .seg = seg});
}

static inline void check_written(uint32_t len)
{
    struct reply reply = answer();

    CHECK(reply.error == 0 && reply.len == sizeof(struct fuse_write_out));
    CHECK(((const struct fuse_write_out *)reply.at)->size == len);
}

static inline int64_t seek_to(uint64_t offset, uint32_t whence)
{
    struct fuse_lseek_in in = {.fh = fh, .offset = offset, .whence = whence};
    struct reply reply =
        guest_call(&guest, &(struct call){.opcode = FUSE_LSEEK,
                                          .nodeid = node,
                                          ARG_OF(in),
                                          .out_len = sizeof(struct fuse_lseek_out)});

    return reply.error ? reply.error : (int64_t)((const struct fuse_lseek_out *)reply.at)->offset;
}

static inline unsigned open_fds(void)
{
    unsigned n = 0;

    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static inline void plane_begin(void)
{
    mail_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    files_begin();
    guest_start(&guest, &(struct ovfs_options){.cache = OVFS_CACHE_AUTO,
                                               .attr_timeout_ns = 1000000000,
                                               .entry_timeout_ns = 1000000000,
                                               .remote = 1,
                                               .mail_fd = mail_fd});
    take_mail(OVFS_NOTE_RESET); /* of INIT */
}

static inline void plane_end(void)
{
    guest_stop(&guest);
    close(mail_fd);
}
