"""Clients that speak Flower's stream take part as nodes do; whatever they send, the run goes on."""

import io
import pickle
import re
import time
from queue import Queue

import numpy as np
import pytest

import umbel as fl
from umbel.runtimes.flower.keep import StatesOnly
from umbel.runtimes.node.keep import KeptTurn

from .by_hand import Adds, UmbelAdds, saved


def config(rounds=2, clients=2, **more):
    return fl.ServerConfig(num_rounds=rounds, seed=3, min_available_clients=clients, **more)


def simulated(clients=2, **more):
    return fl.simulate(
        lambda context: UmbelAdds(context.partition_id), clients, config=config(clients=clients), progress=False, **more
    )


def test_a_run_with_two_of_them_is_the_simulated_run(site, dialect):
    history = site.run(Adds(dialect, 0), Adds(dialect, 1), config=config())
    expected = simulated(engine="serial")
    assert history.parameters == expected.parameters
    assert [(r.loss, dict(r.metrics), r.participants, r.failures) for r in history.rounds] == [
        (r.loss, dict(r.metrics), r.participants, r.failures) for r in expected.rounds
    ]
    assert site.statuses == ["OK", "OK"]


def test_they_are_told_the_config_and_in_the_end_to_go(site, dialect):
    client = Adds(dialect)

    def settings(server_round):
        return {"lr": 0.5, "epochs": -3, "big": 2**63, "deep": True, "name": "ä", "key": b"\x00"}

    site.run(client, Adds(dialect), config=config(rounds=1), on_fit_config_fn=settings)
    kinds = [said.WhichOneof("msg") for said in client.heard]
    assert [kind for kind in kinds if kind != "get_parameters_ins"] == ["fit_ins", "evaluate_ins", "reconnect_ins"]
    told = {name: getattr(value, value.WhichOneof("scalar")) for name, value in client.heard[-3].fit_ins.config.items()}
    assert told == {"server_round": 1, **settings(1)}
    assert client.heard[-1].reconnect_ins.seconds == 0


def test_clients_from_before_uint64_understand_every_whole_number_of_64_bits(site, old_dialect):
    client = Adds(old_dialect)
    history = site.run(
        client, Adds(old_dialect), config=config(rounds=1), on_fit_config_fn=lambda _: {"n": 2**63 - 1, "m": -(2**63)}
    )
    told = {name: value.sint64 for name, value in client.heard[-3].fit_ins.config.items()}
    assert told == {"server_round": 1, "n": 2**63 - 1, "m": -(2**63)}
    assert history.rounds[0].participants == 2


def test_both_kinds_of_clients_in_one_round_at_two_addresses(site, dialect):
    history, addresses = site.serve("127.0.0.1:0", flower="127.0.0.1:0", config=config(clients=4))
    own, flower = addresses.get(timeout=20), addresses.get(timeout=20)
    clients = [site.flower(flower, Adds(dialect, index)) for index in (0, 2)]
    clients += [site.umbel(own, str(index), lambda ctx: UmbelAdds(ctx.partition_id)) for index in (1, 3)]
    found = history.result(timeout=60)
    assert found.parameters == simulated(4, engine="serial").parameters
    assert [record.participants for record in found.rounds] == [4, 4]
    assert [client.result(timeout=20) for client in clients] == ["OK", "OK", None, None]


def test_at_a_grpc_address_they_can_be_kept_out(site, dialect):
    history, addresses = site.serve(flower=False, config=config(rounds=1, clients=1))
    address = addresses.get(timeout=20)
    assert site.flower(address, Adds(dialect)).result(timeout=20) == "UNIMPLEMENTED"
    site.umbel(f"grpc://{address}", "0", lambda ctx: UmbelAdds(0))
    assert history.result(timeout=60).rounds[-1].participants == 1


class Wrong(Adds):
    """Trains wrongly, and evaluates as it should."""

    def __init__(self, dialect, fit):
        super().__init__(dialect)
        self._fit = fit

    def fit_ins(self, ins, answer):
        super().fit_ins(ins, answer)
        self._fit(self, answer)


def tensors(*arrays):
    def change(client, answer):
        del answer.fit_res.parameters.tensors[:]
        client.fill(answer.fit_res.parameters, arrays)

    return change


def head(shape, descr="'<f4'"):
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def pickled() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return file.getvalue()


GOOD = np.zeros((2, 2))


