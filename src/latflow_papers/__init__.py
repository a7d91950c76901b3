"""Experiments of papers, done again with the public parts of latflow alone; `latflow reproduce` finds them.

One file has the settings, tables and figures of an experiment, with its longer parts in a file beside it.
`bench` is where they work, `results` what they write, `publish` how that comes into the documentation.
"""
