"""LeNet-5's results of 1998, measured again: python -m lenet_course.reproduce --help."""
