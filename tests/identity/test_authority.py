"""The server's side: who is let in, for how long, and what of it lasts."""

import contextlib
import os
import sqlite3
import stat
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tests.identity.conftest import NOW_S

from umbel.errors import CodeRefused, IdentityError
from umbel.identity import authority as home
from umbel.identity import make_request, read_code
from umbel.identity.certificates import DAY_S, MEMBER_S, SERVER_S

ADDRESS = "server.example.org:8080"


def secret_of(authority, **more) -> bytes:
    return read_code(authority.invite(ADDRESS, **more)).secret


def joined(authority, who="clinic 1", **more) -> bytes:
    """The DER certificate of a new member."""
    return der_of(authority.enroll(secret_of(authority, **more), make_request(who)[1], who))


def der_of(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


def request_by(key, name, *, hashed=SHA256) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return builder.sign(key, hashed()).public_bytes(Encoding.PEM)


# Letting in


def test_a_member_gets_a_certificate_that_says_name_and_role_and_serves_clients_alone(authority):
    pem = authority.enroll(secret_of(authority, role="user"), make_request("clinic 1")[1], "clinic 1")
    certificate = x509.load_pem_x509_certificate(pem)
    ca = x509.load_pem_x509_certificate(authority.ca_pem)
    certificate.verify_directly_issued_by(ca)
    subject = {part.oid: part.value for part in certificate.subject}
    assert subject == {NameOID.COMMON_NAME: "clinic 1", NameOID.ORGANIZATIONAL_UNIT_NAME: "user"}
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert list(usage.value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert certificate.not_valid_after_utc.timestamp() == NOW_S + 30 * DAY_S
    assert authority.why_refused(der_of(pem)) is None
    assert authority.role_of(der_of(pem)) == "user"


def test_a_code_works_once(authority):
    secret = secret_of(authority)
    authority.enroll(secret, make_request("one")[1], "one")
    with pytest.raises(CodeRefused, match="was used already"):
        authority.enroll(secret, make_request("two")[1], "two")
    assert [member.name for member in authority.members()] == ["one"]


def test_a_code_used_by_many_at_once_lets_in_one(authority):
    secret = secret_of(authority)
    requests = [(f"n{place}", make_request(f"n{place}")[1]) for place in range(8)]
    verdicts = []

    def one(name, csr):
        try:
            authority.enroll(secret, csr, name)
            verdicts.append("in")
        except CodeRefused:
            verdicts.append("refused")

    threads = [threading.Thread(target=one, args=request) for request in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(verdicts) == ["in"] + ["refused"] * 7
    assert len(authority.members()) == 1


def test_the_same_request_again_gets_the_same_certificate_as_its_answer_may_have_been_lost(authority):
    secret, (_, csr) = secret_of(authority), make_request("one")
    first = authority.enroll(secret, csr, "one")
    assert authority.enroll(secret, csr, "one") == first
    authority.revoke("one")
    with pytest.raises(CodeRefused, match="was used already"):
        authority.enroll(secret, csr, "one")


def test_an_expired_code_is_refused_with_its_date(authority, clock):
    secret = secret_of(authority, expires_s=60)
    clock.now_s += 60
    with pytest.raises(CodeRefused, match=r"has expired on 2027-01-15 08:01 UTC; ask"):
        authority.enroll(secret, make_request("one")[1], "one")


def test_wrong_secrets_are_counted_and_each_waits_longer(authority, clock):
    for _ in range(8):
        with pytest.raises(CodeRefused, match="knows no such"):
            authority.enroll(bytes(16), make_request("one")[1], "one")
    assert authority.wrong_secrets() == 8
    assert clock.waited == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    clock.now_s += 61
    with pytest.raises(CodeRefused):
        authority.enroll(b"", b"", "")
    assert clock.waited[-1] == 0.05


def test_the_right_secret_is_not_held_up_by_wrong_ones(authority, clock):
    with pytest.raises(CodeRefused):
        authority.enroll(bytes(16), make_request("one")[1], "one")
    joined(authority)
    assert len(clock.waited) == 1


def test_only_a_hash_of_the_secret_is_kept(authority, tmp_path):
    secret = secret_of(authority)
    assert not any(secret in path.read_bytes() for path in (tmp_path / "authority").iterdir())


def test_a_name_that_is_taken_is_refused_and_costs_no_code(authority):
    joined(authority, "one")
    secret = secret_of(authority)
    with pytest.raises(IdentityError, match="the name 'one' is taken; choose another"):
        authority.enroll(secret, make_request("one")[1], "one")
    authority.enroll(secret, make_request("two")[1], "two")


def test_an_invitation_to_a_name_lets_in_nobody_else(authority):
    secret = secret_of(authority, name="one")
    with pytest.raises(CodeRefused, match="for another name than 'two'"):
        authority.enroll(secret, make_request("two")[1], "two")
    authority.enroll(secret, make_request("one")[1], "one")


def test_an_invitation_to_a_member_lets_it_join_again_and_ends_what_it_had(authority):
    old = joined(authority, "one")
    new = joined(authority, "one", name="one", role="user")
    assert authority.why_refused(new) is None
    assert "was replaced when the node joined again" in (authority.why_refused(old) or "")
    assert [(member.name, member.role) for member in authority.members()] == [("one", "user")]


@pytest.mark.parametrize("name", ["", " one", "one/two", "../one", "a\nb", "n" * 65, "ä" * 33, "\ud800", "-x"])
def test_a_name_that_cannot_stand_anywhere_is_refused(authority, name):
    with pytest.raises(IdentityError, match="a name is 1 to 64"):
        authority.enroll(secret_of(authority), make_request("one")[1], name)
    with pytest.raises(IdentityError, match="a name is 1 to 64"):
        authority.invite(ADDRESS, name=name)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"role": "No Role"}, "a role is a word"),
        ({"expires_s": 0}, "expires_s must be above 0"),
        ({"expires_s": float("nan")}, "expires_s must be above 0"),
        ({"address": "nowhere"}, "host:port"),
    ],
)
def test_an_invitation_that_makes_no_sense_is_refused(authority, changed, reason):
    with pytest.raises(IdentityError, match=reason):
        authority.invite(**{"address": ADDRESS, **changed})
    assert authority.invitations() == []


