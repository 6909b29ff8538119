"""One script for every measured claim.

``python -m simulations.NAME --out DIR`` writes its CSV, Markdown and figure.
"""
