"""One program per contestant. Each obeys the line protocol of `umbelbench.gate`."""
