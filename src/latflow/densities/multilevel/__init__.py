"""Multilevel densities: fields that are drawn from the coarsest scale to the finest."""
