"""CIFAR-10 from the archive to a batch: download, splits, order, augmentation. Does not know the classifier."""
