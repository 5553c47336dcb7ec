/* What callgrind is to count of a program; bench/marks.py calls these.

   Before `start` nothing is counted, and nothing slowed down by counting. Each `mark` ends a part:
   callgrind writes down what has been spent since the last one. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
#include <valgrind/callgrind.h>

void start(void) { CALLGRIND_START_INSTRUMENTATION; }

void mark(void) { CALLGRIND_DUMP_STATS; }

/* Preloaded, the coarse clock stands still: what is done because some milliseconds have passed is
   another thing each time, and fifty times as frequent where a program is counted. */
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (clock == CLOCK_MONOTONIC_COARSE) {
        now->tv_sec = now->tv_nsec = 0;
        return 0;
    }
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    return real(clock, now);
}
