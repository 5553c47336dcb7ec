"""The price service on asyncio, with pyev's watchers beside it on one loop.

``service`` has what is there and what it means together, ``server`` answers clients by each of
asyncio's ways, ``clients`` are coroutines that ask. The prices, the programs, the worker thread and
the views are those of the service on watchers alone.
"""
