"""Tests of daemon/execution: where work runs."""
