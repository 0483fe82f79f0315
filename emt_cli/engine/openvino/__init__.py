"""The network run by OpenVINO, on the CPU; read runner.py first."""
