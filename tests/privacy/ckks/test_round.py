"""An encrypted sum is the sum, to the bit; the server holds nothing that opens it; and clients open nothing else."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from umbel.errors import ConfigError, ProtocolError, SecureRefused
from umbel.privacy.ckks.parameters import Ckks, ckks
from umbel.privacy.ckks.round import Member, Sum, added, advertise, deal, encrypt, opened, receive
from umbel.privacy.sa1.encoding import Encoding
from umbel.privacy.sa1.fields import joined, parted
from umbel.privacy.sa1.keys import derived, identity_of
from umbel.privacy.sa1.party import Floors, Party

tenseal = pytest.importorskip("tenseal")
NAMES = ("cleveland", "hungary", "switzerland", "long beach")
SMALL = ckks(4096, coeff_mod_bits=(54, 55), scale_bits=21)


def party(name, least=3):
    secret = derived(b"root", name.encode(), b"", 0, 0)

    def trusts(other, identity, credential):
        return identity_of(derived(b"root", other.encode(), b"", 0, 0)) == identity

    return Party(name=name, secret=secret, trusts=trusts, floors=Floors(min_cohort=least))


class Talk:
    """All that was sent to the server, and what each client remembers."""

    def __init__(self, length=10, settings=SMALL, names=NAMES):
        self.about = Sum(settings=settings, about=b"run 1", clients=names, length=length)
        self.parties = {name: party(name) for name in names}
        self.heard = []
        self.members, self.adverts = {}, {}
        for name, one in self.parties.items():
            self.members[name], self.adverts[name] = advertise(one, self.about)
        first = names[0]
        self.members[first], sealed = deal(self.parties[first], self.about, self.members[first], self.adverts)
        for name, box in sealed.items():
            self.members[name] = receive(
                self.parties[name], self.about, self.members[name], first, self.adverts[first], box
            )
        self.heard += [*self.adverts.values(), *sealed.values()]

    def encrypted(self, vectors):
        sent = {name: encrypt(name, self.about, self.members[name], vector) for name, vector in vectors.items()}
        self.heard += sent.values()
        return sent

    def opened(self, total, name="hungary"):
        return opened(self.parties[name], self.about, self.members[name], total)


def summed(about, ciphertexts):
    total, refused = added(about, {str(place): one for place, one in enumerate(ciphertexts)})
    assert not refused
    return total


def vectors(length, names=NAMES, seed=3):
    rng = np.random.default_rng(seed)
    most = (2**31 - 1) // len(names)
    return {name: rng.integers(-most, most, length).astype(np.int32).view(np.uint32) for name in names}


def total_of(parts):
    return sum(part.view(np.int32).astype(np.int64) for part in parts).astype(np.int32).view(np.uint32)


@pytest.mark.parametrize("settings", [SMALL, ckks()], ids=["4096", "8192"])
@pytest.mark.parametrize("length", [1, 2044, 2045, 9000])
def test_the_sum_is_exact_and_names_who_is_in_it(settings, length):
    talk, given = Talk(length, settings), vectors(length)
    words, who = talk.opened(summed(talk.about, list(talk.encrypted(given).values())))
    assert np.array_equal(words, total_of(given.values()))
    assert who == NAMES


def test_who_drops_out_is_left_out():
    talk, given = Talk(50), vectors(50)
    del given["switzerland"]
    words, who = talk.opened(summed(talk.about, list(talk.encrypted(given).values())))
    assert np.array_equal(words, total_of(given.values()))
    assert who == ("cleveland", "hungary", "long beach")


def test_sixty_four_clients_at_the_ends_of_the_range_are_exact():
    names = tuple(f"client {number}" for number in range(64))
    talk = Talk(3000, names=names)
    most = 2**31 // 64 - 1
    given = {
        name: np.full(3000, most if number % 2 else -most, np.int32).view(np.uint32)
        for number, name in enumerate(names)
    }
    given[names[0]] = given[names[1]]
    words, who = talk.opened(summed(talk.about, list(talk.encrypted(given).values())), names[5])
    assert np.array_equal(words, total_of(given.values()))
    assert who == names


def test_a_round_trip_of_an_update_is_within_a_ten_thousandth():
    rng = np.random.default_rng(1)
    encoding = Encoding(clip=1.0, weight_cap=100.0, clients=4, size=5000)
    updates = {name: rng.uniform(-1, 1, 5000).astype(np.float32) for name in NAMES}
    talk = Talk(encoding.length)
    given = {name: encoding.encode([([update], 50.0)], examples=50.0) for name, update in updates.items()}
    words, _ = talk.opened(summed(talk.about, list(talk.encrypted(given).values())))
    found, truth = encoding.decode(words).values, 50.0 * sum(np.float64(update) for update in updates.values())
    assert np.linalg.norm(found - truth) <= 1e-4 * np.linalg.norm(truth)


def test_what_the_server_has_does_not_decrypt():
    """Any key that the server can make, and all bytes that it was sent, against a key that was dealt as the control."""
    talk, given = Talk(500), vectors(500)
    sent = talk.encrypted(given)
    words = given["hungary"].view(np.int32).astype(np.float64)

    def likeness(context, data):
        numbers = np.array(tenseal.ckks_vector_from(context, data).decrypt())[len(NAMES) :]
        return abs(np.corrcoef(numbers, words)[0, 1])

    part = parted(sent["hungary"])[0]
    assert likeness(tenseal.context_from(talk.members["cleveland"].key), part) > 0.999
    for _ in range(5):
        own = tenseal.context(
            tenseal.SCHEME_TYPE.CKKS,
            4096,
            coeff_mod_bit_sizes=[54, 55],
            encryption_type=tenseal.ENCRYPTION_TYPE.SYMMETRIC,
        )
        own.global_scale = 2.0**21
        assert likeness(own, part) < 0.2
    key = talk.members["cleveland"].key
    secret = tenseal.context_from(key)
    assert secret.has_secret_key()
    pieces = [key[start : start + 24] for start in range(200, len(key) - 24, 997)]
    assert not any(piece in heard for piece in pieces for heard in talk.heard)
    for heard in talk.heard:
        with pytest.raises(Exception, match=r".*"):
            assert tenseal.context_from(heard).has_secret_key()


def test_one_client_alone_is_not_opened_however_it_is_put_together():
    talk, given = Talk(20), vectors(20)
    sent = talk.encrypted(given)
    one = sent["switzerland"]
    others = [sent[name] for name in NAMES if name != "switzerland"]
    for total, words in (
        (summed(talk.about, [one]), "the sum is of 1 clients"),
        (summed(talk.about, [one, sent["hungary"]]), "the sum is of 2 clients"),
        (summed(talk.about, [one] * 4), "no sum of each client's vector once"),
        (summed(talk.about, [*others, one, one]), "no sum of each client's vector once"),
    ):
        with pytest.raises(SecureRefused, match=words):
            talk.opened(total)


def test_who_sends_something_else_is_named_and_the_others_are_summed():
    talk, given = Talk(3000), vectors(3000)
    sent = talk.encrypted(given)
    first, second = parted(sent["switzerland"])
    for bad in (b"", b"nothing of the kind", joined(first), joined(first, first), joined(first, second[:1000])):
        total, refused = added(talk.about, {**sent, "switzerland": bad})
        assert list(refused) == ["switzerland"]
        words, who = talk.opened(total)
        assert who == ("cleveland", "hungary", "long beach")
        assert np.array_equal(words, total_of(given[name] for name in who))
    with pytest.raises(ProtocolError, match="no client sent"):
        added(talk.about, {"switzerland": b""})


def test_parts_of_different_clients_are_not_opened():
    talk, given = Talk(3000), vectors(3000)
    sent = talk.encrypted(given)
    whole, rest = (summed(talk.about, [sent[name] for name in names]) for names in (NAMES, NAMES[:3]))
    mixed = joined(parted(whole)[0], parted(rest)[1])
    with pytest.raises(SecureRefused, match="not of the same clients"):
        talk.opened(mixed)


def test_a_sum_of_another_round_is_not_opened():
    talk, given = Talk(20), vectors(20)
    total = summed(talk.about, list(talk.encrypted(given).values()))
    talk.about = replace(talk.about, about=b"run 1, the next round")
    with pytest.raises(SecureRefused, match="no sum of each client's vector once"):
        talk.opened(total)


def test_who_is_not_who_it_says_gets_no_key():
    about = Sum(settings=SMALL, about=b"run", clients=NAMES, length=5)
    real = {name: advertise(party(name), about) for name in NAMES}
    stranger = Party(name="hungary", secret=bytes(range(32)), trusts=lambda *_: True, floors=Floors())
    _, false = advertise(stranger, about)
    adverts = {name: advert for name, (_, advert) in real.items()}
    first = party("cleveland")
    with pytest.raises(SecureRefused, match="hungary is nobody that this client's owner trusts"):
        deal(first, about, real["cleveland"][0], {**adverts, "hungary": false})
    _, signed, identity, credential = parted(adverts["hungary"])
    swapped = joined(parted(false)[0], signed, identity, credential)
    with pytest.raises(SecureRefused, match="is not signed by it"):
        deal(first, about, real["cleveland"][0], {**adverts, "hungary": swapped})
    other = replace(about, about=b"another run")
    old = {name: advertise(party(name), other)[1] for name in NAMES}
    with pytest.raises(SecureRefused, match="or is for another sum"):
        deal(first, about, real["cleveland"][0], old)


def test_a_key_that_was_changed_on_its_way_is_refused():
    about = Sum(settings=SMALL, about=b"run", clients=NAMES, length=5)
    real = {name: advertise(party(name), about) for name in NAMES}
    adverts = {name: advert for name, (_, advert) in real.items()}
    _, sealed = deal(party("cleveland"), about, real["cleveland"][0], adverts)
    box = sealed["hungary"]
    for bad in (box[:-1] + bytes([box[-1] ^ 1]), sealed["long beach"], b""):
        with pytest.raises(ProtocolError):
            receive(party("hungary"), about, real["hungary"][0], "cleveland", adverts["cleveland"], bad)


def test_too_few_are_refused_before_anything_is_sent():
    about = Sum(settings=SMALL, about=b"run", clients=NAMES[:2], length=5)
    with pytest.raises(SecureRefused, match="the owner allows sums of at least 3"):
        advertise(party("hungary"), about)
    with pytest.raises(SecureRefused, match="does not have this client"):
        advertise(party("long beach"), about)
    with pytest.raises(ConfigError, match="2 to 64 clients, got 65"):
        Sum(settings=SMALL, about=b"", clients=tuple(map(str, range(65))), length=5)


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


def test_bytes_that_are_no_ciphertext_are_refused_and_end_no_process():
    """In a process of its own: the loader is C++, and what it does with hostile bytes is seen by its exit code."""
    script = """
