"""Tests of daemon/operate: what an operator asks and mends."""
