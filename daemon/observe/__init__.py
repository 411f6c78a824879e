"""What the outside sees while the daemon runs: the log, metrics, health, HTTP, the page, systemd.

Observers hear frozen outcomes and never change one (observer). Imports batch, operate and what is below them; only the top
level imports it.
"""
