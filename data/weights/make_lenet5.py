"""Make lenet5.safetensors: the run of Figure 5 (ten seeds, 20 passes over all 60,000) whose test error is the median.

    python data/weights/make_lenet5.py

Takes the checkpoints of `python -m lenet_course.reproduce figure5` if they are there, and trains what is missing.
Writes the file and its line in SHA256SUMS.
"""

import os

import lenet_course  # noqa: F401 - before torch: it says how OpenMP threads wait

# isort: split
from make_lenet import write_sum

from lenet_course.reproduce.__main__ import RUNS_FOLDER
from lenet_course.reproduce.experiments import EXPERIMENTS, median_run
from lenet_course.reproduce.side_by_side import run_all
from lenet_course.weights import SHIPPED_FOLDER, save_weights


def main() -> None:
    runs = run_all(EXPERIMENTS["figure5"].runs(None), RUNS_FOLDER, os.cpu_count() or 1)
    median = median_run(runs)
    path = save_weights(median.model, "lenet5", folder=SHIPPED_FOLDER)
    write_sum(path)
    print(f"{path.name}: seed {median.settings.seed}, test error {median.rows[-1].error:.2%}")


if __name__ == "__main__":
    main()
