"""Differential privacy: a plan, the strategy that it makes of another one, and what releases cost."""
