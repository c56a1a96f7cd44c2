"""What a script gives a client of data and machine is checked before it connects."""

import pytest

import umbel as fl
from umbel.errors import ConfigError, LinkError


@pytest.mark.parametrize("wrong", [{"partition": -1}, {"threads": 0}, {"threads": -1}])
def test_a_script_client_with_a_number_out_of_range_does_not_start(wrong):
    def start(**given):
        fl.client.start_client("127.0.0.1:1", client_fn=lambda context: None, give_up_s=0.0, progress=False, **given)

    with pytest.raises(ConfigError, match=r"must be at least"):
        start(**wrong)
    with pytest.raises(LinkError):
        start(**dict.fromkeys(wrong, 1))
