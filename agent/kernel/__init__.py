"""The kernel: routes by netlink, interfaces, and the driver that owns what is ours in the FIB."""
