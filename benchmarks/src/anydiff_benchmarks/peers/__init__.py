"""Side by side with other libraries on exact targets: error at equal network calls.

    python -m anydiff_benchmarks.peers --out benchmarks/results

The peers (diffusers, k-diffusion, azula) are optional: what is not installed is left out of the tables.
"""
