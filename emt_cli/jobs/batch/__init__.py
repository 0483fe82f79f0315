"""Many pictures: found, named, planned, done on this machine or on Ray; read plan.py first, then run.py.

Imports jobs.picture and jobs.cluster; knows nothing of videos.
"""
