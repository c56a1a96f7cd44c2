"""What a trace may look like, and what is said of one that cannot mean what it says."""

import numpy as np
import pytest

import umbel as fl
from umbel.errors import ConfigError

RECORDS = [(0, "0", "on"), (10, "0", "off"), (20, "0", "on"), (30, "0", "off")]


class Still(fl.NumPyClient):
    def fit(self, parameters, config):
        return parameters, 1, {}


def warnings_of(names, clients=3):
    trace = fl.Trace.of([(0, name, "on") for name in names])
    history = fl.simulate(
        lambda context: Still(),
        clients,
        config=fl.ServerConfig(1, seed=1, fraction_evaluate=0.0),
        initial_parameters=[np.zeros(1)],
        system=fl.SystemModel(availability=trace),
        engine="serial",
        progress=False,
    )
    return history.warnings


@pytest.mark.parametrize("period_s", [5, 29.9])
def test_a_period_that_ends_before_the_records_do_is_refused(period_s):
    with pytest.raises(
        ConfigError, match=r"period_s must not be less than .* last record, which is 30.0, got .*; .*try"
    ):
        fl.Trace.of(RECORDS, period_s=period_s)


def test_a_period_may_end_with_the_last_record():
    assert fl.Trace.of(RECORDS, period_s=30).window("0", 12.0, 1) == (20.0, 40.0)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: fl.Trace.of(5), r"records must be a list of \(time, client, state\), got 5; try Trace.read"),
        (lambda: fl.Trace.of("abc"), "records must be a list of"),
        (lambda: fl.Trace.of([5]), r"record 1 must be \(time, client, state\), got 5"),
        (lambda: fl.Trace.of(["abc"]), r"record 1 must be \(time, client, state\), got 'abc'"),
        (lambda: fl.Trace.of([(0, "", "on")]), "record 1: client must be an id such as '7', got ''"),
        (lambda: fl.Trace.of([(0, "a", "on"), (1, None, "on")]), "record 2: client must be an id .* got None"),
        (lambda: fl.Trace.of([(0, float("nan"), "on")]), "record 1: client must be an id .* got nan"),
        (lambda: fl.Trace.of(RECORDS, period_s=float("inf")), "period_s must be above 0 or None, got inf; try"),
        (lambda: fl.Trace.read(None), "path must be the name of a CSV or Parquet file, got None; try"),
    ],
)
def test_what_is_no_trace_is_refused_in_a_sentence(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("time,client,state\n0,,on\n", "record 1: client must be an id"),
        ("time,client,state\n0,a,on\n1,b,off,on\n", "record 2 has 4 columns and the first line 3"),
        ("time,client,state\n0,a\n", "record 1 has 2 columns and the first line 3"),
        ("time,client,State,state\n0,a,on,on\n", "it has the column 'state' twice"),
        ('time,client,state\n0,"a"b,on\n', "line 2 is no CSV"),
    ],
)
def test_rows_that_are_no_records_are_refused_with_their_place(text, sentence, tmp_path):
    file = tmp_path / "trace.csv"
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=sentence):
        fl.Trace.read(file)


@pytest.mark.parametrize(
    "text",
    [
        "\ufefftime,client,state\n0,a,on\n9,a,off\n",
        "time, client, state\n0, a, on\n9, a, off\n",
        "Time,CLIENT,State\n0,a,on\n9,a,off\n",
        "id,state,time,client\n1,on,0,a\n\n2,off,9,a\n",
    ],
)
def test_what_spreadsheets_write_is_read(text, tmp_path):
    file = tmp_path / "trace.csv"
    file.write_text(text, "utf-8")
    assert fl.Trace.read(file) == fl.Trace.of([(0, "a", "on"), (9, "a", "off")])


def test_a_broken_parquet_file_is_refused_in_one_line(tmp_path):
    pytest.importorskip("pyarrow")
    file = tmp_path / "trace.parquet"
    file.write_bytes(b"PAR1 and nothing more")
    with pytest.raises(ConfigError, match="no Parquet file that pyarrow can read") as found:
        fl.Trace.read(file)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["phone", "tablet"], None),
        (["0", "1"], None),
        (["0.0", "2.0"], "the trace's names look like numbers of clients, such as '0.0', and none is one"),
        (["3", "17"], "the trace's names look like numbers of clients, such as '17', and none is one"),
        (["0", "01"], "the trace names 1 of the 3 clients and 1 others, such as '01'"),
        (["0", "tablet"], "the trace names 1 of the 3 clients and 1 others, such as 'tablet'"),
    ],
)
def test_names_that_were_perhaps_meant_for_clients_are_said(names, said):
    warnings = warnings_of(names)
    assert (warnings == ()) if said is None else (len(warnings) == 1 and said in warnings[0])
    if said is not None:
        assert 'clients are "0" to "2"' in warnings[0]
