"""Gradients of single examples, one after the other, of which none may end a turn."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator

from umbel.arrays import Arrays
from umbel.errors import UmbelError, said
from umbel.schema import Schema

_LOG = logging.getLogger("umbel.privacy")


def one_by_one(rows: Iterable[int], schema: Schema, gradient: Callable[[int, Arrays], None]) -> Iterator[Arrays]:
    """The gradient of each row; one that cannot be computed counts as nothing.

    That it cannot would tell of this example, and its exception perhaps more: both stay in the client's own log.

    Args:
        schema: of the gradients.
        gradient: writes a row's into the arrays.
    """
    is_told = False
    for row in rows:
        result = Arrays.zeros(schema)
        try:
            gradient(row, result)
        except UmbelError:
            raise  # of how the client was made, whatever the example
        except Exception as error:
            if not is_told:
                is_told = True
                _LOG.warning("an example whose gradient cannot be computed counts as nothing: %s", said(error))
            result = Arrays.zeros(schema)
        yield result.frozen()
