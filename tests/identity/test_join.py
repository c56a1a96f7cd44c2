"""A node joins and renews over real TLS, and knows its server from others."""

import json
import stat
import time

import pytest
from cryptography import x509
from tests.identity.site import context_of, served, site

from umbel.errors import CodeRefused, IdentityError, LinkError
from umbel.identity import Credentials, join, joined, make_request, post_https, renew, respond
from umbel.identity.certificates import DAY_S
from umbel.identity.join import PENDING, trusting


def unreachable(*request):
    raise AssertionError("nobody is to be asked")


@pytest.fixture
def authority(open_authority):
    """One in real time, as TLS looks at the machine's clock."""
    return open_authority(wait=lambda seconds: None)


@pytest.fixture
def address(authority, tmp_path):
    with served(authority, tmp_path / "tls") as address:
        yield address


@pytest.fixture
def node(tmp_path):
    return tmp_path / "node"


def test_a_node_joins_with_its_code_and_shows_who_it_is(authority, address, node):
    credentials = join(authority.invite(address), node, "clinic 1")
    assert (credentials.name, credentials.address, credentials.ca_pem) == ("clinic 1", address, authority.ca_pem)
    assert Credentials.load(node) == credentials
    assert [member.name for member in authority.members()] == ["clinic 1"]
    certificate = x509.load_pem_x509_certificate(credentials.certificate_pem)
    assert credentials.expires_at_s == certificate.not_valid_after_utc.timestamp()
    assert not credentials.wants_renewal(time.time() + 15 * DAY_S)
    assert credentials.wants_renewal(time.time() + 25 * DAY_S)


def test_what_a_node_keeps_is_for_its_owner_alone_and_the_key_stays_there(authority, address, node, tmp_path):
    sent = []

    def listening(*request):
        sent.append(json.dumps(request[2]))
        return post_https(*request)

    credentials = join(authority.invite(address), node, "one", post=listening)
    assert stat.S_IMODE(node.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in node.iterdir()} == {
        "identity.json": 0o600,
        "joined.json": 0o600,
    }
    assert "PRIVATE" not in "".join(sent)
    assert "PRIVATE" not in repr(credentials)
    key = credentials.key_pem.splitlines()[1]
    assert not any(key in path.read_bytes() for path in (tmp_path / "authority").iterdir())


def test_a_code_that_was_used_is_refused_by_the_server(authority, address, node, tmp_path):
    code = authority.invite(address)
    join(code, node, "one")
    with pytest.raises(IdentityError, match=f"{address} refuses: this invitation code was used already"):
        join(code, tmp_path / "other", "two")
    assert not (tmp_path / "other" / "identity.json").exists()


def test_a_mistyped_code_reaches_nobody(authority, node):
    code = authority.invite("127.0.0.1:1")
    with pytest.raises(CodeRefused, match="mistyped"):
        join(code[:20] + ("A" if code[20] != "A" else "B") + code[21:], node, "one")


def test_a_name_that_is_none_reaches_nobody(authority, node):
    with pytest.raises(IdentityError, match="a name is 1 to 64"):
        join(authority.invite("127.0.0.1:1"), node, "../one")


def test_another_server_at_the_address_is_told_before_the_secret_is_sent(authority, open_authority, tmp_path, node):
    stranger = open_authority("stranger")
    with served(stranger, tmp_path / "strange") as address:
        code = authority.invite(address)
        with pytest.raises(IdentityError, match="not the server that made this invitation code: its CA is another"):
            join(code, node, "one")
    assert stranger.wrong_secrets() == 0


def test_somebody_in_between_who_shows_the_right_ca_gets_no_secret(authority, open_authority, tmp_path, node):
    """The CA's certificate is no secret; what only the true server has is a key that the CA signed."""
    heard = []

    def answer(path, body, certificate):
        heard.append(path)
        return 200, {"ca": authority.ca_pem.decode()}

    with site(context_of(open_authority("between"), tmp_path / "tls"), answer) as address:
        code = authority.invite(address)
        with pytest.raises(IdentityError, match=r"not of the CA that this node trusts .* or somebody in between"):
            join(code, node, "one")
    assert heard == ["/v1/ca"]


def test_a_server_whose_certificate_is_for_other_hosts_is_refused(authority, tmp_path, node):
    """127.1 is this machine, too, and not what its certificate calls it."""
    with served(authority, tmp_path / "tls") as address:
        code = authority.invite(address.replace("127.0.0.1", "127.1"))
        with pytest.raises(IdentityError, match=r"certificate of 127.1:.* is for other hosts .* has to be told"):
            join(code, node, "one")
        port = address.rpartition(":")[2]
        assert post_https(f"localhost:{port}", "/v1/ca", {}, trusting(authority.ca_pem))


@pytest.mark.parametrize(
    ("off_days", "reason"),
    [
        (10, r"not valid yet, and this machine's clock says 20\d\d-.* UTC; set the clock that is wrong"),
        (-200, r"has expired, and this machine's clock says 20\d\d-.* UTC; set the clock if it is wrong"),
    ],
)
def test_clocks_that_differ_are_told_with_the_time_here(open_authority, tmp_path, node, off_days, reason):
    skewed = open_authority(clock=lambda: time.time() + off_days * DAY_S)
    with served(skewed, tmp_path / "tls") as address:
        code = skewed.invite(address)
        with pytest.raises(IdentityError, match=reason):
            join(code, node, "one")


