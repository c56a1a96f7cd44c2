"""A server: where the global model lives and rounds are led, with real nodes at the other ends."""
