/* What the floors have in common: how they measure. Each prints units per second, as bench/row.py
   does, and has its arguments from bench/suite.py: WHAT SIZE FOLDER SAMPLES SECONDS. */

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { SAMPLES = 100 };

static inline void die(const char *what) {
    perror(what);
    exit(1);
}

static inline double clock_of(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static inline void show(const char *name, const double *rates, int count, const char *after) {
    printf("\"%s\": [", name);
    for (int i = 0; i < count; i++) printf("%s%.1f", i ? ", " : "", rates[i]);
    printf("]%s", after);
}

/* Times `work(turns)`, in which each turn is so many units, in samples that last so many seconds. */
static inline int measure(void (*work)(long), double units, int samples, double seconds) {
    double wall[SAMPLES], cpu[SAMPLES];
    long turns = 1;
    if (samples < 1 || samples > SAMPLES) return 2;
    for (;; turns *= 2) {
        double start = clock_of(CLOCK_MONOTONIC);
        work(turns);
        double spent = clock_of(CLOCK_MONOTONIC) - start;
        if (spent > seconds / 4) {
            turns = (long)((double)turns * seconds / spent) + 1;
            break;
        }
    }
    for (int i = 0; i < samples; i++) {
        double start = clock_of(CLOCK_MONOTONIC), began = clock_of(CLOCK_PROCESS_CPUTIME_ID);
        work(turns);
        cpu[i] = (double)turns * units / (clock_of(CLOCK_PROCESS_CPUTIME_ID) - began);
        wall[i] = (double)turns * units / (clock_of(CLOCK_MONOTONIC) - start);
    }
    printf("{");
    show("wall", wall, samples, ", ");
    show("cpu", cpu, samples, "}\n");
    return 0;
}
