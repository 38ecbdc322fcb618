"""What every task uses: the site, the task decorator, waiting, progress artifacts, running programs, paths."""
