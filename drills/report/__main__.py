"""`python -m drills.report`: redraws the report of a drill or of a series from its evidence."""

import sys

from drills.report.render import main

sys.exit(main())
