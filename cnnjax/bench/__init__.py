"""How fast it is: what a step takes, and what share of the device that is."""
