"""Data sets, peers and measurements. Run from the checkout: python -m bench.index"""
