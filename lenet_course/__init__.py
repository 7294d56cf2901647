"""LeNet, layer by layer: the helper package of the course.

Importing it is quick and imports neither torch nor matplotlib. Import from its modules, for example
``from lenet_course.data import load_mnist``.
"""

import os

# Two OpenMP threads that spin while they wait made a training step 25 times slower on a busy machine.
# The OpenMP library reads this once, when torch is first imported: hence here, before any of our modules does so.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
