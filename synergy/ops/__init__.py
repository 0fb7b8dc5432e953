"""Pure functions, each named for its mathematics, independent of streams, memories and methods."""
