"""What exists of a stack right now, asked of AWS and of its cluster without changing either."""
