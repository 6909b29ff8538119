"""Linear transport: sorts on the line, exact linear programs, kernels scaled to marginals, rows against rows."""
