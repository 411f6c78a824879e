"""Tests of daemon/core: the rules, without a folder or a process."""
