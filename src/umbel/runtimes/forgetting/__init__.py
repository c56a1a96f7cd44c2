"""A run without one of its clients: what of it is left where, and the model that never had it."""
