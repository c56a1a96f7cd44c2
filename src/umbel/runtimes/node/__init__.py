"""A node: the process at a data owner's that connects to a server and hosts a client."""
