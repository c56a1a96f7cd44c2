"""A server that does not keep to the protocol gets a refusal that names the reason, never a second sum."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from tests.privacy.sa1.transcript import MODEL, offer_of, parties_of, purpose_of, vectors_of

from umbel.errors import ConfigError, ProtocolError, SecureRefused
from umbel.privacy.sa1 import (
    Advert,
    Floors,
    Gathering,
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
from umbel.privacy.sa1.purpose import Purpose
from umbel.privacy.sa1.replies import Kept, received, replied
from umbel.privacy.sa1.shamir import SHARE_BYTES

COUNT = 5
STRICT = Floors(min_cohort=4, max_weight_cap=10.0)


class World:
    """Five honest clients and a server whose messages a test may change."""

    def __init__(self, *, floors=STRICT):
        self.parties = parties_of(COUNT, floors=floors)
        self.offer, self.purpose = offer_of(COUNT, threshold=4), purpose_of(COUNT, 6)
        self.members, self.gathering = {}, Gathering(self.offer)
        for name, party in self.parties.items():
            self.members[name], message = advertise(party, self.offer.data)
            self.gathering.advert(name, message)

    def advertised(self):
        return Header.read(self.gathering.close_adverts())

    def shared(self):
        self.header = self.advertised()
        for name, party in self.parties.items():
            self.members[name], message = share(party, self.members[name], self.header.data)
            self.gathering.shares(name, message)
        self.server = SecureServer(self.gathering.close_shares(), self.purpose)
        self.inboxes = self.server.inboxes
        return self

    def mask(self, name="000", inbox=None, model=MODEL, vector=None):
        vector = np.zeros(self.purpose.encoding.length, np.uint32) if vector is None else vector
        inbox = self.inboxes[name] if inbox is None else inbox
        return mask(self.parties[name], self.members[name], inbox, model, vector)

    def masked(self):
        self.shared()
        self.vectors, self.early = vectors_of(self.purpose, list(self.parties)), {}
        for name in self.parties:
            self.members[name], upload, self.early[name] = self.mask(name, vector=self.vectors[name].copy())
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
        advertise(party, offer_of(3, threshold=3).data)


def test_a_lowered_threshold_is_refused():
    party = parties_of(COUNT, floors=STRICT)["000"]
    with pytest.raises(SecureRefused, match="the threshold is 3 of 5"):
        advertise(party, offer_of(COUNT, threshold=3).data)


def test_no_owner_can_allow_a_threshold_of_half():
    party = parties_of(4, floors=Floors(min_cohort=2, min_threshold_share=0.1))["000"]
    with pytest.raises(SecureRefused, match="the threshold is 2 of 4"):
        advertise(party, offer_of(4, threshold=2).data)


def test_a_larger_weight_cap_than_the_owner_allows_is_refused():
    world = World().shared()
    heavy = replace(world.purpose, encoding=replace(world.purpose.encoding, weight_cap=11.0))
    inbox = joined(heavy.data, *parted(world.inboxes["000"])[1:])
    with pytest.raises(SecureRefused, match="weights up to 11 would count, the owner allows 10"):
        world.mask(inbox=inbox)


@pytest.mark.parametrize("last", [(1, 0), (1, 3)])
def test_a_replayed_offer_is_refused(last):
    with pytest.raises(SecureRefused, match="offer 0 comes after offer"):
        advertise(parties_of(COUNT)["000"], offer_of(COUNT).data, last)


def test_an_offer_of_an_older_leadership_is_refused():
    with pytest.raises(SecureRefused, match="another server leads the run since"):
        advertise(parties_of(COUNT)["000"], offer_of(COUNT, leadership=2, number=9).data, (3, 0))


@pytest.mark.parametrize("later", [{"leadership": 2}, {"number": 8}])
def test_a_later_offer_is_taken(later):
    advertise(parties_of(COUNT)["000"], offer_of(COUNT, **later).data, (1, 7))


def test_a_header_of_another_offer_is_refused():
    world = World()
    header = world.advertised()
    weaker = replace(header, offer=replace(world.offer, threshold=3))
    with pytest.raises(SecureRefused, match="another offer"):
        world.share(weaker)


def test_replaced_own_keys_are_refused():
    world = World()
    header = world.advertised()
    forged = replace(header.adverts[0], mask=public_of(bytes(range(32))))
    with pytest.raises(SecureRefused, match="somebody replaced them"):
        world.share(replace(header, adverts=(forged, *header.adverts[1:])))


def test_replaced_keys_of_another_client_are_refused():
    world = World()
    header = world.advertised()
    forged = replace(header.adverts[1], mask=public_of(bytes(range(32))))
    with pytest.raises(SecureRefused, match="keys of client 001 are not signed"):
        world.share(replace(header, adverts=(header.adverts[0], forged, *header.adverts[2:])))


def test_a_client_that_the_server_made_up_is_refused():
    world = World()
    header = world.advertised()
    secret = bytes(range(32))
    forged = replace(header.adverts[1], name="sybil", identity=identity_of(secret), mask=public_of(secret))
    forged = replace(forged, signature=signature(secret, forged.signed(world.offer)))
    with pytest.raises(SecureRefused, match="client sybil is not enrolled"):
        world.share(replace(header, adverts=(header.adverts[0], forged, *header.adverts[2:])))


def test_a_client_that_is_there_twice_is_refused():
    world = World()
    header = world.advertised()
    twice = replace(header, adverts=(*header.adverts[:-1], header.adverts[1]))
    with pytest.raises(SecureRefused, match="the same name"):
        world.share(twice)


def test_too_small_a_header_is_refused():
    world = World()
    header = world.advertised()
    with pytest.raises(SecureRefused, match="3 clients are in the header; at least 4"):
        world.share(replace(header, adverts=header.adverts[:3]))


def test_another_model_than_the_one_that_was_sent_is_refused():
    world = World().shared()
    with pytest.raises(SecureRefused, match="another model"):
        world.mask(model=bytes(32))


def test_a_sum_of_more_clients_than_the_encoding_has_room_for_is_refused():
    world = World().shared()
    narrow = replace(world.purpose, encoding=replace(world.purpose.encoding, clients=COUNT - 1))
    with pytest.raises(ProtocolError, match="room for 4 clients, 5 are there"):
        world.mask(inbox=joined(narrow.data, *parted(world.inboxes["000"])[1:]))


OTHERS = {
    "model": lambda purpose: replace(purpose, model=bytes(32)),
    "round": lambda purpose: replace(purpose, round=2),
    "kind": lambda purpose: replace(purpose, kind="evaluate"),
    "encoding": lambda purpose: replace(purpose, encoding=replace(purpose.encoding, clip=2.0)),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_sum_of_which_some_clients_were_told_something_else_is_opened_by_nobody(what):
    """Client 000 is told of another sum, and sent what fits: its masks cancel with nobody's, and nobody releases."""
    world = World().shared()
    other = OTHERS[what](world.purpose)
    vectors, marks = vectors_of(world.purpose, list(world.parties)), {}
    for index, name in enumerate(world.parties):
        inbox = joined(other.data, *parted(world.inboxes[name])[1:]) if index == 0 else world.inboxes[name]
        model = other.model if index == 0 else MODEL
        world.members[name], upload, marks[index] = world.mask(name, inbox, model, vectors[name].copy())
        world.server.masked(name, upload)
        world.server.early(name, marks[index])
    assert not np.array_equal(world.server.total, np.sum(list(vectors.values()), axis=0, dtype=np.uint32))
    bundle = joined(*(index.to_bytes(4, "little") + mark for index, mark in marks.items()))
    for name, party in world.parties.items():
        with pytest.raises(SecureRefused, match="a client signed other sets"):
            release(party, world.members[name], bundle)


