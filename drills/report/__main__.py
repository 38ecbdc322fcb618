"""`python -m drills.report`: draws the report of a drill or of a series again from its evidence."""

import sys

from drills.report.render import main

sys.exit(main())
