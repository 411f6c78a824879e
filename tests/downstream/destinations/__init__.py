"""Tests of what a worker does for each kind of destination, against real servers."""
