"""A program that prints prices for a while, and ends with exit status 3: run me again.

Its last line is END and how many prices it has printed.
"""

import random
import sys
import time


def main() -> int:
    mids = {"EUR": 1.08, "GBP": 0.85, "JPY": 164.0, "CHF": 0.96}
    printed = 0
    until = time.monotonic() + float(sys.argv[1])
    try:
        while time.monotonic() < until:
            symbol = random.choice(list(mids))
            mids[symbol] *= random.uniform(0.998, 1.002)
            print(symbol, f"{mids[symbol]:.5f}", flush=True)
            printed += 1
            time.sleep(0.02)
        print("END", printed, flush=True)
    except BrokenPipeError:  # Nobody reads us any more.
        sys.stdout = None
    return 3


if __name__ == "__main__":
    sys.exit(main())
