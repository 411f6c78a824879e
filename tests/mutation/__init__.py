"""Mutation testing: small changes to the code, each of which a test must notice.

`make mutation` makes mutants with cosmic-ray's operators (mutants), which has an environment of its own, and runs tests on a
sample of them in forked processes (run). Mutants that nothing can notice are in survivors.toml, each with its reason.
"""