# Requests


def forged() -> bytes:
    """A request whose key was exchanged after it was signed."""
    mine, theirs = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    der = x509.load_pem_x509_csr(request_by(mine, "one")).public_bytes(Encoding.DER)
    points = [key.public_key().public_numbers() for key in (mine, theirs)]
    old, new = (point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big") for point in points)
    assert der.count(old) == 1
    return x509.load_der_x509_csr(der.replace(old, new)).public_bytes(Encoding.PEM)


REQUESTS = {
    "forged": (forged, "was not signed by the key"),
    "rsa": (lambda: request_by(rsa.generate_private_key(65537, 2048), "one"), "another kind of key"),
    "other curve": (lambda: request_by(ec.generate_private_key(ec.SECP384R1()), "one"), "another kind of key"),
    "other name": (lambda: make_request("two")[1], "not for the name 'one'"),
    "no request": (lambda: b"hello", "cannot be read"),
    "a key": (lambda: make_request("one")[0], "cannot be read"),
    "broken": (lambda: make_request("one")[1].replace(b"A", b"B"), "cannot be read|was not signed|not for the name"),
    "long": (lambda: make_request("one")[1] + b"\n" * 20_000, "at most 16384 are read"),
}


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_request_that_is_not_right_is_refused_and_costs_no_code(authority, kind):
    make, reason = REQUESTS[kind]
    secret = secret_of(authority)
    with pytest.raises(IdentityError, match=reason):
        authority.enroll(secret, make(), "one")
    authority.enroll(secret, make_request("one")[1], "one")


def test_what_a_request_asks_for_beyond_its_key_is_not_given(authority):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "one"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "admin"),
        ]
    )
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=3), critical=True)
    csr = builder.sign(key, SHA256()).public_bytes(Encoding.PEM)
    pem = authority.enroll(secret_of(authority), csr, "one")
    certificate = x509.load_pem_x509_certificate(pem)
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert authority.role_of(der_of(pem)) == "node"


