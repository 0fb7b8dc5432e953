"""Where data come from, and what a network sees of them."""
