"""For every test, and for the kernels that nbval starts: as a learner has it, and without touching a learner's files."""

import os
import tempfile

import lenet_course  # noqa: F401 - first, since it sets OMP_WAIT_POLICY before torch is imported

_own_weights = tempfile.TemporaryDirectory(prefix="lenet-course-weights-")
os.environ["LENET_COURSE_WEIGHTS"] = _own_weights.name
