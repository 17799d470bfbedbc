"""Overhead per step against the fused-update floor and other libraries, and start-up.

python -m anydiff_benchmarks.speed --out benchmarks/results
"""
