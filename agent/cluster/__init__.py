"""What is true of the cluster: list, watch, parse, and the one mutable picture."""
