"""Tests of daemon/core/merge."""
