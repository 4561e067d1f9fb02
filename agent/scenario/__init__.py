"""A node's picture as a file, and back: for `plan --from`, `explain --from`, `tech-support` and the scenario tests."""
