"""The networks of the benchmarks. Any `nn.Module` that maps a batch to logits works with the library."""
