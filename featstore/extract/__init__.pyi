from .options import ExtractOptions as ExtractOptions
from .plan import Plan as Plan
from .plan import make_plan as make_plan
from .report import ExtractReport as ExtractReport
from .run import extract as extract
