"""Data sets: adapters that turn a folder, a list or the built-in music into one track table.

An adapter is a function of a root and options that returns a ``TrackTable``; ``DATASETS`` names them all and
``index`` calls one by name. Nothing here decodes audio: ``featstore.workflows.indexing`` adds durations and rates.
"""

from lazy_loader import attach_stub

from featstore.registry import Registry

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)  # the names of __init__.pyi, imported when used
__all__ += ["DATASETS"]

DATASETS = Registry(
    "kind of data set",
    {
        "folder": "featstore.datasets.folder:index_folder",
        "csv": "featstore.datasets.csv_list:index_csv",
        "demo": "featstore.datasets.demo.adapter:index_demo",
        "mtat": "featstore.datasets.mtat:index_mtat",
        "msd": "featstore.datasets.msd:index_msd",
        "fma": "featstore.datasets.fma:index_fma",
        "gtzan": "featstore.datasets.gtzan:index_gtzan",
        "ismir2004": "featstore.datasets.ismir2004:index_ismir2004",
        "audioset": "featstore.datasets.audioset:index_audioset",
    },
)