def test_a_late_clock_of_half_an_hour_is_no_trouble(open_authority, tmp_path, node):
    ahead = open_authority(clock=lambda: time.time() + 1800)
    with served(ahead, tmp_path / "tls") as address:
        join(ahead.invite(address), node, "one")


def test_a_certificate_from_another_time_than_the_servers_own_is_told(open_authority, tmp_path, node):
    """The server's clock jumped after its own certificate was made."""
    late = [0.0]
    server = open_authority(clock=lambda: time.time() + late[0])
    with served(server, tmp_path / "tls") as address:
        late[0] = 5 * DAY_S
        with pytest.raises(IdentityError, match=r"issued a certificate from .* this machine's clock says"):
            join(server.invite(address), node, "one")


# The same code again


def test_a_code_that_has_led_to_credentials_here_leads_to_them_again_and_asks_nobody(authority, address, node):
    code = authority.invite(address)
    join(code, node, "one")
    renewed = renew(node)
    assert join(code, node, "one", post=unreachable) == joined(code, node) == renewed
    assert joined(authority.invite(address), node) is None


def test_a_code_of_another_ca_changes_nothing_in_a_folder_that_has_an_identity(
    authority, open_authority, address, node
):
    kept = join(authority.invite(address), node, "one")
    other = open_authority("other")
    with pytest.raises(IdentityError, match=r"belongs to one at .*, and this invitation code is of another server"):
        join(other.invite(address), node, "one", post=unreachable)
    assert Credentials.load(node) == kept


# Interruptions


class Killed(BaseException):
    pass


@pytest.mark.parametrize("answered", [False, True])
def test_a_kill_while_joining_costs_no_code(authority, address, node, answered):
    code = authority.invite(address)

    def dying(address, path, body, context):
        if path == "/v1/enroll":
            if answered:
                post_https(address, path, body, context)
            raise Killed
        return post_https(address, path, body, context)

    with pytest.raises(Killed):
        join(code, node, "one", post=dying)
    assert stat.S_IMODE((node / PENDING).stat().st_mode) == 0o600
    with pytest.raises(IdentityError, match="join a server first"):
        Credentials.load(node)
    assert join(code, node, "one") == Credentials.load(node)
    assert not (node / PENDING).exists()


def test_a_damaged_half_finished_joining_begins_anew(authority, address, node):
    node.mkdir()
    for damage in (b"", b"{}", b"[1]", b"\xff", json.dumps({"mark": 3, "key": None}).encode()):
        (node / PENDING).write_bytes(damage)
        join(authority.invite(address), node, f"n{len(damage)}")


def test_a_key_left_by_another_code_is_not_used(authority, address, node):
    def dying(address, path, body, context):
        if path == "/v1/enroll":
            raise Killed
        return post_https(address, path, body, context)

    with pytest.raises(Killed):
        join(authority.invite(address), node, "one", post=dying)
    left = json.loads((node / PENDING).read_text())["key"]
    assert join(authority.invite(address), node, "one").key_pem.decode() != left


# Renewing


def test_renewing_gives_a_fresh_key_and_certificate_under_the_same_name(authority, address, node):
    old = join(authority.invite(address), node, "one")
    new = renew(node)
    assert new == Credentials.load(node)
    assert new.key_pem != old.key_pem
    assert new.certificate_pem != old.certificate_pem
    assert (new.name, new.address, new.ca_pem) == (old.name, old.address, old.ca_pem)
    assert {path.name for path in node.iterdir()} == {"identity.json", "joined.json"}


def test_a_revoked_node_cannot_renew_and_keeps_what_it_had(authority, address, node):
    old = join(authority.invite(address), node, "one")
    authority.revoke("one")
    with pytest.raises(IdentityError, match=f"{address} refuses: the certificate of one was revoked on"):
        renew(node)
    assert Credentials.load(node) == old


def test_renewing_without_a_certificate_is_refused(authority, address):
    with pytest.raises(IdentityError, match="no certificate was shown"):
        post_https(address, "/v1/renew", {"csr": make_request("one")[1].decode()}, trusting(authority.ca_pem))


def test_renewing_with_another_cas_certificate_gets_nowhere(authority, address, open_authority, tmp_path, node):
    stranger = open_authority("stranger")
    with served(stranger, tmp_path / "strange") as there:
        theirs = join(stranger.invite(there), node, "one")
    Credentials(stranger.ca_pem, theirs.certificate_pem, theirs.key_pem, "one", address).save(node)
    with pytest.raises(IdentityError, match="not of the CA that this node trusts"):
        renew(node)


# What is kept


