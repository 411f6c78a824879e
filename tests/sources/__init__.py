"""Tests of daemon/sources: how drops arrive."""
