"""Ray clusters of several nodes on this machine, and what runs on them."""
