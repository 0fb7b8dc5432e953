"""Episodic memories, one file each: they keep samples of the past and give some of them again."""