def test_masks_under_different_headers_do_not_cancel():
    private, other = X25519PrivateKey.generate(), X25519PrivateKey.generate().public_key().public_bytes_raw()
    one, two = (pair_key(private, other, b"mask", digest, 0, 1) for digest in (bytes(32), MODEL))
    assert one != two


def test_a_changed_sealed_share_is_refused():
    world = World().shared()
    purpose, first, *others = parted(world.inboxes["000"])
    with pytest.raises(ProtocolError, match="a sealed share was changed"):
        world.mask(inbox=joined(purpose, first[:-1] + bytes([first[-1] ^ 1]), *others))


def test_shares_of_too_few_are_refused():
    world = World().shared()
    with pytest.raises(SecureRefused, match="3 of the neighbourhood shared their keys, 4 have to"):
        world.mask(inbox=joined(*parted(world.inboxes["000"])[:3]))


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
            world.mask(name)
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
    with pytest.raises(ProtocolError, match=r"do not (give the secret that it announced|belong together)"):
        world.server.result()


def test_an_offer_survives_its_bytes_and_changed_bytes_are_no_offer():
    offer = offer_of(COUNT, threshold=4)
    assert Offer.read(offer.data) == offer
    for place in range(4):
        with pytest.raises(ProtocolError):
            Offer.read(offer.data[:place])


