"""Devices that check in, as people start them: real processes that connect, work or stay away until they are told."""

import pytest

from .place import Place

PLAIN = ["--insecure", "--folder", "plain"]


@pytest.fixture
def place(tmp_path):
    found = Place(tmp_path)
    found.fine("new", "hospital")
    path = next((tmp_path / "hospital").rglob("run.py"))
    text = path.read_text()
    drawn = 'fl.ServerConfig(num_rounds=config["num_rounds"], '
    assert drawn in text
    more = "arrivals=True, min_fit_clients=2, round_timeout=5.0, round_retries=20, fraction_evaluate=0.0, "
    path.write_text(text.replace(drawn, drawn + more))
    yield found
    found.end()


def test_devices_check_in_work_and_stay_away_until_they_are_told(place):
    address = place.serve(*PLAIN, "--listen", "127.0.0.1:0", "--away", "1")
    for number in range(3):
        words = ["--insecure", "--name", f"d{number}", "--partition", str(number), "--folder", f"at-{number}"]
        place.start(f"d{number}", "node", "hospital", *words, "--server", address, "--check-in")
    # Without a run there is nothing to do.
    for number in range(3):
        place.until(lambda number=number: "there is nothing to do now" in place.log(f"d{number}"))
    shown = place.fine("run", "hospital", "--set", "num_rounds=3", "--server", address, "--insecure")
    assert "finished after round 3" in shown
    told = [place.log(f"d{number}").count("coming back in") for number in range(3)]
    assert all(told), told
    # Nobody stays connected.
    place.connected(0, "--server", address, "--insecure")
