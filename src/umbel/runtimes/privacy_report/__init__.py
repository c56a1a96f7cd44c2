"""The report of `umbel privacy`: what a run's protection does, each attack beside a control in which it works."""
