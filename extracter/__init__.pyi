from .errors import UserError as UserError
from .inference.upscaler import upscale as upscale
from .models.extracter import Extracter as Extracter
from .models.ttsr import TTSR as TTSR