import numpy as np
from umbel.errors import ProtocolError
from umbel.privacy.ckks.parameters import ckks
from umbel.privacy.ckks.tenseal import Adder, Key
small = ckks(4096, coeff_mod_bits=(54, 55), scale_bits=21)
good = Key.fresh(small).encrypt(np.arange(10))
rng, refused = np.random.default_rng(0), 0
for case in range(300):
    bad = bytearray(good)
    if case % 3 == 0:
        bad = bad[: rng.integers(0, len(bad))]
    else:
        for place in rng.integers(0, 200 if case % 3 == 1 else len(bad), 4):
            bad[place] = rng.integers(0, 256)
    try:
        adder = Adder(small)
        adder.add(adder.load(bytes(bad), 10), adder.load(good, 10)).serialize()
    except ProtocolError:
        refused += 1
print(refused)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


def test_what_a_client_remembers_comes_back():
    member = Member(b"s" * 32, b"key")
    assert Member.read(member.data) == member


def test_two_openings_of_a_round_show_their_difference_so_the_server_has_to_keep_to_the_protocol():
    """What the documentation says that this does not stand against, so that nobody claims it does."""
    talk, given = Talk(), {name: np.full(10, 7 + place, np.uint32) for place, name in enumerate(NAMES)}
    sent = talk.encrypted(given)
    everybody, _ = talk.opened(summed(talk.about, list(sent.values())), "hungary")
    but_one, _ = talk.opened(summed(talk.about, list(sent.values())[:3]), "switzerland")
    assert (everybody - but_one == given["long beach"]).all()


def test_who_has_a_key_of_the_sum_deals_no_other_under_the_same_seal():
    talk = Talk()
    for name in ("cleveland", "hungary"):
        with pytest.raises(SecureRefused, match="deals no other"):
            deal(talk.parties[name], talk.about, talk.members[name], talk.adverts)


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
