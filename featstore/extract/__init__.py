"""Extraction: from track tables and feature names to a store. The plan is pure; workers run it shard by shard.

Called as a function, ``featstore.extract(tracks, features, store)``, it is
:func:`featstore.workflows.toplevel.extract`.
"""

from lazy_loader import attach_stub

from featstore.callable_package import make_callable

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)  # the names of __init__.pyi, imported when used
make_callable(__name__, "featstore.workflows.toplevel:extract")
