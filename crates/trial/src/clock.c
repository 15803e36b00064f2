/* Preloaded into a member: its wall clock is ahead by as many nanoseconds as a file says, from one call to the next.
 *
 * Only the wall clock: nobody can step the monotonic one. The first eight bytes of the file that MAINSTAY_TRIAL_CLOCK names are mapped,
 * so that a step is one store of the other side. Times are asked of the kernel itself and nothing is looked up or allocated, because
 * the member's own allocator is not ready when this is loaded. Waits until a time of the wall clock are told that time without the
 * step: the kernel's clock was not stepped. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL

static volatile int64_t *ahead;

__attribute__((constructor)) static void find_file(void) {
    const char *path = getenv("MAINSTAY_TRIAL_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *page = mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (page != MAP_FAILED)
        ahead = page;
}

static void add(struct timespec *time, int64_t nanoseconds) {
    int64_t all = time->tv_sec * SECOND + time->tv_nsec + nanoseconds;
    time->tv_sec = all / SECOND;
    time->tv_nsec = all % SECOND;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int failed = syscall(SYS_clock_gettime, clock, time);
    if (!failed && ahead && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        add(time, *ahead);
    return failed;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec now;
    (void)zone;
    int failed = clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result)
        *result = now.tv_sec;
    return now.tv_sec;
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
    struct timespec real = *until;
    if (ahead)
        add(&real, -*ahead);
    return pthread_cond_clockwait(condition, mutex, CLOCK_REALTIME, &real);
}