# Lives and ends


def test_a_revoked_certificate_is_refused_at_once_in_every_process(authority, open_authority, clock):
    other = open_authority(clock=clock)
    certificate = joined(authority, "one")
    assert other.why_refused(certificate) is None
    authority.revoke("one")
    for each in (authority, other):
        assert "the certificate of one was revoked on 2027-01-15" in (each.why_refused(certificate) or "")
    with pytest.raises(IdentityError, match="was revoked"):
        authority.renew(certificate, make_request("one")[1])
    with pytest.raises(IdentityError, match="was revoked"):
        authority.role_of(certificate)
    assert [member.revoked_at_s for member in authority.members()] == [NOW_S]


def test_revoking_ends_all_certificates_and_the_open_invitations_to_the_name(authority):
    first = joined(authority, "one")
    second = der_of(authority.renew(first, make_request("one")[1]))
    open_code = secret_of(authority, name="one")
    authority.revoke("one")
    assert authority.why_refused(first)
    assert authority.why_refused(second)
    with pytest.raises(CodeRefused, match="has expired"):
        authority.enroll(open_code, make_request("one")[1], "one")
    with pytest.raises(IdentityError, match="is taken"):
        joined(authority, "one")
    assert authority.why_refused(joined(authority, "one", name="one")) is None
    assert authority.why_refused(first)


def test_only_members_can_be_revoked(authority):
    with pytest.raises(IdentityError, match="no member named 'two'"):
        authority.revoke("two")


def test_no_certificate_and_a_strange_one_are_refused(authority, open_authority, clock):
    stranger = joined(open_authority("other", clock=clock))
    assert "no certificate was shown" in (authority.why_refused(None) or "")
    assert "has not issued" in (authority.why_refused(stranger) or "")
    assert "has not issued" in (authority.why_refused(b"junk") or "")
    with pytest.raises(IdentityError, match="has not issued"):
        authority.renew(stranger, make_request("clinic 1")[1])


def test_a_certificate_lives_thirty_days_and_the_clock_is_named(authority, clock):
    certificate = joined(authority, "one")
    clock.now_s = NOW_S + MEMBER_S + 1
    assert "has expired on 2027-02-14" in (authority.why_refused(certificate) or "")
    clock.now_s = NOW_S - 2 * DAY_S
    assert "this server's clock says 2027-01-13 08:00 UTC; set the server's clock" in (
        authority.why_refused(certificate) or ""
    )


def test_renewing_gives_thirty_days_more_and_the_old_one_stays_good_until_its_end(authority, clock):
    old = joined(authority, "one", role="user")
    clock.now_s += 25 * DAY_S
    new = der_of(authority.renew(old, make_request("one")[1]))
    assert authority.why_refused(old) is None
    assert authority.role_of(new) == "user"
    clock.now_s += 29 * DAY_S
    assert authority.why_refused(old)
    assert authority.why_refused(new) is None
    with pytest.raises(IdentityError, match="not for the name 'one'"):
        authority.renew(new, make_request("two")[1])


def test_invitations_and_members_are_listed_as_plain_data(authority, clock):
    joined(authority, "one")
    authority.invite(ADDRESS, name="two", role="user", expires_s=5)
    used, unused = authority.invitations()
    assert (used.used_by, used.used_at_s, used.name, used.expires_at_s) == ("one", NOW_S, None, NOW_S + 86400)
    assert (unused.used_by, unused.name, unused.role, unused.address) == (None, "two", "user", ADDRESS)
    assert [(m.name, m.role, m.since_s, m.expires_at_s) for m in authority.members()] == [
        ("one", "node", NOW_S, NOW_S + MEMBER_S)
    ]


# The server's own certificate


def names_in(pem: bytes) -> set[str]:
    names = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in names}


def test_the_server_is_named_by_all_its_hosts_and_as_this_machine(open_authority):
    hosts = ("server.example.org", "192.0.2.7", "[2001:db8::7]", "0.0.0.0", "Käse.example")
    _, certificate, _ = open_authority(hosts=hosts).server_certificates()
    assert names_in(certificate) == {
        *("server.example.org", "192.0.2.7", "2001:db8::7", "xn--kse-qla.example", "localhost", "127.0.0.1", "::1")
    }


