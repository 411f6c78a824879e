"""Where the results are used: loads (PostgreSQL, Redshift), tables (Delta Lake), mirrors (object storage), notifications. Read
destination.py first.

Owns everything outside this machine that is kept equal to what is published. It never changes what is published, and never waits
for a batch or makes one wait.
"""
