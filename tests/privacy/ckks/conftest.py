"""A federation of threads, as for runs that are deployed; TenSEAL wants a process without gRPC's compiler."""

from deployed.conftest import federation

__all__ = ["federation"]
