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
    int root_fd;  /* the shared directory, opened O_PATH | O_DIRECTORY; -1 for a remote one */
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
    uint64_t poll_ns;  /* a request queue looks for work so long before it sleeps; 0: it does not */
    int plain_rings;   /* set up rings as kernel 5.15 has them, without any newer flag */
    int remote;  /* names and bytes come through the mailbox; nothing of this host is shared */
    int mail_fd; /* a non-blocking eventfd, signalled when the mailbox is no longer empty; -1 for a
                  * plane that is not remote. Borrowed: stays open until the plane is freed */
    int posix_metadata; /* remote: 0 answers EOPNOTSUPP for extended attributes without asking */
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

/* ======== the remote backend ========
 *
 * A plane with options.remote has its files nowhere on this host. What the data plane knows of them
 * it has been told: attributes and names with a validity, listings, and which bytes of a file lie
 * in which cache file. What it does not know it asks for by mail, and each mail is completed once.
 *
 * The functions below are called from the one remote thread of the plane (the event loop that
 * drains the mailbox), take short locks only, and return 0 or a negative errno, unless they say
 * otherwise. After ovfs_plane_free none of them may be called with that plane.
 *
 * Nodes are known by `ino`, a number of the control plane's choice that is never used for two
 * files; the root is ino 1. `ino` is also what the guest sees as st_ino. A guest can forget a node
 * and meet it again out of a listing or by a name, as long as either stands: so an ino keeps its
 * meaning until no valid name and no listing has it.
 */

/* Notes: mail that takes no answer. */
enum {
    OVFS_NOTE_FORGET = 0x10000, /* the guest forgot node `ino`, and nobody uses it any more */
    OVFS_NOTE_WROTE, /* content of `ino` grew past notify_at (which is now off), or went from stored
                      * to dirty */
    OVFS_NOTE_READ,  /* a READ of `ino` got beyond read_mark, which is now off */
    OVFS_NOTE_RESET, /* the session ended: every handle and node is gone; each mail that comes after
                      * it belongs to the next one */
};

enum {
    OVFS_MAIL_RETRIED = 1, /* it was handed back by ovfs_mail_retry before */
    OVFS_MAIL_BAD = 2,     /* a cache file was shorter than it should be, or its disk fails */
    OVFS_MAIL_GONE = 4,    /* already given up by a stop: do it, its completion will be -ENOENT */
};

/* A request that the data plane cannot answer, or a note. */
struct ovfs_mail {
    uint64_t tag;        /* names the request in its completion; 0: a note */
    uint32_t opcode;     /* FUSE opcode, or OVFS_NOTE_* */
    uint32_t flags;      /* OVFS_MAIL_* */
    uint64_t ino;        /* the node it is about: the directory for LOOKUP, CREATE, UNLINK ... */
    uint64_t ino2;       /* RENAME, RENAME2: the new directory; else 0 */
    uint64_t fh;         /* the handle, 0 if none */
    uint32_t open_flags; /* what that was opened with */
    uint32_t uid;
    uint32_t gid;
    uint32_t pid;
    uint32_t arg_len;
    uint8_t arg[128];     /* the fixed part of the request, struct fuse_*_in */
    uint32_t name_len[2]; /* names and data are valid until the completion */
    const char *name[2];  /* [1]: the new name, or the target of a symbolic link */
    uint32_t data_len;
    const void *data; /* SETXATTR: the value */
};

enum {
    OVFS_ATTR_NO_XATTRS = 1 /* listxattr is empty, getxattr is ENODATA: nobody need be asked */
};

struct ovfs_attr {
    uint64_t size;
    int64_t atime_ns;
    int64_t mtime_ns;
    int64_t ctime_ns;
    uint32_t mode; /* with S_IFMT; the type of a node never changes */
    uint32_t nlink;
    uint32_t uid;
    uint32_t gid;
    uint32_t rdev;
    uint32_t flags; /* OVFS_ATTR_* */
};

/* What a name stands for. */
struct ovfs_entry {
    uint64_t ino; /* 0: there is no such name (in a listing: a name without a node) */
    struct ovfs_attr attr;
    uint64_t attr_valid_ns; /* from now on */
    uint64_t entry_valid_ns;
};

/* ---- the mailbox ---- */

/* Take up to `max` mails; returns how many. Reads mail_fd, and signals it again where more are
 * left. */
int ovfs_mail_take(struct ovfs_plane *plane, struct ovfs_mail *out, uint32_t max);

/* Completions: exactly one per tag, in any order. 0, or -ENOENT: a stop has given the request up
 * and answered it; then nothing was entered, and the caller undoes what it did for it. -ENFILE:
 * there is no memory for the node or the handle; the guest is told so, and again nothing was
 * entered. */
