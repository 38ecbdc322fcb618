"""The embedded AWS: moto's server, extended for what moto lacks or does wrong, one module per service.

It keeps the books. Everything real that a call causes (control plane, nodes, Redis, images) is asked of the
`Machine` given to `server.serve`. Moto is pinned to one version: the extensions subclass its response and backend
classes, so another version needs the tests run again.
"""
