"""A headless Chromium for tests and for the pictures in the docs."""
