"""What is written a protobuf library reads, and what it writes is read here; damaged bytes are one kind of error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.errors import NotSupported, ProtocolError, WireError
from umbel.runtimes.flower import messages

FLOATS = st.floats(allow_nan=False)
SCALARS = st.one_of(st.booleans(), st.integers(-(2**63), 2**64 - 1), FLOATS, st.text(max_size=9), st.binary(max_size=9))
TABLES = st.dictionaries(st.text(max_size=5), SCALARS, max_size=5)


def fill(entries, table):
    for name, value in table.items():
        kinds = {bool: "bool", float: "double", str: "string", bytes: "bytes"}
        kind = kinds.get(type(value)) or ("uint64" if value >= 2**63 else "sint64")
        setattr(entries[name], kind, value)


def plain(entries):
    return {name: getattr(value, value.WhichOneof("scalar")) for name, value in entries.items()}


@given(config=TABLES, tensors=st.lists(st.lists(FLOATS, max_size=4), max_size=3))
def test_what_is_written_is_read_by_protobuf(dialect, config, tensors):
    arrays = [np.array(values, np.float64) for values in tensors]
    said = dialect.ServerMessage.FromString(messages.write("fit", config, arrays)).fit_ins
    assert plain(said.config) == config
    assert said.parameters.tensor_type == "numpy.ndarray"
    read = messages.Reply("fit", tensors=[memoryview(tensor) for tensor in said.parameters.tensors]).arrays()
    assert [array.tolist() for array in read] == tensors
    said = dialect.ServerMessage.FromString(messages.write("get_parameters", config)).get_parameters_ins
    assert plain(said.config) == config


@given(
    metrics=TABLES,
    code=st.integers(0, 4),
    text=st.text(max_size=20),
    examples=st.integers(-(2**63), 2**63 - 1),
    loss=st.floats(width=32, allow_nan=False),
    tensors=st.lists(st.binary(max_size=9), max_size=3),
)
def test_what_protobuf_writes_is_read(dialect, metrics, code, text, examples, loss, tensors):
    for kind in ("fit", "evaluate"):
        answer = dialect.ClientMessage()
        body = getattr(answer, f"{kind}_res")
        body.status.code, body.status.message, body.num_examples = code, text, examples
        fill(body.metrics, metrics)
        if kind == "fit":
            body.parameters.tensors.extend(tensors)
        else:
            body.loss = loss
        reply = messages.read(answer.SerializeToString())
        assert (reply.kind, reply.code, reply.text, reply.num_examples) == (kind, code, text, examples)
        assert reply.values == metrics
        assert reply.loss == (0.0 if kind == "fit" else loss)
        assert [bytes(tensor) for tensor in reply.tensors] == (tensors if kind == "fit" else [])


def test_properties_and_goodbyes_are_read(dialect):
    answer = dialect.ClientMessage()
    answer.get_properties_res.properties["cores"].sint64 = 4
    assert messages.read(answer.SerializeToString()) == messages.Reply(
        "get_properties", tensors=[], values={"cores": 4}
    )
    answer.disconnect_res.reason = 4
    assert messages.read(answer.SerializeToString()) == messages.Reply("disconnect", tensors=[], reason=4)


@given(data=st.binary(max_size=40))
def test_any_bytes_are_a_reply_or_a_wire_error(data):
    try:
        messages.read(data).arrays()
    except WireError:
        return


@given(place=st.integers(0, 400), value=st.integers(0, 255))
def test_a_changed_byte_is_a_reply_or_a_wire_error(dialect, place, value):
    answer = dialect.ClientMessage()
    answer.fit_res.num_examples = 3
    answer.fit_res.parameters.tensors.append(bytes(messages.write("fit", {}, [np.arange(3.0)]))[6:])
    fill(answer.fit_res.metrics, {"a": 1, "b": 0.5, "c": "x"})
    data = bytearray(answer.SerializeToString())
    data[place % len(data)] = value
    try:
        messages.read(data).arrays()
    except WireError:
        return


def test_a_message_that_is_too_large_is_refused_before_it_is_built(monkeypatch):
    monkeypatch.setattr(messages, "MAX_MESSAGE_BYTES", 100)
    with pytest.raises(NotSupported, match=r"message of \d+ bytes, Flower clients take at most 100"):
        messages.write("fit", {}, [np.zeros(100)])


def test_a_metric_as_large_as_a_model_is_refused(dialect):
    answer = dialect.ClientMessage()
    answer.fit_res.metrics["a"].string = "a" * 2**21
    with pytest.raises(ProtocolError, match="a metric or property has"):
        messages.read(answer.SerializeToString())
