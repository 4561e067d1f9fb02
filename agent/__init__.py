"""The node agent: takes what is true, plans what should be, drives the difference away."""
