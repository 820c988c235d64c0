/* SPDX-License-Identifier: Apache-2.0
 *
 * THE boundary between the control plane (Python) and the data plane (C).
 *
 * Read by gcc and by cffi alike, so it holds no preprocessor lines and is included through api.h
 * only. Unless a function says otherwise: it is called from the one control thread of its plane,
 * it may block for the time stated, it returns 0 or a negative errno, and whatever a pointer
 * argument points to is copied before it returns. File descriptors that are passed in stay the
 * caller's: the plane duplicates what it keeps.
 */

/* What the guest's kernel may keep, and for how long (--cache). */
enum ovfs_cache {
    OVFS_CACHE_NEVER,    /* nothing: time-outs 0, direct I/O on every open file */
    OVFS_CACHE_METADATA, /* names and attributes, no data */
    OVFS_CACHE_AUTO,     /* names and attributes for a second, data while mtime and size stand */
    OVFS_CACHE_ALWAYS,   /* all of it: for directories that only this guest changes */
};

/* How a node that the guest knows is found again (--inode-file-handles). */
enum ovfs_file_handles {
    OVFS_HANDLES_NEVER,     /* every known node costs an O_PATH descriptor */
    OVFS_HANDLES_PREFER,    /* handles where the file system and our privileges allow them */
    OVFS_HANDLES_MANDATORY, /* refuse to start without them */
};

/* Settings of one plane; fixed for its life. All flags are 0 or 1. */
struct ovfs_options {
    int root_fd;  /* the shared directory, opened O_PATH | O_DIRECTORY */
    int event_fd; /* write end of an O_DIRECT pipe for struct ovfs_event; borrowed */
    enum ovfs_cache cache;
    uint64_t attr_timeout_ns;  /* validity told to the guest with attributes ... */
    uint64_t entry_timeout_ns; /* ... and with names */
    int writeback;
    int readonly;
    int xattr;
    int posix_acl;
    int allow_direct_io; /* honour O_DIRECT of the guest's opens on the host */
    int posix_lock;      /* fcntl locks reach the host's files */
    int flock;           /* flock locks reach the host's files */
    enum ovfs_file_handles file_handles;
    uint32_t queues;   /* virtqueues in all: the hiprio queue and the request queues */
    uint32_t fd_cache; /* at most this many descriptors kept open for known nodes */
    int plain_rings;   /* set up rings as kernel 5.15 has them, without any newer flag */
};

/* One line for the log, or the end of the device. One event is one packet of the pipe. When the
 * pipe is full the event is dropped and counted in ovfs_stats.events_dropped. */
enum ovfs_event_kind {
    OVFS_EVENT_ERROR = 1,
    OVFS_EVENT_WARNING,
    OVFS_EVENT_INFO,
    OVFS_EVENT_DEBUG,
    OVFS_EVENT_DEVICE_FAILED, /* guest memory is gone: end the session with this VMM */
};

struct ovfs_event {
    uint32_t kind;  /* enum ovfs_event_kind */
    char text[252]; /* NUL-terminated */
};

/* A piece of guest memory, as VHOST_USER_SET_MEM_TABLE and ADD_MEM_REG name it. */
struct ovfs_mem_region {
    uint64_t guest_addr; /* guest physical address */
    uint64_t size;       /* bytes */
    uint64_t user_addr;  /* the VMM's virtual address, in which vring addresses are given */
    uint64_t mmap_offset;
    int fd;
};

/* A vring that is ready to run. Addresses are the VMM's virtual addresses. */
struct ovfs_vring {
    uint32_t num;  /* entries: a power of two, 2 to 32768 */
    uint32_t base; /* next avail index to read */
    uint64_t desc_addr;
    uint64_t avail_addr;
    uint64_t used_addr;
    int kick_fd;   /* -1: polled, the daemon looks at the avail ring every millisecond */
    int call_fd;   /* -1: the driver polls the used ring */
    int err_fd;    /* -1, or signalled when the queue stops on a broken ring */
    int event_idx; /* VIRTIO_F_EVENT_IDX was negotiated */
    int indirect;  /* VIRTIO_F_INDIRECT_DESC was negotiated */
};

