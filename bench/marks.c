/* What callgrind is to count of a program; bench/marks.py calls these.

   Before `start` nothing is counted, and nothing slowed down by counting. Each `mark` ends a part:
   callgrind writes down what has been spent since the last one. */
#include <valgrind/callgrind.h>

void start(void) { CALLGRIND_START_INSTRUMENTATION; }

void mark(void) { CALLGRIND_DUMP_STATS; }
