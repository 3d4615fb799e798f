"""A synthetic data set for trying the whole path without an account or a download: made here, in BirdCLEF's layout."""

from training.datasets.demo.dataset import DemoDataset

__all__ = ["DemoDataset"]
