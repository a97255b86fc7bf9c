"""What gridrun costs and survives: each module is a command that prints figures."""
