"""Tests of daemon/batch: the steps from a settled drop to published partitions."""
