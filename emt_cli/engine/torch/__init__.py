"""The network run by torch, on any device; read runner.py first."""
