import io

from rich.console import Console

from umbel.observe.table import rounds_table
from umbel.runtimes.history import Failure, RoundRecord


def text(records, **settings) -> list[str]:
    console = Console(file=io.StringIO(), width=200)
    console.print(rounds_table(records, **settings))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def record(number: int, loss: float | None = None, **metrics: float) -> RoundRecord:
    return RoundRecord(number, loss, metrics, 3, seconds=0.5)


def test_every_metric_has_a_column_and_what_is_missing_a_dash():
    lines = text([record(1, 0.25, accuracy=0.5), record(2, train_loss=1.0)])
    assert lines[0].split() == ["round", "loss", "accuracy", "train_loss", "clients", "failed", "seconds"]
    assert lines[1].split() == ["1", "0.25", "0.5", "-", "3", "0", "0.50"]
    assert lines[2].split() == ["2", "-", "-", "1", "3", "0", "0.50"]


def test_without_losses_there_is_no_column_for_them():
    assert text([record(1)])[0].split() == ["round", "clients", "failed", "seconds"]


def test_failures_are_counted():
    failed = RoundRecord(1, None, {}, 2, (Failure("7", "no disk"),))
    assert text([failed])[1].split() == ["1", "2", "1", "0.00"]


def test_the_middle_of_a_long_history_is_left_out():
    lines = text([record(number) for number in range(1, 101)], most=20)
    assert [line.split()[0] for line in lines] == ["round", *map(str, range(1, 11)), "…", *map(str, range(91, 101))]
    assert lines[11].strip() == "… 80 more"
    assert len(text([record(number) for number in range(1, 21)], most=20)) == 21
