"""What should be: pure functions from the picture to the plan of this node."""
