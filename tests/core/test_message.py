"""What travels between a client and a server, looked at where it arrives."""

from umbel.message import numbers


def test_the_name_of_a_metric_cannot_move_a_terminals_cursor():
    kept, _ = numbers({"loss\x1b[2J": 1.0})
    assert list(kept) == ["loss\N{REPLACEMENT CHARACTER}[2J"]
