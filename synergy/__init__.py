"""Continual learning in PyTorch: SYNERgy, its baselines and its benchmarks."""
