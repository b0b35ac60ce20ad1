import featstore.registry

from .adapters import about as about
from .adapters import describe as describe
from .adapters import index as index
from .card import Card as Card
from .checks import Finding as Finding
from .checks import check_table as check_table
from .splits import assign_splits as assign_splits
from .table import SPLITS as SPLITS
from .table import TableInfo as TableInfo
from .table import TrackTable as TrackTable

DATASETS: featstore.registry.Registry
