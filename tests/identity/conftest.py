import pytest

pytest.importorskip("cryptography")

from umbel.identity import Authority

NOW_S = 1_800_000_000.0


class Clock:
    """Seconds that pass only when they are told to, and a wait that adds to them."""

    def __init__(self, now_s: float = NOW_S) -> None:
        self.now_s = now_s
        self.waited: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_authority(tmp_path):
    """Opens authorities, by default in one folder, and closes them at the end."""
    opened = []

    def open_one(folder="authority", *, hosts=("server.example.org",), **more):
        authority = Authority.open(tmp_path / folder, server_name="test server", hosts=hosts, **more)
        opened.append(authority)
        return authority

    yield open_one
    for authority in opened:
        authority.close()


@pytest.fixture
def authority(open_authority, clock):
    """An authority whose time stands still."""
    return open_authority(clock=clock, wait=clock.wait)
