"""What concerns a run itself: who approves what it is about to do, and whether it is still alive."""
