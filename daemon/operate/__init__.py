"""What an operator asks for: status, plan, verify, trace, rebuild, retry, warehouse manifests.

Each command is one module that returns a value and turns it into text or JSON. Imports batch and what is below it; observe and
the top level may import it.
"""