int ovfs_mail_result(struct ovfs_plane *plane, uint64_t tag, int result); /* 0 or -errno */
/* READLINK, GETXATTR, LISTXATTR, STATFS (struct fuse_statfs_out), LSEEK: the payload. Of an
 * attribute the whole value is given, also where the guest only asks for its size. */
int ovfs_mail_data(struct ovfs_plane *plane, uint64_t tag, const void *data, size_t len);
/* Have the queue look at the request again. */
int ovfs_mail_retry(struct ovfs_plane *plane, uint64_t tag);
/* LOOKUP, MKDIR, MKNOD, SYMLINK: enters the node (one lookup), its attributes and the name. */
int ovfs_mail_entry(struct ovfs_plane *plane, uint64_t tag, const struct ovfs_entry *entry);
/* GETATTR, SETATTR, STATX: replies and updates the node. */
int ovfs_mail_attr(struct ovfs_plane *plane, uint64_t tag, const struct ovfs_attr *attr,
                   uint64_t valid_ns);
struct ovfs_content;
/* OPEN: the handle and the node keep the content. OPENDIR: NULL. */
int ovfs_mail_open(struct ovfs_plane *plane, uint64_t tag, struct ovfs_content *content);
int ovfs_mail_create(struct ovfs_plane *plane, uint64_t tag, const struct ovfs_entry *entry,
                     struct ovfs_content *content);
/* WRITE, served without the data plane: so many bytes were taken. */
int ovfs_mail_written(struct ovfs_plane *plane, uint64_t tag, uint32_t size);

/* ---- nodes, names, listings ---- */

/* -ENOENT: the guest does not know the node (what a listing said of it is void all the same).
 * valid_ns 0: what is known is no longer valid; attr may be NULL then. */
int ovfs_node_attr(struct ovfs_plane *plane, uint64_t ino, const struct ovfs_attr *attr,
                   uint64_t valid_ns);
/* Attach a content (the node takes its own reference), or NULL. -ENOENT. */
int ovfs_node_content(struct ovfs_plane *plane, uint64_t ino, struct ovfs_content *content);
/* ino 0: there is no such name. valid_ns 0: forget what is known of it. -ENOMEM: not kept. */
int ovfs_name_set(struct ovfs_plane *plane, uint64_t parent, const char *name, uint32_t len,
                  uint64_t ino, uint64_t valid_ns);
/* Forget all names of a directory, and its listing. */
int ovfs_names_drop(struct ovfs_plane *plane, uint64_t parent);
/* The whole directory, for READDIR and for lookups: a name that is not in it does not exist. The
 * names lie one after the other in `names`; of an entry's attributes an ino of 0 leaves only the
 * type. Everything is copied. -ENOENT: the guest does not know the directory. -ENOMEM. -EINVAL: a
 * name is empty, too long, has a '/' or a NUL. */
int ovfs_listing_set(struct ovfs_plane *plane, uint64_t dir_ino, uint64_t parent_ino,
                     uint32_t count, const struct ovfs_entry *entries, const char *names,
                     const uint16_t *name_lens, uint64_t valid_ns);

/* ---- content: the bytes of one file ----
 *
 * Reference counted: Python holds one, nodes and handles theirs. Any thread, all of these.
 *
 * Where byte x comes from: the write layer if its page's bit is set; else, below base_size, the
 * base layer if its block's bit is set, else it is missing; else it is a zero.
 */
enum {
    OVFS_SEGMENT = 67108864, /* bytes of a file of either layer, but for the last base one */
    OVFS_BLOCK = 65536,      /* what the base layer has or has not */
    OVFS_PAGE = 4096,        /* likewise the write layer */
};

enum ovfs_layer { OVFS_LAYER_BASE, OVFS_LAYER_WRITE };

/* What ovfs_content_extent finds. */
enum ovfs_source { OVFS_SOURCE_ZERO, OVFS_SOURCE_WRITE, OVFS_SOURCE_BASE, OVFS_SOURCE_MISSING };

struct ovfs_content_state {
    uint64_t size;
    uint64_t base_size;
    uint64_t version;
    uint64_t generation; /* counts the changes */
    uint64_t stored;     /* the generation that is stored */
    uint64_t sealed;
    int64_t mtime_ns; /* of the last change; 0: there was none, the node's attributes say it */
    uint32_t handles; /* open ones */
    uint32_t writable;
};

/* NULL: no memory. */
struct ovfs_content *ovfs_content_new(uint64_t size, uint64_t base_size, uint64_t version);
void ovfs_content_unref(struct ovfs_content *content);
/* Give it the file of a segment: fd is taken over and closed with the segment, here and now on
 * failure. One of the write layer is open for reading and writing, OVFS_SEGMENT bytes long and all
 * zeros; it stays for good. -EEXIST: there is one already. -ENOMEM. */
