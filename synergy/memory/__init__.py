"""Episodic memories, one file each: what is kept of the past, and what is drawn from it."""
