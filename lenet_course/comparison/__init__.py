"""LeNet-5 against its variants: the same budget for each, ten seeds, and differences with their uncertainty."""
