from .base_array import BaseArray as BaseArray
from .layout import ArrayHeader as ArrayHeader
from .layout import StoredArray as StoredArray
from .opening import create_store as create_store
from .opening import open_store as open_store
from .reader import FeatureReader as FeatureReader
from .store import Store as Store
from .writer import ShardWriter as ShardWriter
