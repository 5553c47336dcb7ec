"""A Python of its own for what a test runs beside itself: warnings are errors there, too."""

import sys

# Python warns of it, from 3.15 on before it forks: programs of tests know what they do.
FORK_BESIDE_THREADS = "ignore:This process (pid:DeprecationWarning"

STRICT = [sys.executable, "-X", "faulthandler", "-W", "error", "-W", FORK_BESIDE_THREADS]
