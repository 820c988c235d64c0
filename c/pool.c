/* SPDX-License-Identifier: Apache-2.0 */
#include "pool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "dispatch.h"
#include "fuse_req.h"
#include "local/cred.h"
#include "queue.h"

/* Few, since what they wait for is one disk; more than one, so that a syncfs does not hold up a
 * copy. */
enum { WORKERS_MAX = 4, IDLE_SECONDS = 10 };

/* A job is a request while the pool has it. Jobs live on the stack of the thread that runs them,
 * so submitting allocates nothing but the thread of a wait. */
struct job {
    struct job *next;
    struct fuse_req *req;
    pthread_t thread;
};

struct pool {
    pthread_mutex_t lock; /* guards everything here */
    pthread_cond_t work;  /* something was put on `pending` */
    pthread_cond_t left;  /* a thread ended */
    struct fuse_req *pending, **pending_tail;
    struct job *running;
    unsigned threads, idle;
    unsigned workers; /* of threads: those that take from pending */
    bool closing;
};

struct waiter_start {
    struct pool *pool;
    struct fuse_req *req;
};

/* Its only purpose is to interrupt a system call. */
static void on_cancel(int signal)
{
    (void)signal;
}

static int cancel_signal(void)
{
    return SIGRTMIN + 5;
}

static void cancel_signal_install(void)
{
    struct sigaction action = {.sa_handler = on_cancel}; /* without SA_RESTART */

    sigemptyset(&action.sa_mask);
    sigaction(cancel_signal(), &action, NULL);
}

int pool_new(struct pool **out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct pool *pool = calloc(1, sizeof(*pool));
    pthread_condattr_t monotonic;

    if (!pool)
        return -ENOMEM;
    pthread_once(&once, cancel_signal_install);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&pool->work, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_cond_init(&pool->left, NULL);
    pool->pending_tail = &pool->pending;
    *out = pool;
    return 0;
}

