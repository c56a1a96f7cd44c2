"""Shared by all tests: the core runs on one thread, and hypothesis draws the same examples every time."""

import os
import signal
from types import ModuleType

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what is in its background with Ctrl-C ignored, and the processes of a test would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

settings.register_profile("umbel", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("umbel")


@pytest.fixture(scope="module", autouse=True)
def libraries_of_seeds(request):
    """A seed of workers imports the heavy libraries that its parent has imported. The parent has all those of the whole
    suite here, which take seconds a seed: it is to import those of the test's own module."""
    from umbel.runtimes.pool import seed

    own = {value.__name__.partition(".")[0] for value in vars(request.module).values() if isinstance(value, ModuleType)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seed, "HEAVY", tuple(name for name in seed.HEAVY if name in own))
        yield
