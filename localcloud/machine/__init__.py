"""The real parts behind the embedded AWS: boxes, networks, control planes, nodes, Redis and the image registry."""
