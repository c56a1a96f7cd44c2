"""An encrypted sum is the sum, to the bit, or there is none; the server has no key; and clients open nothing else."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from umbel.errors import ConfigError, ProtocolError, SecureAborted, SecureRefused
from umbel.privacy.ckks.conversation import STEPS, Conversation
from umbel.privacy.ckks.joining import advertise, deal, receive
from umbel.privacy.ckks.member import Member
from umbel.privacy.ckks.offer import Advert, Header, Offer
from umbel.privacy.ckks.parameters import Ckks, ckks
from umbel.privacy.ckks.summing import agree, encrypt, opened
from umbel.privacy.ckks.tenseal import Adder, Key
from umbel.privacy.sa1.encoding import Encoding
from umbel.privacy.sa1.fields import joined, parted
from umbel.privacy.sa1.party import Floors, Party
from umbel.privacy.sa1.sets import Sets

from .talk import MODEL, NAMES, SMALL, Talk, offer, party, total_of

tenseal = pytest.importorskip("tenseal")


@pytest.mark.parametrize("settings", [SMALL, ckks()], ids=["4096", "8192"])
@pytest.mark.parametrize("length", [3, 2048, 2049, 9000])
def test_the_sum_is_exact_and_names_who_is_in_it(settings, length):
    talk = Talk(offer(length, settings=settings))
    assert np.array_equal(talk.all(), talk.truth)
    assert talk.server.summed == NAMES
    assert not talk.failed


def test_sixty_four_clients_at_the_ends_of_the_range_are_exact():
    names = tuple(f"client {number}" for number in range(64))
    most = 2**31 // 64 - 1
    given = {
        name: np.full(3000, most if number % 2 else -most, np.int32).view(np.uint32)
        for number, name in enumerate(names)
    }
    given[names[0]] = given[names[1]]
    talk = Talk(offer(3000, names=names), given=given)
    assert np.array_equal(talk.all(), total_of(given.values()))


def test_a_round_trip_of_an_update_is_within_a_ten_thousandth():
    rng = np.random.default_rng(1)
    encoding = Encoding(clip=1.0, weight_cap=100.0, clients=4, size=5000)
    updates = {name: rng.uniform(-1, 1, 5000).astype(np.float32) for name in NAMES}
    given = {name: encoding.encode([([update], 50.0)], examples=50.0) for name, update in updates.items()}
    talk = Talk(replace(offer(), encoding=encoding), given=given)
    talk.all()
    found, truth = talk.server.decoded().values, 50.0 * sum(np.float64(update) for update in updates.values())
    assert np.linalg.norm(found - truth) <= 1e-4 * np.linalg.norm(truth)


def test_what_the_server_has_does_not_decrypt():
    """Any key that the server can make, and all bytes that it was sent, against a key that was dealt as the control."""
    talk = Talk(offer(500)).until("agree")
    key = talk.members["cleveland"].key
    words = talk.given["hungary"].view(np.int32).astype(np.float64)

    def likeness(context, data):
        return abs(np.corrcoef(np.array(tenseal.ckks_vector_from(context, data).decrypt()), words)[0, 1])

    sent = [one for one in talk.heard if len(one) > 50_000]
    parts = [fields[1] for one in sent if len(fields := parted(one)) == 2]
    assert len(parts) == len(NAMES)
    assert max(likeness(tenseal.context_from(key), part) for part in parts) > 0.999
    for _ in range(5):
        own = tenseal.context(
            tenseal.SCHEME_TYPE.CKKS,
            4096,
            coeff_mod_bit_sizes=[54, 55],
            encryption_type=tenseal.ENCRYPTION_TYPE.SYMMETRIC,
        )
        own.global_scale = 2.0**21
        assert max(likeness(own, part) for part in parts) < 0.2
    assert tenseal.context_from(key).has_secret_key()
    secrets = [member.dealt for member in talk.members.values()]
    pieces = [key[start : start + 24] for start in range(200, len(key) - 24, 997)] + secrets
    assert not any(piece in heard for piece in pieces for heard in talk.heard)
    for heard in [*talk.heard, *(field for one in talk.heard if len(one) > 200 for field in parted(one))]:
        with pytest.raises(Exception, match=r".*"):
            assert tenseal.context_from(heard).has_secret_key()


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", NAMES)
def test_who_drops_out_at_any_step_is_left_out_or_done_without(name, step):
    talk = Talk(offer(50), silent={(name, step)})
    assert np.array_equal(talk.all(), talk.truth)
    gone = step in ("advertise", "encrypt")
    assert set(talk.server.summed) == set(NAMES) - ({name} if gone else set())


@pytest.mark.parametrize("step", STEPS)
def test_with_too_many_gone_at_any_step_there_is_no_sum_and_the_reason_is_said(step):
    alone = step in ("deal", "open")
    talk = Talk(offer(50), silent={(name, step) for name in (NAMES if alone else NAMES[:2])})
    words = {
        "advertise": "2 of 4 clients sent keys, 3 are needed",
        "deal": "no client is left who would deal its key",
        "encrypt": "2 of 4 clients sent encrypted vectors, 3 are needed",
        "agree": "2 of 4 clients signed who is in the sum, 3 are needed",
        "open": "no client is left who would open it",
    }[step]
    with pytest.raises(SecureAborted, match=words):
        talk.all()
    assert len(talk.asked) <= len(STEPS) * len(NAMES)


def test_who_dealt_and_left_is_in_no_sum_and_is_not_needed_for_one():
    whole = Talk(offer(50))
    whole.all()
    [dealer] = [name for name, step in whole.asked if step == "deal"]
    talk = Talk(offer(50), silent={(dealer, step) for step in ("encrypt", "agree", "open")})
    assert np.array_equal(talk.all(), talk.truth)
    assert set(talk.server.summed) == set(NAMES) - {dealer}


@pytest.mark.parametrize(("round", "attempt"), [(1, 0), (1, 1), (2, 0)])
def test_another_client_deals_and_opens_first_in_each_round_and_try(round, attempt):
    talk = Talk(offer(round=round, attempt=attempt))
    talk.all()
    assert [name for name, step in talk.asked if step in ("deal", "open")] == [NAMES[round + attempt]] * 2


def changed(place, *, by=1):
    """The message with one byte of field `place` changed."""

    def change(message):
        fields = parted(message)
        fields[place] = fields[place][:-1] + bytes([fields[place][-1] ^ by])
        return joined(*fields)

    return change


def test_who_sends_bytes_of_another_form_is_left_out_at_any_step():
    for step in ("advertise", "encrypt", "agree"):
        for bad in (b"", b"nothing of the kind", joined(), joined(b"", b"")):
            talk = Talk(offer(50), false={("hungary", step): lambda truth, bad=bad: bad})
            assert np.array_equal(talk.all(), talk.truth)
            assert list(talk.failed) == ["hungary"]
            assert ("hungary" in talk.server.summed) == (step == "agree")
    for step in ("deal", "open"):
        talk = Talk(offer(50), false={("hungary", step): lambda truth: truth[:-1]})
        assert np.array_equal(talk.all(), talk.truth)
        assert list(talk.failed) == ["hungary"]


def test_who_encrypts_something_else_is_named_and_the_others_are_summed():
    def with_parts(change):
        return lambda truth: joined(parted(truth)[0], *change(parted(truth)[1:]))

    for change in (
        lambda parts: parts[:1],
        lambda parts: [parts[0], parts[0]],
        lambda parts: [parts[0], parts[1][:1000]],
        lambda parts: [parts[0], b"nothing"],
    ):
        talk = Talk(offer(3000), false={("switzerland", "encrypt"): with_parts(change)})
        assert np.array_equal(talk.all(), talk.truth)
        assert list(talk.failed) == ["switzerland"]
        assert "switzerland" not in talk.server.summed


@pytest.mark.parametrize("what", ["check", "vector"])
def test_a_client_whose_check_is_not_that_of_its_vector_spoils_the_round_and_no_sum(what):
    def other(message):
        one, *parts = parted(message)
        if what == "check":
            return joined(one[:-1] + bytes([one[-1] ^ 1]), *parts)
        liar = Key.read(SMALL, talk.members["hungary"].key)
        return joined(one, liar.encrypt(np.arange(50)))

    talk = Talk(offer(50), false={("hungary", "encrypt"): other})
    with pytest.raises(SecureAborted, match="no client is left who would open it"):
        talk.all()
    assert len(talk.failed) == len(NAMES)


def test_a_dealer_that_deals_no_key_spoils_the_round_and_no_sum():
    talk = Talk(offer(50), false={("hungary", "deal"): changed(0)})
    with pytest.raises(SecureAborted, match="1 of 4 clients sent encrypted vectors"):
        talk.all()


def test_a_signature_of_something_else_counts_for_nothing():
    talk = Talk(offer(50), false={("hungary", "agree"): lambda truth: truth[:-1] + bytes([truth[-1] ^ 1])})
    assert np.array_equal(talk.all(), talk.truth)
    assert talk.failed == {"hungary": "client hungary did not sign who is in the sum"}


# A server that does not keep to the protocol.


def total_in(talk, *names, times=1):
    """Another total: of these clients' ciphertexts, as often as said."""
    adder, sums = Adder(talk.about.settings), []
    for place, size in enumerate(talk.about.sizes, 1):
        loaded = [adder.load(parted(talk.sent[name])[place], size) for name in names for _ in range(times)]
        total = loaded[0]
        for one in loaded[1:]:
            total = adder.add(total, one)
        sums.append(total.serialize())
    return joined(*sums)


