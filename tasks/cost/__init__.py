"""Money: what a stack would cost by the hour, what it has cost, and what is left of it costs."""
