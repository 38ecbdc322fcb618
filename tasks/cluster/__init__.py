"""What a cluster needs besides the service: access, operators, the device plug-in, Redis, and checks of them."""
