"""Pure functions, each named for its mathematics. They know nothing of streams, memories or methods."""
