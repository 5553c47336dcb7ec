"""A small price service: everything it waits for, it waits for on one pyev loop.

``service`` has the watchers and what they mean together; ``server`` speaks TCP, ``process`` runs
programs, ``auditor`` is a fork of the service, ``worker`` has what is done aside. ``feed`` and
``clients`` are programs it runs. ``ledger`` is what each watcher has seen, ``view`` shows it.
"""
