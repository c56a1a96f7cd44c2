"""What clients were worth to a model, and what is left of one that is to be forgotten."""
