/* SPDX-License-Identifier: Apache-2.0
 *
 * Cache files for the tests of contents.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "remote/content.h"

enum { PAGE = OVFS_PAGE, BLOCK = OVFS_BLOCK, SEGMENT = OVFS_SEGMENT };

/* An empty file of this size; on the disk, since memory answers in another way. */
static inline int scratch_file(off_t size)
{
    int fd = open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    CHECK(fd >= 0 && ftruncate(fd, size) == 0);
    return fd;
}

static inline void put_at(int fd, off_t at, const void *data, size_t len)
{
    CHECK(pwrite(fd, data, len, at) == (ssize_t)len);
}

static inline void add_write_segment(struct ovfs_content *content, uint32_t index)
{
    CHECK(ovfs_content_segment(content, OVFS_LAYER_WRITE, index, scratch_file(SEGMENT)) == 0);
}

/* A base segment with these bytes at its beginning, all of them marked. */
static inline void add_base_segment(struct ovfs_content *content, uint32_t index, const void *data,
                                    size_t len)
{
    int fd = scratch_file((off_t)len);

    put_at(fd, 0, data, len);
    CHECK(ovfs_content_segment(content, OVFS_LAYER_BASE, index, fd) == 0);
    CHECK(ovfs_content_present(content, (uint64_t)index * SEGMENT, len) == 0);
}

static inline struct ovfs_content_state state_of(struct ovfs_content *content)
{
    struct ovfs_content_state state;

    ovfs_content_state(content, &state);
    return state;
}

/* What a WRITE of the guest does; the errno, or how many bytes counted. */
static inline ssize_t guest_write(struct ovfs_content *content, uint64_t offset, const void *data,
                                  uint64_t len, bool *note)
{
    struct content_write write;
    int err = content_write_begin(content, CONTENT_GUEST, offset, len, &write);
    uint64_t done = 0;

    if (err < 0)
        return err;
    while (done < len) {
        uint64_t piece;
        off_t at;
        int fd = content_write_fd(&write, offset + done, &at, &piece);

        put_at(fd, at, (const char *)data + done, piece);
        done += piece;
    }
    return (ssize_t)content_write_end(&write, done, note);
}
