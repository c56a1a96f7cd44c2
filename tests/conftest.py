"""Shared by all tests: the core runs on one thread, and hypothesis draws the same examples every time."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import settings

settings.register_profile("umbel", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("umbel")
