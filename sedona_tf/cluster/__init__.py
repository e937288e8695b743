"""Hosts that share a training: their addresses, workers, and a watch on those that stop."""
