"""Many runs: what a study asks for, where its runs work, searches for values, published tables, runs made again."""