def ready(length=50, *, given=None, **more):
    """A talk in which all have signed, with what each sent."""
    talk = Talk(offer(length, **more), given=given).until("open")
    sent = [one for one in talk.heard if len(one) > 50_000][1:]
    talk.sent = dict(zip(NAMES, sent, strict=True))
    talk.message = next(iter(talk.server.messages("open").values()))
    return talk


def opens(talk, total, *, name="hungary", message=None):
    message = talk.message if message is None else message
    return opened(talk.parties[name], talk.members[name], message, total)[1]


def test_only_the_sum_of_those_who_signed_is_opened():
    talk = ready(5000)
    assert np.array_equal(opens(talk, total_in(talk, *NAMES)), talk.truth)
    for total in (
        total_in(talk, "switzerland"),
        total_in(talk, *NAMES[:3]),
        total_in(talk, *NAMES, times=2),
        total_in(talk, *NAMES, "switzerland"),
        joined(parted(total_in(talk, *NAMES))[0], *parted(total_in(talk, *NAMES[:3]))[1:]),
    ):
        with pytest.raises(SecureRefused, match="is not the sum of the vectors of those who signed it"):
            opens(talk, total)


def test_a_ciphertext_that_the_server_multiplied_is_in_no_sum():
    """It needs no key for that: here half of the slots become one client's alone, and the others stay as they are."""
    given = {name: np.arange(place, place + 50, dtype=np.uint32) for place, name in enumerate(NAMES)}
    talk = ready(given=given)
    context = tenseal.context_from(talk.members["hungary"].key)
    # What a server may reach by multiplying, as exact as can be.
    numbers = sum(given[name].astype(float) * ([1.0] * 25 + [0.0] * 25) for name in NAMES[:3]) + given[NAMES[3]]
    forged = tenseal.ckks_vector(context, numbers.tolist()).serialize()
    with pytest.raises(SecureRefused, match="is not the sum"):
        opens(talk, joined(forged))


