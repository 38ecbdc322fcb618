"""The embedded AWS: moto's server, with modules for what moto lacks or answers differently from AWS.

`services.py` is the table of its services; a new one is added there. Moto keeps the state. Everything real that a call
causes (control plane, nodes, Redis, images) is done by the `Machine` that `server.serve` is given. Moto is pinned to one
version, because the modules subclass its response and backend classes: run the tests again before changing it.
"""
