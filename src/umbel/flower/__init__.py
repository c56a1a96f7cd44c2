"""Flower scripts on Umbel: `python -m umbel.flower script.py` runs one with `import flwr` meaning this package.

Each module here is one of theirs, with the names that scripts of clients, servers and simulations use. Which programs
of the real package can talk to an Umbel server is another matter: see `umbel.runtimes.flower`.
"""
