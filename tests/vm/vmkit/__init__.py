"""Virtual machines for tests: image, network, one machine, and a cluster of two."""
