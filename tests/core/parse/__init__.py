"""Tests of daemon/core/parse."""
