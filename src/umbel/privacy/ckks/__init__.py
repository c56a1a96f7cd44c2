"""Sums under CKKS, a homomorphic encryption: clients hold the secret key, the server adds what it cannot read."""
