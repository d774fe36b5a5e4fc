"""What takes long to import, for the server that test processes are forked from."""

import transformers.models.bert.modeling_bert
import transformers.models.bert.tokenization_bert  # noqa: F401

import senteval  # noqa: F401
