"""Tests of daemon/storage: what is on disk."""
