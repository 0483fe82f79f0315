"""A video in, a larger one out: planned, made in segments, joined, verified; read plan.py first, then run.py.

Imports jobs.picture and jobs.cluster; knows nothing of batches.
"""
