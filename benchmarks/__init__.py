"""Programs that measure the service and print what they measured, beside what it is compared with.

Run one with `python -m benchmarks.overhead` from the repository's root, on a machine that does nothing else. Compare
ratios within one run: machines are noisy. None of them is a test.
"""