void pool_free(struct pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->closing = true;
    pthread_cond_broadcast(&pool->work);
    while (pool->threads > 0) {
        struct timespec soon;

        for (struct job *job = pool->running; job; job = job->next)
            if (job->req->waits)
                pthread_kill(job->thread, cancel_signal());
        clock_gettime(CLOCK_REALTIME, &soon);
        soon.tv_sec += soon.tv_nsec >= 990000000;
        soon.tv_nsec = (soon.tv_nsec + 10000000) % 1000000000;
        pthread_cond_timedwait(&pool->left, &pool->lock, &soon);
    }
    pthread_mutex_unlock(&pool->lock);
    pthread_cond_destroy(&pool->left);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

/* What a pool thread is before its first job: only the cancel signal reaches it, and its rights are
 * its own. Where those cannot be read, it has what the process has. */
static void thread_prepare(struct cred *cred)
{
    sigset_t signals;

    sigfillset(&signals);
    sigdelset(&signals, cancel_signal());
    pthread_sigmask(SIG_SETMASK, &signals, NULL);
    cred_init(cred);
}

/* Run one request's call. Called and returns with the lock held. */
static void run(struct pool *pool, struct cred *cred, struct fuse_req *req)
{
    struct job job = {.next = pool->running, .req = req, .thread = pthread_self()};
    struct job **link;
    int result;

    pool->running = &job;
    pthread_mutex_unlock(&pool->lock);
    cred_fsetid(cred, req->work_fsetid);
    result = req->work(req);
    pthread_mutex_lock(&pool->lock);
    for (link = &pool->running; *link != &job; link = &(*link)->next)
        continue;
    *link = job.next;
    if (req->abandoned) {
        dispatch_done(req);
        queue_arena_unref(req->arena);
    } else {
        req->result = result;
        queue_post(req->queue, req);
    }
}

static bool worker_wait(struct pool *pool)
{
    struct timespec until;
    int err = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += IDLE_SECONDS;
    pool->idle++;
    while (!pool->pending && !pool->closing && err == 0)
        err = pthread_cond_timedwait(&pool->work, &pool->lock, &until);
    pool->idle--;
    return pool->pending != NULL;
}

static void thread_leave(struct pool *pool)
{
    pool->threads--;
    pthread_cond_signal(&pool->left);
    pthread_mutex_unlock(&pool->lock);
}

static void *worker_main(void *arg)
{
    struct pool *pool = arg;
    struct cred cred;

    thread_prepare(&cred);
    pthread_mutex_lock(&pool->lock);
    while (worker_wait(pool)) {
        struct fuse_req *req = pool->pending;

        pool->pending = req->next;
        if (!pool->pending)
            pool->pending_tail = &pool->pending;
        run(pool, &cred, req);
    }
    pool->workers--;
    thread_leave(pool);
    return NULL;
}

static void *waiter_main(void *arg)
{
    struct waiter_start start = *(struct waiter_start *)arg;
    struct cred cred;

    free(arg);
    thread_prepare(&cred);
    pthread_mutex_lock(&start.pool->lock);
    run(start.pool, &cred, start.req);
    thread_leave(start.pool);
    return NULL;
}

/* A detached thread; the pool counts it. Under the lock. All signals are blocked in it from the
 * start, since it inherits the queue thread's mask. */
static int thread_start(struct pool *pool, void *(*main)(void *), void *arg)
{
    pthread_attr_t attr;
    pthread_t thread;
    int err;

    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    err = pthread_create(&thread, &attr, main, arg);
    pthread_attr_destroy(&attr);
    if (err)
        return -EAGAIN;
    pool->threads++;
    return 0;
}

int pool_submit(struct fuse_req *req)
{
    struct pool *pool = queue_pool(req->queue);
    int err = 0;

    req->abandoned = false;
    req->waits = false;
    req->next = NULL;
    pthread_mutex_lock(&pool->lock);
    if (pool->idle == 0 && pool->workers < WORKERS_MAX) {
        err = thread_start(pool, worker_main, pool);
        if (err == 0)
            pool->workers++;
        else if (pool->workers > 0)
            err = 0;
    }
    if (err == 0) {
        atomic_fetch_add(&req->queue->counters.pooled, 1);
        *pool->pending_tail = req;
        pool->pending_tail = &req->next;
        pthread_cond_signal(&pool->work);
    }
    pthread_mutex_unlock(&pool->lock);
    return err < 0 ? err : FUSE_LATER;
}

int pool_submit_wait(struct fuse_req *req)
{
    struct queue *queue = req->queue;
    struct pool *pool = queue_pool(queue);
    struct waiter_start *start;
    int err;

    if (queue->waiting >= queue->arena->slots / 4)
        return -ENOLCK;
    start = malloc(sizeof(*start));
    if (!start)
        return -ENOMEM;
    *start = (struct waiter_start){.pool = pool, .req = req};
    req->abandoned = false;
    req->waits = true;
    pthread_mutex_lock(&pool->lock);
    err = thread_start(pool, waiter_main, start);
    pthread_mutex_unlock(&pool->lock);
    if (err < 0) {
        free(start);
        return err;
    }
    atomic_fetch_add(&queue->counters.pooled, 1);
    queue->waiting++;
    return FUSE_LATER;
}

unsigned pool_cancel(struct pool *pool, struct queue *queue, uint64_t unique)
{
    unsigned told = 0;

    pthread_mutex_lock(&pool->lock);
    for (struct job *job = pool->running; job; job = job->next) {
        struct fuse_req *req = job->req;

        if (req->queue != queue || !req->waits || req->abandoned)
            continue;
        if (unique && req->in_header.unique != unique)
            continue;
        pthread_kill(job->thread, cancel_signal());
        told++;
    }
    pthread_mutex_unlock(&pool->lock);
    return told;
}

void pool_abandon(struct pool *pool, struct queue *queue)
{
    struct fuse_req **link = &pool->pending;

    pthread_mutex_lock(&pool->lock);
    for (struct job *job = pool->running; job; job = job->next) {
        if (job->req->queue != queue || job->req->abandoned)
            continue;
        atomic_fetch_add(&job->req->arena->refs, 1);
        job->req->abandoned = true;
    }
    while (*link) { /* what no thread has begun is simply taken back */
        if ((*link)->queue == queue)
            *link = (*link)->next;
        else
            link = &(*link)->next;
    }
    pool->pending_tail = link;
    pthread_mutex_unlock(&pool->lock);
}
