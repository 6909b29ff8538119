"""The test suite."""

import os

# POT would otherwise load every array library that is installed, for seconds, in every worker.
for backend in ("PYTORCH", "JAX", "CUPY", "TENSORFLOW"):
    os.environ.setdefault(f"POT_BACKEND_DISABLE_{backend}", "1")