@pytest.mark.parametrize("host", ["server.example.org:8080", "a b", "https://x", "*", "x" * 70])
def test_a_host_that_is_none_is_refused(open_authority, host):
    with pytest.raises(IdentityError, match="a host is a name or an IP address"):
        open_authority(hosts=(host,))


def test_the_servers_certificate_stays_until_less_than_a_third_is_left(authority, clock):
    first = authority.server_certificates()
    clock.now_s += SERVER_S * 0.66
    assert authority.server_certificates() == first
    clock.now_s += SERVER_S * 0.02
    second = authority.server_certificates()
    assert second[0] == first[0]
    assert second[1] != first[1]
    assert second[2] != first[2]


def test_more_hosts_need_a_fresh_certificate_and_fewer_do_not(open_authority):
    first = open_authority(hosts=("a.example",)).server_certificates()
    second = open_authority(hosts=("a.example", "b.example")).server_certificates()
    assert first != second
    assert open_authority(hosts=("b.example",)).server_certificates() == second


def test_a_certificate_of_another_ca_or_from_the_future_is_made_again(authority, open_authority, tmp_path, clock):
    stranger = open_authority("stranger", clock=clock).server_certificates()
    path = tmp_path / "authority" / home.SERVER
    path.write_bytes(stranger[1] + stranger[2])
    ours = authority.server_certificates()
    ca = x509.load_pem_x509_certificate(authority.ca_pem)
    x509.load_pem_x509_certificate(ours[1]).verify_directly_issued_by(ca)
    clock.now_s -= 2 * DAY_S
    assert authority.server_certificates()[1] != ours[1]


def test_a_damaged_server_certificate_is_made_again(authority, tmp_path):
    path = tmp_path / "authority" / home.SERVER
    _, certificate, key = authority.server_certificates()
    other = authority.server_certificates()[1] + make_request("x")[0]
    for damage in (b"", b"junk", certificate, key, certificate[:200] + key, other, authority.ca_pem + key):
        path.write_bytes(damage)
        fresh = authority.server_certificates()
        assert (
            load_pem_private_key(fresh[2], None).public_key() == x509.load_pem_x509_certificate(fresh[1]).public_key()
        )
        assert fresh[1] != certificate


def test_an_expired_ca_says_so(authority, clock):
    clock.now_s += 11 * 365 * DAY_S
    with pytest.raises(IdentityError, match=r"CA certificate has expired on 2037"):
        authority.server_certificates()


# The folder


def test_the_folder_and_its_files_are_for_their_owner_alone(authority, tmp_path):
    joined(authority)
    authority.server_certificates()
    folder = tmp_path / "authority"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in folder.iterdir()}
    assert {home.CA_KEY, home.CA_CERTIFICATE, home.SERVER, home.LEDGER} <= set(modes)
    assert set(modes.values()) == {"0o600"}, modes


def test_a_folder_that_others_may_look_into_is_closed_to_them(open_authority, tmp_path):
    (tmp_path / "authority").mkdir(mode=0o755)
    open_authority()
    assert stat.S_IMODE((tmp_path / "authority").stat().st_mode) == 0o700


def test_an_authority_opened_again_is_the_same(open_authority, clock):
    first = open_authority(clock=clock)
    certificate, secret = joined(first, "one"), secret_of(first)
    first.close()
    second = open_authority(clock=clock)
    assert second.ca_pem == first.ca_pem
    assert second.why_refused(certificate) is None
    second.enroll(secret, make_request("two")[1], "two")


