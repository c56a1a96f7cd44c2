"""PyTorch models as clients, one by one and in blocks."""