@pytest.mark.parametrize(
    ("fit", "reason"),
    [
        (tensors(np.array([0, np.nan, 0], np.float32), GOOD), "array '0' holds NaN"),
        (tensors(np.array([0, np.inf, 0], np.float32), GOOD), "array '0' holds an infinite value"),
        (tensors(np.zeros(4, np.float32), GOOD), r"array '0' has shape \(4,\), the model has \(3,\)"),
        (tensors(np.zeros(3, np.float32)), "fit returned 1 arrays, the model has 2"),
        (tensors(), "fit returned 0 arrays"),
        (tensors(np.zeros(3, np.complex128), GOOD), "head is not one of numbers"),
        (tensors(pickled(), GOOD), "head is not one of numbers"),
        (tensors(b"", GOOD), "not what numpy.save writes"),
        (tensors(saved(np.zeros(3, np.float32))[:-1], GOOD), "comes with 11 bytes"),
        (tensors(saved(np.zeros(3, np.float32)) + b"!", GOOD), "comes with 13 bytes"),
        (tensors(head("(1000000000000000000,)"), GOOD), "comes with 0 bytes"),
        (tensors(head("(0, 99999999999999999999999)"), GOOD), "cannot have the shape"),
        (tensors(head("(-1,)"), GOOD), "head is not one of numbers"),
        (tensors(head("(3,)", "'<f3'") + b"9bytes..!", GOOD), "cannot be read"),
        (lambda c, a: setattr(a.fit_res.parameters, "tensor_type", "tflite"), "tensors of the type 'tflite'"),
        (lambda c, a: setattr(a.fit_res, "num_examples", -1), "num_examples is -1"),
        (lambda c, a: setattr(a.evaluate_res, "loss", 1.0), "asked for fit and answered evaluate"),
        (lambda c, a: a.Clear(), "of no kind that is known"),
        (lambda c, a: setattr(a.fit_res.status, "code", 3), "the Flower client has no fit"),
        (lambda c, a: setattr(a.fit_res.status, "code", 9), r"could not fit \(code 9\)"),
    ],
)
def test_a_bad_answer_is_refused_with_a_sentence_and_the_run_goes_on(site, dialect, fit, reason):
    history = site.run(Adds(dialect, 1), Wrong(dialect, fit), config=config())
    good = fl.simulate(lambda context: UmbelAdds(1), 1, config=config(clients=1), progress=False, engine="serial")
    assert history.ended == "finished"
    assert history.parameters == good.parameters
    failure = history.rounds[0].failures[0]
    assert failure.client.startswith("flower-")
    assert re.search(reason, failure.reason)


def test_a_client_that_leaves_in_the_middle_of_a_round_fails_there_with_its_reason(site, dialect):
    def leave(client, answer):
        answer.disconnect_res.reason = 2

    # One round: a second one would rightly wait for a second client, unless it begins before the first has gone.
    history = site.run(Adds(dialect, 1), Wrong(dialect, leave), config=config(rounds=1))
    good = fl.simulate(
        lambda context: UmbelAdds(1), 1, config=config(rounds=1, clients=1), progress=False, engine="serial"
    )
    assert history.ended == "finished"
    assert history.parameters == good.parameters
    assert history.rounds[0].failures[0].reason == "it left (power disconnected)"


def test_bytes_that_are_no_message_are_refused(site, dialect):
    history = site.run(
        Adds(dialect), lambda data: b"\xff\xff garbage", config=config(rounds=1), initial_parameters=[np.zeros(2)]
    )
    assert "cannot be read" in history.rounds[0].failures[0].reason
    assert site.statuses[0] == "OK"


def test_one_that_goes_away_in_the_middle_of_its_work_costs_its_answer_only(site, dialect):
    def leaves(data):
        said = dialect.ServerMessage.FromString(data)
        return None if said.WhichOneof("msg") == "fit_ins" else Adds(dialect)(data)

    history = site.run(Adds(dialect), leaves, Adds(dialect), config=config(clients=3, rounds=1))
    assert {f.reason for f in history.rounds[0].failures} == {"its connection ended"}
    assert history.rounds[0].participants == 2
    assert history.rounds[0].seconds < 4


class Lines(io.TextIOBase):
    """A standard output that can be waited on."""

    def __init__(self):
        self.came = Queue()

    def write(self, text):
        self.came.put(text)
        return len(text)

    def wait_for(self, words):
        while words not in self.came.get(timeout=20):
            pass


def test_the_server_does_not_wait_in_the_end_for_one_that_has_left(site, dialect, monkeypatch):
    lines = Lines()
    monkeypatch.setattr("sys.stdout", lines)
    history, addresses = site.serve(config=config(rounds=1), progress=True)
    address = addresses.get(timeout=20)
    # Alone there, it is asked for the first model, and goes.
    assert site.flower(address, lambda data: None).result(timeout=20) == "CANCELLED"
    lines.wait_for("is gone")
    began = time.monotonic()
    others = [site.flower(address, Adds(dialect)) for _ in range(2)]
    assert history.result(timeout=60).rounds[0].participants == 2
    assert [other.result(timeout=20) for other in others] == ["OK", "OK"]
    assert time.monotonic() - began < 4


