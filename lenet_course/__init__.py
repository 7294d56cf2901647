"""LeNet, layer by layer: the helper package of the course.

Importing it is quick and imports neither torch nor matplotlib. Import from its modules, for example
``from lenet_course.data import load_mnist``.
"""

import os

# How OpenMP's threads wait for each other, read once when torch is first imported: hence here, before any of our modules does.
# Threads that spin until they are needed made a training step 25 times slower on a busy machine. Threads that go to sleep at
# once cost a quarter of the time on a quiet one. So: look a thousand times (microseconds; GNU's OpenMP), then sleep.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

__version__ = "0.1.0"
