"""What others see while the daemon runs: the log, metrics, health, HTTP, the page, systemd.

Observers are called with frozen outcomes (observer). Imports batch, operate and the packages below them; only the top level
imports it.
"""
