"""Shows a drill's evidence: as a page, a picture, JUnit, and lines of a terminal."""
