"""How each command line of the project begins: streams that cannot end it, and an environment of its own. Standard library only."""

from startup import environment, streams


def begin() -> None:
    """Protect the standard streams, and drop the user's settings that are meant for other programs. Call it once, first."""
    streams.protect()
    environment.adopt()