def test_one_that_says_goodbye_before_it_was_asked_is_let_go(site, dialect):
    goodbye = dialect.ClientMessage()
    goodbye.disconnect_res.reason = 3
    history, addresses = site.serve(config=config(rounds=1, clients=3), initial_parameters=[np.zeros(2)])
    address = addresses.get(timeout=20)
    early = site.flower(address, lambda data: b"", first=goodbye.SerializeToString())
    others = [site.flower(address, Adds(dialect)) for _ in range(2)]
    failures = history.result(timeout=60).rounds[0].failures
    assert {failure.reason for failure in failures} == {"it left (wifi unavailable)"}
    assert early.result(timeout=20) == "OK"
    assert [other.result(timeout=20) for other in others] == ["OK", "OK"]


def test_one_without_evaluate_is_no_failure_and_is_asked_once(site, dialect):
    class Silent(Adds):
        def evaluate_ins(self, ins, answer):
            answer.evaluate_res.status.code = 4

    silent = Silent(dialect)
    history = site.run(silent, Adds(dialect), config=config(rounds=3))
    assert [record.failures for record in history.rounds] == [(), (), ()]
    assert [said.WhichOneof("msg") for said in silent.heard].count("evaluate_ins") == 1
    assert any("has no evaluate" in text for text in history.warnings)


@pytest.mark.parametrize("arrays", [None, [], [np.array([np.nan])]], ids=["no method", "nothing", "nan"])
def test_if_one_cannot_say_where_to_begin_another_is_asked(site, dialect, arrays):
    class Blank(Adds):
        def get_parameters_ins(self, ins, answer):
            answer.get_parameters_res.status.code = 2 if arrays is None else 0
            self.fill(answer.get_parameters_res.parameters, arrays or [])

    assert site.run(Blank(dialect), Adds(dialect), config=config(rounds=1)).rounds[-1].participants >= 1
    with pytest.raises(fl.UmbelError, match="there are no initial parameters"):
        site.run(Blank(dialect), Blank(dialect), config=config(rounds=1))


def test_a_strategy_that_reaches_inside_does_not_take_them(site, dialect):
    history, addresses = site.serve(config=config(rounds=1, clients=1), strategy=fl.Scaffold())
    address = addresses.get(timeout=20)
    client = Adds(dialect)
    status = site.flower(address, client)
    toy = fl.testing.Quadratics()
    site.umbel(f"grpc://{address}", "0", toy.client)
    assert history.result(timeout=60).rounds[0].participants == 1
    assert status.result(timeout=20) == "OK"
    assert [said.WhichOneof("msg") for said in client.heard] == ["reconnect_ins"]


def test_a_value_that_cannot_travel_is_said(site, dialect):
    with pytest.raises(fl.TooFewClients, match=r"config 'layers' is .*only bool, int of 64 bits"):
        site.run(Adds(dialect), Adds(dialect), config=config(rounds=1), on_fit_config_fn=lambda _: {"layers": [1, 2]})


def test_without_certificates_they_may_come_where_nodes_need_theirs(site, dialect):
    import grpc

    trustme = pytest.importorskip("trustme")
    ca = trustme.CA()
    made = ca.issue_cert("localhost", "127.0.0.1")
    pems = (ca.cert_pem.bytes(), made.cert_chain_pems[0].bytes(), made.private_key_pem.bytes())
    history, addresses = site.serve(
        "grpc://127.0.0.1:0", flower="127.0.0.1:0", certificates=pems, config=config(rounds=1)
    )
    own, flower = addresses.get(timeout=20), addresses.get(timeout=20)
    credentials = grpc.ssl_channel_credentials(pems[0])
    assert site.flower(own, Adds(dialect), credentials=credentials).result(timeout=20) == "UNAVAILABLE"
    clients = [site.flower(flower, Adds(dialect), credentials=credentials) for _ in range(2)]
    assert history.result(timeout=60).rounds[0].participants == 2
    assert [client.result(timeout=20) for client in clients] == ["OK", "OK"]


def test_the_server_keeps_a_clients_state_and_not_its_update():
    keeper = StatesOnly()
    keeper.keep(KeptTurn("run", 1, 0, b"state", b"update", "ask"))
    assert keeper.answer("run", 1, 0, "ask") is None
    keeper.settle("run", 1, 0, included=True)
    assert keeper.state("run", (1, 0)) == b"state"
    assert b"update" not in pickle.dumps(keeper)
    keeper.forget("run")
    assert keeper.state("run", (1, 0)) is None


def test_a_model_larger_than_a_packet_travels_both_ways(site, dialect):
    start = [np.zeros(700_000), np.zeros(3, np.int64)]
    history = site.run(Adds(dialect), Adds(dialect), config=config(rounds=3), initial_parameters=start)
    assert history.parameters["0"].tolist() == [3.0] * 700_000
    assert history.parameters["1"].tolist() == [3] * 3