def test_a_sum_that_too_few_signed_is_not_opened_however_often_one_signature_comes():
    talk = ready()
    signatures, checks = parted(talk.message)
    marks = parted(signatures)
    for some in (marks[:1], marks[:1] * 4, []):
        others = [mark for mark in some if int.from_bytes(mark[:4], "little") != 1]
        with pytest.raises(SecureRefused, match="clients signed who is in the sum, 3 have to"):
            opens(talk, talk.server.total, message=joined(joined(*others), checks))


def test_clients_that_were_told_different_sets_open_none_of_them():
    """Two sums that differ in one client would show it by their difference."""
    talk = Talk(offer(50, names=(*NAMES, "stanford", "basel"))).until("agree")
    names, everybody = talk.about.names, frozenset(range(6))
    told = {name: everybody if place < 3 else everybody - {0} for place, name in enumerate(names)}
    signed = {}
    for place, name in enumerate(names):
        sets = Sets(6, everybody, told[name])
        talk.members[name], mark = agree(talk.parties[name], talk.members[name], sets.data)
        signed[place] = place.to_bytes(4, "little") + mark
    fields = [parted(one)[0] for one in [one for one in talk.heard if len(one) > 50_000][1:]]
    for name in ("cleveland", "basel"):
        own = told[name]
        checks = joined(*(fields[index] for index in sorted(own)))
        with pytest.raises(SecureRefused, match="a client signed other sets than this one"):
            opens(talk, talk.server.total, name=name, message=joined(joined(*signed.values()), checks))
        alike = [mark for index, mark in signed.items() if told[names[index]] == own]
        with pytest.raises(SecureRefused, match="3 clients signed who is in the sum, 5 have to"):
            opens(talk, talk.server.total, name=name, message=joined(joined(*alike), checks))