/* Counters since the plane was made; a snapshot, each value by itself exact. */
struct ovfs_stats {
    uint64_t requests;   /* taken from avail rings */
    uint64_t replies;    /* put on used rings */
    uint64_t batches;    /* publications of a used index */
    uint64_t interrupts; /* call descriptors signalled */
    uint64_t enters;     /* io_uring_enter system calls of queue threads */
    uint64_t bad_chains; /* descriptor chains that could not be followed */
    uint64_t sqes;       /* file operations that went through a ring */
    uint64_t pooled;     /* requests that went to the pool of blocking calls */
    uint64_t events_dropped;
    uint64_t in_flight;  /* requests taken and not yet answered */
    uint64_t inodes;     /* nodes the guest knows */
    uint64_t handles;    /* open files and directories */
    uint64_t cached_fds; /* descriptors held for nodes */
    uint64_t mounts;     /* file systems seen below the root */
};

struct ovfs_plane;

/* Whether this process may use io_uring. Any thread. 0, or the errno of io_uring_setup:
 * -ENOSYS without kernel support, -EPERM where a sysctl or a seccomp profile forbids it. */
int ovfs_ring_probe(void);

/* Make a plane for one shared directory. On failure *out is NULL and `why` (of why_size bytes)
 * holds one line for the user. Starts no thread. */
int ovfs_plane_new(const struct ovfs_options *options, struct ovfs_plane **out, char *why,
                   size_t why_size);

/* Stop all queues, as ovfs_queue_stop, release everything. NULL is allowed. */
void ovfs_plane_free(struct ovfs_plane *plane);

/* Forget all nodes, open files and locks of the session; guest memory stays. -EBUSY: a queue runs.
 */
int ovfs_plane_reset(struct ovfs_plane *plane);

/* Write back the dirty data of every file system that the guest has files open on. Blocks. */
int ovfs_plane_sync(struct ovfs_plane *plane);

void ovfs_plane_stats(struct ovfs_plane *plane, struct ovfs_stats *out);

/* Replace the memory table; with count 0 there is none. Running queues drain, change over and go
 * on; a queue whose rings are not in the new table stops with an event. -EEXIST: two regions
 * overlap. -EINVAL: one is empty or leaves the address space. -ENOSPC: more than ovfs_mem_slots().
 * Otherwise mmap's errno. Blocks until every queue has changed over. */
int ovfs_mem_set(struct ovfs_plane *plane, const struct ovfs_mem_region *regions, uint32_t count);

/* Add a region: -EEXIST where it overlaps one, -ENOSPC beyond ovfs_mem_slots(). */
int ovfs_mem_add(struct ovfs_plane *plane, const struct ovfs_mem_region *region);

/* Remove the region with these three addresses: -ENOENT. Returns when no queue can touch it. */
int ovfs_mem_remove(struct ovfs_plane *plane, uint64_t guest_addr, uint64_t size,
                    uint64_t user_addr);

/* How many regions a table may have. */
uint32_t ovfs_mem_slots(void);

/* Start the thread of a queue. -EBUSY: it runs already. -EFAULT: a ring is not in memory.
 * -EINVAL: num is no power of two. Otherwise what io_uring_setup or pthread_create met. */
int ovfs_queue_start(struct ovfs_plane *plane, uint32_t index, const struct ovfs_vring *vring);

/* Stop a queue: requests in flight are answered, waiting locks end with EINTR, *base becomes the
 * next avail index. Returns within 1 s. -ENOENT: it does not run (*base is then left alone). */
int ovfs_queue_stop(struct ovfs_plane *plane, uint32_t index, uint32_t *base);

/* Change the call descriptor of a running queue (-1: none). -ENOENT: it does not run. */
int ovfs_queue_set_call(struct ovfs_plane *plane, uint32_t index, int call_fd);

/* The dispatch table, row by row, for tests and documents: the name of FUSE opcode `opcode`
 * and whether it is served (1), deliberately answered ENOSYS (0), or unknown (-1; *name NULL). */
int ovfs_opcode(uint32_t opcode, const char **name);

/* Commit a use after free, so that a test can see the sanitizer catch it across the boundary.
 * -ENOSYS, and no harm done, in a build without AddressSanitizer. Any thread. */
int ovfs_selftest_fault(void);
