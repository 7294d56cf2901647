"""What LeCun, Bottou, Bengio and Haffner measured in 1998, to be set beside what we measure. All errors are in percent."""

# Figure 5: LeNet-5 after each of the first passes, then flat near 0.95.
FIGURE_5_TEST = (2.65, 2.24, 1.48, 1.43, 1.43, 1.09, 1.04, 1.07, 0.99, 0.96)
FIGURE_5_TRAINING = (4.89, 3.04, 1.77, 1.48, 1.22, 0.91, 0.78, 0.70, 0.57, 0.49)
TEST_ERROR = 0.95
TEST_ERROR_DISTORTED = 0.8

# Figure 6: training digits, and the test error reached with them.
FIGURE_6 = {15_000: 1.68, 30_000: 1.14, 60_000: 0.94}

# Figure 9, give or take 0.1: other methods on the same test digits.
FIGURE_9 = {
    "linear": 12.0,
    "K-NN": 5.0,
    "28x28-300-10": 4.7,
    "28x28-500-150-10": 2.95,
    "LeNet-1 (16x16)": 1.7,
    "SVM poly 4": 1.1,
    "LeNet-4": 1.1,
    "LeNet-5": 0.95,
    "LeNet-5, distorted": 0.8,
    "boosted LeNet-4, distorted": 0.7,
}

# Figures 10 to 12: percent of the test digits to reject for 0.5% error on the rest.
REJECTED = {"LeNet-1": 3.7, "LeNet-4": 1.8, "boosted LeNet-4": 0.5}

# Figure 8: the 82 test digits that LeNet-5 (trained with distortions) got wrong, right digit > answer.
FIGURE_8 = """
    4>6 3>5 8>2 2>1 5>3 4>8 2>8 3>5 6>5 7>3 9>4 8>0 7>8 5>3 8>7 0>6 3>7 2>7 8>3 9>4 8>2 5>3 4>8 3>9 6>0 9>8 4>9 6>1
    9>4 9>1 9>4 2>0 6>1 3>5 3>2 9>5 6>0 6>0 6>0 6>8 4>6 7>3 9>4 4>6 2>7 9>7 4>3 9>4 9>4 9>4 8>7 4>2 8>4 3>5 8>4 6>5
    8>5 3>8 3>8 9>8 1>5 9>8 6>3 0>2 6>5 9>5 0>7 1>6 4>9 2>1 2>8 8>5 4>9 7>2 7>2 6>5 9>7 6>1 5>6 5>0 4>9 2>8
"""

TRAINING_DAYS = (2, 3)  # on one processor of 200 MHz, an R10000 (p. 11)
