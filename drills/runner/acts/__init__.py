"""How each kind of fault is done: find its target, strike that one and no other, undo what lasts."""