def test_one_client_signs_one_set_and_opens_one_sum():
    talk = ready()
    sets = Sets(4, frozenset(range(4)), frozenset(range(3)))
    with pytest.raises(SecureRefused, match="follows 'encrypted', but the last one was 'agreed'"):
        agree(talk.parties["hungary"], talk.members["hungary"], sets.data)
    message = talk.message
    after, _ = opened(talk.parties["hungary"], talk.members["hungary"], message, talk.server.total)
    assert (after.key, after.dealt, after.secret) == (b"", b"", b"")
    with pytest.raises(SecureRefused, match="the last one was 'opened'"):
        opened(talk.parties["hungary"], after, message, talk.server.total)


def test_sets_that_a_client_must_not_sign_are_refused():
    talk = Talk(offer(50)).until("agree")
    everybody = frozenset(range(4))
    for shared, summed, words in (
        (everybody, everybody - {1}, "this client's vector is not in the sum"),
        (everybody, frozenset({0, 1}), "the sum has 2 clients; at least 3 have to be in it"),
        (everybody - {3}, everybody - {3}, "a client of the header was dealt no key"),
    ):
        with pytest.raises(SecureRefused, match=words):
            agree(talk.parties["hungary"], talk.members["hungary"], Sets(4, shared, summed).data)


def test_a_sum_of_another_round_is_not_opened():
    first, second = ready(), ready(round=2)
    with pytest.raises(SecureRefused, match="is not the sum"):
        opens(second, first.server.total)


def header_of(about=None, **changed):
    """(members, header) after everybody has advertised; `changed` replaces adverts, in their order in the header."""
    about = about or offer()
    begun = {name: advertise(party(name), about.data) for name in about.names}
    adverts = {name: Advert.read(data) for name, (_, data) in begun.items()} | changed
    return {name: member for name, (member, _) in begun.items()}, Header(about, tuple(adverts.values()))


def test_who_is_not_who_it_says_gets_no_key():
    about = offer()
    stranger = Party(name="hungary", secret=bytes(range(32)), trusts=lambda *_: True, floors=Floors())
    false = Advert.read(advertise(stranger, about.data)[1])
    _, plain = header_of(about)
    real = {advert.name: advert for advert in plain.adverts}
    old = Advert.read(advertise(party("hungary"), offer(round=2).data)[1])
    for one, words in (
        (false, "client hungary is not enrolled with the key that the header gives it"),
        (replace(real["hungary"], key=false.key), "is not signed by it for this sum"),
        (old, "is not signed by it for this sum"),
        (replace(real["cleveland"], signature=real["hungary"].signature), "two clients in the header have the same"),
    ):
        members, header = header_of(about, hungary=one)
        with pytest.raises(SecureRefused, match=words):
            deal(party("switzerland"), members["switzerland"], header.data)


def test_a_header_that_is_not_in_order_is_refused():
    about = offer()
    members, header = header_of(about)
    uninvited = Advert.read(advertise(party("basel"), offer(names=(*NAMES, "basel")).data)[1])
    other = Advert.read(advertise(party("hungary"), about.data)[1])
    adverts = header.adverts
    for changed_header, words in (
        (Header(offer(round=2), adverts), "of another offer"),
        (Header(about, adverts[:2]), "2 clients are in the header; at least 3 have to be"),
        (Header(about, (*adverts, uninvited)), "client basel is in the header and was not asked"),
        (Header(about, (adverts[0], adverts[2], adverts[3])), "does not have the key that this client sent"),
        (Header(about, (adverts[0], other, *adverts[2:])), "does not have the key that this client sent"),
    ):
        with pytest.raises(SecureRefused, match=words):
            deal(party("hungary"), members["hungary"], changed_header.data)