def test_a_purpose_survives_its_bytes_and_changed_bytes_are_no_purpose():
    purpose = purpose_of(COUNT, 6)
    assert Purpose.read(purpose.data) == purpose
    for place in (0, 3, 60, len(purpose.data) - 1):
        with pytest.raises(ProtocolError):
            Purpose.read(purpose.data[:place])


def test_a_party_does_not_print_its_secret():
    assert repr(parties_of(1)["000"]) == "Party('000')"
    assert isinstance(parties_of(1)["000"], Party)


@pytest.mark.parametrize("left", [set(), {"000"}], ids=["seed", "mask key"])
def test_shares_of_another_secret_that_fit_together_abort_as_well(left):
    """All holders add the same to their shares of client 000: they give a secret, and not the announced one."""
    world = World(floors=Floors(min_cohort=2)).shared()
    for name in world.parties:
        world.members[name], upload, _ = world.mask(name)
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
    with pytest.raises(ProtocolError, match="client 000 do not give the secret that it announced"):
        world.server.result()


def test_few_who_come_get_no_larger_neighbourhood_than_the_threshold_is_for():
    """Ten of 61, each with two neighbours, of whom three open a secret: among all ten, two sums could be opened."""
    offer = offer_of(61, threshold=3, neighbours=2)
    adverts = []
    for party in parties_of(10).values():
        _, message = advertise(party, offer.data)
        adverts.append(Advert.read(message))
    assert {len(neighbours) for neighbours in Header(offer, tuple(adverts)).neighbours} == {2}


def released_by(world, name, message):
    """Of whom this client released the share of the seed, and of whom that of the mask key."""
    before = world.members[name].shares
    world.members[name], opened = release(world.parties[name], world.members[name], message)
    pairs = zip(sorted(before), parted(opened), strict=True)
    return {(holder, "seed" if share == before[holder][:SHARE_BYTES] else "key") for holder, share in pairs}


def test_of_two_sets_that_clients_signed_a_server_can_open_one_sum():
    """All signed early that everybody is in, and then that client 004 is not: nobody's two secrets are found."""
    world = World(floors=Floors(min_cohort=2)).masked()
    fewer = Sets(COUNT, frozenset(range(COUNT)), frozenset(range(4)))
    early = joined(*(index.to_bytes(4, "little") + world.early[name] for index, name in enumerate(world.parties)))
    late, members = [], dict(world.members)
    for index, name in enumerate(list(world.parties)[:4]):
        members[name], mark = agree(world.parties[name], world.members[name], fewer.data)
        late.append(index.to_bytes(4, "little") + mark)
    for split in range(COUNT):
        found = []
        attempt = World.__new__(World)
        attempt.parties, attempt.members = world.parties, {}
        for index, name in enumerate(world.parties):
            first = index >= split
            attempt.members[name] = world.members[name] if first else members[name]
            found += [*released_by(attempt, name, early if first else joined(*late))]
        opened = {secret for secret in found if found.count(secret) >= world.offer.threshold}
        assert not {("seed", 4), ("key", 4)} <= {(kind, holder) for holder, kind in opened}


def test_a_client_that_agreed_on_fewer_does_not_release_by_what_was_signed_early():
    world = World(floors=Floors(min_cohort=2)).masked()
    early = joined(*(index.to_bytes(4, "little") + world.early[name] for index, name in enumerate(world.parties)))
    world.members["000"], _ = world.agree(range(5), range(4))
    with pytest.raises(SecureRefused, match="a client signed other sets"):
        release(world.parties["000"], world.members["000"], early)


