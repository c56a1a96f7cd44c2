"""Shared by all tests: the core runs on one thread, and hypothesis draws the same examples every time."""

import os
import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what is in its background with Ctrl-C ignored, and the processes of a test would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import settings

settings.register_profile("umbel", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("umbel")
