"""What works on this machine and what does not; read checks.py first.

Imports nothing heavy: each part of the machine is tried out in a process of its own (probe.py).
"""
