"""One file per benchmark. Each has `NAME` and `run(options) -> list[Row]`."""
