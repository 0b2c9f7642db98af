"""The door of queues and time: Celery tasks, thin, over the domain.

A pool has its processes, so threads of BLAS would only compete: said before anything imports numpy.
"""

import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
