"""Another event loop in the place of asyncio's; see sitecustomize.py."""
