"""`kubectl bgpilot`: the whole cluster at once, asked through the user's own kubectl."""
