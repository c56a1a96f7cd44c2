"""Servers for clients made by hand, and what those clients speak."""

import pytest

pytest.importorskip("grpc")
pytest.importorskip("grpc_tools.protoc")

from .by_hand import PROTO, Dialect, Site


@pytest.fixture(scope="session")
def dialect(tmp_path_factory):
    return Dialect(tmp_path_factory.mktemp("dialect") / "new", PROTO.read_text("utf-8"))


@pytest.fixture(scope="session")
def old_dialect(tmp_path_factory):
    """As clients had it before 1.12."""
    lines = PROTO.read_text("utf-8").splitlines()
    text = "\n".join(line for line in lines if "uint64 uint64" not in line)
    return Dialect(tmp_path_factory.mktemp("dialect") / "old", text)


@pytest.fixture
def site():
    return Site()
