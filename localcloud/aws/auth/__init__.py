"""Authentication of requests: signatures, credentials, and the middleware that refuses unsigned requests."""