int ovfs_content_segment(struct ovfs_content *content, int layer, uint32_t index, int fd);
/* A base segment was evicted: its bits are cleared, the descriptor is closed when nobody reads it.
 * -ENOENT: there is none. */
int ovfs_content_drop(struct ovfs_content *content, uint32_t index);
/* Base bytes are in their segment: marks the whole blocks inside; the last block of the base
 * counts as whole when the range reaches the base's end. -ENOENT: a segment is not there (any
 * more); what comes before it is marked. */
int ovfs_content_present(struct ovfs_content *content, uint64_t offset, uint64_t len);
/* Put base bytes into absent pages of the write layer, never over one that is present. offset is
 * page-aligned, the end too or at base_size (what lies beyond is left out: it was truncated).
 * Waits for writers in flight, blocks on the disk. -ENOENT: a segment is not there. Otherwise
 * pwrite's errno; each page is either filled or absent. */
int ovfs_content_fill(struct ovfs_content *content, uint64_t offset, const void *data, size_t len);
/* Compose from all layers: stops before what is missing (a short count), -ENODATA if that is the
 * first byte. -EIO: a cache file is shorter than it should be. Blocks on the disk. */
ssize_t ovfs_content_read(struct ovfs_content *content, uint64_t offset, void *buf, size_t len);
/* Write, as a WRITE of the guest does but for being sealed or not writable: how many bytes, or a
 * negative errno. -EAGAIN: a segment is not there, or a page that is covered in part has to be
 * filled first. No note is sent. Blocks on the disk. */
ssize_t ovfs_content_write(struct ovfs_content *content, uint64_t offset, const void *data,
                           size_t len);
/* enum ovfs_source of the byte; *len: how far, up to the size, it is the same (0 from there on). */
int ovfs_content_extent(struct ovfs_content *content, uint64_t offset, uint64_t *len);
/* 1: WRITEs are served by the data plane; 0: they become mail, and none is in flight any more. */
int ovfs_content_writable(struct ovfs_content *content, int on);
/* WRITEs that start below this offset become mail; returns when no older one is in flight. */
int ovfs_content_seal(struct ovfs_content *content, uint64_t below);
/* What lies beyond the new size is gone, and reads as zeros when the file grows again; base_size is
 * never above the size. Always counts as a change, so that it also makes a new, empty file one that
 * has to be stored. Waits for writers in flight, blocks on the disk. Nothing has to be filled
 * first. */
int ovfs_content_truncate(struct ovfs_content *content, uint64_t size);
/* OVFS_NOTE_WROTE once size >= at; UINT64_MAX: off. */
int ovfs_content_notify(struct ovfs_content *content, uint64_t at);
/* OVFS_NOTE_READ once a READ ends beyond `at`; UINT64_MAX: off. */
void ovfs_content_read_mark(struct ovfs_content *content, uint64_t at);
/* What was written up to this generation is stored, or journalled: FLUSH of an unchanged
 * content is then answered by the data plane. 1: there are later changes already, for which no
 * note comes; 0: there are none. UINT64_MAX: something beside the bytes (attributes) is to be
 * stored with the next FLUSH, until this is called again. */
int ovfs_content_stored(struct ovfs_content *content, uint64_t generation);
void ovfs_content_set_version(struct ovfs_content *content, uint64_t version);
/* Another writer was first: whoever has it open gets ESTALE from now on. For good. */
void ovfs_content_lose(struct ovfs_content *content);
/* Until the next change of the bytes. 0, as in a new content: the node's attributes say it. */
void ovfs_content_set_mtime(struct ovfs_content *content, int64_t mtime_ns);
void ovfs_content_state(struct ovfs_content *content, struct ovfs_content_state *out);

/* ---- the heap (heap.c); any thread ---- */

/* Keep up to so many bytes of what is freed, for buffers that come and go: giving memory back to
 * the kernel and taking it again costs more than filling it. Counts for threads that begin later.
 * Does nothing where the C library has no such setting. */
void ovfs_heap_keep(size_t bytes);
/* Give back to the kernel what is kept. Takes milliseconds. */
void ovfs_heap_trim(void);

/* The dispatch table, row by row, for tests and documents: the name of FUSE opcode `opcode`
 * and whether it is served (1), deliberately answered ENOSYS (0), or unknown (-1; *name NULL). */
int ovfs_opcode(uint32_t opcode, const char **name);

/* Commit a use after free, so that a test can see the sanitizer catch it across the boundary.
 * -ENOSYS, and no harm done, in a build without AddressSanitizer. Any thread. */
int ovfs_selftest_fault(void);
