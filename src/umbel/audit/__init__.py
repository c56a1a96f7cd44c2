"""What shows somebody who was not there that a run's log is what was written: trees, signatures, receipts."""
