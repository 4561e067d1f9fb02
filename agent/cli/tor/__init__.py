"""The router's side of this node's sessions, written for seven router systems (`bgpilot tor-config`)."""
