"""An encrypted sum between parties that remember for themselves; what the server hears is written down."""

import numpy as np

from umbel.errors import UmbelError
from umbel.privacy.ckks.conversation import STEPS, Conversation
from umbel.privacy.ckks.joining import advertise, deal, receive
from umbel.privacy.ckks.offer import Offer
from umbel.privacy.ckks.parameters import ckks
from umbel.privacy.ckks.summing import agree, encrypt, opened
from umbel.privacy.sa1.encoding import Encoding
from umbel.privacy.sa1.keys import derived, identity_of
from umbel.privacy.sa1.party import Floors, Party

NAMES = ("cleveland", "hungary", "switzerland", "long beach")
SMALL = ckks(4096, coeff_mod_bits=(54, 55), scale_bits=21)
MODEL = bytes(range(32))


def party(name, least=3):
    secret = derived(b"root", name.encode(), b"", 0, 0)

    def trusts(other, identity, credential):
        return identity_of(derived(b"root", other.encode(), b"", 0, 0)) == identity

    return Party(name=name, secret=secret, trusts=trusts, floors=Floors(min_cohort=least))


def offer(length=10, *, settings=SMALL, names=NAMES, threshold=None, **more):
    given = {"run": "run/fit", "round": 1, "attempt": 0, "model": MODEL, **more}
    encoding = Encoding(clip=1.0, weight_cap=1.0, clients=max(2, len(names)), size=length - 3)
    threshold = 2 * len(names) // 3 + 1 if threshold is None else threshold
    return Offer(encoding=encoding, settings=settings, names=tuple(names), threshold=threshold, **given)


def vectors(length, names=NAMES, seed=3):
    rng = np.random.default_rng(seed)
    most = (2**31 - 1) // len(names)
    return {name: rng.integers(-most, most, length).astype(np.int32).view(np.uint32) for name in names}


def total_of(parts):
    return sum(part.view(np.int32).astype(np.int64) for part in parts).astype(np.int32).view(np.uint32)


class Talk:
    """All steps of one sum.

    Args:
        silent: (client, step) that is not answered.
        false: (client, step) → what is answered in the place of the truth, of which it is a function.
    """

    def __init__(self, about=None, *, given=None, silent=(), false=None, least=3):
        self.about = about or offer()
        self.server = Conversation(self.about)
        self.parties = {name: party(name, least) for name in self.about.names}
        self.given = vectors(self.about.length, self.about.names) if given is None else given
        self.silent, self.false = set(silent), false or {}
        self.members, self.heard, self.failed = {}, [], {}
        self.asked = []

    def answer(self, name, step, message):
        """What an honest client says; it remembers what it has to."""
        one, member = self.parties[name], self.members.get(name)
        if step == "advertise":
            after, said = advertise(one, message)
        elif step == "deal":
            after, said = deal(one, member, message)
        elif step == "encrypt":
            after, said = encrypt(one, receive(one, member, message), MODEL, self.given[name].copy())
        elif step == "agree":
            after, said = agree(one, member, message)
        else:
            after, words = opened(one, member, message, self.server.total)
            said = words.tobytes()
        self.members[name] = after
        return said

    def play(self, step):
        for name, message in self.server.messages(step).items():
            self.asked.append((name, step))
            if (name, step) in self.silent:
                continue
            try:
                said = self.answer(name, step, message)
                said = self.false.get((name, step), lambda truth: truth)(said)
                self.heard.append(said)
                self.server.took(step, name, said)
            except UmbelError as error:
                self.failed[name] = str(error)

    def until(self, last):
        """All steps before `last`."""
        for step in self.server.turns:
            if STEPS.index(step) >= STEPS.index(last):
                return self
            self.play(step)
        raise AssertionError(last)

    def all(self):
        for step in self.server.turns:
            self.play(step)
        return self.server._words

    @property
    def truth(self):
        return total_of(self.given[name] for name in self.server.summed)
