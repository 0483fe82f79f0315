"""Networks of others, as spandrel knows them, run as an EMT is: start with network.py.

Only read.py, cost.py, torch_runner.py and convert.py import torch and spandrel; what they find out of a file
is kept in the cache, so that a network OpenVINO has compiled before runs without either.
"""
