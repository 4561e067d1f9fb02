"""What `bgpilot tech-support` collects of a node beside the agent's own answers, and the one file that it becomes."""