@pytest.mark.parametrize("again", range(5))
def test_many_who_open_a_new_folder_at_once_get_one_ca(open_authority, again):
    found = []
    threads = [threading.Thread(target=lambda: found.append(open_authority().ca_pem)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_file_that_somebody_else_is_just_making_is_waited_for(open_authority, tmp_path, monkeypatch):
    (tmp_path / "authority").mkdir()
    other = sqlite3.connect(tmp_path / "authority" / home.LEDGER, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waits = []

    def let_go(seconds):
        waits.append(seconds)
        other.execute("ROLLBACK")

    monkeypatch.setattr("umbel.identity.ledger.time.sleep", let_go)
    joined(open_authority())
    other.close()
    assert len(waits) == 1


class Killed(BaseException):
    pass


@pytest.mark.parametrize("step", range(8))
def test_a_kill_at_any_step_of_the_first_start_leaves_a_usable_folder(open_authority, tmp_path, monkeypatch, step):
    """Each rename and each look at the disk before it may be the last thing that happens."""
    left = step

    def dying(name):
        real = getattr(os, name)

        def call(*arguments, **more):
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return real(*arguments, **more)

        return call

    with monkeypatch.context() as patch:
        for name in ("replace", "fsync"):
            patch.setattr(os, name, dying(name))
        with contextlib.suppress(Killed):
            open_authority().server_certificates()
        assert left == 0, "this step was never reached"
    kept = key.read_bytes() if (key := tmp_path / "authority" / home.CA_KEY).exists() else None
    again = open_authority()
    assert kept in (None, key.read_bytes()), "a key that was there was thrown away"
    ca = x509.load_pem_x509_certificate(again.ca_pem)
    x509.load_pem_x509_certificate(again.server_certificates()[1]).verify_directly_issued_by(ca)
    joined(again)


def damaged(folder, what):
    other = make_request("x")[0]
    {
        "key gone": lambda: (folder / home.CA_KEY).unlink(),
        "key junk": lambda: (folder / home.CA_KEY).write_bytes(b"junk"),
        "key of another": lambda: (folder / home.CA_KEY).write_bytes(other),
        "key rsa": lambda: (folder / home.CA_KEY).write_bytes(RSA),
        "certificate cut": lambda: os.truncate(folder / home.CA_CERTIFICATE, 100),
        "certificate empty": lambda: os.truncate(folder / home.CA_CERTIFICATE, 0),
        "ledger gone": lambda: [path.unlink() for path in folder.glob("members.sqlite*")],
        "ledger junk": lambda: (folder / home.LEDGER).write_bytes(b"junk" * 2000),
        "ledger later": lambda: _later(folder / home.LEDGER),
    }[what]()


def _later(path):
    database = sqlite3.connect(path)
    database.execute("UPDATE about SET value='3' WHERE key='format'")
    database.commit()
    database.close()


RSA = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("key gone", "ca.key is missing beside its certificate; restore it"),
        ("key junk", "ca.key is no ECDSA key"),
        ("key of another", "is not the key of"),
        ("key rsa", "ca.key is no ECDSA key"),
        ("certificate cut", "ca.crt is no certificate"),
        ("certificate empty", "ca.crt is no certificate"),
        ("ledger gone", "members.sqlite, which remembers the members, is missing"),
        ("ledger junk", r"cannot use .*members.sqlite.*; restore it"),
        ("ledger later", "has format 3, this version reads 1 and 2; update"),
    ],
)
def test_a_damaged_folder_is_refused_in_a_sentence_and_left_as_it_is(open_authority, tmp_path, what, reason):
    open_authority().close()
    folder = tmp_path / "authority"
    damaged(folder, what)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".key", ".crt")}
    with pytest.raises(IdentityError, match=reason):
        open_authority()
    assert before == {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".key", ".crt")}


def test_a_folder_that_cannot_be_one_is_refused(open_authority, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(IdentityError, match="cannot use the folder"):
        open_authority("file/inside")


def test_a_hello_is_judged_while_another_process_holds_the_ledger(authority, tmp_path):
    certificate = joined(authority)
    other = sqlite3.connect(tmp_path / "authority" / home.LEDGER, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writer = threading.Thread(target=lambda: authority.invite(ADDRESS))
    writer.start()
    while authority._ledger._lock.acquire(blocking=False):  # until the writer has it
        authority._ledger._lock.release()
    verdicts = [authority.why_refused(certificate) for _ in range(100)]
    assert writer.is_alive(), "the writer did not have to wait: this test shows nothing"
    other.execute("ROLLBACK")
    other.close()
    writer.join()
    assert verdicts == [None] * 100
