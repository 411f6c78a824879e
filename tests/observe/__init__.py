"""Tests of daemon/observe: what is told of the daemon."""
