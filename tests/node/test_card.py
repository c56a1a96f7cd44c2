"""The data card: what its owner says of the data, and where that is looked at."""

import hashlib
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from tests.server.site import Site, asked

import umbel as fl
from umbel.errors import ConfigError, ProtocolError
from umbel.runtimes.node.card import DataCard, load_card
from umbel.runtimes.node.live import NodeLife
from umbel.runtimes.server.about import about_in
from umbel.runtimes.server.house import why_not_from

CARD = DataCard(name="heart", rows=303, licence="CC-BY-4.0", consent_basis="public", region="us", digest="0a" * 32)


def written(tmp_path, **changes):
    lines = [
        f"{name} = {json.dumps(value)}" for name, value in {**asdict(CARD), **changes}.items() if value is not None
    ]
    (tmp_path / "card.toml").write_text("\n".join(lines))
    return tmp_path / "card.toml"


def test_a_card_is_read_from_toml(tmp_path):
    assert load_card(written(tmp_path)) == CARD


def test_a_cards_fingerprint_is_of_all_its_fields():
    text = json.dumps(asdict(CARD), sort_keys=True, separators=(",", ":"))
    assert CARD.fingerprint == hashlib.sha256(b"umbel data card 1\n" + text.encode()).hexdigest()
    others = [
        replace(CARD, **{name: 304 if name == "rows" else "0b" * 32 if name == "digest" else "other"})
        for name in asdict(CARD)
    ]
    assert len({card.fingerprint for card in (CARD, *others)}) == 7


def test_only_the_digest_and_the_region_are_told():
    assert CARD.told == {"digest": CARD.fingerprint, "region": "us"}


@pytest.mark.parametrize(
    ("changes", "piece"),
    [
        ({"rows": -1}, "rows"),
        ({"rows": 1.5}, "rows"),
        ({"rows": True}, "rows"),
        ({"digest": "12"}, "sha256sum"),
        ({"region": ""}, "region"),
        ({"name": "a\nb"}, "name"),
        ({"licence": 7}, "licence"),
        ({"consent_basis": "x" * 201}, "consent_basis"),
        ({"region": None, "rows": None}, "lacks rows, region"),
        ({"color": "red"}, "unknown field color"),
    ],
)
def test_a_card_that_is_not_in_order_is_refused_with_its_field(tmp_path, changes, piece):
    with pytest.raises(ConfigError, match=piece):
        load_card(written(tmp_path, **changes))


def test_a_card_that_is_not_there_or_no_toml_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_card(tmp_path / "card.toml")
    (tmp_path / "card.toml").write_text("=")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_card(tmp_path / "card.toml")


@pytest.mark.parametrize("card", [{"digest": "12", "region": "eu"}, {"digest": "0a" * 32}, {"region": "eu"}])
def test_a_server_takes_no_half_card(card):
    with pytest.raises(ProtocolError, match="card has to have a region and a digest"):
        about_in(json.dumps({"card": card}))


def test_a_server_keeps_of_a_card_what_it_knows():
    assert about_in(json.dumps({"card": {**CARD.told, "more": "x"}})).card == CARD.told


def test_attributes_and_card_say_one_region(tmp_path):
    life = NodeLife(app=None, folder=tmp_path, card=CARD)
    assert life._attributes() == {"region": "us"}
    life.attributes = {"region": "us", "gpu": True}
    assert life._attributes() == {"region": "us", "gpu": True}
    life.attributes = {"region": "eu"}
    with pytest.raises(ConfigError, match="says region 'us', the attributes say 'eu'"):
        life._attributes()


def test_a_federation_says_where_data_may_be_from():
    assert why_not_from(None, {}) is None
    assert why_not_from(("eu", "us"), CARD.told) is None
    assert why_not_from(("eu",), CARD.told) == (
        "the federation takes data from eu only, and the node's data card says 'us'"
    )
    assert "has no data card" in why_not_from(("eu",), {})


class Still(fl.NumPyClient):
    def fit(self, parameters, config):
        return parameters, 1, {}


def test_a_node_from_elsewhere_is_refused_with_a_reason_and_a_round_names_the_cards_of_the_others():
    site = Site(lambda context: Still(), num_rounds=1, min_available_clients=2)
    initial = [np.zeros(1, np.float32)]
    site.order = replace(site.order, refuses=lambda node: why_not_from(("eu",), node.about.card), initial=initial)
    eu = {"card": replace(CARD, region="eu").told}

    async def story():
        site.node("far", about={"card": CARD.told})
        await site.until(lambda: any("far does not take part" in text for text in site.said))
        refused = site.desk.nodes["far"].refused
        assert "data card says 'us'" in refused[site.conduct.run]
        site.node("one", about=eu)
        site.node("two", about=eu)
        await site.until(lambda: site.running.done())

    site.play(story)
    events = site.store.events(site.conduct.run)
    assert asked(events) == [["one", "two"]]
    [listed] = [event["contributions"] for event in events if "contributions" in event]
    assert [one["card"] for one in listed] == [eu["card"]["digest"]] * 2
    assert len([event for event in events if "far does not take part" in event.get("text", "")]) == 1
