"""Behind `bgp.speaker`: ExaBGP's process, its configuration file, our end of its socket, and what it is asked when."""
