"""A run: configuration, training loop, evaluation, metrics, record, resume."""