def test_a_key_that_was_changed_on_its_way_is_refused():
    members, header = header_of()
    _, dealt = deal(party("cleveland"), members["cleveland"], header.data)
    bulk, *boxes = parted(dealt)
    place = (0).to_bytes(4, "little")

    def received(bulk, box, place=place):
        return receive(party("hungary"), members["hungary"], joined(header.data, place, bulk, box))

    assert received(bulk, boxes[1]).stage == "dealt"
    for values in (
        (bulk, boxes[1][:-1] + bytes([boxes[1][-1] ^ 1])),
        (bulk[:-1] + bytes([bulk[-1] ^ 1]), boxes[1]),
        (bulk, boxes[2]),
        (bulk, b""),
        (bulk, boxes[1], (2).to_bytes(4, "little")),
        (bulk, boxes[1], (9).to_bytes(4, "little")),
    ):
        with pytest.raises(ProtocolError):
            received(*values)
    with pytest.raises(SecureRefused, match="did not deal"):
        received(b"", b"", (1).to_bytes(4, "little"))


def test_who_has_a_key_of_the_sum_deals_no_other_under_the_same_seal():
    talk = Talk().until("encrypt")
    header = talk.server.header.data
    [dealer] = [name for name, step in talk.asked if step == "deal"]
    with pytest.raises(SecureRefused, match="each step is taken once"):
        deal(talk.parties[dealer], talk.members[dealer], header)


def test_another_model_than_the_offer_s_is_not_answered():
    talk = Talk().until("encrypt")
    message = talk.server.messages("encrypt")["hungary"]
    member = receive(talk.parties["hungary"], talk.members["hungary"], message)
    with pytest.raises(SecureRefused, match="was sent another model than the offer binds"):
        encrypt(talk.parties["hungary"], member, MODEL[::-1], talk.given["hungary"])
    with pytest.raises(ProtocolError, match="the vector has 3 words, the offer 10"):
        encrypt(talk.parties["hungary"], member, MODEL, talk.given["hungary"][:3])


def test_an_offer_below_the_owner_s_floors_is_refused():
    strict = Party(name="hungary", secret=bytes(32), trusts=lambda *_: True, floors=Floors(min_cohort=5))
    with pytest.raises(SecureRefused, match="the owner allows sums of at least 5"):
        advertise(strict, offer().data)
    strict = replace(strict, floors=Floors(min_threshold_share=0.9))
    with pytest.raises(SecureRefused, match="the threshold is 3 of 4, the owner wants at least 4"):
        advertise(strict, offer().data)
    strict = replace(strict, floors=Floors(max_weight_cap=0.5))
    with pytest.raises(SecureRefused, match="weights up to 1 would count"):
        advertise(strict, offer().data)
    with pytest.raises(SecureRefused, match="does not have this client"):
        advertise(party("hungary"), offer(names=("a", "b", "c")).data)


def test_offers_are_taken_in_their_order():
    about = offer(round=2, attempt=1)
    for last in ((2, 1), (2, 2), (3, 0)):
        with pytest.raises(SecureRefused, match="keys of a round are made once"):
            advertise(party("hungary"), about.data, last)
    assert advertise(party("hungary"), about.data, (2, 0))[0].stage == "advertised"


def test_no_offer_of_other_bytes_is_taken():
    about = offer()
    assert Offer.read(about.data) == about
    with pytest.raises(ConfigError, match="2 to 64 clients, 65 are asked"):
        offer(names=tuple(map(str, range(65))))
    with pytest.raises(ConfigError, match="more than half of 4 clients"):
        offer(threshold=2)
    weak = parted(about.data)
    weak[3] = bytes((54, 56))
    for bad in (joined(*weak), about.data[:-1], joined(b"umbel ckks offer 1", *parted(about.data)[1:])):
        with pytest.raises(ProtocolError):
            Offer.read(bad)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"poly_modulus_degree": 4096, "coeff_mod_bits": (60, 60)}, "less than 128 bits of security; at most 109"),
        ({"poly_modulus_degree": 2048, "coeff_mod_bits": (30, 25)}, "less than 128 bits of security; at most 54"),
        ({"poly_modulus_degree": 8192, "coeff_mod_bits": (60, 60, 60, 60)}, "less than 128 bits"),
        ({"poly_modulus_degree": 1000}, "poly_modulus_degree must be one of"),
        ({"coeff_mod_bits": (60,)}, "two or more whole numbers"),
        ({"scale_bits": 29}, "do not fit into a modulus of 60 bits; at most 28"),
        ({"scale_bits": 10}, "so that sums are exact; raise it"),
    ],
)
def test_weak_or_inexact_parameters_are_refused(arguments, words):
    with pytest.raises(ConfigError, match=words):
        Ckks(**arguments)


