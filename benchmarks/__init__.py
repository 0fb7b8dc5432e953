"""Scripts that measure; tests run some of them small."""
