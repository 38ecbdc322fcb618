"""A drill's lock and journal, load, fault, observation and evidence; and surges, which share them."""
