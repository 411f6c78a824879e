"""Tests of what follows: the contract of every kind, an oracle over random histories, and each module."""
