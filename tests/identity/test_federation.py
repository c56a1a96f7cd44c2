"""Federations as the authority keeps them: who is in which, and what becomes of names and files."""

import sqlite3

import pytest
from tests.identity.test_authority import ADDRESS, der_of, joined

from umbel.errors import CodeRefused, IdentityError
from umbel.identity import Federation, make_request, read_code
from umbel.identity import authority as home
from umbel.identity.federation import from_text

WARD = Federation(name="ward", apps=("hospital",), rounds_per_day=3, over="refuse")


def test_who_is_invited_for_none_is_in_the_default_one(authority):
    assert authority.federation_of(joined(authority)) == Federation(name="default")
    assert authority.federations() == [Federation(name="default")]


def test_a_member_is_in_the_federation_of_its_invitation_also_after_a_renewal(authority):
    authority.add_federation(WARD)
    certificate = joined(authority, "a", federation="ward")
    assert authority.federation_of(certificate) == WARD
    renewed = authority.renew(certificate, make_request("a")[1])
    assert authority.federation_of(der_of(renewed)) == WARD
    assert [member.federation for member in authority.members()] == ["ward"]


def test_who_is_invited_to_another_federation_moves_there_and_its_old_certificate_ends(authority):
    authority.add_federation(WARD)
    before = joined(authority, "a", name="a", federation="ward")
    after = joined(authority, "a", name="a")
    assert authority.federation_of(after).name == "default"
    with pytest.raises(IdentityError, match="was replaced"):
        authority.federation_of(before)


def test_a_federation_is_kept_and_changed_for_all_who_have_the_folder_open(open_authority):
    first, second = open_authority(), open_authority()
    first.add_federation(WARD)
    assert second.federation("ward") == WARD
    second.set_federation(Federation(name="ward", bytes_per_day=5))
    assert first.federation("ward").bytes_per_day == 5


def test_an_invitation_to_no_federation_is_refused(authority):
    with pytest.raises(IdentityError, match="there is no federation 'nowhere'"):
        authority.invite(ADDRESS, federation="nowhere")


def test_the_name_of_a_federation_is_taken_for_good(authority):
    authority.add_federation(WARD)
    authority.remove_federation("ward")
    for name in ("ward", "default"):
        with pytest.raises(IdentityError, match="choose another name"):
            authority.add_federation(Federation(name=name))
    with pytest.raises(IdentityError, match="there is no federation 'ward'"):
        authority.set_federation(WARD)


def test_a_federation_that_somebody_is_in_or_may_join_is_not_removed(authority):
    authority.add_federation(WARD)
    joined(authority, "a", federation="ward")
    with pytest.raises(IdentityError, match="1 members and 0 open"):
        authority.remove_federation("ward")
    authority.revoke("a")
    authority.invite(ADDRESS, federation="ward")
    with pytest.raises(IdentityError, match="0 members and 1 open"):
        authority.remove_federation("ward")
    with pytest.raises(IdentityError, match="'default' cannot be removed"):
        authority.remove_federation("default")


def test_a_member_of_another_federation_cannot_be_revoked_from_here_and_is_not_said_to_be_there(authority):
    authority.add_federation(WARD)
    certificate = joined(authority, "a", federation="ward")
    told = []
    for name in ("a", "nobody"):
        with pytest.raises(IdentityError) as error:
            authority.revoke(name, federation="default")
        told.append(str(error.value).replace(repr(name), "?"))
    assert told[0] == told[1]
    assert authority.why_refused(certificate) is None
    authority.revoke("a", federation="ward")
    assert "was revoked" in authority.why_refused(certificate)


def test_a_number_of_a_forgotten_invitation_brings_nobody_into_its_federation(authority, clock):
    authority.add_federation(WARD)
    authority.invite(ADDRESS, federation="ward", expires_s=60)
    clock.now_s += 200 * 86400
    code = authority.invite(ADDRESS)
    assert [one.federation for one in authority.invitations()] == ["default"]
    assert read_code(code).secret


def test_a_folder_says_to_older_versions_that_it_has_federations_only_once_it_has(open_authority, tmp_path):
    def found():
        database = sqlite3.connect(tmp_path / "authority" / home.LEDGER)
        rows = database.execute("SELECT value FROM about WHERE key='format'").fetchall()
        database.close()
        return rows[0][0]

    authority = open_authority()
    joined(authority)
    assert found() == "1"
    authority.add_federation(WARD)
    assert found() == "2"
    assert open_authority().federation("ward") == WARD


def test_what_a_later_version_writes_about_a_federation_is_passed_over():
    assert from_text("ward", '{"rounds_per_day": 2, "colour": "red"}') == Federation(name="ward", rounds_per_day=2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "Ward"},
        {"name": "ward", "rounds_per_day": -1},
        {"name": "ward", "node_seconds_per_day": float("nan")},
        {"name": "ward", "over": "shrug"},
    ],
)
def test_what_is_no_federation_is_refused(wrong):
    with pytest.raises(IdentityError):
        Federation(**wrong)


def test_a_code_for_another_name_is_refused_in_a_federation_as_anywhere(authority):
    authority.add_federation(WARD)
    with pytest.raises(CodeRefused, match="for another name"):
        joined(authority, "b", name="a", federation="ward")
