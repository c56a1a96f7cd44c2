"""Read the event log: a live display, tables, sparklines."""