FUZZ = """
import importlib
import sys
for name in sys.argv[1:]:
    importlib.import_module(name)
import numpy as np
from umbel.errors import ProtocolError
from umbel.privacy.ckks.parameters import ckks
from umbel.privacy.ckks.tenseal import Adder, Key
good = Key.fresh(ckks()).encrypt(np.arange(10))
rng, refused, adder = np.random.default_rng(0), 0, Adder(ckks())
for case in range(200):
    bad = bytearray(good)
    if case % 3 == 0:
        bad = bad[: rng.integers(0, len(bad))]
    else:
        for place in rng.integers(0, 200 if case % 3 == 1 else len(bad), 4):
            bad[place] = rng.integers(0, 256)
    try:
        adder.add(adder.load(bytes(bad), 10), adder.load(good, 10)).serialize()
    except ProtocolError:
        refused += 1
print(refused)
"""


@pytest.mark.parametrize(
    "loaded", [(), ("umbel.transports.grpc", "torch"), ("torch", "umbel.transports.grpc")], ids=str
)
def test_bytes_that_are_no_ciphertext_are_refused_and_end_no_process(loaded):
    """In a process of its own: the loader is C++, and what it does with hostile bytes is seen by its exit code."""
    for name in loaded:
        pytest.importorskip(name)
    done = subprocess.run([sys.executable, "-c", FUZZ, *loaded], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


def test_beside_torch_and_grpc_s_compiler_it_is_refused_as_its_first_error_would_end_the_process():
    pytest.importorskip("torch")
    script = (
        "import importlib.util, sys\n"
        "if importlib.util.find_spec('grpc_tools') is None: sys.exit(7)\n"
        "import grpc_tools.protoc, torch\n"
        "from umbel.privacy.ckks.tenseal import library\n"
        "library()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200)
    if done.returncode == 7:
        pytest.skip("grpc_tools is not installed")
    assert "keep the compiler out of it" in done.stderr


def test_what_a_client_remembers_comes_back():
    talk = Talk()
    for step in talk.server.turns:
        talk.play(step)
        for member in talk.members.values():
            assert Member.read(member.data) == member
            assert "secret" not in repr(member)
    for bad in (b"", joined(b"nothing"), joined(b"asleep", *parted(member.data)[1:])):
        with pytest.raises(ProtocolError):
            Member.read(bad)


def test_a_conversation_takes_each_answer_once_and_in_its_step():
    talk = Talk().until("deal")
    advert = talk.heard[0]
    with pytest.raises(ProtocolError, match="at step 'advertise', this belongs to 'agree'"):
        talk.server.took("agree", NAMES[0], b"")
    with pytest.raises(ProtocolError, match="twice, or uninvited"):
        talk.server.took("advertise", NAMES[0], advert)
    server = Conversation(talk.about)
    for name in ("hungary", "basel"):
        with pytest.raises(ProtocolError, match="twice, or uninvited"):
            server.took("advertise", name, advert)
    talk = Talk().until("agree")
    sent = [one for one in talk.heard if len(one) > 50_000][1]
    with pytest.raises(ProtocolError, match="sends a vector twice"):
        talk.server.took("encrypt", NAMES[0], sent)
    with pytest.raises(ProtocolError, match="not in the header"):
        talk.server.took("encrypt", "basel", sent)


@pytest.mark.parametrize(
    "arguments",
    [
        {"scale_bits": float("nan")},
        {"scale_bits": 27.0},
        {"scale_bits": None},
        {"poly_modulus_degree": 8192.0},
        {"poly_modulus_degree": [8192]},
        {"coeff_mod_bits": None},
    ],
    ids=str,
)
def test_parameters_that_are_no_whole_numbers_are_refused(arguments):
    with pytest.raises(ConfigError, match="whole number"):
        ckks(**arguments)


def test_a_name_is_not_longer_than_names_are():
    """The node remembers who was in sums, in so many bytes: one long name would make it forget the others."""
    long = Advert("x" * 1025, bytes(32), b"", bytes(32), bytes(64))
    with pytest.raises(ProtocolError, match="a client's name has 1025 bytes"):
        Advert.read(long.data)


def test_a_header_of_no_fields_is_none():
    with pytest.raises(ProtocolError):
        Header.read(joined())
