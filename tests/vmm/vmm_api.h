/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What Python may call of the fake VMM. gcc and cffi read this same file, so there are no
 * preprocessor lines here.
 *
 * The fake VMM is the guest's half of vhost-user: guest memory in memfds, split virtqueues in that
 * memory, and a bench driver that keeps many FUSE requests in flight. The socket protocol is
 * Python's (session.py); everything that happens per request is here.
 *
 * Threads: a ring belongs to one thread at a time, the one that drives its queue; different rings
 * may be driven by different threads. Memory is changed only while no ring is in use by another
 * thread. cffi drops the GIL around each call. Errors: a negative errno, or NULL with errno set.
 */

/* ==== Guest memory ==== */

struct vmm_mem;

struct vmm_mem *vmm_mem_new(void);

/* Unmaps and closes everything; no ring of this memory may be used afterwards. */
void vmm_mem_free(struct vmm_mem *mem);

/*
 * Makes a memfd of mmap_offset + size bytes and maps its last size bytes as guest addresses [gpa,
 * gpa + size). user_addr is only what the daemon will be told. Returns the region's index, -EEXIST
 * on overlap, -ENOSPC, -errno.
 */
int vmm_mem_add(struct vmm_mem *mem, uint64_t gpa, uint64_t size, uint64_t user_addr,
                uint64_t mmap_offset);

/* Unmaps a region and closes its memfd; its index is not used again. 0, or -ENOENT. */
int vmm_mem_remove(struct vmm_mem *mem, unsigned index);

/* The region's memfd, borrowed; -ENOENT. */
int vmm_mem_fd(struct vmm_mem *mem, unsigned index);

/* Host pointer to [gpa, gpa + len) where that lies in one region, else NULL. Valid until the region
 * goes. */
void *vmm_mem_ptr(struct vmm_mem *mem, uint64_t gpa, uint64_t len);

/* The frontend's virtual address of gpa, as SET_VRING_ADDR wants it; 0 where there is no memory. */
uint64_t vmm_mem_user_addr(struct vmm_mem *mem, uint64_t gpa);

/* Copies into or out of guest memory, across adjacent regions where need be. 0, or -EFAULT. */
int vmm_mem_write(struct vmm_mem *mem, uint64_t gpa, const void *data, uint64_t len);
int vmm_mem_read(struct vmm_mem *mem, uint64_t gpa, void *data, uint64_t len);

/* ==== Split rings, the driver's half ==== */

struct vmm_ring;

struct vmm_seg {
    uint64_t addr;
    uint32_t len;
    uint32_t writable; /* the device writes it */
};

struct vmm_used {
    uint32_t id;
    uint32_t len;
};

struct vmm_ring_stats {
    uint64_t kicks;            /* writes to the kick eventfd */
    uint64_t kicks_suppressed; /* publications for which the device wanted no kick */
    uint64_t interrupts;       /* sum of the counts read from the call eventfd */
    uint64_t submitted;        /* heads put in the avail ring */
    uint64_t completed;        /* entries taken from the used ring */
    uint32_t free_desc;
    uint16_t avail_idx;
    uint16_t last_used;
};

/*
 * A ring of num descriptors (a power of two up to 32768) at three guest addresses, each in one
 * region. Its memory is cleared and both indices start at base. kick_fd and call_fd are borrowed
 * and may be -1 (then the device polls, or the driver does). NULL with errno EINVAL, EFAULT or
 * ENOMEM.
 */
struct vmm_ring *vmm_ring_new(struct vmm_mem *mem, unsigned num, uint64_t desc, uint64_t avail,
                              uint64_t used, unsigned base, unsigned event_idx, int kick_fd,
                              int call_fd);
void vmm_ring_free(struct vmm_ring *ring);

/* Swaps the eventfds, which the caller goes on owning. */
void vmm_ring_set_fds(struct vmm_ring *ring, int kick_fd, int call_fd);

/*
 * Writes a chain of n segments, in the order and with the directions given, right or wrong, and
 * puts its head in the avail ring without publishing it. With table != 0 the chain is an indirect
 * table at that guest address (16 * n bytes in one region), which takes one descriptor of the ring.
 * Returns the head, -ENOSPC, -EINVAL or -EFAULT.
 */
int vmm_ring_add(struct vmm_ring *ring, const struct vmm_seg *segs, unsigned n, uint64_t table);

/* Publishes what was added and kicks where the device wants it. Returns 1 if it kicked, 0 if not,
 * -errno. */
int vmm_ring_kick(struct vmm_ring *ring);

/* Kicks whatever the device wants. 0 or -errno. */
int vmm_ring_kick_force(struct vmm_ring *ring);

/* Takes up to max used entries and frees the chains this ring wrote. Returns their number. */
int vmm_ring_get(struct vmm_ring *ring, struct vmm_used *out, unsigned max);

/*
 * Arms the call (used_event or flags), looks again, and sleeps on the call eventfd (on a timer
 * where there is none) for at most timeout_ms. Returns 1 if a used entry is there, 0 if not (yet),
 * -EINTR on a signal.
 */
int vmm_ring_wait(struct vmm_ring *ring, int timeout_ms);

/* Empties the call eventfd into the statistics without waiting. Returns what it held. */
uint64_t vmm_ring_interrupts(struct vmm_ring *ring);

void vmm_ring_stats(struct vmm_ring *ring, struct vmm_ring_stats *out);

