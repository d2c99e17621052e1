"""Settings of the Python interpreter that suit a batch job; for a process that does nothing else.

The defaults suit a program that must answer soon. The job has a few threads, of which one works on
arrays and the others wait for answers, and it makes thousands of objects that live until the end
of their batch.
"""

from __future__ import annotations

import gc
import sys

# At 5 ms, the default, threads with an answer at hand take the interpreter from each other in the
# middle of their work.
SWITCH_SECONDS = 0.05

# New objects before a collection, and collections before the next generation is looked at. With
# the defaults the collector walks a batch again and again while it gathers.
COLLECT = (50_000, 20, 100)


def tune() -> None:
    """Set the interpreter of this process, once its libraries are imported."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(*COLLECT)
    # What the libraries made stays; no collection needs to look at it.
    gc.collect()
    gc.freeze()
