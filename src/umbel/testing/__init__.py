"""Conformance kits: what every strategy, reducer, client, store, transport and engine must pass, ours and yours.

`python -m umbel.testing` runs the kits over everything that is registered, third-party entry points included.
"""

from umbel.testing.clients import check_client
from umbel.testing.engines import check_engine
from umbel.testing.reducers import check_reducer
from umbel.testing.stores import check_store
from umbel.testing.strategies import check_strategy
from umbel.testing.toys import Quadratics, WithHead
from umbel.testing.transports import Trust, check_transport

__all__ = [
    "Quadratics",
    "Trust",
    "WithHead",
    "check_client",
    "check_engine",
    "check_reducer",
    "check_store",
    "check_strategy",
    "check_transport",
]