def test_nothing_kept_says_to_join(node):
    with pytest.raises(IdentityError, match="join a server first"):
        Credentials.load(node)
    with pytest.raises(IdentityError, match="join a server first"):
        renew(node)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda kept: {}, "is damaged"),
        (lambda kept: {**kept, "format": 2}, "has format 2, this version reads 1; update"),
        (lambda kept: {**kept, "name": "two"}, "for another name"),
        (lambda kept: {**kept, "key_pem": make_request("one")[0].decode()}, "for another key"),
        (lambda kept: {**kept, "key_pem": "junk"}, "no ECDSA key"),
        (lambda kept: {**kept, "certificate_pem": "junk"}, "no certificate"),
        (lambda kept: {**kept, "ca_pem": kept["certificate_pem"]}, "of another CA"),
        (lambda kept: {**kept, "ca_pem": 3}, "is damaged"),
    ],
)
def test_damaged_credentials_are_refused_in_a_sentence(authority, address, node, change, reason):
    join(authority.invite(address), node, "one")
    path = node / "identity.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(IdentityError, match=reason) as caught:
        Credentials.load(node)
    assert "PRIVATE" not in str(caught.value)


@pytest.mark.parametrize("damage", [b"", b"[]", b"\xff\xfe", b"{", b"[" * 100_000])
def test_a_file_that_is_no_json_is_refused_in_a_sentence(node, damage):
    node.mkdir()
    (node / "identity.json").write_bytes(damage)
    with pytest.raises(IdentityError, match=r"is damaged|cannot be read"):
        Credentials.load(node)


# Answers that are none


def answered(authority, tmp_path, answer):
    return site(context_of(authority, tmp_path / "tls"), answer)


ANSWERS = {
    "another key": (lambda a: {"certificate": _for_another_key(a)}, "for another key"),
    "no certificate": (lambda a: {"ca": "x"}, "without a certificate"),
    "junk": (lambda a: {"certificate": "junk"}, "is no certificate"),
    "number": (lambda a: {"certificate": 3}, "without a certificate"),
    "huge": (lambda a: {"certificate": "x" * 100_000}, "without a certificate"),
    "the CA itself": (lambda a: {"certificate": a.ca_pem.decode()}, "for another key"),
}


def _for_another_key(authority):
    from umbel.identity import read_code

    secret = read_code(authority.invite("a:1")).secret
    return authority.enroll(secret, make_request("one")[1], "one").decode()


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_certificate_that_is_not_ours_is_not_kept(authority, tmp_path, node, kind):
    make, reason = ANSWERS[kind]

    def answer(path, body, certificate):
        return 200, {"ca": authority.ca_pem.decode()} if path == "/v1/ca" else make(authority)

    with answered(authority, tmp_path, answer) as address:
        code = authority.invite(address)
        with pytest.raises(IdentityError, match=reason):
            join(code, node, "one")
    assert not (node / "identity.json").exists()


@pytest.mark.parametrize(
    ("status", "body", "kind", "reason"),
    [
        (200, b"hello", LinkError, "does not answer as an Umbel server does"),
        (200, b"[1]", LinkError, "does not answer as an Umbel server does"),
        (200, b'"' + b"x" * (2**20 + 10) + b'"', LinkError, "does not answer as an Umbel server does"),
        (500, b"", LinkError, "HTTP status 500 and no reason"),
        (500, b'{"error": 3}', LinkError, "HTTP status 500 and no reason"),
        (403, b'{"error": "no\\u001b[2J more"}', IdentityError, r"refuses: no.\[2J more"),
        (404, b'{"error": "nothing"}', IdentityError, "refuses: nothing"),
    ],
)
def test_an_answer_that_is_none_is_told_as_such(authority, tmp_path, node, status, body, kind, reason):
    with answered(authority, tmp_path, lambda *request: (status, body)) as address:
        code = authority.invite(address)
        with pytest.raises(kind, match=reason):
            join(code, node, "one")


def test_a_server_that_is_not_there_is_told(authority, tmp_path, node):
    with served(authority, tmp_path / "tls") as address:
        code = authority.invite(address)
    with pytest.raises(LinkError, match=r"cannot reach 127\.0\.0\.1:\d+: .*; is the server running"):
        join(code, node, "one")


def test_a_server_without_tls_is_told(authority, node):
    import http.server
    import threading

    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as plain:
        plain.handle_error = lambda *_: None
        thread = threading.Thread(target=plain.handle_request)
        thread.start()
        code = authority.invite(f"127.0.0.1:{plain.server_address[1]}")
        with pytest.raises(LinkError, match="does not speak HTTPS as an Umbel server does"):
            join(code, node, "one")
        thread.join()


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/enroll", {}, 403),
        ("/v1/enroll", {"secret": 3, "csr": [], "name": None}, 403),
        ("/v1/enroll", {"secret": "%%%", "csr": "", "name": "one"}, 403),
        ("/v1/enroll", {"secret": "ä", "csr": "\ud800", "name": "\ud800"}, 403),
        ("/v1/renew", {"csr": "x"}, 403),
        ("/v1/other", {}, 404),
    ],
)
def test_requests_that_make_no_sense_get_a_reason(authority, path, body, status):
    told = respond(authority, path, body, None)
    assert told[0] == status
    assert told[1]["error"]
