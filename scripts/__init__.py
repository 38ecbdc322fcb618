"""The code behind `./demo` and `./test`: set-up, the services, following a run, port forwarding.

Standard library only (Python ≥ 3.11), with what the embedded cloud has of the same kind, because it runs before anything is installed.
`scripts/installed/` is the exception: programs that import the project's packages, started by the locked environment's interpreter.
"""
