"""Every error that Umbel raises, in one tree.

    UmbelError
    ├── ConfigError              an argument, plan or app setting is wrong (also a ValueError)
    │   ├── NotSupported         two values that cannot work together, refused before the run
    │   ├── AppError             an app that cannot be found, imported or understood
    │   └── NotThere             no such run, or none that the asker may see
    ├── ArraysError              arrays that do not fit a schema or a buffer (also a ValueError)
    ├── WireError                bytes that are not what they claim to be (also a ValueError)
    │   └── ProtocolError        a peer that does not speak as agreed
    ├── LinkError                a peer that cannot be reached, or will not have us
    ├── IdentityError            who somebody is cannot be shown, checked or kept
    │   └── CodeRefused          an invitation code that is mistyped, used, expired or for another
    ├── ClientError              one client failed; the run goes on
    │   ├── UpdateRefused        its answer was looked at and not taken
    │   └── SecureRefused        it will not do what a secure round asks of it
    ├── RoundError               a round that cannot be closed
    │   ├── TooFewClients        fewer clients answered than the plan needs
    │   └── SecureAborted        a secure sum that cannot be opened, so nothing is
    ├── EngineError              workers that cannot be started or kept alive
    └── StoreError               events or checkpoints that cannot be kept or read
        ├── StoreFull            no room left; everything before is safe
        └── CheckpointCorrupt    a checkpoint whose bytes do not match its digest

Every message says what is wrong, what is allowed and what to try.
"""

from __future__ import annotations


class UmbelError(Exception):
    """The root: catch this to catch everything Umbel raises on purpose."""


class ConfigError(UmbelError, ValueError):
    """An argument, plan or setting is wrong."""


class NotSupported(ConfigError):
    """Two values that cannot work together; raised before the run starts."""


class AppError(ConfigError):
    """An app that cannot be found, imported or understood."""


class NotThere(ConfigError):
    """There is no such run, or none that the asker may see."""


class ArraysError(UmbelError, ValueError):
    """Arrays that do not fit their schema or their buffer."""


class WireError(UmbelError, ValueError):
    """Bytes from a peer that are not what they claim to be."""


class ProtocolError(WireError):
    """A peer that does not speak as agreed: its stream is closed, the run goes on."""


class LinkError(UmbelError):
    """A peer that cannot be reached, or that will not have us."""


class IdentityError(UmbelError):
    """Who somebody is cannot be shown, checked or kept: certificates, keys and names."""


class CodeRefused(IdentityError):
    """An invitation code that is mistyped, used, expired or for another."""


class ClientError(UmbelError):
    """One client failed. `client` is its id, `reason` one sentence without its name."""

    def __init__(self, client: str, reason: str) -> None:
        super().__init__(client, reason)
        self.client = client
        self.reason = reason

    def __str__(self) -> str:
        return f"client {self.client}: {self.reason}"


class UpdateRefused(ClientError):
    """A client's answer was looked at and not taken."""


class SecureRefused(ClientError):
    """A client will not do what a secure round asks of it: it would reveal more than a sum, or to the wrong ones."""


class RoundError(UmbelError):
    """A round that cannot be closed. `round` is its number."""

    def __init__(self, round: int, reason: str) -> None:
        super().__init__(round, reason)
        self.round = round
        self.reason = reason

    def __str__(self) -> str:
        return f"round {self.round}: {self.reason}"


class TooFewClients(RoundError):
    """Fewer clients answered than the plan needs."""


class SecureAborted(RoundError):
    """A secure sum cannot be opened; it is thrown away and nothing was learned."""


class EngineError(UmbelError):
    """Workers that cannot be started or kept alive."""


class StoreError(UmbelError):
    """Events or checkpoints that cannot be kept or read."""


class StoreFull(StoreError):
    """No room left to write; everything written before is safe."""


class CheckpointCorrupt(StoreError):
    """A checkpoint whose bytes do not match its digest."""


def said(error: BaseException) -> str:
    """What an exception says, also where its own `__str__` fails.

    Example:
        >>> said(ValueError("no rows"))
        'no rows'
    """
    try:
        return str(error)
    except (Exception, SystemExit, GeneratorExit) as another:
        return f"its message cannot be had, __str__ raises {type(another).__name__}"


def printable(text: str, most: int = 2000) -> str:
    """What somebody else wrote, as one line that cannot move a terminal's cursor or pass for another line.

    Example:
        >>> printable("out of\\npaper \\x1b[2J", 12)
        'out of paper'
    """
    return "".join(c if c.isprintable() else " " if c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text[:most])
