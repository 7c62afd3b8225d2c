"""Measurements of this project, run from a checkout: `python -m benchmarks` lists them.

The package `cifar_lightning` never imports from here.
"""
