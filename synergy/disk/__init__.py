"""What is written durably, and what is read back after a check: files, strict JSON, checkpoints."""
