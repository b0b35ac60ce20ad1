import featstore.registry

from .config import TrainConfig as TrainConfig
from .progress import NonFiniteLoss as NonFiniteLoss
from .run import evaluate as evaluate
from .run import train as train
from .scoring import confusion_of as confusion_of
from .scoring import per_class_of as per_class_of

OBJECTIVES: featstore.registry.Registry
