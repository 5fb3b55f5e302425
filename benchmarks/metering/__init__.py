"""What the metrics cost beside the packages that they come from."""
