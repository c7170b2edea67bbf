"""Triton kernels. Importing this package imports neither Triton nor torch; its modules do."""
