"""Tests of daemon/commands: what the command line offers and says."""
