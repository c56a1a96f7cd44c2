"""Clients written for Flower take part: each stream of theirs becomes a node of this process."""
