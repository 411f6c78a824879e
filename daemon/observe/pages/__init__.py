"""The pages for people, and the same values as JSON: the status, days, drops, quarantine, orders, the disk. Each has a template;
what it shows comes from `operate`. Nothing here changes anything, or decides what is true.
"""
