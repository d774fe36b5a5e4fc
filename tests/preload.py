"""Imports what commands import late, for servers that test processes are forked from.

Nothing here computes with torch: a forked process would lack the threads.
"""

import importlib

import PIL.Image
import wcwidth
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

for _name in (
    "distilcse_cli.teacher.extract",
    "matplotlib.backends.backend_agg",
    "matplotlib.pyplot",
    "pyarrow.parquet",
    "scipy.stats",
    "senteval",
    "torch._dynamo",
    "transformers.models.auto",
    "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert",
    "transformers.models.encoder_decoder.modeling_encoder_decoder",
):
    importlib.import_module(_name)

PIL.Image.init()
wcwidth.wcswidth("")  # which a table asks for
# compiles a thousand patterns: half of the time that loading a tiny model takes
get_checkpoint_conversion_mapping("bert")