/*
 * For hostile drivers: no check of any kind. A raw descriptor is written as given; an offered head
 * goes in the avail ring (published by vmm_ring_kick) and is not tracked; set_avail stores the
 * published index itself.
 */
void vmm_ring_raw_desc(struct vmm_ring *ring, unsigned index, uint64_t addr, uint32_t len,
                       uint16_t flags, uint16_t next);
void vmm_ring_raw_offer(struct vmm_ring *ring, uint16_t head);
void vmm_ring_raw_set_avail(struct vmm_ring *ring, uint16_t index);
/* Takes the highest n descriptors out of circulation for raw use. Returns the first of them, or
 * -ENOSPC. */
int vmm_ring_raw_reserve(struct vmm_ring *ring, unsigned n);
uint16_t vmm_ring_raw_used_idx(struct vmm_ring *ring);
/* avail->flags and used->flags; avail_event and used_event. */
void vmm_ring_raw_set_avail_flags(struct vmm_ring *ring, uint16_t flags);
void vmm_ring_raw_set_used_event(struct vmm_ring *ring, uint16_t index);

/* ==== Null backend: a thread that is the device's half and answers at once ==== */

struct vmm_null;

/*
 * flags: 1 sleep on the kick eventfd when idle (else spin, wanting no kicks); 2 echo: the reply's
 * payload is the request's bytes behind its header, and errno E2BIG (7) where they do not fit; 4
 * use at most one entry a batch. The rings stay borrowed until vmm_null_stop. NULL with errno.
 */
struct vmm_null *vmm_null_start(struct vmm_mem *mem, struct vmm_ring **rings, unsigned n,
                                unsigned flags);

/* Stops and joins the thread. Returns the requests it answered. */
uint64_t vmm_null_stop(struct vmm_null *null);

/* ==== Bench driver ==== */

enum vmm_workload {
    VMM_READ,
    VMM_WRITE,
    VMM_MIXED, /* 70 reads to 30 writes */
    VMM_GETATTR,
    VMM_LOOKUP,
    VMM_OPEN_RELEASE,
    VMM_CREATE_UNLINK, /* create, release, unlink, and a forget */
    VMM_RENAME,        /* there and back */
    VMM_READDIRPLUS,   /* one buffer of entries */
    VMM_SMALL_FILE,    /* lookup, open, read, release */
    VMM_STORE_FILE,    /* lookup of a name that is not there, create, write, flush, release */
    VMM_WORKLOADS
};

enum vmm_mode {
    VMM_POLL,  /* spin on the used ring with the call armed, as a guest that is awake */
    VMM_QUIET, /* spin with interrupts suppressed */
    VMM_SLEEP  /* when nothing is there, arm the call and sleep on the eventfd */
};

struct vmm_bench_job {
    enum vmm_workload workload;
    enum vmm_mode mode;
    uint32_t depth; /* sequences in flight */
    uint32_t size;  /* bytes of a read, a write, a readdirplus buffer */
    uint32_t
        seg_size; /* data descriptors of at most this many bytes (a Linux guest: 4096); 0: one */
    uint32_t indirect;
    uint32_t random; /* offsets at random, else each slot strides through the file */
    uint32_t flags;  /* open(2) flags of OPEN and CREATE */
    uint64_t nodeid; /* the file, or the directory */
    uint64_t fh;
    uint64_t file_size;
    const uint64_t
        *nodes; /* getattr, open+release: the nodes in turn; readdirplus: a handle for each slot */
    uint32_t n_nodes;
    uint32_t n_names;
    const char *const
        *names;     /* lookup, small file: in turn; rename: at least depth of them, which exist */
    uint64_t arena; /* guest memory for requests and data, in one region, aligned to 4096 */
    uint64_t arena_size;
    uint64_t max_ops; /* 0: no limit */
    uint64_t max_ns;  /* 0: no limit */
    uint64_t seed;
    uint32_t uid;
    uint32_t gid;
};

struct vmm_bench_result {
    uint64_t ops;      /* whole sequences */
    uint64_t requests; /* FUSE requests, forgets not counted */
    uint64_t forgets;  /* FORGET messages, those after the clock stopped included */
    uint64_t bytes;    /* data read or written */
    uint64_t errors;
    int32_t first_error; /* errno of the first failed request */
    uint32_t first_opcode;
    uint64_t elapsed_ns;
    uint64_t kicks;
    uint64_t interrupts;
    uint64_t batches; /* times that the driver found something in the used ring */
    uint64_t lat_mean_ns;
    uint64_t lat_p50_ns;
    uint64_t lat_p90_ns;
    uint64_t lat_p99_ns;
    uint64_t lat_p999_ns;
    uint64_t lat_max_ns;
};

/*
 * Runs a job on an idle ring until max_ops or max_ns, finishes every sequence that has begun, and
 * gives back each lookup it took as FORGET on hiprio (NULL: on the queue that the forgets are not
 * sent to, i.e. they are dropped). Blocks; no allocation per operation. 0, -EBUSY (ring not idle),
 * -EINVAL, -ENOSPC (arena or ring too small for the depth), -ENOMEM, -ETIMEDOUT (nothing came back
 * for 10 s; the ring is lost then).
 */
int vmm_bench(struct vmm_mem *mem, struct vmm_ring *queue, struct vmm_ring *hiprio,
              const struct vmm_bench_job *job, struct vmm_bench_result *result);

/* Guest memory that a job's arena needs at least. */
uint64_t vmm_bench_arena_size(const struct vmm_bench_job *job);
