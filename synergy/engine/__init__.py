"""A method at work, for runs and streams alike: context, decisions, steps, the watch over losses, growth, state."""
