"""One thread for torch, here and in the processes that tests start: the networks are small and the tests many.

And Ctrl-C as in a terminal: a shell starts what it runs in the background deaf to it, which children inherit.
"""

from __future__ import annotations

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")
signal.signal(signal.SIGINT, signal.default_int_handler)
