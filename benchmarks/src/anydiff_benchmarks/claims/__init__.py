"""One executable claim per paper: what it says, the check at our scale, and a verdict from stored numbers.

A claim is a file of this folder, named by its slug, with ``CLAIM``, ``measure(seed)`` and ``judge(rows)``; see
:mod:`anydiff_benchmarks.claims.base`.
"""
