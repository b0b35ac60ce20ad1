from .arrange import TAGS as TAGS
from .build import build_demo as build_demo
from .sizes import SIZES as SIZES
from .works import STYLES as STYLES

NOTICE: str
