"""The operator's commands: status, plan, verify, trace, rebuild, retry, warehouse manifests, DDL.

Each command is one module that returns a value and formats it as text or JSON. Imports batch and what is below it; observe and
the top level may import it.
"""
