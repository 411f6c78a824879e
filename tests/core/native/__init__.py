"""Tests of daemon/core/native."""
