"""BGP as bgpilot speaks it, through ExaBGP: peers, routes, tables. Knows neither Kubernetes nor the kernel."""
