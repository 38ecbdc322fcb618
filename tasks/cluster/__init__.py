"""A cluster's parts besides the service: access, operators, the device plug-in, Redis, and checks of them."""
