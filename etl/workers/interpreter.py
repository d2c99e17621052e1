"""Sets up Python's interpreter for a batch job; imports nothing heavy itself.

The defaults suit a program that must answer quickly. This one has a few threads, of which one
computes and the others wait for answers, and it makes thousands of objects that live until the end
of their batch.
"""

from __future__ import annotations

import gc
import os
import sys

# With Python's default of 5 ms, threads that have received an answer compete for the GIL in the
# middle of their work.
SWITCH_SECONDS = 0.05

# Thresholds of the garbage collector: allocations before generation 0 is collected, then
# collections before each older generation is. With Python's defaults, it walks a batch again and
# again while the batch is being gathered, and the libraries while they are being imported.
COLLECT_AFTER = (50_000, 20, 100)


def prepare_imports() -> None:
    """Set what makes a difference before the libraries are imported."""
    gc.set_threshold(*COLLECT_AFTER)
    # numpy's linear algebra, which the job does not use, would start a thread for each core, and a
    # process with threads should not be forked.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def tune_interpreter() -> None:
    """Set up the rest, once the libraries are imported."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(*COLLECT_AFTER)
    # Objects that the imports created live as long as the process, so the collector can skip them.
    # Without a collection, which would cost more than the little garbage among them.
    gc.freeze()
