from extracter.errors import UserError as UserError
from extracter.inference.upscaler import upscale as upscale
from extracter.models.extracter import Extracter as Extracter
from extracter.models.ttsr import TTSR as TTSR
