"""The command line: asks the agent's unix socket and prints the answer."""
