"""The store room: arrays on disk that lose nothing. Layout, writing by shards, commit records, leases, reading.

``open_store(path)`` gives a :class:`Store`; index it with a feature's name to read. Everything else is a function on a
store: see ``ledger`` (counts, failures), ``sizes``, ``missing``, ``writing`` (arrays, tracks, shards), ``consolidate``,
``verify``, ``convert``, ``pack``, ``diff``, ``garbage``.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)  # the names of __init__.pyi, imported when used
