"""Dense layers behind the pooling: the tanh layer of `cls`, or a projection that is kept."""

from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {"Tanh": nn.Tanh, "Identity": nn.Identity, "ReLU": nn.ReLU, "GELU": nn.GELU}


class Dense(nn.Module):
    """A linear layer and an activation on pooled vectors: BERT's pooler, or a kept projection.

    Args:
        linear: (H_in → H_out).
        activation: a key of `ACTIVATIONS`.
    """

    def __init__(self, linear: nn.Linear, activation: str = "Tanh") -> None:
        super().__init__()
        self.linear = linear
        self.activation_name = activation
        self.activation = ACTIVATIONS[activation]()

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, H_in) → (B, H_out)."""
        return self.activation(self.linear(pooled))
