"""Shows evidence: as an HTML page, a picture, JUnit, and lines of a terminal."""
