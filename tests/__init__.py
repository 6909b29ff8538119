"""The test suite, laid out as the packages are.

tests/ROOM/test_FILE.py tests gwtools/ROOM/FILE.py; tests/fusion tests fusion.

Further files of one module are called test_FILE_WHAT.py. What cuts across rooms is in
tests/whole; what tests share is here.
"""

import os

# POT would otherwise load every array library that is installed, for seconds, in every
# worker.
for backend in ("PYTORCH", "JAX", "CUPY", "TENSORFLOW"):
    os.environ.setdefault(f"POT_BACKEND_DISABLE_{backend}", "1")
