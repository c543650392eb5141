"""What every room stands on: errors, vectors, keys, run records. Imports nothing of ours."""
