"""The benchmark harness: contestants in their own interpreters, run round by round, compared in pairs."""
