"""A server that does not keep to the protocol gets a refusal that names the reason, never a second sum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from tests.privacy.sa1.transcript import MODEL, offer_of, parties_of, vectors_of

from umbel.errors import ProtocolError, SecureAborted, SecureRefused
from umbel.privacy.sa1 import (
    Advert,
    Floors,
    Header,
    Offer,
    Party,
    SecureServer,
    Sets,
    advertise,
    agree,
    mask,
    release,
    share,
)
from umbel.privacy.sa1.fields import joined, parted
from umbel.privacy.sa1.keys import identity_of, pair_key, public_of, signature
from umbel.privacy.tries import offered

COUNT = 5
STRICT = Floors(min_cohort=4, max_weight_cap=10.0)


class World:
    """Five honest clients and a server whose messages a test may change."""

    def __init__(self, *, offers=None, floors=STRICT):
        self.parties = parties_of(COUNT, floors=floors)
        self.offer = offer_of(COUNT, 6, threshold=4)
        self.members, self.adverts, self.messages = {}, {}, {}
        self.server = SecureServer(self.offer)
        for name, party in self.parties.items():
            offer = (offers or {}).get(name, self.offer)
            self.members[name], message = advertise(party, offer.data)
            self.adverts[name] = message
            if offer is self.offer:
                self.server.advert(name, message)

    def shared(self):
        self.header = Header.read(self.server.close_adverts())
        for name, party in self.parties.items():
            self.members[name], message = share(party, self.members[name], self.header.data)
            self.server.shares(name, message)
        self.inboxes = self.server.close_shares()
        return self

    def masked(self):
        self.shared()
        self.vectors = vectors_of(self.offer, list(self.parties))
        for name, party in self.parties.items():
            self.members[name], upload = mask(
                party, self.members[name], self.inboxes[name], MODEL, self.vectors[name].copy()
            )
            self.server.masked(name, upload)
        self.sets = self.server.close_masked()
        return self

    def agreed(self):
        self.masked()
        for name, party in self.parties.items():
            self.members[name], mark = agree(party, self.members[name], self.sets)
            self.server.signature(name, mark)
        self.signatures = self.server.close_signatures()
        return self

    def share(self, header, name="000"):
        return share(self.parties[name], self.members[name], header.data)

    def agree(self, shared, summed, name="000"):
        return agree(self.parties[name], self.members[name], Sets(COUNT, frozenset(shared), frozenset(summed)).data)


def test_a_cohort_below_the_floor_is_refused():
    party = parties_of(3, floors=STRICT)["000"]
    with pytest.raises(SecureRefused, match="the cohort has 3 clients, the owner allows sums of at least 4"):
        advertise(party, offer_of(3, 6, threshold=3).data)


def test_a_lowered_threshold_is_refused():
    party = parties_of(COUNT, floors=STRICT)["000"]
    with pytest.raises(SecureRefused, match="the threshold is 3 of 5"):
        advertise(party, offer_of(COUNT, 6, threshold=3).data)


def test_no_owner_can_allow_a_threshold_of_half():
    party = parties_of(4, floors=Floors(min_cohort=2, min_threshold_share=0.1))["000"]
    with pytest.raises(SecureRefused, match="the threshold is 2 of 4"):
        advertise(party, offer_of(4, 6, threshold=2).data)


def test_a_larger_weight_cap_than_the_owner_allows_is_refused():
    offer = offer_of(COUNT, 6, threshold=4)
    offer = replace(offer, encoding=replace(offer.encoding, weight_cap=11.0))
    with pytest.raises(SecureRefused, match="weights up to 11 would count, the owner allows 10"):
        advertise(parties_of(COUNT, floors=STRICT)["000"], offer.data)


@pytest.mark.parametrize("last", [(1, 0), (1, 3), (2, 0)])
def test_a_replayed_round_or_attempt_is_refused(last):
    with pytest.raises(SecureRefused, match="round 1, attempt 0 is offered after round"):
        advertise(parties_of(COUNT)["000"], offer_of(COUNT, 6).data, last)


@pytest.mark.parametrize("last", [(3, offered(2, 0)), (3, offered(2, 1)), (4, offered(2, 0)), (1, offered(3, 0))])
def test_an_offer_of_an_older_leadership_or_of_an_older_round_in_the_same_one_is_refused(last):
    offer = replace(offer_of(COUNT, 6), round=3, attempt=offered(2, 0))
    with pytest.raises(SecureRefused, match="keys of a round are made once"):
        advertise(parties_of(COUNT)["000"], offer.data, last)


def test_an_offer_of_a_later_leadership_is_taken_though_its_round_is_an_earlier_one():
    offer = replace(offer_of(COUNT, 6), round=3, attempt=offered(2, 0))
    advertise(parties_of(COUNT)["000"], offer.data, (5, offered(1, 7)))


def test_a_later_attempt_is_taken():
    advertise(parties_of(COUNT)["000"], replace(offer_of(COUNT, 6), attempt=1).data, (1, 0))


def test_a_header_of_another_offer_is_refused():
    world = World()
    header = Header.read(world.server.close_adverts())
    weaker = replace(header, offer=replace(world.offer, threshold=3))
    with pytest.raises(SecureRefused, match="another offer"):
        world.share(weaker)


def test_replaced_own_keys_are_refused():
    world = World()
    header = Header.read(world.server.close_adverts())
    forged = replace(header.adverts[0], mask=public_of(bytes(range(32))))
    with pytest.raises(SecureRefused, match="somebody replaced them"):
        world.share(replace(header, adverts=(forged, *header.adverts[1:])))


def test_replaced_keys_of_another_client_are_refused():
    world = World()
    header = Header.read(world.server.close_adverts())
    forged = replace(header.adverts[1], mask=public_of(bytes(range(32))))
    with pytest.raises(SecureRefused, match="keys of client 001 are not signed"):
        world.share(replace(header, adverts=(header.adverts[0], forged, *header.adverts[2:])))


def test_a_client_that_the_server_made_up_is_refused():
    world = World()
    header = Header.read(world.server.close_adverts())
    secret = bytes(range(32))
    forged = replace(header.adverts[1], name="sybil", identity=identity_of(secret), mask=public_of(secret))
    forged = replace(forged, signature=signature(secret, forged.signed(world.offer)))
    with pytest.raises(SecureRefused, match="client sybil is not enrolled"):
        world.share(replace(header, adverts=(header.adverts[0], forged, *header.adverts[2:])))


def test_a_client_that_is_there_twice_is_refused():
    world = World()
    header = Header.read(world.server.close_adverts())
    twice = replace(header, adverts=(*header.adverts[:-1], header.adverts[1]))
    with pytest.raises(SecureRefused, match="the same name"):
        world.share(twice)


def test_too_small_a_header_is_refused():
    world = World()
    header = Header.read(world.server.close_adverts())
    with pytest.raises(SecureRefused, match="3 clients are in the header; at least 4"):
        world.share(replace(header, adverts=header.adverts[:3]))


def test_another_model_than_the_header_binds_is_refused():
    world = World().shared()
    with pytest.raises(SecureRefused, match="another model"):
        mask(world.parties["000"], world.members["000"], world.inboxes["000"], bytes(32), np.zeros(10, np.uint32))


def test_another_model_for_some_clients_is_refused_by_the_others():
    """The server tells client 000 of another model: its keys are signed for that one, so nobody else takes them."""
    world = World(offers={"000": replace(offer_of(COUNT, 6, threshold=4), model=bytes(32))})
    forged = Header(world.offer, tuple(map(Advert.read, world.adverts.values())))
    with pytest.raises(SecureRefused, match="keys of client 000 are not signed by it for this round"):
        world.share(forged, "001")
    with pytest.raises(SecureRefused, match="another offer"):
        world.share(forged, "000")


def test_masks_under_different_headers_do_not_cancel():
    private, other = X25519PrivateKey.generate(), X25519PrivateKey.generate().public_key().public_bytes_raw()
    one, two = (pair_key(private, other, b"mask", digest, 0, 1) for digest in (bytes(32), MODEL))
    assert one != two


def test_a_changed_sealed_share_is_refused():
    world = World().shared()
    parts = parted(world.inboxes["000"])
    changed = joined(parts[0][:-1] + bytes([parts[0][-1] ^ 1]), *parts[1:])
    with pytest.raises(ProtocolError, match="a sealed share was changed"):
        mask(
            world.parties["000"], world.members["000"], changed, MODEL, np.zeros(world.offer.encoding.length, np.uint32)
        )


def test_shares_of_too_few_are_refused():
    world = World().shared()
    few = joined(*parted(world.inboxes["000"])[:2])
    with pytest.raises(SecureRefused, match="3 of the neighbourhood shared their keys, 4 have to"):
        mask(world.parties["000"], world.members["000"], few, MODEL, np.zeros(world.offer.encoding.length, np.uint32))


def test_the_own_name_among_the_dead_is_refused():
    with pytest.raises(SecureRefused, match="this client's vector is not in the sum, but it sent it"):
        World().masked().agree(range(5), [1, 2, 3, 4])


def test_a_client_that_is_in_the_sum_and_never_shared_is_refused():
    with pytest.raises(SecureRefused, match="clients are in the sum that never shared"):
        World().masked().agree(range(4), range(5))


def test_a_client_that_shared_and_is_said_not_to_have_is_refused():
    with pytest.raises(SecureRefused, match="whose shares this client holds"):
        World().masked().agree(range(4), range(4))


def test_a_sum_of_too_few_is_refused():
    with pytest.raises(SecureRefused, match="3 clients, the owner allows at least 4"):
        World().masked().agree(range(5), range(3))


def test_differing_sets_are_refused_by_who_sees_the_others_signatures():
    world = World(floors=Floors(min_cohort=2)).masked()
    marks = {}
    for index, name in enumerate(world.parties):
        summed = range(5) if index < 3 else [0, 1, 3, 4]
        world.members[name], marks[index] = world.agree(range(5), summed, name)
    bundle = joined(*(index.to_bytes(4, "little") + mark for index, mark in marks.items() if index))
    with pytest.raises(SecureRefused, match="a client signed other sets"):
        release(world.parties["000"], world.members["000"], bundle)


def test_fewer_signatures_than_the_threshold_are_refused():
    world = World().agreed()
    few = joined(*parted(world.signatures["000"])[:2])
    with pytest.raises(SecureRefused, match="3 of the neighbourhood signed the same sets, 4 have to"):
        release(world.parties["000"], world.members["000"], few)


def test_a_signature_that_is_given_twice_counts_once():
    world = World().agreed()
    parts = parted(world.signatures["000"])
    with pytest.raises(SecureRefused, match="3 of the neighbourhood"):
        release(world.parties["000"], world.members["000"], joined(*parts[:2], *parts[:2]))


def test_every_step_is_taken_once():
    world = World().agreed()
    before = dict(world.members)
    for name, party in world.parties.items():
        member = world.members[name]
        with pytest.raises(SecureRefused, match="each step is taken once"):
            share(party, member, world.header.data)
        with pytest.raises(SecureRefused, match="each step is taken once"):
            mask(party, member, world.inboxes[name], MODEL, world.vectors[name])
        with pytest.raises(SecureRefused, match="each step is taken once"):
            agree(party, member, world.sets)
        world.members[name], _ = release(party, member, world.signatures[name])
        with pytest.raises(SecureRefused, match="each step is taken once"):
            release(party, world.members[name], world.signatures[name])
    assert all(member.stage == "agreed" for member in before.values())


def test_after_the_release_nothing_secret_is_remembered():
    world = World().agreed()
    member, _ = release(world.parties["000"], world.members["000"], world.signatures["000"])
    assert (member.mask, member.seed, member.channel, member.shares) == (b"", b"", b"", {})
    assert len(repr(member)) < 30


def test_a_wrong_released_share_aborts_and_gives_no_sum():
    world = World().agreed()
    for name, party in world.parties.items():
        world.members[name], message = release(party, world.members[name], world.signatures[name])
        if name == "000":
            parts = parted(message)
            message = joined(bytes(36), *parts[1:])
        world.server.opened(name, message)
    with pytest.raises(SecureAborted, match=r"do not (give the secret that it announced|belong together)"):
        world.server.result()


def test_an_offer_survives_its_bytes_and_changed_bytes_are_no_offer():
    offer = offer_of(COUNT, 6, threshold=4)
    assert Offer.read(offer.data) == offer
    for place in range(4):
        with pytest.raises(ProtocolError):
            Offer.read(offer.data[:place])


def test_a_party_does_not_print_its_secret():
    assert repr(parties_of(1)["000"]) == "Party('000')"
    assert isinstance(parties_of(1)["000"], Party)


@pytest.mark.parametrize("left", [set(), {"000"}], ids=["seed", "mask key"])
def test_shares_of_another_secret_that_fit_together_abort_as_well(left):
    """All holders add the same to their shares of client 000: they give a secret, and not the announced one."""
    world = World(floors=Floors(min_cohort=2)).shared()
    for name, party in world.parties.items():
        vector = np.zeros(world.offer.encoding.length, np.uint32)
        world.members[name], upload = mask(party, world.members[name], world.inboxes[name], MODEL, vector)
        if name not in left:
            world.server.masked(name, upload)
    sets = world.server.close_masked()
    there = [name for name in world.parties if name not in left]
    for name in there:
        world.members[name], mark = agree(world.parties[name], world.members[name], sets)
        world.server.signature(name, mark)
    for name, signatures in world.server.close_signatures().items():
        world.members[name], message = release(world.parties[name], world.members[name], signatures)
        first, *others = parted(message)
        limbs = np.frombuffer(first, "<u4").astype(np.uint64)
        limbs[0] = (limbs[0] + 8) % (2**31 - 1)
        world.server.opened(name, joined(limbs.astype("<u4").tobytes(), *others))
    with pytest.raises(SecureAborted, match="client 000 do not give the secret that it announced"):
        world.server.result()


def test_few_who_come_get_no_larger_neighbourhood_than_the_threshold_is_for():
    """Ten of 61, each with two neighbours, of whom three open a secret: among all ten, two sums could be opened."""
    offer = offer_of(61, 6, threshold=3, neighbours=2)
    adverts = []
    for party in parties_of(10).values():
        _, message = advertise(party, offer.data)
        adverts.append(Advert.read(message))
    assert {len(neighbours) for neighbours in Header(offer, tuple(adverts)).neighbours} == {2}
