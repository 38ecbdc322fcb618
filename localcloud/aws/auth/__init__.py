"""Who signed a request: signatures, credentials, and the middleware that refuses what is not signed."""