def test_who_was_told_that_somebody_shared_nothing_signs_nothing_early():
    world = World(floors=Floors(min_cohort=2)).shared()
    _, _, signed = world.mask(inbox=joined(*parted(world.inboxes["000"])[:4]))
    assert signed == b""
    assert world.mask()[2]


def test_masks_are_made_once_for_keys_that_were_made_ahead():
    world = World().shared()
    party, inbox = world.parties["000"], {"step": "mask", "message": world.inboxes["000"]}
    kept = Kept(None, world.members["000"])
    kept, _, _ = received(party, kept, inbox, MODEL)
    with pytest.raises(SecureRefused, match="each step is taken once"):
        received(party, kept, inbox, MODEL)


@pytest.mark.parametrize("ahead", [b"", b"none", offer_of(COUNT, threshold=4).data, offer_of(3, threshold=3).data])
def test_an_offer_ahead_that_cannot_be_taken_does_no_harm_to_the_sum_under_way(ahead):
    world = World().shared()
    own = {"step": "mask", "message": world.inboxes["000"], "ahead": ahead}
    kept, _, told = received(world.parties["000"], Kept(world.members["000"]), own, MODEL)
    assert set(told) == {"signature"}
    assert kept.ahead is None


def test_a_new_offer_ends_all_that_was_made_ahead():
    world = World().shared()
    party, member = world.parties["000"], world.members["000"]
    later = offer_of(COUNT, threshold=4, number=5)
    kept, _ = replied(party, Kept(member, member), {"step": "advertise", "message": later.data}, last=(1, 4))
    assert (kept.member.offer, kept.ahead) == (later, None)
    with pytest.raises(SecureRefused, match="each step is taken once"):
        received(party, kept, {"step": "mask", "message": world.inboxes["000"]}, MODEL)


@pytest.mark.parametrize("size", [17, 2**10 + 1])
def test_a_name_is_not_longer_than_names_are(size):
    advert = Advert("x" * size, bytes(32), b"", bytes(32), bytes(32), bytes(64))
    if size <= 2**10:
        assert Advert.read(advert.data) == advert
        return
    with pytest.raises(ProtocolError, match="a client's name has 1025 bytes"):
        Advert.read(advert.data)


def test_sets_of_another_size_are_refused_before_they_are_unpacked():
    with pytest.raises(ProtocolError, match="no sets of a round with 5 clients"):
        Sets.read(joined((5).to_bytes(4, "little"), bytes(2**20), bytes(2**20)), 5)


def test_a_neighbourhood_is_not_larger_than_any_needs():
    with pytest.raises(ConfigError, match="1025 clients would mask together"):
        offer_of(1025)


@pytest.mark.parametrize("graph", [{}, {"neighbours": 6, "threshold": 5}])
def test_a_client_s_neighbours_are_those_that_everybody_finds(graph):
    offer = offer_of(64, **graph)
    adverts = tuple(Advert.read(advertise(party, offer.data)[1]) for party in parties_of(64).values())
    header = Header(offer, adverts)
    assert tuple(header.near(index) for index in range(64)) == header.neighbours


def test_keys_of_small_order_are_not_passed_on():
    gathering, party = Gathering(offer_of(COUNT, threshold=4)), parties_of(COUNT)["000"]
    _, message = advertise(party, gathering.offer.data)
    bad = replace(Advert.read(message), mask=bytes(32))
    bad = replace(bad, signature=party.sign(bad.signed(gathering.offer)))
    with pytest.raises(ProtocolError, match="agrees on nothing"):
        gathering.advert("000", bad.data)


@pytest.mark.parametrize("step", ["share", "mask", "agree", "release"])
def test_messages_of_no_fields_or_of_any_bytes_are_refused_like_others(step):
    world = World().shared()
    rng = np.random.default_rng(0)
    found = [b"", joined(), joined(b""), joined(joined()), *(rng.bytes(int(size)) for size in rng.integers(0, 90, 200))]
    for message in found:
        own = {"step": step, "message": message, "ahead": message}
        work = partial(received, model=MODEL) if step == "mask" else replied
        with pytest.raises((ProtocolError, SecureRefused)):
            work(world.parties["000"], Kept(world.members["000"]), own)
