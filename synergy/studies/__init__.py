"""Many runs: what a study asks for, where its runs work, and runs made again."""
